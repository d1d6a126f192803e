//! The promotion lock of a standby, and whether a promotion is under way there.

use pgherd_health::NodeId;
use tokio_postgres::Client;

use super::{
    INSUFFICIENT_PRIVILEGE, NOT_IN_PREREQUISITE_STATE, Sql, Taken, Trouble, has_code, in_recovery,
    unconfigured,
};
use crate::Outcome;

/// The session-level advisory lock that says "a pgherd promotes" on a standby: "pgherd" in ASCII.
const PROMOTION_LOCK: i64 = 0x7067_6865_7264;

/// A session that holds the lock and is silent for so long ends, so that a pgherd that hangs does not keep the next one from promoting. One
/// that lives speaks every second. PostgreSQL 13 has no such setting.
const BOUND: &str =
    "SELECT set_config(name, '3s', false) FROM pg_settings WHERE name = 'idle_session_timeout'";

const UNLOCK: &str = "SELECT pg_advisory_unlock_all(); \
                      SELECT set_config(name, reset_val, false) FROM pg_settings WHERE name = 'idle_session_timeout'";

/// One row, or an error where there is none.
const LOCK_HELD: &str =
    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted LIMIT 1";

const PROMOTION_ORDERED: &str = "SELECT (pg_stat_file('promote', true)).size IS NOT NULL";

/// Neither changes anything; both say so if a promotion has been triggered, which nothing else shows.
const PROMOTION_TRIGGERED: &str =
    "SELECT CASE WHEN pg_is_wal_replay_paused() THEN pg_wal_replay_pause() ELSE pg_wal_replay_resume() END";

impl Sql {
    pub(in crate::executor) async fn lock(&self, node: NodeId) -> Outcome {
        let outcome = self.on(node, async |client| lock(client).await).await;
        self.set_locked(node, outcome == Outcome::Done).await;
        outcome
    }

    pub(in crate::executor) async fn unlock(&self, node: NodeId) -> Outcome {
        let Some(slot) = self.slots.get(&node) else { return unconfigured(node) };
        let mut kept = slot.kept.lock().await;
        kept.locked = false;
        // The lock went with the connection if there is none, and goes with it if it cannot be released.
        if let Some(session) = kept.session.take()
            && session.client().batch_execute(UNLOCK).await.is_ok()
        {
            kept.session = Some(session);
        }
        Outcome::Done
    }

    /// True if the promotion lock was taken there and its connection has been lost since.
    pub(in crate::executor) async fn has_lost_lock(&self, node: NodeId) -> bool {
        let Some(slot) = self.slots.get(&node) else { return false };
        let kept = slot.kept.lock().await;
        match &kept.session {
            _ if !kept.locked => false,
            // The client learns late that its connection has ended: ask.
            Some(session) => session.client().query_one(LOCK_HELD, &[]).await.is_err(),
            None => true,
        }
    }

    /// True if `node` is a standby for which no promotion has been triggered: one that failed will not come late.
    pub(in crate::executor) async fn is_unpromoted(&self, node: NodeId) -> bool {
        let look = async |client: &Client| {
            let standby = in_recovery(client).await? && !promotion_triggered(client, true).await?;
            Ok(if standby { Outcome::Done } else { Outcome::Failed(String::new()) })
        };
        self.on(node, look).await == Outcome::Done
    }

    async fn set_locked(&self, node: NodeId, locked: bool) {
        if let Some(slot) = self.slots.get(&node) {
            slot.kept.lock().await.locked = locked;
        }
    }
}

async fn lock(client: &Client) -> Taken {
    if !in_recovery(client).await? {
        return Err(Trouble::Failed("it is not in recovery".to_owned()));
    }
    // Taken once: it would have to be released as often as it was taken.
    client.batch_execute(UNLOCK).await?;
    // Before the lock is taken: whoever hangs between the two must not keep it either.
    client.batch_execute(BOUND).await?;
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&PROMOTION_LOCK]).await?;
    let obstacle = if !row.try_get::<_, bool>(0)? {
        "another pgherd holds its promotion lock"
    } else if promotion_triggered(client, false).await? {
        "a promotion is under way there"
    } else {
        return Ok(Outcome::Done);
    };
    client.batch_execute(UNLOCK).await?;
    Err(Trouble::Failed(obstacle.to_owned()))
}

/// Also true if it has been promoted; `unseen` if the monitor user may not look.
async fn promotion_triggered(client: &Client, unseen: bool) -> Taken<bool> {
    // The order went to the postmaster as a file, which the startup process removes when it heeds it.
    let ordered = match client.query_one(PROMOTION_ORDERED, &[]).await {
        Ok(row) => row.try_get(0)?,
        Err(error) if has_code(&error, INSUFFICIENT_PRIVILEGE) => unseen,
        Err(error) => return Err(error.into()),
    };
    match client.batch_execute(PROMOTION_TRIGGERED).await {
        Ok(()) => Ok(ordered),
        // "Promotion is ongoing", or "recovery is not in progress".
        Err(error) if has_code(&error, NOT_IN_PREREQUISITE_STATE) => Ok(true),
        Err(error) if has_code(&error, INSUFFICIENT_PRIVILEGE) => Ok(ordered || unseen),
        Err(error) => Err(error.into()),
    }
}
