//! What is known of every server, and the one [`Topology`] derived from it.
//!
//! Everything here is pure, time is an argument; only `prober` talks to servers.

mod conninfo;
#[cfg(test)]
mod fixtures;
mod herd;
mod identity;
mod knowledge;
mod leadership;
mod lineage;
mod lsn;
mod member;
mod node;
mod prober;
mod report;
mod topology;

pub use conninfo::Conninfo;
pub use herd::{MOST_SERVERS, herd, witness};
pub use identity::{settled, system_identifier};
pub use knowledge::{Contact, Dated, Knowledge, Lineage, Seen, Void};
pub use leadership::{FalsePrimary, Leadership};
pub use lineage::{Branch, Relation, Standing};
pub use lsn::{Lsn, ParseLsnError};
pub use member::{Member, MemberState, Receiving};
pub use node::{Node, NodeId, fit_host, is_fit_directory};
pub use prober::{
    Asked, ConnectFailure, Login, Password, Probe, Prober, ProberSettings, Sample, Samples, Session, connect,
    drive, is_exhausted, parse_history,
};
pub use report::{
    FROZEN_CONNINFO, HistoryEntry, Position, ProbeOutcome, ReplicationSlot, RepmgrNode, RepmgrNodeType,
    Report, TimelineHistory, TimelineId, WalReceiver, WalSender,
};
pub use topology::Topology;
