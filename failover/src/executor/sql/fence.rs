//! What SQL can do against a server that must not be written to any more.

use std::time::Duration;

use pgherd_health::{Node, NodeId};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{Sql, unconfigured};
use crate::Outcome;

/// A server that hangs is not waited for: nothing can be done there.
const WITHIN: Duration = Duration::from_secs(3);

/// A server that is restarted takes connections again by then.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// Ends the sessions of all clients, but for pgherd's own.
const END_CLIENTS: &str = "
SELECT count(pg_terminate_backend(pid))
  FROM pg_stat_activity
 WHERE backend_type = 'client backend'
   AND pid <> pg_backend_pid()
   AND (usename = current_user AND application_name = current_setting('application_name')) IS NOT TRUE";

impl Sql {
    /// Ends the sessions of the server's own clients. That is no fence, and the outcome says so: they may come back, and no
    /// setting keeps a superuser from writing. Only a server that is stopped is fenced.
    pub(in crate::executor) async fn end_clients(&self, node: NodeId) -> Outcome {
        let mut ended: i64 = 0;
        let end = self.on(node, async |client| {
            ended = client.query_one(END_CLIENTS, &[]).await?.try_get(0)?;
            Ok(Outcome::Done)
        });
        let said = match timeout(WITHIN, end).await {
            Ok(Outcome::Done) => format!("{ended} sessions of clients were ended"),
            Ok(outcome) => outcome.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        Outcome::Failed(format!("SQL cannot stop a server ({said}): an operator must stop it"))
    }

    /// Something takes connections there.
    pub(in crate::executor) async fn listens(&self, node: NodeId) -> bool {
        let Some(Node { host, port, .. }) = self.node(node) else { return false };
        matches!(timeout(WITHIN, TcpStream::connect((host.as_str(), *port))).await, Ok(Ok(_)))
    }

    /// Ends once nothing has taken connections there for [`GONE_AFTER`]. Cancel-safe.
    pub(in crate::executor) async fn gone(&self, node: NodeId) {
        let mut listened = Instant::now();
        while listened.elapsed() < GONE_AFTER {
            sleep(super::LOOK * 20).await;
            if self.listens(node).await {
                listened = Instant::now();
            }
        }
    }

    /// Waits until the server answers. Never ends otherwise; cancel-safe.
    pub(in crate::executor) async fn answers(&self, node: NodeId) -> Outcome {
        if self.node(node).is_none() {
            return unconfigured(node);
        }
        let ask = async |client: &tokio_postgres::Client| {
            client.batch_execute("SELECT 1").await?;
            Ok(Outcome::Done)
        };
        while self.on(node, ask).await != Outcome::Done {
            sleep(super::LOOK * 10).await;
        }
        Outcome::Done
    }
}
