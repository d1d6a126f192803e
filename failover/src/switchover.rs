//! Switchover: an operator wants another primary while all is well. Nothing that was begun is cut off, and nothing that was
//! committed is lost: who is promoted has the last record of the primary that was stopped.

use std::fmt;
use std::time::{Duration, Instant};

use pgherd_health::{Lsn, Member, MemberState, NodeId};

use crate::freeze::{ceased, freeze_reachable};
use crate::state::{Attempt, Handover, Phase, State};
use crate::steady::{failure, surprise};
use crate::transition::{On, Transition};
use crate::{Epoch, Errand, Machine, Outcome, StateName, Step, election, reading};

/// A standby that is further behind than this is not near: new transactions would wait for it.
const NEAR: u64 = 16 << 20;
/// A large cache takes long to be written out. Nobody waits for it.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(300);

/// What a switchover would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The present primary.
    pub from: NodeId,
    /// The next one.
    pub to: NodeId,
    /// How many bytes it is behind, as it was last seen.
    pub behind: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, behind } = self;
        write!(f, "node {to}, {behind} bytes behind, takes the place of node {from}")
    }
}

/// A switchover that was ordered and has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switching {
    from: NodeId,
    /// Since when new transactions wait.
    held_since: Option<Instant>,
}

pub(crate) const ROWS: &[Transition] = &[
    Transition {
        name: "switchover ordered",
        from: StateName::Steady,
        on: On::Order,
        guard: "a standby that may be promoted streams from the primary and is near; every server has answered or is down; no \
                command is under way; (f), not paused",
        to: StateName::Switchover,
        commands: "Rehearse, Record and Checkpoint on the primary",
        reason: "writes go on until a stop would take no time",
        when: |machine, _| machine.requested.map(|(_, plan)| plan.to_string()),
        then: begin,
    },
    Transition {
        name: "surprised while switching over",
        from: StateName::Switchover,
        on: On::Any,
        guard: "the primary is not what it was, or another server leads",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "somebody else has promoted: follow what is seen",
        when: |machine, _| surprise(machine, machine.state.epoch()?),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "primary failed while switching over",
        from: StateName::Switchover,
        on: On::Look,
        guard: "it was not told to stop, and refused, was silent, starts or stops",
        to: StateName::Suspect,
        commands: "probe all at once",
        reason: "a failure is not a switchover: it has guards of its own",
        when: |machine, _| {
            let (epoch, phase) = under_way(machine)?;
            failure(machine, epoch).filter(|_| !matches!(phase, Phase::Stop(_)))
        },
        then: |machine, now, _| machine.suspect(now),
    },
    Transition {
        name: "switchover given up",
        from: StateName::Switchover,
        on: On::Any,
        guard: "the primary was not told to stop, and a command failed, a transaction was open for switchover_timeout, or what \
                stood for the switchover does so no more",
        to: StateName::Steady,
        commands: "none",
        reason: "nothing has been done yet: new transactions go on where they went before",
        when: given_up,
        then: |machine, _, _| machine.resume(),
    },
    Transition {
        name: "primary is prepared",
        from: StateName::Switchover,
        on: On::Any,
        guard: "the checkpoint is done, and the primary can be stopped over ssh",
        to: StateName::Switchover,
        commands: "Quiesce the primary",
        reason: "new transactions wait, so that the open ones come to their ends",
        when: |machine, _| match under_way(machine)?.1 {
            Phase::Prepare { rehearsal, checkpoint } => {
                let done = |id| machine.orders.outcome(id) == Some(&Outcome::Done);
                (done(rehearsal) && done(checkpoint)).then(|| "new transactions wait".to_owned())
            }
            _ => None,
        },
        then: |machine, now, _| {
            let within = machine.settings.switchover_timeout;
            go_on(machine, now, Step::Quiesce { within }, Phase::Quiesce);
            if let Some(switching) = &mut machine.switching {
                switching.held_since = Some(now);
            }
        },
    },
    Transition {
        name: "nobody is in a transaction",
        from: StateName::Switchover,
        on: On::Any,
        guard: "new transactions wait, and none is open",
        to: StateName::Switchover,
        commands: "Stop the primary",
        reason: "a clean stop sends all to the standbys that stream from it",
        when: |machine, _| match under_way(machine)?.1 {
            Phase::Quiesce(id) => {
                let done = machine.orders.outcome(id) == Some(&Outcome::Done);
                done.then(|| "no transaction is open".to_owned())
            }
            _ => None,
        },
        then: |machine, now, _| {
            let Some(epoch) = machine.state.epoch() else { return };
            go_on(machine, now, Step::Stop, Phase::Stop);
            if let Some(member) = machine.topology.member(epoch.primary) {
                machine.care.stopping(member, now);
            }
        },
    },
    Transition {
        name: "primary stopped",
        from: StateName::Switchover,
        on: On::Any,
        guard: "it was shut down cleanly, and its last record is known",
        to: StateName::Freeze,
        commands: "Freeze every reachable standby",
        reason: "the epoch ends; only who has that record may be promoted",
        when: |machine, _| match stopped(machine)? {
            (node, Outcome::Stopped { checkpoint }) => {
                Some(format!("node {node} is shut down, its last record is at {checkpoint}"))
            }
            _ => None,
        },
        then: hand_over,
    },
    Transition {
        name: "primary was not stopped",
        from: StateName::Switchover,
        on: On::Any,
        guard: "the order to stop never reached it",
        to: StateName::Steady,
        commands: "none",
        reason: "nothing was changed: new transactions go on where they went before",
        when: |machine, _| match stopped(machine)? {
            (node, Outcome::Failed(why)) => Some(format!("node {node} could not be stopped: {why}")),
            _ => None,
        },
        then: |machine, _, _| machine.resume(),
    },
    Transition {
        name: "primary hangs in its stop",
        from: StateName::Switchover,
        on: On::Any,
        guard: "it was told to stop, is at it, and has not come to its end in time",
        to: StateName::Confirm,
        commands: "none",
        reason: "it takes no writes any more, and will not come back: it is replaced like any that was lost",
        when: |machine, _| {
            let (node, outcome) = stopped(machine)?;
            let stopping = machine.topology.member(node)?.state == MemberState::ShuttingDown;
            stopping.then(|| format!("node {node} does not come to its end: {outcome}"))
        },
        then: |machine, now, _| {
            let Some(epoch) = machine.state.epoch() else { return };
            machine.state = State::Confirm(attempt(machine, now, epoch));
            machine.look_at_once();
        },
    },
    Transition {
        name: "what became of the primary is unknown",
        from: StateName::Switchover,
        on: On::Any,
        guard: "the outcome of the order to stop is unknown",
        to: StateName::Suspect,
        commands: "probe all at once",
        reason: "it goes on, or is replaced like any that was lost",
        when: |machine, _| {
            let (node, outcome) = stopped(machine)?;
            Some(format!("node {node} was told to stop: {outcome}"))
        },
        then: |machine, now, _| machine.suspect(now),
    },
];

impl Machine {
    /// What a switchover to `to`, or to the best, would do now.
    ///
    /// # Errors
    /// Why it cannot be begun.
    pub fn can_switch_over(&self, now: Instant, to: Option<NodeId>) -> Result<Plan, String> {
        if let Some(why) = self.objection(now) {
            return Err(why);
        }
        let State::Steady { epoch } = self.state else {
            let status = self.status();
            return Err(format!("not now: {}: {}", status.state, status.reason));
        };
        if let Some(placed) = self.orders.under_way().find(|placed| !placed.is_harmless()) {
            return Err(format!("not now: a command is under way on node {}", placed.node));
        }
        if !self.care.is_idle() {
            return Err("not now: a server is being repaired".to_owned());
        }
        if self.topology.leadership.primary() != Some(epoch.primary) {
            return Err(format!("not now: node {} does not answer as the primary", epoch.primary));
        }
        if let Some(why) = ceased(self, &prospect(self, now, epoch, to), now) {
            return Err(why);
        }
        successor(self, now, epoch, to)
    }

    /// Takes the order, if it can be begun.
    pub(crate) fn request_switchover(&mut self, now: Instant, to: Option<NodeId>) {
        match self.can_switch_over(now, to) {
            Ok(plan) => self.requested = Some((to, plan)),
            Err(why) if self.switching.is_none() => self.answer(Errand::Primary, Err(why)),
            Err(_) => {}
        }
    }

    /// An order that no transition has taken is not kept for another moment.
    pub(crate) fn drop_request(&mut self) {
        if self.requested.take().is_some() {
            self.answer(Errand::Primary, Err("the herd has just changed".to_owned()));
        }
    }

    /// Notes the end of a switchover, if a transition that saw `seen` was it.
    pub(crate) fn conclude(&mut self, now: Instant, seen: &str) {
        let Some(Switching { from, held_since }) = self.switching else { return };
        let attempt = self.state.attempt();
        let verdict = match &self.state {
            State::Switchover { .. } => return,
            State::Swap { epoch } if epoch.primary != from => {
                let waited = held_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
                let to = epoch.primary;
                Ok(format!("node {to} is the primary; transactions waited for {} ms", waited.as_millis()))
            }
            _ if attempt.is_some_and(|attempt| attempt.handover().is_some()) => return,
            _ if attempt.is_some_and(|attempt| attempt.handover.is_some()) => {
                Err(format!("{seen}: node {from} is started again"))
            }
            _ => Err(seen.to_owned()),
        };
        self.switching = None;
        if let Err(why) = &verdict {
            self.happened(now, ("pgherd_switchover", from), Err(why));
        }
        self.answer(Errand::Primary, verdict);
    }

    /// An attempt came to nothing that a primary was stopped for: it is started again.
    pub(crate) fn give_back(&mut self, now: Instant, attempt: &Attempt) {
        if let (Some(old), Some(_)) = (attempt.old, attempt.handover)
            && !self.orders.reshaping(old)
        {
            self.order(now, old, Step::Start);
        }
    }
}

fn under_way(machine: &Machine) -> Option<(Epoch, Phase)> {
    match machine.state {
        State::Switchover { epoch, phase, .. } => Some((epoch, phase)),
        _ => None,
    }
}

/// The primary that was told to stop, and how that ended.
fn stopped(machine: &Machine) -> Option<(NodeId, &Outcome)> {
    match under_way(machine)? {
        (epoch, Phase::Stop(id)) => Some((epoch.primary, machine.orders.outcome(id)?)),
        _ => None,
    }
}

fn begin(machine: &mut Machine, now: Instant, _: &str) {
    let (Some((to, plan)), Some(epoch)) = (machine.requested.take(), machine.state.epoch()) else { return };
    let rehearsal = machine.order(now, epoch.primary, Step::Rehearse);
    machine.record_stop(now, epoch.primary, &format!("it is to be stopped for a switchover: {plan}"));
    let checkpoint = machine.orders.place(now, epoch.primary, Step::Checkpoint, CHECKPOINT_DEADLINE);
    machine.switching = Some(Switching { from: plan.from, held_since: None });
    machine.state = State::Switchover { epoch, to, phase: Phase::Prepare { rehearsal, checkpoint } };
}

fn go_on(machine: &mut Machine, now: Instant, step: Step, into: fn(crate::CommandId) -> Phase) {
    let State::Switchover { epoch, to, .. } = machine.state else { return };
    let id = machine.order(now, epoch.primary, step);
    machine.state = State::Switchover { epoch, to, phase: into(id) };
}

/// From here on it is the replacement of a primary that is gone.
fn hand_over(machine: &mut Machine, now: Instant, _: &str) {
    let State::Switchover { epoch, to, phase: Phase::Stop(stop) } = machine.state else { return };
    let Some(Outcome::Stopped { checkpoint }) = machine.orders.outcome(stop) else { return };
    let handover = Some(Handover { to, checkpoint: *checkpoint, given_up: false });
    let mut attempt = Attempt { handover, ..attempt(machine, now, epoch) };
    attempt.fences.insert(epoch.primary, stop);
    machine.state = State::Freeze(attempt);
    freeze_reachable(machine, now);
}

fn given_up(machine: &Machine, now: Instant) -> Option<String> {
    let State::Switchover { epoch, to, phase } = machine.state else { return None };
    let failed = |id| match machine.orders.outcome(id)? {
        Outcome::Done => None,
        Outcome::Failed(why) | Outcome::Unknown(why) => Some(why.clone()),
        other => Some(other.to_string()),
    };
    let why = match phase {
        Phase::Prepare { rehearsal, checkpoint } => failed(rehearsal).or_else(|| failed(checkpoint)),
        Phase::Quiesce(id) => {
            let held_since = machine.switching.and_then(|it| it.held_since);
            failed(id).or_else(|| machine.has_hung(held_since?))
        }
        Phase::Stop(_) => return None,
    };
    why.or_else(|| ceased(machine, &prospect(machine, now, epoch, to), now))
        .or_else(|| successor(machine, now, epoch, to).err())
        .map(|why| format!("nothing was changed: {why}"))
}

/// The attempt that the switchover comes to.
fn attempt(machine: &Machine, now: Instant, epoch: Epoch) -> Attempt {
    let branch = machine.knowledge.accepted().map(|lineage| lineage.branch.clone()).unwrap_or_default();
    Attempt::new(Some(epoch), Some(epoch.primary), branch, now)
}

fn prospect(machine: &Machine, now: Instant, epoch: Epoch, to: Option<NodeId>) -> Attempt {
    let handover = Some(Handover { to, checkpoint: Lsn::default(), given_up: false });
    Attempt { handover, ..attempt(machine, now, epoch) }
}

/// The one that would be promoted now.
fn successor(machine: &Machine, now: Instant, epoch: Epoch, to: Option<NodeId>) -> Result<Plan, String> {
    let from = epoch.primary;
    if to == Some(from) {
        return Err(format!("node {from} is the primary already"));
    }
    let written = machine.topology.member(from).and_then(Member::furthest).unwrap_or_default();
    let wanted = |node: NodeId| node != from && to.is_none_or(|to| to == node);
    let (mut fit, mut unfit) = (Vec::new(), Vec::new());
    for member in machine.topology.members.iter().filter(|member| wanted(member.node)) {
        match distance(machine, epoch, member, written) {
            Ok(_) => fit.push((member.node, member.furthest().unwrap_or_default())),
            Err(why) => unfit.push(why),
        }
    }
    if fit.is_empty() {
        let none = to.map_or_else(|| "there is no standby".to_owned(), |to| format!("there is no node {to}"));
        return Err(if unfit.is_empty() { none } else { unfit.join("; ") });
    }
    let ranked = election::ranked(machine, &prospect(machine, now, epoch, to), &fit)?;
    let (to, lsn) = ranked.first().copied().ok_or("nobody can be promoted")?;
    Ok(Plan { from, to, behind: written.bytes_since(lsn) })
}

/// How far a standby is behind the primary that it streams from.
fn distance(machine: &Machine, epoch: Epoch, member: &Member, written: Lsn) -> Result<u64, String> {
    let (node, from) = (member.node, epoch.primary);
    if member.state != MemberState::Standby {
        return Err(reading::warning(member).unwrap_or_else(|| format!("node {node} is no standby")));
    }
    let streams = member.receiving.as_ref().is_some_and(|receiving| {
        receiving.status == "streaming" && receiving.fresh && receiving.from == Some(from)
    });
    if !streams || machine.orders.reshaping(node) {
        return Err(format!("node {node} does not stream from node {from}"));
    }
    let behind = written.bytes_since(member.furthest().unwrap_or_default());
    if behind > NEAR {
        return Err(format!("node {node} is {behind} bytes behind node {from}"));
    }
    Ok(behind)
}
