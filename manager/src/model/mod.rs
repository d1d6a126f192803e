//! What is shown, as JSON. Names of fields are part of the interface: scripts rely on them.

mod herd;
mod order;
mod story;
mod traffic;

pub use herd::{Alert, Check, Cluster, Herd, Level, Machine, Node, Writes};
pub use order::{Action, BackupKind, Line, Order, OrderState, Rehearsal, Request};
pub use story::{Ended, Event, Failover, FailoverKind, Step};
pub use traffic::{History, Point};
