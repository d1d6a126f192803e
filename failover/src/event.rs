//! What the decision machine is told.

use std::time::{Duration, Instant};

use pgherd_health::{NodeId, ProbeOutcome, TimelineId};

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

/// What an operator may order. Each order is answered once: see [`crate::Machine::take_answers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// No failover and no repair until [`Order::Resume`].
    Pause,
    /// Ends [`Order::Pause`].
    Resume,
    /// There is no primary: have one, on these terms. In force until it is answered.
    Failover(Terms),
    /// Another server is to be the primary, while all is well.
    Switchover {
        /// Which; if none, the best.
        to: Option<NodeId>,
    },
    /// Make this server a standby of the primary now, whatever was tried before.
    Rejoin {
        /// Which.
        node: NodeId,
        /// Even if it has more WAL of its own than `failover.max_data_loss`, or nobody knows how much.
        accept_data_loss: bool,
        /// Clone it anew, whatever it has.
        reclone: bool,
    },
    /// Read from this server again, and let it be promoted.
    Attach(NodeId),
    /// Neither read from this server nor promote it, until [`Order::Attach`] or a restart of pgherd.
    Detach(NodeId),
}

/// On what terms an operator wants a failover: each is a way out of some hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Only this server is to be the primary, also if its priority or its flag would keep it from that.
    pub to: Option<NodeId>,
    /// Even where acknowledged commits may be lost.
    pub accept_data_loss: bool,
    /// Of several timelines, none of which contains the others, this one is right; what was written on the others counts for
    /// nothing.
    pub accept_timeline: Option<TimelineId>,
}

/// What an order is about. Of each errand there is one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Who is the primary.
    Primary,
    /// One server that is to follow the primary.
    Rejoin(NodeId),
    /// How pgherd goes about its work.
    Manner,
}

impl Order {
    /// What it is about.
    #[must_use]
    pub const fn errand(&self) -> Errand {
        match self {
            Self::Failover(_) | Self::Switchover { .. } => Errand::Primary,
            Self::Rejoin { node, .. } => Errand::Rejoin(*node),
            Self::Pause | Self::Resume | Self::Attach(_) | Self::Detach(_) => Errand::Manner,
        }
    }
}

/// How an order has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the order was about.
    pub errand: Errand,
    /// What was done, or why it was not.
    pub told: Result<String, String>,
}

/// What an order would do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// What it would do, or why it would be refused.
    pub would: Result<String, String>,
    /// What that depends on.
    pub checks: Vec<Check>,
}

/// One thing that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub what: &'static str,
    /// Whether it does.
    pub holds: Holds,
    /// Why not.
    pub why: String,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// That is not known yet.
    NotYet,
    /// It does not.
    No,
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
