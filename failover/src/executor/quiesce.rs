//! Waiting until nobody is in a transaction on a primary.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::NodeId;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Row};

use super::sql::{LOOK, Sql, Taken};
use crate::Outcome;

/// Who is in a transaction, the oldest first. What the monitor user may not see counts as one; pgherd's own connections do not.
const BUSY: &str = "
SELECT pid, coalesce(usename::text, '?') AS role, coalesce(datname::text, '?') AS database,
       coalesce(state, 'of a state that cannot be seen') AS state,
       coalesce(extract(epoch FROM clock_timestamp() - xact_start)::float8, 0) AS seconds
  FROM pg_stat_activity
 WHERE coalesce(backend_type, 'client backend') = 'client backend'
   AND pid <> pg_backend_pid()
   AND state IS DISTINCT FROM 'idle'
   AND (usename = current_user AND application_name = current_setting('application_name')) IS NOT TRUE
 ORDER BY xact_start LIMIT 3";

/// What the clients of this pgherd do.
pub trait Clients: fmt::Debug + Send + Sync {
    /// How many connections to this primary are lent that may be used for a transaction, where no more are lent because
    /// writes are held; none as long as more may be.
    fn lent(&self, primary: NodeId) -> Option<usize>;
}

/// What one look has shown.
enum Seen {
    Nobody,
    Somebody(String),
}

impl Sql {
    /// Waits until twice in a row nobody is in a transaction.
    pub(super) async fn quiesce(
        &self,
        node: NodeId,
        within: Duration,
        clients: Option<&Arc<dyn Clients>>,
    ) -> Outcome {
        let end = Instant::now() + within;
        let mut quiet = false;
        loop {
            let was_quiet = quiet;
            // First the clients: whatever they have sent is there when the server is asked.
            let lent = clients.map_or(Some(0), |clients| clients.lent(node));
            let busy = match self.busy(node).await {
                Ok(Seen::Nobody) => None,
                Ok(Seen::Somebody(who)) => Some(who),
                Err(outcome) => return outcome,
            };
            quiet = lent == Some(0) && busy.is_none();
            if quiet && was_quiet {
                return Outcome::Done;
            }
            if Instant::now() >= end && !quiet {
                let who = busy.unwrap_or_else(|| match lent {
                    Some(lent) => format!("{lent} connections of clients are in use"),
                    None => "writes are not held yet".to_owned(),
                });
                return Outcome::Failed(format!("not quiet within {within:?}: {who}"));
            }
            sleep(LOOK).await;
        }
    }

    async fn busy(&self, node: NodeId) -> Result<Seen, Outcome> {
        let mut seen = Seen::Nobody;
        let look = async |client: &Client| {
            seen = busy(client).await?;
            Ok(Outcome::Done)
        };
        match self.on(node, look).await {
            Outcome::Done => Ok(seen),
            outcome => Err(outcome),
        }
    }
}

async fn busy(client: &Client) -> Taken<Seen> {
    let rows = client.query(BUSY, &[]).await?;
    if rows.is_empty() {
        return Ok(Seen::Nobody);
    }
    let them = rows.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
    Ok(Seen::Somebody(them.join(", ")))
}

fn describe(row: &Row) -> Result<String, tokio_postgres::Error> {
    let (pid, seconds): (i32, f64) = (row.try_get("pid")?, row.try_get("seconds")?);
    let text = |column| row.try_get::<_, &str>(column);
    let (role, database, state) = (text("role")?, text("database")?, text("state")?);
    Ok(format!(
        "process {pid} (user {role}, database {database}) is {state}, in a transaction for {seconds:.1} s"
    ))
}
