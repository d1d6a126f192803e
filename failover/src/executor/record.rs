//! Writing down what has happened, where `repmgr cluster event` shows it.

use pgherd_health::NodeId;
use tokio_postgres::{Client, Error};

use super::remote::RepmgrRows;
use super::sql::{Sql, has_code};
use crate::{Outcome, Record};

/// A database without repmgr.
const NO_SUCH: [&str; 2] = ["3F000", "42P01"];
/// repmgr's number of a server that it does not know.
const UNKNOWN: i32 = -1;

/// No standby is waited for, and nobody who has locked the table.
const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '1s'; \
                     SET LOCAL statement_timeout = '2s'";

const INSERT: &str = "
INSERT INTO repmgr.events (node_id, event, successful, event_timestamp, details)
VALUES ($1, $2, $3, pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $4), $5)";

impl Sql {
    /// Writes all of these, or none.
    pub(super) async fn write_down(&self, node: NodeId, records: &[Record], rows: &RepmgrRows) -> Outcome {
        let session = match self.beside(node).await {
            Ok(session) => session,
            Err(outcome) => return outcome,
        };
        let outcome = match write(session.client(), records, rows).await {
            Ok(()) => Outcome::Done,
            Err(error) if NO_SUCH.iter().any(|code| has_code(&error, code)) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        session.close().await;
        outcome
    }
}

async fn write(client: &Client, records: &[Record], rows: &RepmgrRows) -> Result<(), Error> {
    client.batch_execute(BEGIN).await?;
    let insert = client.prepare(INSERT).await?;
    for Record { event, node, successful, ago, details } in records {
        let repmgr = rows.get(node).map_or(UNKNOWN, |row| row.node_id);
        let details = format!("node {node}: {details}");
        client.execute(&insert, &[&repmgr, event, successful, &ago.as_secs_f64(), &details]).await?;
    }
    client.batch_execute("COMMIT").await
}
