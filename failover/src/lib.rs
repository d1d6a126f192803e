//! The decision machine that keeps exactly one primary behind the endpoint, and the executors of what it decides.
//!
//! The machine is pure: probe outcomes, outcomes of commands and the time go in, [`Command`]s and a [`Routing`] come out.
//! Its table is [`transitions`].

pub mod actor;
mod candidate;
mod care;
mod cascade;
mod command;
mod confirm;
mod discover;
mod election;
mod etcd;
mod event;
mod events;
mod executor;
mod explain;
mod found;
mod freeze;
mod guards;
mod herd;
mod history;
mod hold;
mod lease;
mod loss;
mod machine;
mod operator;
mod orders;
mod promote;
mod reading;
mod recall;
mod reconfigure;
mod rehearsal;
mod routing;
mod settings;
mod slots;
mod state;
mod steady;
mod switchover;
mod synchronous;
mod tool;
mod transition;
mod verify;
mod waking;

pub use command::{Command, CommandId, Ended, Outcome, Step};
pub use etcd::{Endpoint, EtcdSettings};
pub use event::{Answer, Cadence, Check, Errand, Event, Holds, Order, Rehearsal, Terms};
pub use events::{Events, Happened, Record};
pub use executor::{
    Clients, CommandSettings, Executor, ExecutorSettings, Means, RepmgrRows, RepmgrSettings, SshSettings,
    Template,
};
pub use explain::explain;
pub use found::{Backup, BackupKind, Disk, NodeCheck, Program, Stored};
pub use history::{Decision, History};
pub use lease::{Candidate, Claim, Ruling, Served};
pub use loss::{Limit, Loss};
pub use machine::Machine;
pub use routing::{Epoch, Routing, Writes};
pub use settings::{Mode, Settings};
pub use state::{StateName, Status};
pub use switchover::Plan;
pub use tool::{Job, Tool};
pub use transition::{On, RESTS, Transition, transitions};
