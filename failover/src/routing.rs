//! What the decision machine tells the proxy: which server takes writes, which may be read.

use std::fmt;
use std::sync::Arc;

use pgherd_health::{Node, NodeId, TimelineId};

/// One reign of one primary. Derived from the cluster, not from a counter in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// The cluster's system identifier.
    pub system_identifier: u64,
    /// The timeline that the primary writes.
    pub timeline: TimelineId,
    /// The primary.
    pub primary: NodeId,
}

/// Whether new writes may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They go to the primary of this epoch.
    Open(Epoch),
    /// They wait, up to `failover.write_wait`; `keep` is the epoch whose connections may finish what they do
    /// (the primary is only suspected), none when they must be cut (it is fenced).
    Held {
        /// Whose open transactions may go on.
        keep: Option<Epoch>,
        /// It is waited for the end of those transactions: nobody at all begins another, on whatever connection.
        quiesces: bool,
        /// Why, in words for an operator and for the client's error message.
        reason: String,
    },
}

impl Writes {
    /// True if they differ in the words of the reason at most, and it is one of the same state.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let state = |reason: &str| reason.split(':').next().map(str::to_owned);
        match (self, other) {
            (
                Self::Held { keep, quiesces, reason },
                Self::Held { keep: before, quiesces: quiesced, reason: said },
            ) => keep == before && quiesces == quiesced && state(reason) == state(said),
            _ => self == other,
        }
    }
}

/// An immutable decision about where statements go.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Grows by one at each change, but for the words of a reason.
    pub generation: u64,
    /// Whether and where writes go.
    pub writes: Writes,
    /// Servers on the lineage that may be read, the primary not among them.
    pub readable: Vec<NodeId>,
    /// The servers that the numbers stand for.
    pub nodes: Arc<Vec<Node>>,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {} on timeline {} of cluster {}",
            self.primary, self.timeline.0, self.system_identifier
        )
    }
}
