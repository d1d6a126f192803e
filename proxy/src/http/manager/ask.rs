//! What the manager asks the servers, as the monitor's user, over a connection of its own to each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::{ConnectFailure, Login, Node, NodeId, Session};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql, Type};

use crate::config::{Config, Secret};
use crate::shared::Shared;

/// How long a server may take, to let it in and to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// An answer is good for so long: however many look, a server is asked once.
const FRESH: Duration = Duration::from_secs(1);
/// Longest answer that is passed on.
const LONGEST: usize = 8 * 1024 * 1024;
/// Nothing here can put another function, table or operator in the place of PostgreSQL's own.
const OPTIONS: &str = "-c default_transaction_read_only=on -c statement_timeout=5000 -c lock_timeout=1000 -c search_path=pg_catalog -c timezone=UTC";

/// The connections to the servers.
#[derive(Default)]
pub(super) struct Servers(Mutex<HashMap<NodeId, Arc<Mutex<Server>>>>);

/// One server.
#[derive(Default)]
struct Server {
    kept: Option<(Node, Session)>,
    /// What it said last to each question without numbers.
    answers: HashMap<String, (Instant, String)>,
}

impl Servers {
    /// Asks a query that gives one text.
    pub(super) async fn ask(
        &self,
        shared: &Shared,
        id: NodeId,
        query: &str,
        numbers: &[i32],
    ) -> Result<String, String> {
        let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
        let node =
            nodes.iter().find(|node| node.id == id).ok_or_else(|| format!("there is no server {id}"))?;
        let server = Arc::clone(self.0.lock().await.entry(id).or_default());
        let config = shared.config.load_full();
        let asked = async {
            let mut server = server.lock().await;
            server.ask(node, &config, query, numbers).await
        };
        timeout(2 * WITHIN, asked)
            .await
            .unwrap_or_else(|_| Err("it has too much to answer already".to_owned()))
    }
}

impl Server {
    async fn ask(
        &mut self,
        node: &Node,
        config: &Config,
        query: &str,
        numbers: &[i32],
    ) -> Result<String, String> {
        self.answers.retain(|_, (at, _)| at.elapsed() < FRESH);
        if let Some((_, answer)) = self.answers.get(query).filter(|_| numbers.is_empty()) {
            return Ok(answer.clone());
        }
        // Taken out while it is used: whoever gives up in the middle of an answer leaves none that the next would read.
        let kept = self.kept.take().filter(|(to, session)| to.is_same(node) && !session.is_closed());
        let session = match kept {
            Some((_, session)) => session,
            None => open(node, config).await?,
        };
        let answer = timeout(WITHIN, one_text(&session, query, numbers)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())))?;
        self.kept = Some((node.clone(), session));
        if numbers.is_empty() {
            self.answers.insert(query.to_owned(), (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }
}

async fn open(node: &Node, config: &Config) -> Result<Session, String> {
    let login = Login {
        user: &config.monitor.user,
        password: config.monitor.password.as_ref().map(Secret::expose),
        database: &config.monitor.database,
        application_name: "pgherd manager",
        options: OPTIONS,
        tls: &config.server_tls,
        notice: None,
    };
    let opened = timeout(WITHIN, login.at(&node.host, node.port)).await;
    opened
        .unwrap_or_else(|_| {
            let why = format!("{}:{}: no login within {} s", node.host, node.port, WITHIN.as_secs());
            Err(ConnectFailure::Refused(why))
        })
        .map_err(|failure| match failure {
            ConnectFailure::Rejected { .. } => format!("{}:{}: {failure}", node.host, node.port),
            // They name it themselves.
            failure => failure.to_string(),
        })
}

async fn one_text(session: &Session, query: &str, numbers: &[i32]) -> Result<String, String> {
    let numbers: Vec<(&(dyn ToSql + Sync), Type)> =
        numbers.iter().map(|number| (number as &(dyn ToSql + Sync), Type::INT4)).collect();
    let rows = session.client().query_typed(query, &numbers).await.map_err(|error| told(&error))?;
    let text: Option<Lossy> = rows.first().and_then(|row| row.try_get(0).ok());
    match text.map(|text| text.0) {
        Some(text) if text.len() <= LONGEST => Ok(text),
        Some(text) => Err(format!("the answer has {} bytes: that is too much to show", text.len())),
        None => Err("the server has no answer".to_owned()),
    }
}

/// A text as far as it can be read: what a client of a database with another encoding runs is shown as it was sent.
struct Lossy(String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TEXT
    }
}

/// What the server said, with what it said how to mend it.
fn told(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return error.to_string() };
    match error.hint() {
        Some(hint) => format!("{} ({}); {hint}", error.message(), error.code().code()),
        None => format!("{} ({})", error.message(), error.code().code()),
    }
}
