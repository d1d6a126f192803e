//! The servers as they are configured, or were found.

use core::net::IpAddr;
use std::fmt;

/// pgherd's number of a server: its id in `backends.nodes`, from 0. Not repmgr's `node_id`, which is only the number of a server
/// that was found there if no other has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One server of the herd, as `backends.nodes` or `repmgr.nodes` names it.
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
    /// It is not configured: repmgr's row of this `node_id` names it.
    pub discovered: Option<i32>,
    /// Another address under which repmgr has it, if it was found that both lead to the same server.
    pub known_as: Option<(String, u16)>,
}

impl Node {
    /// The server there, with what holds where nothing else is configured; nothing is known of its data directory.
    #[must_use]
    pub const fn new(id: NodeId, host: String, port: u16) -> Self {
        Self {
            id,
            host,
            port,
            weight: 1.0,
            data_directory: String::new(),
            may_be_promoted: true,
            discovered: None,
            known_as: None,
        }
    }

    /// True if both are the same server, whatever else was configured for it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.id, &self.host, self.port) == (other.id, &other.host, other.port)
    }

    /// True if it is reached there.
    #[must_use]
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        let known_as = self.known_as.as_ref().is_some_and(|(other, at)| other == host && *at == port);
        known_as || (self.host == host && self.port == port)
    }
}

/// A host that may stand in a path or a command of another machine: nothing but letters, digits, `-`, `_`, `.`, or an
/// address. Brackets of an IPv6 address are taken away.
#[must_use]
pub fn fit_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Some(bare.to_owned());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = !text.is_empty() && text.len() <= 253 && text.chars().all(fits);
    (is_name && !text.starts_with(['-', '.'])).then(|| text.to_owned())
}

/// A data directory that may stand in a command of another machine.
#[must_use]
pub fn is_fit_directory(text: &str) -> bool {
    text.starts_with('/') && !text.contains(char::is_control)
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({}:{})", self.id, self.host, self.port)
    }
}
