//! What is known of every server, and the one [`Topology`](topology) derived from it.
//!
//! `node`, `report`, `lsn`, `timeline` and everything that derives from them are pure: time is an argument.
//! Only `prober` talks to servers.

mod lsn;
mod node;
mod prober;
mod report;

pub use lsn::{Lsn, ParseLsnError};
pub use node::{Node, NodeId};
pub use prober::{ConnectFailure, Password, Probe, Prober, ProberSettings, Session, connect};
pub use report::{
    HistoryEntry, Position, ProbeOutcome, RepmgrNode, RepmgrNodeType, Report, TimelineHistory, TimelineId,
    WalReceiver, WalSender,
};
