//! The servers as they are configured.

use std::fmt;

/// pgherd's number of a server: its id in `backends.nodes`, from 0. Not repmgr's `node_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One server of the herd, as `backends.nodes` names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// pgherd's number of it.
    pub id: NodeId,
    /// Host name or address; resolved again at every connect.
    pub host: String,
    /// PostgreSQL's TCP port.
    pub port: u16,
    /// Share of the reads, relative to the others'.
    pub weight: f64,
    /// PostgreSQL's data directory on that host.
    pub data_directory: String,
    /// False for `DISALLOW_TO_FAILOVER`: never promoted.
    pub may_be_promoted: bool,
}

impl Node {
    /// True if both are the same server, whatever else was configured for it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.id, &self.host, self.port) == (other.id, &other.host, other.port)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({}:{})", self.id, self.host, self.port)
    }
}
