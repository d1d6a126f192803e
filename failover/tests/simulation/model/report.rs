//! What a server answers to a probe.

use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{
    Position, ProbeOutcome, RepmgrNode, RepmgrNodeType, Report, TimelineId, WalReceiver, WalSender,
};

use crate::model::server::name;
use crate::model::{Id, Process, Server, Time, Wal};

/// `repmgr.nodes` of a herd at its beginning.
pub(crate) fn first_rows(primary: Id, priorities: &[i32], upstreams: &[Option<Id>]) -> Vec<RepmgrNode> {
    let row = |id: Id| RepmgrNode {
        node_id: repmgr_id(id),
        node_name: name(id),
        node_type: if id == primary { RepmgrNodeType::Primary } else { RepmgrNodeType::Standby },
        upstream_node_id: (id != primary).then(|| repmgr_id(upstreams[id].unwrap_or(primary))),
        active: true,
        priority: priorities[id],
        host: name(id),
        port: 5432,
        location: "default".to_owned(),
    };
    (0..priorities.len()).map(row).collect()
}

/// Also pgherd's number of a server that it finds there.
pub(crate) fn repmgr_id(server: Id) -> i32 {
    i32::try_from(server).unwrap_or(i32::MAX)
}

/// When the server has started: no two have at the same moment.
pub(crate) fn started_at(server: &Server) -> i64 {
    i64::try_from(server.incarnation * 16).unwrap_or(i64::MAX) + i64::from(repmgr_id(server.id))
}

/// The last timeline that a WAL receiver was seen on, and in which run of the server.
pub(crate) type Memory = Option<(u64, TimelineId)>;

/// What of a report is not the server's own.
pub(crate) struct Circumstances<'a> {
    pub(crate) now: Time,
    pub(crate) rows: &'a [Arc<Vec<RepmgrNode>>],
    pub(crate) synchronous: &'a str,
    pub(crate) receiver_timeout: Duration,
}

/// How a server that is reached answers.
pub(crate) fn answer(server: &Server, around: &Circumstances<'_>, memory: &mut Memory) -> ProbeOutcome {
    match server.process {
        Process::Down => ProbeOutcome::Refused("connection refused".to_owned()),
        Process::Starting => ProbeOutcome::StartingUp,
        Process::Stopping => ProbeOutcome::ShuttingDown,
        Process::Up if server.unwilling => {
            let (sqlstate, message) = match server.is_ours() {
                true => ("53300", "sorry, too many clients already"),
                false => ("28000", "role \"repmgr\" does not exist"),
            };
            ProbeOutcome::Unwilling { sqlstate: sqlstate.to_owned(), message: message.to_owned() }
        }
        Process::Up => ProbeOutcome::Answered(Box::new(report(server, around, memory))),
    }
}

fn report(server: &Server, around: &Circumstances<'_>, memory: &mut Memory) -> Report {
    let (timeline, position) = if server.standby { standby(server, around, memory) } else { primary(server) };
    let branch = branch_of(&server.wal, timeline);
    let rows = server.wal.rows().filter(|_| server.is_ours());
    Report {
        system_identifier: server.system_identifier,
        timeline,
        history: branch,
        started_at: started_at(server),
        position,
        slots: server.slots.clone(),
        synchronous_standby_names: around.synchronous.to_owned(),
        wal_receiver_timeout: around.receiver_timeout,
        repmgr_nodes: rows.map(|version| Arc::clone(&around.rows[version])).unwrap_or_default(),
        repmgrd_decides: server.repmgrd,
        data_directory: None,
    }
}

fn branch_of(wal: &Wal, timeline: TimelineId) -> Arc<pgherd_health::TimelineHistory> {
    if timeline == wal.branch.timeline {
        return Arc::clone(&wal.branch.history);
    }
    wal.branch_of(timeline).history
}

fn primary(server: &Server) -> (TimelineId, Position) {
    let senders = server
        .senders
        .iter()
        .map(|sender| WalSender {
            application_name: name(sender.to),
            state: "streaming".to_owned(),
            sync_state: "quorum".to_owned(),
            flush: Some(sender.flushed),
            replay: Some(sender.flushed),
        })
        .collect();
    let end = server.wal.end();
    (server.wal.branch.timeline, Position::Primary { insert: end, flush: end, senders })
}

/// As the prober tells it: the control file's timeline, unless a receiver was seen on a later one in this run.
fn standby(server: &Server, around: &Circumstances<'_>, memory: &mut Memory) -> (TimelineId, Position) {
    let receiver = server.receiver.map(|receiver| WalReceiver {
        status: "streaming".to_owned(),
        timeline: server.wal.branch.timeline,
        sender_host: name(receiver.from),
        sender_port: 5432,
        last_message_age: around.now.saturating_sub(receiver.last_message),
    });
    if receiver.is_some() {
        *memory = Some((server.incarnation, server.wal.branch.timeline));
    }
    let received = memory.filter(|(of, _)| *of == server.incarnation).map(|(_, timeline)| timeline);
    let timeline = received.unwrap_or_default().max(TimelineId(server.control_timeline));
    let position = Position::Standby {
        receive: server.has_streamed.then(|| server.wal.end()),
        replay: Some(server.replay),
        replay_paused: server.replay_paused,
        apply_delay: server.apply_delay,
        frozen: server.cut_off,
        receiver,
    };
    (timeline, position)
}
