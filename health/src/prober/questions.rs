//! What is asked of a server, in one round trip, and how the answer is read. Written for PostgreSQL 13 to 18.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::{FromSql, PgLsn};
use tokio_postgres::{Client, Row, Statement};
use tracing::warn;

use super::Asked;
use super::connection::ConnectFailure;
use super::history::parse_history;
use crate::{
    Conninfo, Lsn, Node, Position, ReplicationSlot, RepmgrNode, RepmgrNodeType, Report, TimelineHistory,
    TimelineId, WalReceiver, WalSender,
};

/// The role is read once: a standby that is promoted while this runs is still reported as one, and the functions that
/// work only on a primary are not called on it. `min_recovery_end_timeline` and the checkpoint's timeline are never
/// ahead of what is replayed, but lag behind: a standby's control file tells the timeline of its last restartpoint.
const STATE: &str = "
WITH role AS MATERIALIZED (SELECT pg_is_in_recovery() AS standby)
SELECT standby,
       s.system_identifier,
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8 - 946684800000000 AS started_at,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END AS data_directory,
       (extract(epoch FROM current_setting('wal_receiver_timeout')::interval) * 1000)::int8 AS receiver_timeout,
       (extract(epoch FROM current_setting('recovery_min_apply_delay')::interval) * 1000)::int8 AS apply_delay,
       CASE WHEN standby AND pg_has_role('pg_read_all_settings', 'USAGE')
            THEN starts_with(current_setting('primary_conninfo'), 'host=/pgherd-frozen ') ELSE false END AS frozen,
       CASE WHEN NOT standby THEN pg_walfile_name(pg_current_wal_insert_lsn()) END AS wal_file,
       CASE WHEN NOT standby THEN pg_current_wal_insert_lsn() END AS insert,
       CASE WHEN NOT standby THEN pg_current_wal_flush_lsn() END AS flush,
       CASE WHEN standby THEN pg_last_wal_receive_lsn() END AS receive,
       CASE WHEN standby THEN pg_last_wal_replay_lsn() END AS replay,
       CASE WHEN standby THEN pg_is_wal_replay_paused() END AS paused,
       greatest(CASE WHEN standby THEN (SELECT min_recovery_end_timeline FROM pg_control_recovery()) END,
                (SELECT timeline_id FROM pg_control_checkpoint())) AS timeline_at_least,
       w.pid IS NOT NULL AS receiving,
       w.status,
       w.received_tli,
       w.sender_host,
       w.sender_port,
       (extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time) * 1000000)::int8 AS message_age,
       (SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'repmgr' AND c.relname = 'nodes') AS repmgr_readable
  FROM role CROSS JOIN pg_control_system() s LEFT JOIN pg_stat_wal_receiver w ON true";

const SENDERS: &str = "
SELECT coalesce(application_name, ''), coalesce(state, ''), coalesce(sync_state, ''), flush_lsn, replay_lsn
  FROM pg_stat_replication";

/// A logical slot has a database.
const SLOTS: &str = "SELECT slot_name::text, database::text, active FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name";

/// Its columns are texts of any length, and whoever may write there may write any number of rows.
const REPMGR_NODES: &str = "
SELECT node_id, left(node_name, 1000), type, upstream_node_id, active, priority, left(conninfo, 10000), left(location, 1000)
  FROM repmgr.nodes ORDER BY node_id LIMIT 1000";

/// Null where repmgr's library is not preloaded. Whether its failover is automatic cannot be seen from here: one that
/// runs and is not paused is taken to decide.
const REPMGRD: &str =
    "SELECT coalesce(repmgr.repmgrd_is_running() AND NOT repmgr.repmgrd_is_paused(), false)";

/// The timeline of the WAL that a standby holds. Asked of one that receives none: a receiver tells its timeline itself. A server writes
/// segments of a later timeline only once it has found that its own history leads there.
const WAL_TIMELINE: &str = "
SELECT coalesce(max(('x' || left(name, 8))::bit(32)::int4), 0) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";

const HISTORY: &str = "SELECT pg_read_file('pg_wal/' || $1 || '.history', 0, 1048576, true)";

/// Whoever has locked repmgr's table is waited for no longer: that would make a server look silent.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The position alone. A standby is asked behind it which timeline it receives: replay is on no later one, and neither goes back.
const INSERTED: &str = "SELECT pg_current_wal_insert_lsn()";
const REPLAYED: &str = "SELECT pg_last_wal_replay_lsn()";
const RECEIVED: &str = "SELECT received_tli FROM pg_stat_wal_receiver";

const INTERNAL_ERROR: &str = "XX000";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNDEFINED_FILE: &str = "58P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What is remembered of a server from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    history: Option<(Incarnation, TimelineId, Arc<TimelineHistory>)>,
    /// The latest timeline that a WAL receiver of this incarnation was on, or that WAL of it was found of.
    timeline: Option<(Incarnation, TimelineId)>,
    /// How far a standby without a receiver was when its WAL was looked at last.
    looked_at: Option<(Incarnation, Option<Lsn>)>,
    /// repmgr's rows as they were read last, and of which cluster.
    repmgr_nodes: (u64, Arc<Vec<RepmgrNode>>),
    warned_of_repmgr: bool,
    warned_of_lock: bool,
    warned_of_timeline: bool,
}

/// One run of one server: its system identifier and start time. Its history does not change while it lasts.
type Incarnation = (u64, i64);

impl Memory {
    /// Takes in repmgr's rows; where the table is locked, those that were read last are as good as there are.
    fn note_rows(&mut self, node: &Node, cluster: u64, rows: Option<Vec<RepmgrNode>>) {
        let is_locked = rows.is_none();
        if is_locked && !self.warned_of_lock {
            warn!(server = %node, "somebody has locked repmgr.nodes: what it said before counts until it can be read");
        }
        self.warned_of_lock = is_locked;
        let (of, known) = &self.repmgr_nodes;
        match rows {
            None if *of == cluster => {}
            Some(rows) if *of == cluster && **known == rows => {}
            rows => self.repmgr_nodes = (cluster, Arc::new(rows.unwrap_or_default())),
        }
    }
}

/// The prepared statements of one connection.
#[derive(Debug)]
pub(super) struct Questions {
    state: Statement,
    senders: Statement,
    slots: Statement,
    wal_timeline: Statement,
    inserted: Statement,
    replayed: Statement,
    received: Statement,
    repmgr: Option<Repmgr>,
}

#[derive(Debug)]
struct Repmgr {
    nodes: Statement,
    repmgrd: Option<Statement>,
}

impl Questions {
    /// `within`: how long a probe may take.
    pub(super) async fn prepare(client: &Client, within: Duration) -> Result<Self, ConnectFailure> {
        let wait = (within / 4).min(LONGEST_WAIT).as_millis().max(1);
        let wait = format!("SET lock_timeout = {wait}");
        let prepare = |sql: &'static str| async move { client.prepare(sql).await.map_err(of) };
        let (set, state, senders, slots, wal_timeline, inserted, replayed, received) = tokio::join!(
            client.batch_execute(&wait),
            prepare(STATE),
            prepare(SENDERS),
            prepare(SLOTS),
            prepare(WAL_TIMELINE),
            prepare(INSERTED),
            prepare(REPLAYED),
            prepare(RECEIVED)
        );
        set.map_err(of)?;
        Ok(Self {
            state: state?,
            senders: senders?,
            slots: slots?,
            wal_timeline: wal_timeline?,
            inserted: inserted?,
            replayed: replayed?,
            received: received?,
            repmgr: None,
        })
    }

    /// Asks where the log is: of a primary, where it inserts; of a standby, how far it has replayed, and none unless it still receives the
    /// same timeline. The statements travel together, and are run in their order.
    pub(super) async fn sample(&self, client: &Client, asked: &Asked) -> Result<Option<Lsn>, ConnectFailure> {
        if asked.is_primary {
            return lsn(&client.query_one(&self.inserted, &[]).await.map_err(of)?, 0);
        }
        let (replayed, received) =
            tokio::join!(client.query_one(&self.replayed, &[]), client.query_opt(&self.received, &[]));
        let Some(received) = received.map_err(of)? else { return Ok(None) };
        if timeline_id(&received, 0)? != asked.timeline {
            return Ok(None);
        }
        lsn(&replayed.map_err(of)?, 0)
    }

    /// Asks everything; the statements travel together.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        node: &Node,
        memory: &mut Memory,
    ) -> Result<Report, ConnectFailure> {
        let (state, senders, slots, repmgr) = tokio::join!(
            client.query_one(&self.state, &[]),
            client.query(&self.senders, &[]),
            client.query(&self.slots, &[]),
            ask_repmgr(client, self.repmgr.as_ref()),
        );
        let state = state.map_err(of)?;
        let mut repmgr = repmgr?;
        if self.repmgr.is_none() {
            match self.find_repmgr(client, &state, (node, memory)).await {
                Ok(true) => repmgr = ask_repmgr(client, self.repmgr.as_ref()).await?,
                Ok(false) => {}
                Err(failure) if is_locked(&failure) => repmgr.0 = None,
                Err(failure) => return Err(failure),
            }
        }
        let (nodes, repmgrd_decides) = repmgr;
        let incarnation =
            (get::<i64>(&state, "system_identifier")?.cast_unsigned(), get(&state, "started_at")?);
        memory.note_rows(node, incarnation.0, nodes);
        let senders = senders.map_err(of)?;
        let (timeline, position) = if get(&state, "standby")? {
            self.look_at_wal(client, &state, incarnation, (node, memory)).await?;
            standby(&state, incarnation, memory)?
        } else {
            primary(&state, &senders)?
        };
        Ok(Report {
            system_identifier: incarnation.0,
            timeline,
            history: history_of(client, incarnation, timeline, memory).await?,
            started_at: incarnation.1,
            position,
            slots: slots.map_err(of)?.iter().map(slot).collect::<Result<_, _>>()?,
            synchronous_standby_names: get(&state, "synchronous_standby_names")?,
            wal_receiver_timeout: milliseconds(&state, "receiver_timeout")?,
            repmgr_nodes: Arc::clone(&memory.repmgr_nodes.1),
            repmgrd_decides,
            data_directory: get(&state, "data_directory")?,
        })
    }

    /// Notes the timeline of the WAL that a standby holds without a receiver, where that may be another than at the last look.
    async fn look_at_wal(
        &self,
        client: &Client,
        state: &Row,
        incarnation: Incarnation,
        (node, memory): (&Node, &mut Memory),
    ) -> Result<(), ConnectFailure> {
        if get(state, "receiving")? {
            memory.looked_at = None;
            return Ok(());
        }
        let looked_at = Some((incarnation, lsn(state, "receive")?.max(lsn(state, "replay")?)));
        if memory.looked_at == looked_at {
            return Ok(());
        }
        match client.query_one(&self.wal_timeline, &[]).await.map_err(of) {
            Ok(row) => {
                let timeline = timeline_id(&row, 0)?;
                let before = memory.timeline.filter(|(of, _)| *of == incarnation);
                let before = before.map(|(_, timeline)| timeline).unwrap_or_default();
                memory.timeline = Some((incarnation, before.max(timeline)));
            }
            Err(ConnectFailure::Rejected { sqlstate, .. }) if sqlstate == INSUFFICIENT_PRIVILEGE => {
                if !memory.warned_of_timeline {
                    memory.warned_of_timeline = true;
                    warn!(
                        server = %node,
                        "the monitor user may not call pg_ls_waldir(), without which a standby that lost its upstream may be taken for \
                         one with WAL of its own: GRANT pg_monitor to it"
                    );
                }
            }
            Err(failure) => return Err(failure),
        }
        memory.looked_at = looked_at;
        Ok(())
    }

    /// Prepares repmgr's questions where its tables can be read; false otherwise.
    async fn find_repmgr(
        &mut self,
        client: &Client,
        state: &Row,
        (node, memory): (&Node, &mut Memory),
    ) -> Result<bool, ConnectFailure> {
        let readable: Option<bool> = get(state, "repmgr_readable")?;
        if readable == Some(false) && !memory.warned_of_repmgr {
            memory.warned_of_repmgr = true;
            warn!(
                server = %node,
                "the monitor user may not read repmgr.nodes, without which no standby is promoted: GRANT USAGE ON SCHEMA repmgr \
                 and SELECT ON repmgr.nodes to it"
            );
        }
        if readable != Some(true) {
            return Ok(false);
        }
        let (nodes, repmgrd) = tokio::join!(client.prepare(REPMGR_NODES), client.prepare(REPMGRD));
        self.repmgr = Some(Repmgr { nodes: nodes.map_err(of)?, repmgrd: repmgrd.ok() });
        Ok(true)
    }
}

/// The rows of `repmgr.nodes`, unless they are locked, and whether a repmgrd decides there.
async fn ask_repmgr(
    client: &Client,
    repmgr: Option<&Repmgr>,
) -> Result<(Option<Vec<RepmgrNode>>, bool), ConnectFailure> {
    let Some(repmgr) = repmgr else { return Ok((Some(Vec::new()), false)) };
    let repmgrd = async {
        match &repmgr.repmgrd {
            Some(statement) => get(&client.query_one(statement, &[]).await.map_err(of)?, 0),
            None => Ok(false),
        }
    };
    let (nodes, decides) = tokio::join!(client.query(&repmgr.nodes, &[]), repmgrd);
    let nodes = match nodes.map_err(of) {
        Ok(rows) => {
            let nodes = rows.iter().filter_map(|row| repmgr_node(row).transpose());
            Some(nodes.collect::<Result<Vec<_>, _>>()?)
        }
        Err(failure) if is_locked(&failure) => None,
        Err(failure) => return Err(failure),
    };
    Ok((nodes, decides?))
}

fn is_locked(failure: &ConnectFailure) -> bool {
    matches!(failure, ConnectFailure::Rejected { sqlstate, .. } if sqlstate == LOCK_NOT_AVAILABLE)
}

fn primary(state: &Row, senders: &[Row]) -> Result<(TimelineId, Position), ConnectFailure> {
    // Eight digits each for timeline, log and segment; unlike the checkpoint's, this timeline is always the present one.
    let wal_file: String = get(state, "wal_file")?;
    let timeline = wal_file
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| malformed(&format!("`{wal_file}` names no WAL segment")))?;
    let senders = senders.iter().map(wal_sender).collect::<Result<Vec<_>, _>>()?;
    let (insert, flush) = (lsn(state, "insert")?, lsn(state, "flush")?);
    let position =
        Position::Primary { insert: insert.unwrap_or_default(), flush: flush.unwrap_or_default(), senders };
    Ok((TimelineId(timeline), position))
}

fn standby(
    state: &Row,
    incarnation: Incarnation,
    memory: &mut Memory,
) -> Result<(TimelineId, Position), ConnectFailure> {
    let receiver = if get(state, "receiving")? { Some(wal_receiver(state)?) } else { None };
    if let Some(receiver) = receiver.as_ref().filter(|receiver| receiver.timeline != TimelineId(0)) {
        memory.timeline = Some((incarnation, receiver.timeline));
    }
    // What the control file says lags behind; a server's timeline never goes back while it runs.
    let received = memory.timeline.filter(|(of, _)| *of == incarnation).map(|(_, timeline)| timeline);
    let timeline = received.unwrap_or_default().max(timeline_id(state, "timeline_at_least")?);
    let position = Position::Standby {
        receive: lsn(state, "receive")?,
        replay: lsn(state, "replay")?,
        replay_paused: get(state, "paused")?,
        apply_delay: milliseconds(state, "apply_delay")?,
        frozen: get(state, "frozen")?,
        receiver,
    };
    Ok((timeline, position))
}

async fn history_of(
    client: &Client,
    incarnation: Incarnation,
    timeline: TimelineId,
    memory: &mut Memory,
) -> Result<Arc<TimelineHistory>, ConnectFailure> {
    if timeline <= TimelineId(1) {
        return Ok(Arc::default());
    }
    if let Some((of, number, history)) = &memory.history
        && (*of, *number) == (incarnation, timeline)
    {
        return Ok(Arc::clone(history));
    }
    let number = format!("{:08X}", timeline.0);
    let row = client.query_one(HISTORY, &[&number]).await.map_err(of)?;
    let text: Option<String> = get(&row, 0)?;
    let text = text.ok_or_else(|| ConnectFailure::Rejected {
        sqlstate: UNDEFINED_FILE.to_owned(),
        message: format!("the history file of timeline {} is missing", timeline.0),
    })?;
    let history = Arc::new(parse_history(timeline, &text).map_err(|reason| malformed(&reason))?);
    memory.history = Some((incarnation, timeline, Arc::clone(&history)));
    Ok(history)
}

fn wal_sender(row: &Row) -> Result<WalSender, ConnectFailure> {
    Ok(WalSender {
        application_name: get(row, 0)?,
        state: get(row, 1)?,
        sync_state: get(row, 2)?,
        flush: lsn(row, 3)?,
        replay: lsn(row, 4)?,
    })
}

fn slot(row: &Row) -> Result<ReplicationSlot, ConnectFailure> {
    Ok(ReplicationSlot { name: get(row, 0)?, database: get(row, 1)?, active: get(row, 2)? })
}

/// Everything but its existence is null for a user without `pg_read_all_stats`.
fn wal_receiver(state: &Row) -> Result<WalReceiver, ConnectFailure> {
    let age: Option<i64> = get(state, "message_age")?;
    Ok(WalReceiver {
        status: get::<Option<String>>(state, "status")?.unwrap_or_default(),
        timeline: timeline_id(state, "received_tli")?,
        sender_host: get::<Option<String>>(state, "sender_host")?.unwrap_or_default(),
        sender_port: get::<Option<i32>>(state, "sender_port")?
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default(),
        last_message_age: Duration::from_micros(age.unwrap_or_default().try_into().unwrap_or_default()),
    })
}

/// None for a server of a kind that is not known here.
fn repmgr_node(row: &Row) -> Result<Option<RepmgrNode>, ConnectFailure> {
    let node_type = match get(row, 2)? {
        "primary" => RepmgrNodeType::Primary,
        "standby" => RepmgrNodeType::Standby,
        "witness" => RepmgrNodeType::Witness,
        _ => return Ok(None),
    };
    let conninfo: &str = get(row, 6)?;
    let (host, port) = Conninfo::parse(conninfo).and_then(|it| it.host_and_port()).unwrap_or_default();
    Ok(Some(RepmgrNode {
        node_id: get(row, 0)?,
        node_name: get(row, 1)?,
        node_type,
        upstream_node_id: get(row, 3)?,
        active: get(row, 4)?,
        priority: get(row, 5)?,
        host,
        port,
        location: get(row, 7)?,
    }))
}

fn timeline_id(
    row: &Row,
    column: impl tokio_postgres::row::RowIndex + std::fmt::Display,
) -> Result<TimelineId, ConnectFailure> {
    let number: Option<i32> = get(row, column)?;
    Ok(TimelineId(number.unwrap_or_default().cast_unsigned()))
}

fn milliseconds(row: &Row, column: &str) -> Result<Duration, ConnectFailure> {
    let number: i64 = get(row, column)?;
    Ok(Duration::from_millis(number.try_into().unwrap_or_default()))
}

fn lsn(
    row: &Row,
    column: impl tokio_postgres::row::RowIndex + std::fmt::Display,
) -> Result<Option<Lsn>, ConnectFailure> {
    let lsn: Option<PgLsn> = get(row, column)?;
    Ok(lsn.map(|lsn| Lsn(lsn.into())))
}

fn get<'row, T: FromSql<'row>>(
    row: &'row Row,
    column: impl tokio_postgres::row::RowIndex + std::fmt::Display,
) -> Result<T, ConnectFailure> {
    row.try_get(column).map_err(of)
}

fn of(error: tokio_postgres::Error) -> ConnectFailure {
    ConnectFailure::of(&error)
}

fn malformed(what: &str) -> ConnectFailure {
    ConnectFailure::Rejected { sqlstate: INTERNAL_ERROR.to_owned(), message: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_known_as_frozen_by_what_a_freeze_writes() {
        assert!(STATE.contains(&format!("'{} '", crate::FROZEN_CONNINFO)));
    }
}
