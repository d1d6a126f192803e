//! Promote over SQL, and what repmgr would have written down of it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{Node, NodeId, ProberSettings, connect};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error};
use tracing::warn;

use super::{
    INSUFFICIENT_PRIVILEGE, LOOK, NOT_IN_PREREQUISITE_STATE, Sql, Taken, Trouble, has_code, in_recovery,
};
use crate::Outcome;
use crate::executor::RepmgrRows;

/// How long a server may take to say what it is.
const LOOKS_WITHIN: Duration = Duration::from_secs(1);
const ROLE: &str = "SELECT system_identifier, NOT pg_is_in_recovery() FROM pg_control_system()";

impl Sql {
    /// Ends when the server is seen writable. [`Outcome::Failed`] promises, as for any promotion, that it will not come late.
    pub(in crate::executor) async fn promote(&self, node: NodeId, rows: &RepmgrRows) -> Outcome {
        if let Some(refused) = self.refuse_without_lock(node).await {
            return refused;
        }
        let told = self.on(node, async |client| promote(client).await).await;
        self.promoted(node, told, rows).await
    }

    /// What became of a promotion that ended so, whoever gave the order: it is seen, and written down as repmgr does.
    pub(in crate::executor) async fn promoted(
        &self,
        node: NodeId,
        told: Outcome,
        rows: &RepmgrRows,
    ) -> Outcome {
        let outcome = match told {
            Outcome::Done => self.on(node, async |client| wait_writable(client).await).await,
            outcome => self.settle(node, outcome).await,
        };
        if outcome == Outcome::Done {
            self.record_promotion(node, rows).await;
        }
        outcome
    }

    /// A promotion that failed, of a server where none has been triggered, will not come late.
    pub(in crate::executor) async fn settle(&self, node: NodeId, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Unknown(reason) if self.is_unpromoted(node).await => Outcome::Failed(reason),
            outcome => outcome,
        }
    }

    /// No order is given where the promotion lock was taken and has been lost.
    pub(in crate::executor) async fn refuse_without_lock(&self, node: NodeId) -> Option<Outcome> {
        let lost = self.has_lost_lock(node).await;
        lost.then(|| Outcome::Failed("the connection that held its promotion lock was lost".to_owned()))
    }

    /// Ends when another server has neither answered nor refused for `within`, and never if all have.
    pub(in crate::executor) async fn somebody_is_silent(&self, node: NodeId, within: Duration) {
        let mut looks = JoinSet::new();
        for other in self.slots.values().map(|slot| slot.node.clone()).filter(|other| other.id != node) {
            let settings = Arc::clone(&self.settings);
            looks.spawn(async move { timeout(within, connect(&other, &settings)).await.is_err() });
        }
        while let Some(silent) = looks.join_next().await {
            if silent.unwrap_or_default() {
                return;
            }
        }
        pending::<()>().await;
    }

    /// Makes good what a promotion by somebody else, or one whose end was cut off, has not written down: repmgr has no server follow or
    /// rejoin one that its rows do not name as the primary.
    pub(in crate::executor) async fn complete_promotion(&self, primary: NodeId, rows: &RepmgrRows) {
        let complete = |row: &pgherd_health::RepmgrNode| {
            row.active && row.node_type == pgherd_health::RepmgrNodeType::Primary
        };
        if !rows.get(&primary).is_none_or(complete)
            && self.on(primary, async |client| writable(client).await).await == Outcome::Done
        {
            self.record_promotion(primary, rows).await;
        }
    }

    /// repmgr promotes nobody where another server says that it is writable, whatever cluster that is of: an empty one in the place of
    /// a server that was lost, for one. True if that is all there is: no other server of this cluster is writable.
    pub(in crate::executor) async fn is_misled(&self, node: NodeId) -> bool {
        let mut looks = JoinSet::new();
        for other in self.slots.values().map(|slot| slot.node.clone()) {
            let settings = Arc::clone(&self.settings);
            looks.spawn(async move { (other.id, look(&other, &settings).await) });
        }
        let (mut own, mut writable) = (None, Vec::new());
        while let Some(Ok((id, seen))) = looks.join_next().await {
            match seen {
                Some(Seen { identifier, .. }) if id == node => own = Some(identifier),
                Some(Seen { identifier, writable: true }) => writable.push(identifier),
                _ => {}
            }
        }
        own.is_some_and(|own| !writable.is_empty() && !writable.contains(&own))
    }

    /// As `repmgr standby promote` leaves `repmgr.nodes`; nothing where the server is in no row of it.
    async fn record_promotion(&self, node: NodeId, rows: &RepmgrRows) {
        if let Some(row) = rows.get(&node) {
            self.record(node, &as_primary(row.node_id)).await;
        }
    }

    /// As `repmgr standby follow` leaves it. What could not be written down of the promotion before is made good.
    pub(in crate::executor) async fn record_standby(
        &self,
        node: NodeId,
        upstream: NodeId,
        rows: &RepmgrRows,
    ) {
        let (Some(row), Some(above)) = (rows.get(&node), rows.get(&upstream)) else { return };
        let (id, upstream_id) = (row.node_id, above.node_id);
        let standby = format!(
            "UPDATE repmgr.nodes SET type = 'standby', upstream_node_id = {upstream_id}, active = true WHERE node_id = {id}"
        );
        if self.on(upstream, async |client| writable(client).await).await == Outcome::Done {
            self.record(upstream, &format!("{}; {standby}", as_primary(upstream_id))).await;
            return;
        }
        let leads = |row: &pgherd_health::RepmgrNode| {
            row.active && row.node_type == pgherd_health::RepmgrNodeType::Primary
        };
        if let Some((primary, _)) = rows.iter().find(|(_, row)| leads(row)) {
            self.record(*primary, &standby).await;
        }
    }

    /// It changes nothing for the failover if this cannot be written: it is only told.
    async fn record(&self, primary: NodeId, statements: &str) {
        // No standby may stream yet, and somebody may have locked the table.
        let text = format!(
            "BEGIN; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '1s'; {statements}; COMMIT"
        );
        let written = self
            .on(primary, async |client| {
                client.batch_execute(&text).await?;
                Ok(Outcome::Done)
            })
            .await;
        if written != Outcome::Done {
            warn!(node = %primary, outcome = %written, "repmgr.nodes could not be brought up to date");
        }
    }
}

/// The statements of `repmgr standby promote`; no row is written that is right already.
fn as_primary(id: i32) -> String {
    format!(
        "UPDATE repmgr.nodes SET active = false WHERE type = 'primary' AND active AND node_id <> {id}; \
         UPDATE repmgr.nodes SET type = 'primary', upstream_node_id = NULL, active = true \
          WHERE node_id = {id} AND (type, active) <> ('primary', true)"
    )
}

/// What a server says of itself.
struct Seen {
    identifier: i64,
    writable: bool,
}

/// Looks at a server over a connection of its own; nothing if it does not answer.
async fn look(node: &Node, settings: &ProberSettings) -> Option<Seen> {
    let session = timeout(LOOKS_WITHIN, connect(node, settings)).await.ok()?.ok()?;
    let row = timeout(LOOKS_WITHIN, session.client().query_one(ROLE, &[])).await.ok()?.ok()?;
    Some(Seen { identifier: row.try_get(0).ok()?, writable: row.try_get(1).ok()? })
}

async fn promote(client: &Client) -> Taken {
    // `false`: it does not wait. A statement that waits and is cut off would say nothing.
    match client.query_one("SELECT pg_promote(false)", &[]).await {
        Ok(row) if row.try_get(0)? => Ok(Outcome::Done),
        Ok(_) => Err(Trouble::Unknown("the postmaster could not be told".to_owned())),
        Err(error) if is_refusal(&error) => Err(error.into()),
        // The order may have gone out before the connection was ended.
        Err(error) => Err(Trouble::Unknown(error.to_string())),
    }
}

/// It was refused before anything was done: the monitor user may not, or there is nothing to promote.
fn is_refusal(error: &Error) -> bool {
    [INSUFFICIENT_PRIVILEGE, NOT_IN_PREREQUISITE_STATE].iter().any(|code| has_code(error, code))
}

async fn wait_writable(client: &Client) -> Taken {
    loop {
        match in_recovery(client).await {
            Ok(false) => return Ok(Outcome::Done),
            Ok(true) => sleep(LOOK).await,
            Err(Trouble::Failed(why) | Trouble::Unknown(why)) => return Err(Trouble::Unknown(why)),
        }
    }
}

async fn writable(client: &Client) -> Taken {
    let standby = in_recovery(client).await?;
    Ok(if standby { Outcome::Failed("it is in recovery".to_owned()) } else { Outcome::Done })
}
