//! Servers and answers for the unit tests.

use std::sync::Arc;
use std::time::Duration;

use crate::{Knowledge, Lsn, Node, NodeId, Position, RepmgrNode, RepmgrNodeType, Report, TimelineId};

/// The servers `pg0`, `pg1` and so on, of which nothing is known yet.
pub(crate) fn herd(of: u32) -> Knowledge {
    let node = |id| Node::new(NodeId(id), format!("pg{id}"), 5432);
    Knowledge::new((0..of).map(node).collect(), None)
}

/// The row that repmgr has of one of them.
pub(crate) fn row(id: u32) -> RepmgrNode {
    RepmgrNode {
        node_id: 1,
        node_name: format!("pg{id}"),
        node_type: RepmgrNodeType::Standby,
        upstream_node_id: None,
        active: true,
        priority: 100,
        host: format!("pg{id}"),
        port: 5432,
        location: "default".to_owned(),
    }
}

/// What a server answers.
pub(crate) fn report(system_identifier: u64, position: Position, rows: Vec<RepmgrNode>) -> Report {
    Report {
        system_identifier,
        timeline: TimelineId(1),
        history: Arc::default(),
        started_at: 0,
        position,
        slots: Vec::new(),
        synchronous_standby_names: String::new(),
        wal_receiver_timeout: Duration::from_secs(2),
        repmgr_nodes: Arc::new(rows),
        repmgrd_decides: false,
        data_directory: None,
    }
}

/// Of a primary that has written so much.
pub(crate) fn primary(lsn: u64) -> Position {
    Position::Primary { insert: Lsn(lsn), flush: Lsn(lsn), senders: Vec::new() }
}

/// Of a standby that has replayed so much, and receives nothing.
pub(crate) fn standby(lsn: u64) -> Position {
    Position::Standby {
        receive: Some(Lsn(lsn)),
        replay: Some(Lsn(lsn)),
        replay_paused: false,
        apply_delay: Duration::ZERO,
        frozen: false,
        receiver: None,
    }
}
