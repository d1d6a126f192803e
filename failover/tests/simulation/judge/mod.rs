//! What must hold, after every event. The violations name these invariants:
//!
//! - I1: nobody is promoted beside a server that was last seen to accept writes.
//! - I2: no commit is lost that was acknowledged when enough standbys had it.
//! - I3: a superseded or forked timeline never receives writes.
//! - I4: a server of another cluster is never admitted.
//! - I5: of one branch there is at most one promotion.
//! - I6: nobody is promoted while a standby that can be reached still receives WAL.
//! - I7: who is promoted has the most WAL of those that were frozen.
//! - I9: wherever pgherd is killed, the herd comes to rest after its restart.
//! - I10: reads go on while one valid standby is up.
//! - I11: the loss of a standby closes no writes.
//! - I12: an exit code alone never counts as success: what is served was seen.
//!
//! Of I1 the rest, that writes never go to two servers at one instant, and I8, that no statement takes effect twice, are not judged here.

mod orders;
mod routing;
mod wal;

use std::collections::{BTreeMap, BTreeSet};

use pgherd_failover::{Event, Order, Outcome};
use pgherd_health::{Branch, Lsn, Position, ProbeOutcome};

use crate::model::{Id, OURS, Time, server_of};
use crate::world::World;

/// What is known of the whole story.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) violation: Option<String>,
    /// The rows of the table that were taken.
    pub(crate) taken: BTreeSet<&'static str>,
    pub(crate) promotions: Vec<Promotion>,
    /// The branch that was last opened for writes, by whichever pgherd.
    opened: Option<(Id, Branch)>,
    /// Where the last commit was acknowledged, and since when commits are there.
    acknowledged: Option<(Id, Branch, Time)>,
    pub(crate) excused: Excused,
    /// Servers that an operator has had rejoined.
    ordered: BTreeSet<Id>,
    /// What an operator had to decide, as the hold or the warning said.
    pub(crate) operated: Vec<String>,
    /// An empty cluster was all there was to see: the story is over.
    pub(crate) deceived: bool,
}

/// What others have done, for which pgherd cannot be blamed.
#[derive(Debug, Default)]
pub(crate) struct Excused {
    /// An operator accepted the loss of commits.
    pub(crate) loss: bool,
    /// An operator chose one of several forks.
    pub(crate) trust: bool,
    /// Somebody else has promoted.
    pub(crate) usurped: bool,
    /// A pgherd without memory has served what another had replaced, and saw nobody who knew better.
    pub(crate) forgotten: bool,
}

impl Excused {
    pub(crate) const fn any(&self) -> bool {
        self.loss || self.trust || self.usurped || self.forgotten
    }
}

/// A promotion that took place.
#[derive(Clone, Debug)]
pub(crate) struct Promotion {
    pub(crate) server: Id,
    pub(crate) parent: Branch,
    pub(crate) pgherd: Option<usize>,
    pub(crate) at: Time,
}

/// What one pgherd was told.
#[derive(Debug)]
pub(crate) struct Notes {
    known: Vec<Option<Known>>,
    last_asked: Vec<Time>,
    answered_last: Vec<bool>,
    /// The outcome of the last freeze, and when it came.
    frozen: Vec<Option<(Lsn, Time)>>,
    tried: BTreeSet<Id>,
    /// When a fence of it has ended last.
    fenced: Vec<Option<Time>>,
    /// It ran, and a fence or a switchover has stopped it.
    stopped: BTreeMap<Id, Time>,
    /// It was told to stop for a switchover, and has not been seen in another run since.
    told_to_stop: BTreeSet<Id>,
    /// It was stopped for a switchover that goes on.
    handed_over: Option<Id>,
    pub(crate) opened: Option<(Id, Branch)>,
    /// Where the served primary was last seen.
    primary_at: Lsn,
    /// The runs of its commands, in the order of their numbers.
    pub(crate) runs: Vec<usize>,
    pub(crate) held_since: Time,
    /// In the present second, its state has changed this often.
    changes: (u64, usize),
}

/// The last answer of a server.
#[derive(Clone, Debug)]
struct Known {
    asked_at: Time,
    run: i64,
    ours: bool,
    branch: Branch,
    writable: bool,
    receiving: bool,
    paused: bool,
    furthest: Lsn,
}

impl Notes {
    pub(crate) fn new(servers: usize, now: Time) -> Self {
        Self {
            known: vec![None; servers],
            last_asked: vec![Time::ZERO; servers],
            answered_last: vec![false; servers],
            frozen: vec![None; servers],
            tried: BTreeSet::new(),
            fenced: vec![None; servers],
            stopped: BTreeMap::new(),
            told_to_stop: BTreeSet::new(),
            handed_over: None,
            opened: None,
            primary_at: Lsn::default(),
            runs: Vec::new(),
            held_since: now,
            changes: (0, 0),
        }
    }

    fn of_ours(&self) -> impl Iterator<Item = (Id, &Known)> {
        self.known
            .iter()
            .enumerate()
            .filter_map(|(id, known)| Some((id, known.as_ref()?)))
            .filter(|it| it.1.ours)
    }
}

impl World {
    /// Takes down what the event says, before the machine hears of it.
    pub(crate) fn judge_before(&mut self, pgherd: usize, event: &Event) {
        match event {
            Event::Probed { node, asked_at, outcome, .. } => {
                let asked_at = self.time_of(*asked_at);
                let notes = &mut self.pgherds[pgherd].notes;
                let id = server_of(*node);
                if asked_at < notes.last_asked[id] {
                    return;
                }
                notes.last_asked[id] = asked_at;
                notes.answered_last[id] = matches!(outcome, ProbeOutcome::Answered(_));
                let ProbeOutcome::Answered(report) = outcome else { return };
                let (receiving, paused) = match &report.position {
                    Position::Standby { receiver, replay_paused, .. } => (receiver.is_some(), *replay_paused),
                    Position::Primary { .. } => (false, false),
                };
                if notes.opened.as_ref().is_some_and(|(primary, _)| *primary == id) && report.is_writable() {
                    notes.primary_at = report.furthest();
                }
                let another_run = notes.known[id].as_ref().is_none_or(|it| it.run != report.started_at);
                if another_run {
                    notes.told_to_stop.remove(&id);
                }
                if another_run && notes.stopped.get(&id).is_some_and(|at| asked_at >= *at) {
                    notes.stopped.remove(&id);
                }
                notes.known[id] = Some(Known {
                    asked_at,
                    run: report.started_at,
                    ours: report.system_identifier == OURS,
                    branch: Branch::of(report),
                    writable: report.is_writable(),
                    receiving,
                    paused,
                    furthest: report.furthest(),
                });
            }
            Event::Ended { id, outcome } => {
                let at = usize::try_from(id.0).unwrap() - 1;
                let run = self.pgherds[pgherd].notes.runs[at];
                let server = self.runs[run].server();
                let now = self.now;
                let notes = &mut self.pgherds[pgherd].notes;
                if matches!(outcome, Outcome::Fenced { .. }) {
                    notes.fenced[server] = Some(now);
                }
                match outcome {
                    Outcome::Frozen { lsn } => notes.frozen[server] = Some((*lsn, now)),
                    Outcome::Stopped { .. } => {
                        notes.stopped.insert(server, now);
                        notes.handed_over = Some(server);
                    }
                    Outcome::Fenced { stopped: true } => {
                        notes.stopped.insert(server, now);
                    }
                    _ => {}
                }
            }
            Event::Tick | Event::Ordered(_) => {}
        }
    }

    /// An operator takes a responsibility, if the order is not refused.
    pub(crate) fn judge_ordered(&mut self, pgherd: usize, order: &Order) {
        let now = self.instant();
        if self.pgherds[pgherd].machine.rehearse(now, order).would.is_err() {
            return;
        }
        match order {
            Order::Failover(terms) => {
                self.judge.excused.loss |= terms.accept_data_loss;
                self.judge.excused.trust |= terms.accept_timeline.is_some();
            }
            Order::Rejoin { node, .. } => drop(self.judge.ordered.insert(server_of(*node))),
            _ => {}
        }
    }
}
