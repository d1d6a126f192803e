//! The commands that were given and what became of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgherd_health::NodeId;

use crate::{Command, CommandId, Outcome, Step};

/// After its deadline a command is given this long to report before its outcome counts as unknown.
const REPORT_SLACK: Duration = Duration::from_millis(500);
/// How many ended commands are remembered: far more than one failover gives.
const REMEMBERED: usize = 512;

/// One command and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) node: NodeId,
    pub(crate) step: Step,
    began: Instant,
    due: Instant,
    /// How it ended and when that was known; none while it is under way.
    pub(crate) ended: Option<(Instant, Outcome)>,
}

impl Placed {
    /// It changes what the server is or whom it follows.
    pub(crate) const fn reshapes(&self) -> bool {
        matches!(
            self.step,
            Step::Fence
                | Step::Stop
                | Step::Start
                | Step::Promote
                | Step::Follow { .. }
                | Step::Rejoin { .. }
                | Step::Clone { .. }
                | Step::Freeze
        )
    }

    /// It changes nothing that another command would have to wait for.
    pub(crate) const fn is_harmless(&self) -> bool {
        matches!(
            self.step,
            Step::Rehearse
                | Step::Recall
                | Step::Checkpoint
                | Step::Quiesce { .. }
                | Step::DropSlot { .. }
                | Step::Record(_)
        )
    }

    /// It stops a primary.
    const fn unmakes(&self) -> bool {
        matches!(self.step, Step::Fence | Step::Stop | Step::Rejoin { .. } | Step::Clone { .. })
    }
}

/// All commands of one machine.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    next: u64,
    placed: BTreeMap<CommandId, Placed>,
    outbox: Vec<Command>,
}

impl Orders {
    /// Gives a command.
    pub(crate) fn place(&mut self, now: Instant, node: NodeId, step: Step, deadline: Duration) -> CommandId {
        self.next += 1;
        let id = CommandId(self.next);
        let due = now + deadline + REPORT_SLACK;
        self.placed.insert(id, Placed { node, step: step.clone(), began: now, due, ended: None });
        self.outbox.push(Command { id, node, step, deadline });
        self.forget();
        id
    }

    /// Notes how a command ended; what comes after its time is ignored, its outcome is unknown for good.
    pub(crate) fn end(&mut self, now: Instant, id: CommandId, outcome: Outcome) {
        if let Some(placed) = self.placed.get_mut(&id).filter(|placed| placed.ended.is_none()) {
            placed.ended = Some((now, outcome));
        }
    }

    /// Ends what has not reported in time.
    pub(crate) fn expire(&mut self, now: Instant) {
        for placed in self.placed.values_mut().filter(|placed| placed.ended.is_none() && placed.due <= now) {
            placed.ended = Some((now, Outcome::Unknown("it did not report in time".to_owned())));
        }
    }

    /// Ends the clones that have not reported though the server is up again, as `is_up_since` says: it was seen up by a question of that time.
    pub(crate) fn end_clones(&mut self, now: Instant, is_up_since: impl Fn(NodeId, Instant) -> bool) {
        let clones = self.placed.values_mut().filter(|placed| matches!(placed.step, Step::Clone { .. }));
        for placed in clones.filter(|placed| placed.ended.is_none()) {
            if is_up_since(placed.node, placed.began) {
                let why = "the server is up again, and nothing was heard of it".to_owned();
                placed.ended = Some((now, Outcome::Unknown(why)));
            }
        }
    }

    /// What was placed under `id`.
    pub(crate) fn get(&self, id: CommandId) -> Option<&Placed> {
        self.placed.get(&id)
    }

    /// How `id` ended; none while it is under way.
    pub(crate) fn outcome(&self, id: CommandId) -> Option<&Outcome> {
        self.placed.get(&id)?.ended.as_ref().map(|(_, outcome)| outcome)
    }

    /// When `id` ended.
    pub(crate) fn ended_at(&self, id: CommandId) -> Option<Instant> {
        self.placed.get(&id)?.ended.as_ref().map(|(at, _)| *at)
    }

    /// Commands under way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Placed> {
        self.placed.values().filter(|placed| placed.ended.is_none())
    }

    /// True if a command that changes what a server is or whom it follows is under way there.
    pub(crate) fn reshaping(&self, node: NodeId) -> bool {
        self.under_way().any(|placed| placed.node == node && placed.reshapes())
    }

    /// Commands under way there that another may have to wait for; without those that, begun before `since`, only wait for another upstream than
    /// `upstream` to show the standby: that one is gone.
    pub(crate) fn occupying(
        &self,
        node: NodeId,
        upstream: Option<NodeId>,
        since: Instant,
    ) -> impl Iterator<Item = &Placed> {
        self.under_way().filter(move |placed| {
            let forlorn = match placed.step {
                Step::Follow { upstream: of } | Step::Rejoin { upstream: of, .. } => Some(of) != upstream,
                _ => false,
            };
            placed.node == node && !placed.is_harmless() && !(forlorn && placed.began < since)
        })
    }

    /// The last order to start that server.
    pub(crate) fn last_start(&self, node: NodeId) -> Option<&Placed> {
        self.placed.values().rev().find(|placed| placed.node == node && placed.step == Step::Start)
    }

    /// True if a command that stops a primary is under way there.
    pub(crate) fn unmaking(&self, node: NodeId) -> bool {
        self.under_way().any(|placed| placed.node == node && placed.unmakes())
    }

    /// When the last command that stops a primary has ended there.
    pub(crate) fn unmade_at(&self, node: NodeId) -> Option<Instant> {
        let unmade = self.placed.values().filter(|placed| placed.node == node && placed.unmakes());
        unmade.filter_map(|placed| placed.ended.as_ref().map(|(at, _)| *at)).max()
    }

    /// The commands given since the last call.
    pub(crate) fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.outbox)
    }

    fn forget(&mut self) {
        while self.placed.len() > REMEMBERED {
            let Some(oldest) = self.placed.iter().find(|(_, placed)| placed.ended.is_some()) else { return };
            let id = *oldest.0;
            self.placed.remove(&id);
        }
    }
}
