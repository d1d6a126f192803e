//! The decision machine that keeps exactly one primary behind the endpoint, and the executors of what it decides.
//!
//! The machine is pure: probe outcomes, outcomes of commands and the time go in, [`Command`]s and a [`Routing`] come out.

pub mod actor;
mod command;
mod event;
mod executor;
mod machine;
mod routing;
mod settings;
mod state;

pub use command::{Command, CommandId, Outcome, Step};
pub use event::{Cadence, Event, Order};
pub use executor::{Executor, ExecutorSettings, RepmgrRows, RepmgrSettings, SshSettings};
pub use machine::Machine;
pub use routing::{Epoch, Routing, Writes};
pub use settings::{Mode, Settings};
pub use state::{StateName, Status};
