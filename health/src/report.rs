//! What a server says of itself, and how a probe of it can end.

use std::sync::Arc;
use std::time::Duration;

use crate::Lsn;

/// How the `primary_conninfo` of a standby begins that a pgherd has frozen: there is no such directory of sockets.
pub const FROZEN_CONNINFO: &str = "host=/pgherd-frozen";

/// A timeline's number. Equal numbers are not equal histories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(pub u32);

/// One line of a timeline history file: `timeline` ended at `switch_point`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistoryEntry {
    /// The timeline that ended.
    pub timeline: TimelineId,
    /// Where the next one forked off.
    pub switch_point: Lsn,
}

/// The ancestors of a timeline, oldest first (empty for timeline 1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TimelineHistory(pub Vec<HistoryEntry>);

/// How one probe of one server ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeOutcome {
    /// The server answered the probe's query.
    Answered(Box<Report>),
    /// Connection refused, unroutable, or its name is gone: a killed server or container looks so.
    Refused(String),
    /// 57P03 while it starts or recovers from a crash.
    StartingUp,
    /// 57P01, or 57P03 after a 57P01: it is being stopped.
    ShuttingDown,
    /// Alive but unwilling (53300, 28xxx, 3D000, ...): never a reason to suspect it.
    Unwilling {
        /// SQLSTATE of the refusal.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// No answer within the probe's time.
    TimedOut,
}

/// One server's answer to one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `pg_control_system().system_identifier`.
    pub system_identifier: u64,
    /// The timeline it writes (primary) or receives and replays (standby).
    pub timeline: TimelineId,
    /// The ancestors of `timeline`.
    pub history: Arc<TimelineHistory>,
    /// `pg_postmaster_start_time()`, microseconds since 2000-01-01: a change means a restart.
    pub started_at: i64,
    /// Where it is in the write-ahead log; tells a primary from a standby.
    pub position: Position,
    /// `pg_replication_slots`, without temporary ones.
    pub slots: Vec<ReplicationSlot>,
    /// `synchronous_standby_names`, as set on this server.
    pub synchronous_standby_names: String,
    /// `wal_receiver_timeout` of this server.
    pub wal_receiver_timeout: Duration,
    /// repmgr's `nodes` as this server has them; empty where there is no repmgr.
    pub repmgr_nodes: Arc<Vec<RepmgrNode>>,
    /// A running, unpaused repmgrd with failover=automatic is on this server.
    pub repmgrd_decides: bool,
    /// Its data directory, where the monitor user may know it.
    pub data_directory: Option<String>,
}

/// Where a server is in the write-ahead log.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// Not in recovery.
    Primary {
        /// `pg_current_wal_insert_lsn()`.
        insert: Lsn,
        /// `pg_current_wal_flush_lsn()`.
        flush: Lsn,
        /// `pg_stat_replication`.
        senders: Vec<WalSender>,
    },
    /// In recovery.
    Standby {
        /// `pg_last_wal_receive_lsn()`: none after a restart until streaming begins.
        receive: Option<Lsn>,
        /// `pg_last_wal_replay_lsn()`.
        replay: Option<Lsn>,
        /// `pg_is_wal_replay_paused()`.
        replay_paused: bool,
        /// `recovery_min_apply_delay`.
        apply_delay: Duration,
        /// A pgherd has frozen it: its `primary_conninfo` begins with [`FROZEN_CONNINFO`]. False where the monitor user may not see that.
        frozen: bool,
        /// `pg_stat_wal_receiver`, if there is one.
        receiver: Option<WalReceiver>,
    },
}

impl Report {
    /// True if it is a standby that a pgherd has frozen.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        matches!(self.position, Position::Standby { frozen: true, .. })
    }

    /// True if the server accepts writes.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        matches!(self.position, Position::Primary { .. })
    }

    /// The furthest position that it has on disk: flushed, or the greater of received and replayed.
    #[must_use]
    pub fn furthest(&self) -> Lsn {
        match &self.position {
            Position::Primary { flush, .. } => *flush,
            Position::Standby { receive, replay, .. } => receive.max(replay).unwrap_or_default(),
        }
    }
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq)]
pub struct WalSender {
    /// The standby's name: repmgr's `node_name`.
    pub application_name: String,
    /// `streaming`, `catchup`, ...
    pub state: String,
    /// `sync`, `quorum`, `potential` or `async`.
    pub sync_state: String,
    /// What the standby has flushed.
    pub flush: Option<Lsn>,
    /// What the standby has replayed.
    pub replay: Option<Lsn>,
}

/// The row of `pg_stat_wal_receiver`.
#[derive(Clone, Debug, PartialEq)]
pub struct WalReceiver {
    /// `streaming`, `waiting`, ...
    pub status: String,
    /// The timeline that it receives.
    pub timeline: TimelineId,
    /// The host that it receives from.
    pub sender_host: String,
    /// The port that it receives from.
    pub sender_port: u16,
    /// Time since the last message from the sender, by the standby's clock.
    pub last_message_age: Duration,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationSlot {
    /// Its name.
    pub name: String,
    /// The database of a logical slot; none for a physical one.
    pub database: Option<String>,
    /// Somebody receives by it now.
    pub active: bool,
}

/// `repmgr.nodes.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepmgrNodeType {
    /// `primary`
    Primary,
    /// `standby`
    Standby,
    /// `witness`
    Witness,
}

/// A row of `repmgr.nodes`.
#[derive(Clone, Debug, PartialEq)]
pub struct RepmgrNode {
    /// repmgr's `node_id`.
    pub node_id: i32,
    /// repmgr's `node_name`.
    pub node_name: String,
    /// Its type as recorded there.
    pub node_type: RepmgrNodeType,
    /// `upstream_node_id`.
    pub upstream_node_id: Option<i32>,
    /// `active`.
    pub active: bool,
    /// `priority`; 0 is never promoted.
    pub priority: i32,
    /// `host` of its `conninfo`.
    pub host: String,
    /// `port` of its `conninfo` (5432 where it names none).
    pub port: u16,
    /// `location`
    pub location: String,
}
