//! What servers may say of themselves, made of bytes.

use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{
    HistoryEntry, Lsn, Node, NodeId, Position, ProbeOutcome, ReplicationSlot, RepmgrNode, RepmgrNodeType,
    Report, TimelineHistory, TimelineId, WalReceiver, WalSender,
};

use crate::bytes::Bytes;

/// The cluster that is asked about.
pub(crate) const OURS: u64 = 7;
/// How many servers there are.
pub(crate) const SERVERS: u8 = 3;

/// The servers as they are configured.
pub(crate) fn nodes() -> Vec<Node> {
    (0..u32::from(SERVERS)).map(|id| Node::new(NodeId(id), name(id), 5432)).collect()
}

pub(crate) fn name(id: u32) -> String {
    format!("pg0{}", id + 1)
}

/// One of them.
pub(crate) fn server(bytes: &mut Bytes<'_>) -> NodeId {
    NodeId(bytes.below(SERVERS).into())
}

/// How a probe ends.
pub(crate) fn outcome(bytes: &mut Bytes<'_>) -> ProbeOutcome {
    match bytes.below(12) {
        0 => ProbeOutcome::Refused("connection refused".to_owned()),
        1 => ProbeOutcome::StartingUp,
        2 => ProbeOutcome::ShuttingDown,
        3 => ProbeOutcome::Unwilling { sqlstate: "53300".to_owned(), message: "too many".to_owned() },
        4 => ProbeOutcome::TimedOut,
        _ => ProbeOutcome::Answered(Box::new(report(bytes))),
    }
}

fn lsn(bytes: &mut Bytes<'_>) -> Lsn {
    match bytes.byte() {
        255 => Lsn(u64::from(bytes.word()) << 32 | u64::from(bytes.word())),
        few => Lsn(u64::from(few) * 100),
    }
}

/// A history as a server may have one: its timelines rise, and so do the places where they ended.
fn history(bytes: &mut Bytes<'_>, timeline: u32) -> TimelineHistory {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for ended in 1..timeline {
        if bytes.below(4) != 0 {
            let least = entries.last().map_or(Lsn(0), |last| last.switch_point);
            let switch_point = lsn(bytes).max(least);
            entries.push(HistoryEntry { timeline: TimelineId(ended), switch_point });
        }
    }
    TimelineHistory(entries)
}

fn report(bytes: &mut Bytes<'_>) -> Report {
    let timeline = u32::from(bytes.below(4)) + 1;
    let system_identifier = if bytes.below(16) == 15 { 8 } else { OURS };
    let history = Arc::new(history(bytes, timeline));
    let position = position(bytes, timeline);
    let flags = bytes.byte();
    let slot = ReplicationSlot {
        name: format!("repmgr_slot_{}", bytes.below(4)),
        database: (flags & 1 != 0).then(|| "app".to_owned()),
        active: flags & 2 != 0,
    };
    Report {
        system_identifier,
        timeline: TimelineId(timeline),
        history,
        started_at: i64::from(bytes.below(3)),
        position,
        slots: if flags & 4 != 0 { vec![slot] } else { Vec::new() },
        synchronous_standby_names: ["", "*", "pg02", "ANY 1 (pg02, pg03)", "2 (", "FIRST 9 (a)"]
            [usize::from(flags >> 4) % 6]
            .to_owned(),
        wal_receiver_timeout: Duration::from_secs(u64::from(bytes.below(3)) * 30),
        repmgr_nodes: Arc::new(rows(bytes)),
        repmgrd_decides: flags & 8 != 0 && flags & 1 != 0,
        data_directory: (flags & 2 != 0).then(|| "/data".to_owned()),
    }
}

fn position(bytes: &mut Bytes<'_>, timeline: u32) -> Position {
    if bytes.below(3) == 0 {
        let flush = lsn(bytes);
        let senders = (0..bytes.below(3)).map(|_| WalSender {
            application_name: name(bytes.below(4).into()),
            state: bytes.one(&["streaming", "catchup"]).to_owned(),
            sync_state: bytes.one(&["async", "sync", "quorum", "potential"]).to_owned(),
            flush: Some(lsn(bytes)),
            replay: Some(lsn(bytes)),
        });
        let senders = senders.collect();
        return Position::Primary {
            insert: Lsn(flush.0.saturating_add(bytes.byte().into())),
            flush,
            senders,
        };
    }
    let flags = bytes.byte();
    let receiver = (flags & 1 != 0).then(|| WalReceiver {
        status: bytes.one(&["streaming", "waiting", ""]).to_owned(),
        timeline: TimelineId(timeline),
        sender_host: name(bytes.below(4).into()),
        sender_port: 5432,
        last_message_age: Duration::from_millis(u64::from(bytes.short())),
    });
    Position::Standby {
        receive: (flags & 2 != 0).then(|| lsn(bytes)),
        replay: (flags & 4 != 0).then(|| lsn(bytes)),
        replay_paused: flags & 8 != 0,
        apply_delay: Duration::from_secs(u64::from(flags >> 7)),
        frozen: flags & 0x30 == 0x30,
        receiver,
    }
}

fn rows(bytes: &mut Bytes<'_>) -> Vec<RepmgrNode> {
    let count = bytes.below(5);
    let row = |id: u8, bytes: &mut Bytes<'_>| {
        let flags = bytes.byte();
        RepmgrNode {
            node_id: i32::from(id) + 1,
            node_name: name(id.into()),
            node_type: [RepmgrNodeType::Standby, RepmgrNodeType::Primary, RepmgrNodeType::Witness]
                [usize::from(flags % 4).min(2)],
            upstream_node_id: (flags & 8 != 0).then(|| i32::from(bytes.below(5))),
            active: flags & 16 == 0,
            priority: if flags & 32 == 0 { 100 } else { 0 },
            host: if flags & 64 == 0 { name(id.into()) } else { "a b;c".to_owned() },
            port: if flags & 128 == 0 { 5432 } else { 0 },
            location: "default".to_owned(),
        }
    };
    (0..count).map(|id| row(id, bytes)).collect()
}
