//! Stored passwords of a real PostgreSQL.

mod hostile_server;
mod outages;
mod postgres;
mod roles;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgherd_protocol::auth::{ScramVerifier, Verifier};
use pgherd_tls::ServerTls;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;
use crate::config::Secret;
use postgres::{Postgres, SUPERUSER_PASSWORD};

/// The service, with the count of queries that it ran.
struct Service {
    verifiers: Verifiers,
    queries: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Service {
    fn start(endpoints: &[&Endpoint], timing: Timing) -> Self {
        Self::start_as("postgres", SUPERUSER_PASSWORD, endpoints, timing)
    }

    fn start_as(user: &str, password: &str, endpoints: &[&Endpoint], timing: Timing) -> Self {
        let settings = Settings {
            user: user.to_owned(),
            password: Some(Secret::new(Zeroizing::new(password.to_owned()))),
            database: "postgres".to_owned(),
            tls: Arc::new(ServerTls::disabled()),
            query: None,
            memberships: true,
        };
        Self::start_with(settings, endpoints, timing)
    }

    fn start_with(settings: Settings, endpoints: &[&Endpoint], timing: Timing) -> Self {
        let queries = Arc::new(AtomicUsize::new(0));
        let endpoints: Vec<Endpoint> = endpoints.iter().map(|endpoint| (*endpoint).clone()).collect();
        let counter = Arc::clone(&queries);
        // The source is asked before every query.
        let source: Source = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            (settings.clone(), endpoints.clone())
        });
        let (verifiers, reader) = Verifiers::new(timing, source);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(reader.run(shutdown.clone()));
        Self { verifiers, queries, shutdown, task }
    }

    fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }

    async fn lookup(&self, user: &str) -> Result<Arc<Role>, LookupError> {
        self.verifiers.lookup(user).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// As it runs, with patience for a busy machine.
fn patient() -> Timing {
    Timing {
        server_timeout: Duration::from_secs(20),
        kept_timeout: Duration::from_secs(20),
        lookup_timeout: Duration::from_secs(60),
        insistence: Duration::ZERO,
        patience: Duration::from_secs(60),
        pause: Duration::ZERO,
        ..Timing::default()
    }
}

/// Whether the role's stored password is this one.
fn opens(role: &Role, user: &str, password: &str) -> bool {
    use pgherd_protocol::auth::{Md5Verifier, ScramClient, ScramSecret, ScramServer};
    match &role.stored {
        Some(Stored::Verifier(Verifier::Scram(verifier))) => {
            let secret = ScramSecret::Password(Zeroizing::new(password.as_bytes().to_vec()));
            let client = ScramClient::new(secret, &[1; 18]);
            let server = ScramServer::new(Some(verifier), user, &[0; 32], &[2; 18]);
            let (server_first, server) = server.first(&client.client_first()).unwrap();
            let (client_final, _) = client.server_first(&server_first).unwrap();
            server.finish(&client_final).is_ok()
        }
        Some(Stored::Verifier(Verifier::Md5(verifier))) => {
            *verifier == Md5Verifier::from_password(user, password.as_bytes())
        }
        Some(Stored::Plain(plain)) => plain.password().expose() == password,
        None => false,
    }
}

fn scram_rolpassword(password: &str) -> Zeroizing<String> {
    ScramVerifier::from_password(password.as_bytes(), b"some salt of ours", 4096).to_rolpassword()
}
