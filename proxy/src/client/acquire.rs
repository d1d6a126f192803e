//! How a session comes to a server connection.

use std::sync::Arc;
use std::time::Duration;

use pgherd_protocol::error::ClientError;
use tokio::time::Instant;

use super::parameters::StartupParameters;
use crate::server::connect::{ConnectError, ConnectRequest};
use crate::server::connection::{OwnError, ServerConnection};
use crate::server::pool::{Checkout, Grant, Lease, Permit, Pool};
use crate::server::table::{Server, Target};
use crate::worker::Worker;

/// Pause before a server that could not be reached is tried again, unless the table changes before.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A server connection that a session holds.
#[derive(Debug)]
pub(super) struct Held {
    /// The server, for messages.
    pub(super) server: Arc<Server>,
    /// The connection.
    pub(super) lease: Lease,
}

/// Why a session gets no server connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is told this, and may go on.
    Told(ClientError),
    /// The server refused the login or a parameter; the body of its ErrorResponse.
    Refused(Box<[u8]>),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Told(error)
    }
}

/// What a session needs a server connection for.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) database: Box<str>,
    pub(super) user: Box<str>,
    pub(super) parameters: Arc<StartupParameters>,
    /// The pool that served last, good as long as its server is the primary.
    cached: Option<(Arc<Server>, Arc<Pool>)>,
}

impl Access {
    pub(super) const fn new(database: Box<str>, user: Box<str>, parameters: Arc<StartupParameters>) -> Self {
        Self { database, user, parameters, cached: None }
    }

    /// An idle connection to the primary that needs no preparation, if there is one.
    pub(super) fn try_now(&mut self, worker: &Worker) -> Attempt {
        let table = worker.shared.backends.load();
        let Target::Open(server) = &table.writes else { return Attempt::Wait };
        let pool = match &self.cached {
            Some((known, pool)) if Arc::ptr_eq(known, server) => pool,
            _ => {
                let pool = server.pool(&self.database, &self.user);
                &self.cached.insert((Arc::clone(server), pool)).1
            }
        };
        match pool.check_out(worker.id) {
            Checkout::Granted(Grant::Lease(lease)) => {
                let mut held = Held { server: Arc::clone(server), lease };
                if self.is_prepared(&mut held, worker) { Attempt::Held(held) } else { Attempt::Prepare(held) }
            }
            Checkout::Granted(Grant::Permit(permit)) => Attempt::Open(Arc::clone(server), permit),
            Checkout::Queued(grant) => Attempt::Queued(Arc::clone(server), grant),
            Checkout::Closed => Attempt::Wait,
        }
    }

    fn is_prepared(&self, held: &mut Held, worker: &Worker) -> bool {
        held.lease.connection().is_some_and(|connection| {
            connection.home == worker.id
                && (Arc::ptr_eq(&connection.applied, &self.parameters)
                    || connection.applied == self.parameters)
        })
    }

    /// Goes on from the first attempt until there is a connection, or the client's patience is at its end.
    pub(super) async fn persist(&mut self, worker: &Worker, first: Attempt) -> Result<Held, Failure> {
        let shared = &worker.shared;
        let deadline = Instant::now() + shared.write_wait;
        let mut changes = shared.backends.changes();
        let mut attempt = first;
        loop {
            let trouble = match attempt {
                Attempt::Held(held) => return Ok(held),
                Attempt::Prepare(held) => self.prepare(held, worker).await,
                Attempt::Open(server, permit) => self.open(server, permit, worker).await,
                Attempt::Queued(server, grant) => match self.queue(grant, worker).await? {
                    Some(Grant::Lease(lease)) => self.prepare(Held { server, lease }, worker).await,
                    Some(Grant::Permit(permit)) => self.open(server, permit, worker).await,
                    None => Err(Trouble::TryAgain),
                },
                Attempt::Wait => Err(Trouble::NoPrimary),
            };
            match trouble {
                Ok(held) => return Ok(held),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::TryAgain) => {}
                Err(Trouble::Unreachable | Trouble::NoPrimary) => {
                    let Some(_waiting) = shared.waiting.enter() else {
                        return Err(no_primary(worker)
                            .detail("failover.max_waiting clients wait already")
                            .into());
                    };
                    let pause = match trouble {
                        Err(Trouble::Unreachable) => deadline.min(Instant::now() + RETRY_INTERVAL),
                        _ => deadline,
                    };
                    let _ = tokio::time::timeout_at(pause, changes.changed()).await;
                }
            }
            if Instant::now() >= deadline {
                return Err(no_primary(worker).into());
            }
            changes.mark_unchanged();
            attempt = self.try_now(worker);
        }
    }

    /// Waits for its turn; none if the pool was closed meanwhile.
    async fn queue(
        &self,
        grant: tokio::sync::oneshot::Receiver<Grant>,
        worker: &Worker,
    ) -> Result<Option<Grant>, Failure> {
        let limit = worker.shared.pool.query_wait_timeout.unwrap_or(Duration::MAX);
        match tokio::time::timeout(limit, grant).await {
            Ok(granted) => Ok(granted.ok()),
            Err(_) => Err(ClientError::new("53300", "no server connection became free in time")
                .detail(format!(
                    "All {} connections of the pool of database \"{}\" and user \"{}\" were in use for {limit:?}.",
                    worker.shared.pool.size_for(&self.database, &self.user),
                    self.database,
                    self.user,
                ))
                .hint("Raise pool.size or pool.query_wait_timeout, or hold transactions for a shorter time.")
                .into()),
        }
    }

    /// Opens a connection and prepares it.
    async fn open(&self, server: Arc<Server>, permit: Permit, worker: &Worker) -> Result<Held, Trouble> {
        let settings = &worker.shared.pool;
        let request = ConnectRequest {
            node: &server.node,
            database: &self.database,
            user: &self.user,
            credential: worker.shared.credentials.get(&self.user),
            timeout: settings.server_connect_timeout,
            max_prepared_statements: settings.prepared_statements,
            worker: worker.id,
        };
        match request.open().await {
            Ok(connection) => {
                server.watch_over(&connection.cutter);
                let reported = &connection.state.parameters;
                worker.shared.welcomes.learn(
                    &self.database,
                    &self.user,
                    StartupParameters::default(),
                    reported,
                );
                let lease = permit.fill(connection).ok_or(Trouble::TryAgain)?;
                self.prepare(Held { server, lease }, worker).await
            }
            Err(error) => Err(self.judge(error, &server, worker)),
        }
    }

    fn judge(&self, error: ConnectError, server: &Server, worker: &Worker) -> Trouble {
        if error.is_about_the_server() {
            tracing::debug!(server = %server.node, %error, "cannot open a connection");
            worker.shared.doubt(server.node.id);
            return Trouble::Unreachable;
        }
        tracing::info!(server = %server.node, database = %self.database, user = %self.user, %error, "a server refused a login");
        Trouble::Final(match error {
            ConnectError::Refused(body) => Failure::Refused(body),
            other => {
                worker.shared.verifiers.login_failed(&self.user);
                ClientError::new(
                    "28P01",
                    format!("login of user \"{}\" at {} failed: {other}", self.user, server.node),
                )
                .hint("The password may have been changed: connect again.")
                .into()
            }
        })
    }

    /// Brings a connection to this worker and to the session's parameters.
    async fn prepare(&self, mut held: Held, worker: &Worker) -> Result<Held, Trouble> {
        held.lease.move_to(worker.id).map_err(|_| Trouble::TryAgain)?;
        let Some(connection) = held.lease.connection() else { return Err(Trouble::TryAgain) };
        match apply(connection, &self.parameters, worker).await {
            Ok(()) => Ok(held),
            Err(OwnError::Refused(body)) => Err(Trouble::Final(Failure::Refused(body))),
            Err(OwnError::Lost(error)) => {
                tracing::debug!(server = %held.server.node, %error, "a connection was lost before it was used");
                worker.shared.doubt(held.server.node.id);
                Err(Trouble::Unreachable)
            }
        }
    }
}

/// Sets what the session wants and its last user did not.
async fn apply(
    connection: &mut ServerConnection,
    wanted: &Arc<StartupParameters>,
    worker: &Worker,
) -> Result<(), OwnError> {
    if let Some(sql) = wanted.transition_from(&connection.applied) {
        connection.run(&sql, &worker.buffers).await?;
        connection.applied = Arc::clone(wanted);
    }
    Ok(())
}

/// What the first look gave.
#[derive(Debug)]
pub(super) enum Attempt {
    /// A connection that is ready.
    Held(Held),
    /// A connection that is not on this worker, or has other parameters.
    Prepare(Held),
    /// None is idle, and one more may be opened.
    Open(Arc<Server>, Permit),
    /// All are in use.
    Queued(Arc<Server>, tokio::sync::oneshot::Receiver<Grant>),
    /// There is no primary now.
    Wait,
}

enum Trouble {
    Final(Failure),
    Unreachable,
    NoPrimary,
    TryAgain,
}

fn no_primary(worker: &Worker) -> ClientError {
    let table = worker.shared.backends.load();
    let reason = match &table.writes {
        Target::Held { reason, .. } => reason.to_string(),
        Target::Open(server) => format!("{} cannot be reached", server.node),
    };
    ClientError::new("57P03", format!("no primary is available: {reason}"))
        .hint("Try again later. The operator can see more with pgherd's log.")
}

/// A connection to any server, for what needs no primary: the primary's if there is one.
pub(super) async fn any_server(access: &mut Access, worker: &Worker) -> Result<Held, Failure> {
    let standby = {
        let table = worker.shared.backends.load();
        match &table.writes {
            Target::Open(_) => None,
            Target::Held { .. } => table.readable.first().cloned(),
        }
    };
    if let Some(server) = standby {
        let pool = server.pool(&access.database, &access.user);
        let found = match pool.check_out(worker.id) {
            Checkout::Granted(Grant::Lease(lease)) => access.prepare(Held { server, lease }, worker).await,
            Checkout::Granted(Grant::Permit(permit)) => access.open(server, permit, worker).await,
            Checkout::Queued(_) | Checkout::Closed => Err(Trouble::TryAgain),
        };
        match found {
            Ok(held) => return Ok(held),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(_) => {}
        }
    }
    let first = access.try_now(worker);
    access.persist(worker, first).await
}
