//! What has happened to the herd, for people: kept here for a while, and written to repmgr's table of events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::NodeId;

use crate::state::State;
use crate::{CommandId, Machine, Outcome, StateName, Step};

/// How many are kept to be shown.
const KEPT: usize = 128;
/// How many may wait until a primary takes them; the oldest make way.
const UNWRITTEN: usize = 64;
/// How often it is tried to write them.
const TRIES: u32 = 3;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: Instant,
    /// What, as in repmgr's column `event`.
    pub event: &'static str,
    /// To which server.
    pub node: NodeId,
    /// Whether it went well.
    pub successful: bool,
    /// What was seen, and what was done.
    pub details: String,
}

/// One row for repmgr's table of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What has happened.
    pub event: &'static str,
    /// To which server.
    pub node: NodeId,
    /// Whether it went well.
    pub successful: bool,
    /// How long ago.
    pub ago: Duration,
    /// What was seen, and what was done.
    pub details: String,
}

/// What has happened of late.
#[derive(Debug, Default)]
pub struct Events {
    kept: VecDeque<Happened>,
    /// Not written yet.
    unwritten: VecDeque<Happened>,
    lost: u64,
    writing: Option<Writing>,
    tries: u32,
    not_before: Option<Instant>,
}

/// Rows on their way.
#[derive(Clone, Copy, Debug)]
struct Writing {
    command: CommandId,
    rows: usize,
}

impl Events {
    fn keep(&mut self, happened: Happened) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(happened);
    }

    fn note(&mut self, happened: Happened) {
        self.keep(happened.clone());
        if self.unwritten.len() == UNWRITTEN {
            self.unwritten.pop_front();
            self.lost += 1;
            if let Some(writing) = &mut self.writing {
                writing.rows = writing.rows.saturating_sub(1);
            }
        }
        self.unwritten.push_back(happened);
    }

    /// What has happened, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Happened> {
        self.kept.iter()
    }

    /// How many could not be written to repmgr's table.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

impl Machine {
    /// What has happened of late.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// Notes something, unless it is what was noted last.
    pub(crate) fn happened(
        &mut self,
        now: Instant,
        (event, node): (&'static str, NodeId),
        told: Result<&str, &str>,
    ) {
        let (Ok(details) | Err(details)) = told;
        let same = |last: &Happened| last.event == event && last.node == node && last.details == details;
        // A hold that is tried again and comes to the same is one.
        if !self.events.kept.back().is_some_and(same) {
            let details = details.to_owned();
            self.events.note(Happened { at: now, event, node, successful: told.is_ok(), details });
        }
    }

    /// Notes a transition that an operator would want to know of later.
    pub(crate) fn note_transition(&mut self, now: Instant, from: StateName, seen: &str, switched: bool) {
        let old = self.state.attempt().and_then(|attempt| attempt.old);
        match &self.state {
            State::Fence(_) => {
                let positions = self.positions();
                let why = format!("the primary is replaced: {seen}; {positions}");
                let node = old.unwrap_or_else(|| self.any_node());
                self.happened(now, ("pgherd_fence", node), Ok(&why));
            }
            State::Verify { candidate, .. } if from != StateName::Verify => {
                let candidate = *candidate;
                self.happened(now, ("pgherd_promote", candidate), Ok(seen));
            }
            State::Swap { epoch } => {
                let (event, epoch) = (if switched { "pgherd_switchover" } else { "pgherd_failover" }, *epoch);
                self.happened(now, (event, epoch.primary), Ok(&format!("{epoch} takes writes: {seen}")));
            }
            State::Hold(_) if from != StateName::Hold => {
                let details = format!("{seen}; {}", self.positions());
                let node = old.unwrap_or_else(|| self.any_node());
                self.happened(now, ("pgherd_hold", node), Err(&details));
            }
            _ => {}
        }
    }

    /// The primary, or whoever stands for the herd where there is none.
    pub(crate) fn any_node(&self) -> NodeId {
        let first = || self.topology.members.first().map(|member| member.node);
        self.topology.leadership.primary().or_else(first).unwrap_or(NodeId(0))
    }

    /// Where each server was when it last answered.
    fn positions(&self) -> String {
        let each = self.topology.members.iter().map(|member| match (member.branch(), member.furthest()) {
            (Some(branch), Some(lsn)) => {
                format!("node {} was last seen at {lsn} on timeline {}", member.node, branch.timeline.0)
            }
            _ => format!("node {} has not answered", member.node),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// Has the primary write down what has happened, when it has nothing better to do.
    pub(crate) fn record(&mut self, now: Instant) {
        if let Some(Writing { command, rows }) = self.events.writing {
            let Some(outcome) = self.orders.outcome(command) else { return };
            let done = *outcome == Outcome::Done;
            self.events.writing = None;
            self.events.tries += 1;
            if done || self.events.tries == TRIES {
                self.events.tries = 0;
                self.events.unwritten.drain(..rows.min(self.events.unwritten.len()));
                self.events.lost += if done { 0 } else { rows as u64 };
            } else {
                self.events.not_before = Some(now + self.settings.retry_after);
            }
        }
        let waits = self.events.not_before.is_some_and(|at| now < at);
        let State::Steady { epoch } = self.state else { return };
        let busy = self.orders.under_way().any(|placed| placed.node == epoch.primary);
        if self.events.unwritten.is_empty() || waits || busy || self.objection(now).is_some() {
            return;
        }
        let rows: Arc<[Record]> = self.events.unwritten.iter().map(|it| record_of(it, now)).collect();
        let count = rows.len();
        let command = self.order(now, epoch.primary, Step::Record(rows));
        self.events.writing = Some(Writing { command, rows: count });
    }

    /// Has a primary that is about to be stopped write down that it is pgherd that stops it.
    pub(crate) fn record_stop(&mut self, now: Instant, node: NodeId, details: &str) {
        let details = details.to_owned();
        let happened = Happened { at: now, event: "pgherd_stop", node, successful: true, details };
        let row = record_of(&happened, now);
        self.events.keep(happened);
        // At once: if pgherd dies before another is the primary, it is to be seen there who has stopped this one.
        self.order(now, node, Step::Record([row].into()));
    }
}

fn record_of(happened: &Happened, now: Instant) -> Record {
    let Happened { at, event, node, successful, details } = happened;
    Record {
        event,
        node: *node,
        successful: *successful,
        ago: now.saturating_duration_since(*at),
        details: details.clone(),
    }
}
