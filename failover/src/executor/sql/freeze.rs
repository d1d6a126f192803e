//! Freeze: a standby stops receiving, and says where its WAL ends.

use std::time::Duration;

use pgherd_health::{Lsn, NodeId};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::super::frozen::Original;
use super::super::remote::Remote;
use super::{LOOK, NOT_IN_PREREQUISITE_STATE, Sql, Taken, Trouble, has_code};
use crate::Outcome;

/// A WAL receiver that the startup process has not ended by then, because its replay is paused or waits for a query, is
/// ended otherwise. Nobody starts it again before replay goes on, and then it has nowhere to connect to.
const RECEIVER_GRACE: Duration = Duration::from_millis(200);
/// Where nobody can end it, it is given up after this long: with a primary that is lost it ends by itself, a later attempt will see.
const RECEIVER_STAYS: Duration = Duration::from_secs(2);

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

impl Sql {
    /// SQL cannot end a WAL receiver that does not end by itself: that goes over ssh, where there is ssh.
    pub(in crate::executor) async fn freeze(&self, node: NodeId, remote: Option<&Remote>) -> Outcome {
        self.on(node, async |client| freeze(client, node, remote).await).await
    }

    pub(in crate::executor) async fn unfreeze(&self, node: NodeId) -> Outcome {
        self.on(node, async |client| unfreeze(client).await).await
    }
}

async fn freeze(client: &Client, node: NodeId, remote: Option<&Remote>) -> Taken {
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
        match (receiver, remote) {
            (Some(pid), Some(remote)) if in_force && !terminated && started.elapsed() > RECEIVER_GRACE => {
                terminated = true;
                remote.end_process(node, pid).await;
            }
            (Some(_), None) if started.elapsed() > RECEIVER_STAYS => {
                let why = "its WAL receiver does not end (its replay may be paused), and SQL cannot end it";
                return Err(Trouble::Failed(why.to_owned()));
            }
            _ => {}
        }
        (gone_before, replayed_before) = (gone, replay);
        sleep(LOOK).await;
    }
}

pub(super) async fn unfreeze(client: &Client) -> Taken {
    let (_, conninfo, _) = standby_settings(client).await?;
    if let Some(original) = Original::of_frozen(&conninfo) {
        let value = original.by_alter_system.then_some(original.conninfo.as_str());
        alter_system(client, value).await?;
    }
    Ok(Outcome::Done)
}

pub(super) async fn standby_settings(client: &Client) -> Taken<(bool, String, bool)> {
    let row = client.query_one(STANDBY, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

/// Sets `primary_conninfo` for the whole server, or removes what ALTER SYSTEM had set, and makes it take effect.
pub(super) async fn alter_system(client: &Client, conninfo: Option<&str>) -> Taken<()> {
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
