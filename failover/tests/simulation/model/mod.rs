//! The parts of the model world.

mod agenda;
mod etcd;
mod network;
mod report;
mod rng;
mod server;
mod wal;

pub(crate) use agenda::{Agenda, Time};
pub(crate) use etcd::Etcd;
pub(crate) use network::{Network, Way};
pub(crate) use report::{Circumstances, Memory, answer, first_rows, repmgr_id, started_at};
pub(crate) use rng::Rng;
pub(crate) use server::{Late, OURS, Process, Receiver, Sender, Server, name};
pub(crate) use wal::{Record, Wal, What};

use pgherd_health::NodeId;

/// The index of a server, or of pgherd's place in the network.
pub(crate) type Id = usize;
/// A client's transaction.
pub(crate) type TxId = usize;

/// pgherd's name of a server.
pub(crate) fn node(server: Id) -> NodeId {
    NodeId(u32::try_from(server).unwrap_or(u32::MAX))
}

/// The server of that name.
pub(crate) fn server_of(node: NodeId) -> Id {
    node.0 as usize
}
