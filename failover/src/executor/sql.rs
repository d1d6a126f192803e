//! The steps that are taken over a connection to the server itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{ConnectFailure, Lsn, Node, NodeId, ProberSettings, Session, connect};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::frozen::Original;
use super::remote::Remote;
use crate::Outcome;

/// The session-level advisory lock that says "a pgherd promotes" on a standby: "pgherd" in ASCII.
const PROMOTION_LOCK: i64 = 0x7067_6865_7264;

const NOT_IN_PREREQUISITE_STATE: &str = "55000";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// One row, or an error where there is none.
const LOCK_HELD: &str =
    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted LIMIT 1";

/// Time between two attempts to open a connection beforehand.
const RETRY: Duration = Duration::from_secs(2);
/// Time between two looks at something that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(10);
/// A WAL receiver that the startup process has not ended by then, because its replay is paused or waits for a query, is
/// ended otherwise. Nobody starts it again before replay goes on, and then it has nowhere to connect to.
const RECEIVER_GRACE: Duration = Duration::from_millis(200);

/// ALTER SYSTEM, and errors that quote it, must not carry a connection string into the server's log.
const SILENCE: &str = "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
                       SET log_min_error_statement = 'panic'";

const STANDBY: &str = "
SELECT pg_is_in_recovery(),
       current_setting('primary_conninfo'),
       (SELECT coalesce(sourcefile, '') LIKE '%postgresql.auto.conf' FROM pg_settings WHERE name = 'primary_conninfo')";

/// `at_end`: the startup process has read all that there is, and waits for more.
const FREEZING: &str = "
SELECT current_setting('primary_conninfo') = $1 AS in_force,
       (SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver') AS receiver,
       pg_last_wal_receive_lsn() AS receive,
       pg_last_wal_replay_lsn() AS replay,
       pg_is_wal_replay_paused() OR current_setting('recovery_min_apply_delay')::interval > '0' AS held_back,
       EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
                  AND wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval')) AS at_end";

const PROMOTION_ORDERED: &str = "SELECT (pg_stat_file('promote', true)).size IS NOT NULL";

/// Neither changes anything; both say so if a promotion has been triggered, which nothing else shows.
const PROMOTION_TRIGGERED: &str =
    "SELECT CASE WHEN pg_is_wal_replay_paused() THEN pg_wal_replay_pause() ELSE pg_wal_replay_resume() END";

/// Writes to the WAL and commits, without a table, and without waiting for a standby: none may stream yet.
const SMALL_WRITE: &str = "BEGIN; SET LOCAL synchronous_commit = local; \
                           SELECT pg_logical_emit_message(true, 'pgherd', 'is writable'::text); COMMIT";

/// Connections to all servers, opened when needed and kept.
#[derive(Debug)]
pub(super) struct Sql {
    settings: Arc<ProberSettings>,
    slots: HashMap<NodeId, Slot>,
}

#[derive(Debug)]
struct Slot {
    node: Node,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    session: Option<Session>,
    /// The promotion lock was taken, on the session of that time.
    locked: bool,
}

/// A step over SQL that did not end well.
pub(super) enum Trouble {
    Failed(String),
    Unknown(String),
}

pub(super) type Step<T = Outcome> = Result<T, Trouble>;

impl From<Error> for Trouble {
    /// A server that answers with an error has not done it; what a lost connection means is not known.
    fn from(error: Error) -> Self {
        // That includes what TLS has to say about a connection that was in use.
        let lost = std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        match ConnectFailure::of(&error) {
            failure @ ConnectFailure::Rejected { .. } if !lost => Self::Failed(failure.to_string()),
            failure => Self::Unknown(failure.to_string()),
        }
    }
}

impl Sql {
    pub(super) fn new(nodes: &[Node], settings: Arc<ProberSettings>) -> Self {
        let slot = |node: &Node| (node.id, Slot { node: node.clone(), kept: Mutex::default() });
        Self { settings, slots: nodes.iter().map(slot).collect() }
    }

    /// SQL cannot end a WAL receiver that does not end by itself: that goes over ssh.
    pub(super) async fn freeze(&self, node: NodeId, remote: &Remote) -> Outcome {
        self.on(node, async |client| freeze(client, node, remote).await).await
    }

    pub(super) async fn unfreeze(&self, node: NodeId) -> Outcome {
        self.on(node, async |client| unfreeze(client).await).await
    }

    pub(super) async fn verify_write(&self, node: NodeId) -> Outcome {
        self.on(node, async |client| {
            client.batch_execute(SMALL_WRITE).await?;
            // What a freeze left on a server that has been promoted since must not outlive it.
            unfreeze(client).await
        })
        .await
    }

    pub(super) async fn checkpoint(&self, node: NodeId) -> Outcome {
        self.on(node, async |client| {
            client.batch_execute("CHECKPOINT").await?;
            Ok(Outcome::Done)
        })
        .await
    }

    pub(super) async fn lock(&self, node: NodeId) -> Outcome {
        let outcome = self.on(node, async |client| lock(client).await).await;
        self.set_locked(node, outcome == Outcome::Done).await;
        outcome
    }

    pub(super) async fn unlock(&self, node: NodeId) -> Outcome {
        let Some(slot) = self.slots.get(&node) else { return unconfigured(node) };
        let mut kept = slot.kept.lock().await;
        kept.locked = false;
        // The lock went with the connection if there is none, and goes with it if it cannot be released.
        if let Some(session) = kept.session.take()
            && session.client().batch_execute("SELECT pg_advisory_unlock_all()").await.is_ok()
        {
            kept.session = Some(session);
        }
        Outcome::Done
    }

    /// True if the promotion lock was taken there and its connection has been lost since.
    pub(super) async fn has_lost_lock(&self, node: NodeId) -> bool {
        let Some(slot) = self.slots.get(&node) else { return false };
        let kept = slot.kept.lock().await;
        match &kept.session {
            _ if !kept.locked => false,
            // The client learns late that its connection has ended: ask.
            Some(session) => session.client().query_one(LOCK_HELD, &[]).await.is_err(),
            None => true,
        }
    }

    /// Keeps a connection to `node` open, so that a failover need not wait for a login. Never ends; cancel-safe.
    pub(super) async fn keep_open(&self, node: NodeId) {
        loop {
            // A step that is being taken has a connection of its own.
            if let Some(slot) = self.slots.get(&node)
                && let Ok(mut kept) = slot.kept.try_lock()
                && kept.session.as_ref().is_none_or(Session::is_closed)
                && let Ok(Ok(session)) =
                    timeout(self.settings.timeout, connect(&slot.node, &self.settings)).await
            {
                kept.session = Some(session);
            }
            sleep(RETRY).await;
        }
    }

    /// True if `node` is a standby for which no promotion has been triggered: one that failed will not come late.
    pub(super) async fn is_unpromoted(&self, node: NodeId) -> bool {
        let look = async |client: &Client| {
            let standby = in_recovery(client).await? && !promotion_triggered(client, true).await?;
            Ok(if standby { Outcome::Done } else { Outcome::Failed(String::new()) })
        };
        self.on(node, look).await == Outcome::Done
    }

    /// Waits until `upstream` shows a standby of this name streaming. Never ends otherwise; cancel-safe.
    pub(super) async fn wait_streaming(&self, upstream: NodeId, name: &str) {
        loop {
            let look = async |client: &Client| {
                let row = client
                    .query_opt(
                        "SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming' LIMIT 1",
                        &[&name],
                    )
                    .await?;
                Ok(if row.is_some() { Outcome::Done } else { Outcome::Failed(String::new()) })
            };
            if self.on(upstream, look).await == Outcome::Done {
                return;
            }
            sleep(LOOK * 10).await;
        }
    }

    /// Takes one step on the kept connection, or on a new one. The connection of a step that is cancelled, or that was
    /// lost, is not used again: what comes over it next may belong to that step.
    pub(super) async fn on(&self, node: NodeId, step: impl AsyncFnOnce(&Client) -> Step) -> Outcome {
        let Some(slot) = self.slots.get(&node) else { return unconfigured(node) };
        let mut kept = slot.kept.lock().await;
        let session = match kept.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => match connect(&slot.node, &self.settings).await {
                Ok(session) => session,
                Err(failure) => return Outcome::Failed(failure.to_string()),
            },
        };
        match step(session.client()).await {
            Ok(outcome) => {
                kept.session = Some(session);
                outcome
            }
            Err(Trouble::Failed(reason)) => {
                // It may have failed within a transaction.
                if !session.is_closed() && session.client().batch_execute("ROLLBACK").await.is_ok() {
                    kept.session = Some(session);
                }
                Outcome::Failed(reason)
            }
            Err(Trouble::Unknown(reason)) => Outcome::Unknown(reason),
        }
    }

    async fn set_locked(&self, node: NodeId, locked: bool) {
        if let Some(slot) = self.slots.get(&node) {
            slot.kept.lock().await.locked = locked;
        }
    }
}

async fn freeze(client: &Client, node: NodeId, remote: &Remote) -> Step {
    let (standby, conninfo, by_alter_system) = standby_settings(client).await?;
    if !standby {
        return Err(Trouble::Failed("it is not in recovery".to_owned()));
    }
    let frozen = match Original::of_frozen(&conninfo) {
        Some(_) => conninfo,
        None => {
            let frozen = Original { conninfo, by_alter_system }.freeze();
            alter_system(client, Some(&frozen)).await?;
            frozen
        }
    };
    let started = Instant::now();
    let looks = client.prepare(FREEZING).await?;
    let (mut terminated, mut gone_before, mut replayed_before) = (false, false, None);
    loop {
        let row = client.query_one(&looks, &[&frozen]).await.map_err(promoted_meanwhile)?;
        let in_force: bool = row.try_get("in_force")?;
        let receiver: Option<i32> = row.try_get("receiver")?;
        let gone = in_force && receiver.is_none();
        let receive = row.try_get::<_, Option<PgLsn>>("receive")?.map(|lsn| Lsn(lsn.into()));
        let replay = row.try_get::<_, Option<PgLsn>>("replay")?.map(|lsn| Lsn(lsn.into()));
        // The end of what was received may lie within a record that never came whole.
        let at_end = replay >= receive && receive.is_some() || row.try_get("at_end")?;
        if gone && gone_before {
            if row.try_get("held_back")? {
                return Ok(Outcome::Frozen { lsn: receive.max(replay).unwrap_or_default() });
            }
            if at_end && replay.is_some() && replay == replayed_before {
                return Ok(Outcome::Frozen { lsn: replay.unwrap_or_default() });
            }
        }
        if let Some(pid) = receiver
            && in_force
            && !terminated
            && started.elapsed() > RECEIVER_GRACE
        {
            terminated = true;
            remote.end_process(node, pid).await;
        }
        (gone_before, replayed_before) = (gone, replay);
        sleep(LOOK).await;
    }
}

async fn unfreeze(client: &Client) -> Step {
    let (_, conninfo, _) = standby_settings(client).await?;
    if let Some(original) = Original::of_frozen(&conninfo) {
        let value = original.by_alter_system.then_some(original.conninfo.as_str());
        alter_system(client, value).await?;
    }
    Ok(Outcome::Done)
}

async fn lock(client: &Client) -> Step {
    if !in_recovery(client).await? {
        return Err(Trouble::Failed("it is not in recovery".to_owned()));
    }
    // Taken once: it would have to be released as often as it was taken.
    client.batch_execute("SELECT pg_advisory_unlock_all()").await?;
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&PROMOTION_LOCK]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(Trouble::Failed("another pgherd holds its promotion lock".to_owned()));
    }
    if promotion_triggered(client, false).await? {
        client.batch_execute("SELECT pg_advisory_unlock_all()").await?;
        return Err(Trouble::Failed("a promotion is under way there".to_owned()));
    }
    Ok(Outcome::Done)
}

async fn in_recovery(client: &Client) -> Step<bool> {
    Ok(client.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)?)
}

/// Also true if it has been promoted; `unseen` if the monitor user may not look.
async fn promotion_triggered(client: &Client, unseen: bool) -> Step<bool> {
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

fn has_code(error: &Error, sqlstate: &str) -> bool {
    error.code().is_some_and(|code| code.code() == sqlstate)
}

async fn standby_settings(client: &Client) -> Step<(bool, String, bool)> {
    let row = client.query_one(STANDBY, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

/// Sets `primary_conninfo` for the whole server, or removes what ALTER SYSTEM had set, and makes it take effect.
async fn alter_system(client: &Client, conninfo: Option<&str>) -> Step<()> {
    client.batch_execute(SILENCE).await?;
    let statement = match conninfo {
        // No parameters are possible there; standard_conforming_strings is on, by the connection's options.
        Some(text) => format!("ALTER SYSTEM SET primary_conninfo = '{}'", text.replace('\'', "''")),
        None => "ALTER SYSTEM RESET primary_conninfo".to_owned(),
    };
    // One message, one statement: ALTER SYSTEM cannot run in the transaction that several would be.
    for message in client.simple_query(&statement).await? {
        let SimpleQueryMessage::CommandComplete(_) = message else { continue };
        client.query_one("SELECT pg_reload_conf()", &[]).await?;
    }
    Ok(())
}

/// The functions of recovery fail on a server that has just been promoted.
fn promoted_meanwhile(error: Error) -> Trouble {
    if has_code(&error, NOT_IN_PREREQUISITE_STATE) {
        return Trouble::Failed("it was promoted meanwhile".to_owned());
    }
    error.into()
}

fn unconfigured(node: NodeId) -> Outcome {
    Outcome::Failed(format!("node {node} is not configured"))
}
