//! The states of the machine, and what each holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use pgherd_health::{Branch, Lsn, NodeId};

use crate::{Check, CommandId, Epoch};

/// The name of a state, as in `status`, the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Finding out who is the primary.
    Discover,
    /// All is well.
    Steady,
    /// An operator wants another primary: open transactions end, then the present one is stopped cleanly.
    Switchover,
    /// A probe of the primary failed.
    Suspect,
    /// The primary is given up, if all guards hold.
    Confirm,
    /// The epoch has ended; the old primary is stopped as far as it is reachable.
    Fence,
    /// The standbys stop receiving.
    Freeze,
    /// The best standby is chosen.
    Elect,
    /// It is locked, looked at once more, and promoted.
    Promote,
    /// The new primary is seen writable on a timeline of its own, and a write commits.
    Verify,
    /// Writes go to the new primary.
    Swap,
    /// A standby is told whom to follow: in the background, beside any other state.
    Repoint,
    /// An old primary is made a standby: in the background, beside any other state.
    Rejoin,
    /// Nothing can be decided safely: what needs a primary waits.
    Hold,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Discover,
        Self::Steady,
        Self::Switchover,
        Self::Suspect,
        Self::Confirm,
        Self::Fence,
        Self::Freeze,
        Self::Elect,
        Self::Promote,
        Self::Verify,
        Self::Swap,
        Self::Repoint,
        Self::Rejoin,
        Self::Hold,
    ];
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the machine shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: StateName,
    /// Why, in words for an operator.
    pub reason: String,
    /// The epoch that takes writes, or whose primary is only suspected.
    pub epoch: Option<Epoch>,
    /// Who acts on the servers.
    pub decider: String,
    /// It is this pgherd.
    pub decides: bool,
    /// Things that are wrong but stop nothing: unreachable members, servers that cannot be rejoined.
    pub warnings: Vec<String>,
    /// What an operator can do about a hold.
    pub advice: Option<String>,
    /// In a hold that a guard is the reason of: every guard.
    pub checks: Vec<Check>,
    /// An operator has paused failover.
    pub paused: bool,
    /// Servers that an operator has detached.
    pub detached: Vec<NodeId>,
}

/// A state and what it awaits.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Discover { since: Instant },
    Steady { epoch: Epoch },
    Switchover { epoch: Epoch, to: Option<NodeId>, phase: Phase },
    Suspect { epoch: Epoch, since: Instant },
    Confirm(Attempt),
    Fence(Attempt),
    Freeze(Attempt),
    Elect(Attempt),
    Promote { attempt: Attempt, candidate: NodeId, stage: Stage },
    Verify { attempt: Attempt, candidate: NodeId, write: CommandId, tries: u32 },
    Swap { epoch: Epoch },
    Hold(Hold),
}

/// How far a switchover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is seen whether the primary can be stopped, and it writes down what a clean stop would have to; writes go on.
    Prepare { rehearsal: CommandId, checkpoint: CommandId },
    /// New transactions wait until the open ones have ended.
    Quiesce(CommandId),
    /// The primary is being stopped.
    Stop(CommandId),
}

/// What an attempt must keep to that came from a switchover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    /// Whom the operator named.
    pub(crate) to: Option<NodeId>,
    /// The last record of the primary that was stopped begins there: nobody who lacks it is promoted.
    pub(crate) checkpoint: Lsn,
    /// It could not be brought to its end: the old primary is started again, or replaced like any that was lost.
    pub(crate) given_up: bool,
}

/// One attempt to replace a primary, from its confirmation to the swap or to its undoing.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The epoch that it ends; none at a cold start.
    pub(crate) epoch: Option<Epoch>,
    /// The primary that is given up, as far as it is known.
    pub(crate) old: Option<NodeId>,
    /// The lineage that the new primary must grow from.
    pub(crate) branch: Branch,
    /// Only answers to questions asked after this count.
    pub(crate) began: Instant,
    /// Since when it is in its present state.
    pub(crate) since: Instant,
    /// Logins that standbys were asked to try.
    pub(crate) logins: BTreeMap<NodeId, CommandId>,
    /// Fences of writable or unknown servers.
    pub(crate) fences: BTreeMap<NodeId, CommandId>,
    /// Standbys that were told to stop receiving.
    pub(crate) freezes: BTreeMap<NodeId, CommandId>,
    /// Standbys that were locked.
    pub(crate) locks: BTreeMap<NodeId, CommandId>,
    /// An order to the present candidate had an unknown outcome: it may fire although a later one failed.
    pub(crate) doubtful: bool,
    /// Candidates whose promotion failed.
    pub(crate) passed_over: BTreeSet<NodeId>,
    /// The old primary was stopped for it.
    pub(crate) handover: Option<Handover>,
}

/// How far a promotion has come.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Taking the locks, one after the other.
    Lock,
    /// Everything is looked at once more since then.
    Look { since: Instant },
    /// `Promote` was ordered.
    Ordered { id: CommandId, tries: u32 },
    /// Nobody knows what became of the order `id`: the lock, which may be lost, is taken again before the next order.
    Relock { id: CommandId, tries: u32, lock: CommandId },
    /// Nobody knows what became of the order `id`: the candidate is fenced, so that it cannot fire late.
    Disarm { id: CommandId, fence: CommandId },
}

impl Stage {
    /// The candidate was told to promote.
    pub(crate) const fn is_ordered(&self) -> bool {
        !matches!(self, Self::Lock | Self::Look { .. })
    }
}

/// Why nothing can be done, and when it is tried again.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) reason: String,
    pub(crate) since: Instant,
    pub(crate) retry_at: Instant,
    pub(crate) kind: HoldKind,
}

/// What a hold came from.
#[derive(Clone, Debug)]
pub(crate) enum HoldKind {
    /// Nobody can be taken for the primary.
    Undecided,
    /// A guard does not hold; nothing is frozen.
    Guarded(Attempt),
    /// A candidate was ordered to promote and cannot be reached.
    Ordered { attempt: Attempt, candidate: NodeId, promote: CommandId, fence: Option<CommandId> },
}

impl Attempt {
    pub(crate) fn new(epoch: Option<Epoch>, old: Option<NodeId>, branch: Branch, began: Instant) -> Self {
        Self {
            epoch,
            old,
            branch,
            began,
            since: began,
            logins: BTreeMap::new(),
            fences: BTreeMap::new(),
            freezes: BTreeMap::new(),
            locks: BTreeMap::new(),
            doubtful: false,
            passed_over: BTreeSet::new(),
            handover: None,
        }
    }

    /// The same attempt from its beginning.
    pub(crate) fn afresh(self, began: Instant) -> Self {
        let handover = self.handover.map(|it| Handover { given_up: true, ..it });
        Self { handover, ..Self::new(self.epoch, self.old, self.branch, began) }
    }

    /// The switchover that it is to bring to its end.
    pub(crate) fn handover(&self) -> Option<Handover> {
        self.handover.filter(|it| !it.given_up)
    }
}

impl State {
    pub(crate) const fn name(&self) -> StateName {
        match self {
            Self::Discover { .. } => StateName::Discover,
            Self::Steady { .. } => StateName::Steady,
            Self::Switchover { .. } => StateName::Switchover,
            Self::Suspect { .. } => StateName::Suspect,
            Self::Confirm(_) => StateName::Confirm,
            Self::Fence(_) => StateName::Fence,
            Self::Freeze(_) => StateName::Freeze,
            Self::Elect(_) => StateName::Elect,
            Self::Promote { .. } => StateName::Promote,
            Self::Verify { .. } => StateName::Verify,
            Self::Swap { .. } => StateName::Swap,
            Self::Hold(_) => StateName::Hold,
        }
    }

    /// The attempt that is under way.
    pub(crate) const fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Confirm(attempt) | Self::Fence(attempt) | Self::Freeze(attempt) | Self::Elect(attempt) => {
                Some(attempt)
            }
            Self::Promote { attempt, .. } | Self::Verify { attempt, .. } => Some(attempt),
            Self::Hold(Hold {
                kind: HoldKind::Guarded(attempt) | HoldKind::Ordered { attempt, .. }, ..
            }) => Some(attempt),
            _ => None,
        }
    }

    pub(crate) const fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match self {
            Self::Confirm(attempt) | Self::Fence(attempt) | Self::Freeze(attempt) | Self::Elect(attempt) => {
                Some(attempt)
            }
            Self::Promote { attempt, .. } | Self::Verify { attempt, .. } => Some(attempt),
            Self::Hold(Hold {
                kind: HoldKind::Guarded(attempt) | HoldKind::Ordered { attempt, .. }, ..
            }) => Some(attempt),
            _ => None,
        }
    }

    /// The epoch that is served, or whose open work may go on.
    pub(crate) const fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Steady { epoch }
            | Self::Switchover { epoch, .. }
            | Self::Suspect { epoch, .. }
            | Self::Swap { epoch } => Some(*epoch),
            Self::Confirm(attempt) => attempt.epoch,
            // A hold before the fence: the primary may still do what it had begun.
            Self::Hold(Hold { kind: HoldKind::Guarded(attempt), .. }) => attempt.epoch,
            _ => None,
        }
    }
}
