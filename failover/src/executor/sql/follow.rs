//! Follow over SQL: a standby is given another upstream, and takes it without a restart (PostgreSQL 13 and later).

use std::time::Duration;

use pgherd_health::{Conninfo, Node, NodeId};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tracing::warn;

use super::freeze::{alter_system, standby_settings};
use super::{LOOK, Sql, Taken, Trouble, unconfigured};
use crate::Outcome;
use crate::executor::RepmgrRows;
use crate::executor::frozen::Original;

/// The two short orders of a follow may take so long together: what came later could undo what was ordered since.
const ORDERS_WITHIN: Duration = Duration::from_secs(3);

const SLOT: &str = "SELECT current_setting('primary_slot_name')";

/// Slots hold WAL back; one that is there already is taken as it is.
const CREATE_SLOT: &str = "
SELECT pg_create_physical_replication_slot($1)
 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";

const FOLLOWS: &str = "
SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = $1 AND sender_port = $2";

impl Sql {
    /// Ends when the standby is seen to stream from `upstream`.
    pub(in crate::executor) async fn follow(
        &self,
        node: NodeId,
        upstream: NodeId,
        rows: &RepmgrRows,
    ) -> Outcome {
        let Some(above) = self.node(upstream) else { return unconfigured(upstream) };
        match timeout(ORDERS_WITHIN, self.repoint(node, above, rows)).await {
            Ok(Outcome::Done) => self.followed(node, upstream, rows).await,
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(format!("node {node} did not take its new upstream in time")),
        }
    }

    /// The same, where the standby is frozen: what pgherd has taken from it over SQL it gives it back so, at once, where repmgr would be
    /// started first. None where it is not, or where that fails.
    pub(in crate::executor) async fn follow_if_frozen(
        &self,
        node: NodeId,
        upstream: NodeId,
        rows: &RepmgrRows,
    ) -> Option<Outcome> {
        let mut frozen = false;
        let ask = async |client: &Client| {
            let (_, conninfo, _) = standby_settings(client).await?;
            frozen = Original::of_frozen(&conninfo).is_some();
            Ok(Outcome::Done)
        };
        let asked = timeout(ORDERS_WITHIN, self.on(node, ask)).await;
        if !matches!(asked, Ok(Outcome::Done)) || !frozen {
            return None;
        }
        match self.follow(node, upstream, rows).await {
            Outcome::Done => Some(Outcome::Done),
            outcome => {
                warn!(%node, %upstream, %outcome, "it could not be repointed over SQL");
                None
            }
        }
    }

    /// Waits until the standby is seen to stream from `upstream`, whoever told it to, and writes that down as repmgr does. Never
    /// ends otherwise; cancel-safe.
    pub(in crate::executor) async fn followed(
        &self,
        node: NodeId,
        upstream: NodeId,
        rows: &RepmgrRows,
    ) -> Outcome {
        let Some(Node { host, port, .. }) = self.node(upstream) else { return unconfigured(upstream) };
        let port = i32::from(*port);
        let look = async |client: &Client| {
            let seen = client.query_opt(FOLLOWS, &[host, &port]).await?.is_some();
            Ok(if seen { Outcome::Done } else { Outcome::Failed(String::new()) })
        };
        while self.on(node, look).await != Outcome::Done {
            sleep(LOOK * 10).await;
        }
        self.record_standby(node, upstream, rows).await;
        Outcome::Done
    }

    async fn repoint(&self, node: NodeId, upstream: &Node, rows: &RepmgrRows) -> Outcome {
        let mut slot = String::new();
        let ask = async |client: &Client| {
            slot = client.query_one(SLOT, &[]).await?.try_get(0)?;
            Ok(Outcome::Done)
        };
        let asked = self.on(node, ask).await;
        if asked != Outcome::Done {
            return asked;
        }
        if !slot.is_empty() {
            let create = async |client: &Client| {
                client.execute(CREATE_SLOT, &[&slot]).await?;
                Ok(Outcome::Done)
            };
            let created = self.on(upstream.id, create).await;
            if created != Outcome::Done {
                return Outcome::Failed(format!("node {} has no slot {slot} for it: {created}", upstream.id));
            }
        }
        let name = rows.get(&node).map(|row| row.node_name.as_str());
        self.on(node, async |client| repoint(client, upstream, (&self.settings.user, name)).await).await
    }
}

async fn repoint(client: &Client, upstream: &Node, (user, name): (&str, Option<&str>)) -> Taken {
    let (standby, conninfo, _) = standby_settings(client).await?;
    if !standby {
        return Err(Trouble::Failed("it is not in recovery".to_owned()));
    }
    // Of a standby that is frozen, what it had before.
    let conninfo = Original::of_frozen(&conninfo).map_or(conninfo, |original| original.conninfo);
    let present = Conninfo::parse(&conninfo)
        .ok_or_else(|| Trouble::Failed("its primary_conninfo cannot be read".to_owned()))?;
    let mut next = present.towards(&upstream.host, upstream.port);
    if conninfo.trim().is_empty() {
        // It has never followed anybody.
        next.set("user", user);
        if let Some(name) = name {
            next.set("application_name", name);
        }
    }
    alter_system(client, Some(&next.to_string())).await?;
    Ok(Outcome::Done)
}
