//! The herd at one moment.

use serde::Serialize;
use utoipa::ToSchema;

use super::Point;

/// The herd at one moment: its servers, what is decided about them, and what clients do.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Herd {
    /// When this was (RFC 3339).
    pub at: String,
    /// The version of pgherd.
    pub version: &'static str,
    /// How long pgherd has run.
    pub uptime_seconds: u64,
    /// The cluster.
    pub cluster: Cluster,
    /// The failover machine.
    pub machine: Machine,
    /// Where writes go.
    pub writes: Writes,
    /// What is wrong, if anything is.
    pub alert: Option<Alert>,
    /// The servers, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// What clients did in the last seconds, and how many there are.
    pub traffic: Point,
}

impl Herd {
    /// The server of this number.
    #[must_use]
    pub fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cluster {
    /// Its system identifier; none before a server has answered.
    pub system_identifier: Option<String>,
    /// The timeline that is served.
    pub timeline: Option<u32>,
}

/// The failover machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Machine {
    /// Its state, such as `Steady`.
    pub state: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// Why, in a sentence.
    pub reason: String,
    /// What an operator can do about it.
    pub advice: Option<String>,
    /// `automatic` or `manual`.
    pub mode: &'static str,
    /// It is this pgherd that acts on the servers.
    pub decides: bool,
    /// Who does.
    pub decider: String,
    /// An operator has paused failover.
    pub paused: bool,
    /// The reign that takes writes.
    pub epoch: Option<String>,
    /// In a hold, what a failover depends on.
    pub guards: Vec<Check>,
    /// What is wrong but stops nothing.
    pub warnings: Vec<String>,
}

/// One thing that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What must hold.
    pub what: String,
    /// `holds`, `waits` (it is not known yet) or `fails`.
    pub holds: &'static str,
    /// Why not.
    pub why: String,
}

/// Where writes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Writes {
    /// Whether they go anywhere.
    pub open: bool,
    /// To which server.
    pub node: Option<u32>,
    /// Why they wait.
    pub reason: Option<String>,
}

/// What is wrong, in one sentence, and what to do, in another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Clients are served, but less than all is well.
    Warning,
    /// Clients wait, or will.
    Error,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Node {
    /// pgherd's number of it.
    pub id: u32,
    /// repmgr's name of it, else its host.
    pub name: String,
    /// Its host.
    pub host: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// What it says that it is: `primary`, `standby` or `unknown`.
    pub role: &'static str,
    /// `up`, or what is wrong with it.
    pub state: String,
    /// It answers.
    pub up: bool,
    /// What it is used for: `writes`, `reads`, `open transactions` or `no`.
    pub used_for: &'static str,
    /// Why for nothing.
    pub why_not: Option<String>,
    /// The furthest position of its WAL.
    pub lsn: Option<String>,
    /// How far that is behind the primary's.
    pub lag_bytes: Option<u64>,
    /// What it had not replayed of what the primary had written.
    pub replay_lag_bytes: Option<u64>,
    /// For how long it had lacked that.
    pub replay_lag_seconds: Option<f64>,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// Its share of the reads.
    pub weight: f64,
    /// An operator has detached it.
    pub detached: bool,
    /// It is not configured, but registered with repmgr.
    pub discovered: bool,
    /// Since when it is in its state (RFC 3339).
    pub since: Option<String>,
    /// Connections to it, in all pools.
    pub connections: usize,
    /// Those that clients have.
    pub lent: usize,
    /// Queries a second there that only read.
    pub reads_per_second: Option<f64>,
    /// How long the shortest of its last probes took.
    pub round_trip_ms: Option<f64>,
    /// The server that it gets its WAL from.
    pub upstream: Option<u32>,
    /// The status of its WAL receiver.
    pub receiver: Option<String>,
    /// Whether commits wait for it: `sync`, `quorum`, `potential` or `async`.
    pub sync_state: Option<String>,
}
