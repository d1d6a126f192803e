//! What the decision machine is told.

use std::time::{Duration, Instant};

use pgherd_health::{NodeId, ProbeOutcome};

use crate::{CommandId, Outcome};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A probe ended. Outcomes that arrive out of order are told apart by `asked_at`.
    Probed {
        /// The server.
        node: NodeId,
        /// When the question was sent; for a look, what counts is that it was sent after the cause of the look.
        asked_at: Instant,
        /// When its outcome was known.
        answered_at: Instant,
        /// How it ended.
        outcome: ProbeOutcome,
    },
    /// A command ended.
    Ended {
        /// Which.
        id: CommandId,
        /// How.
        outcome: Outcome,
    },
    /// Time has passed; see [`Cadence::tick`].
    Tick,
    /// An operator wants something.
    Ordered(Order),
}

/// What an operator may order; each but the last is a way out of some hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// No failover until [`Order::Resume`].
    Pause,
    /// Ends [`Order::Pause`].
    Resume,
    /// Promote the best standby although the mode is manual, or although the guards on lost data do not hold.
    /// Kept until a promotion succeeds or the primary is back.
    Failover {
        /// Promote even where acknowledged commits may be lost.
        accept_data_loss: bool,
    },
    /// Of diverged forks this server is the primary; the others are told off as superseded.
    Trust(NodeId),
    /// Another server is to be the primary, while all is well: see [`crate::Machine::can_switch_over`].
    Switchover {
        /// Which; if none, the best.
        to: Option<NodeId>,
    },
}

/// How often the machine wants to see the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Time between two probes of one server.
    pub probe: Duration,
    /// Time between two [`Event::Tick`]s.
    pub tick: Duration,
    /// Grows each time the machine wants every server probed at once.
    pub at_once: u64,
}
