//! The decision machine that keeps exactly one primary behind the endpoint, and the executors of what it decides.
//!
//! The machine is pure: topologies, outcomes and the time go in, [`Command`]s and a [`Routing`] come out.

mod command;
mod routing;

pub use command::{Command, CommandId, Outcome, Step};
pub use routing::{Epoch, Routing, Writes};
