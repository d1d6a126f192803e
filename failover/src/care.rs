//! Repoint and Rejoin: what standbys and old primaries need, server by server, in the background of Steady.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::{Member, MemberState, NodeId, Report, Standing};

use crate::cascade::follows;
use crate::state::State;
use crate::{CommandId, Epoch, Limit, Loss, Machine, Outcome, Settings, Step, cascade};

mod ordered;

pub(crate) use ordered::{can_rejoin, ended_orders};

/// The longest pause between two repairs of one server.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// After so many failed repairs of one server an operator is told. They go on.
const TRIES: u32 = 3;

/// Why a server is not rewound unasked.
const NEVER_ANSWERED: &str =
    "it has not answered since pgherd began: nobody knows what WAL of its own it has";

/// The same of one whose WAL is known.
const TOO_MUCH: &str = "it has more WAL of its own than failover.max_data_loss";

/// What is being done for the servers that do not lead.
#[derive(Debug, Default)]
pub(crate) struct Care {
    patients: BTreeMap<NodeId, Patient>,
    /// Rejoins that an operator has ordered.
    ordered: BTreeMap<NodeId, Ordered>,
    /// The new primary's CHECKPOINT, without which pg_rewind would not see its timeline.
    checkpoint: Option<(Epoch, CommandId)>,
}

#[derive(Debug, Default)]
struct Patient {
    /// Since when it streams from nobody on the lineage.
    loose_since: Option<Instant>,
    /// It was frozen for a promotion that took place: it waits for nothing.
    frozen: bool,
    /// Its fences, until they end.
    fences: BTreeSet<CommandId>,
    /// We have stopped it, or a rejoin is about to: we start it again.
    stopped: Option<Stop>,
    /// A repair that was given, until it is seen to have worked.
    repair: Option<CommandId>,
    not_before: Option<Instant>,
    failures: u32,
    /// How the last repair that failed ended.
    trouble: String,
    /// A rewind was tried, and cannot be done.
    not_rewindable: Option<String>,
    /// What it has beside the lineage, as was seen when it was down.
    kept: Option<Loss>,
    /// Why it is left alone.
    given_up: Option<String>,
}

/// A rejoin that an operator has ordered and that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    since: Instant,
    /// Whatever it has may be lost.
    accepts_loss: bool,
    /// It is cloned anew, whatever it has.
    reclone: bool,
    /// The command that carries it out, once it was given.
    placed: Option<CommandId>,
}

/// What was known of a server when it was stopped.
#[derive(Clone, Copy, Debug)]
struct Stop {
    at: Instant,
    /// Its start time then.
    run: Option<i64>,
    /// It may be rejoined though it has never answered: it was shut down for another, has told by its files what it has, or an operator
    /// has said so.
    is_settled: bool,
    /// An operator wants it back whatever it has.
    accepts_loss: bool,
}

impl Stop {
    fn of(member: &Member, at: Instant) -> Self {
        Self {
            at,
            run: member.report().map(|report| report.started_at),
            is_settled: false,
            accepts_loss: false,
        }
    }

    /// It answers, from another run. If that ends, it is not our doing.
    fn is_over(&self, member: &Member) -> bool {
        let answers = matches!(member.state, MemberState::Primary | MemberState::Standby);
        answers && member.asked_since(self.at) && Self::of(member, self.at).run != self.run
    }
}

impl Care {
    /// Notes a fence, whose outcome says whether the server was running.
    pub(crate) fn fencing(&mut self, node: NodeId, fence: CommandId) {
        self.patients.entry(node).or_default().fences.insert(fence);
    }

    /// A primary is about to be stopped for another, or a server that is down was ended by a pgherd and has nothing that must not be lost:
    /// it is started again, as a standby.
    pub(crate) fn stopping(&mut self, member: &Member, now: Instant) {
        let patient = self.patients.entry(member.node).or_default();
        patient.stopped = Some(Stop { is_settled: true, ..Stop::of(member, now) });
        patient.kept = None;
    }

    /// Something is done for it, or an operator wants it to be.
    pub(crate) fn attends(&self, node: NodeId) -> bool {
        let cared_for = |patient: &Patient| {
            patient.stopped.is_some() || patient.repair.is_some() || !patient.fences.is_empty()
        };
        self.ordered.contains_key(&node) || self.patients.get(&node).is_some_and(cared_for)
    }

    /// It is left to an operator.
    pub(crate) fn leave(&mut self, node: NodeId, why: String) {
        self.patients.entry(node).or_default().given_up = Some(why);
    }

    /// It is left to an operator, since it has this.
    pub(crate) fn keep(&mut self, node: NodeId, loss: Loss) {
        self.leave(node, format!("{TOO_MUCH}: an operator must rejoin it"));
        self.patients.entry(node).or_default().kept = Some(loss);
    }

    /// A promotion took place: the frozen standbys follow the new primary at once.
    pub(crate) fn swapped(&mut self, now: Instant, primary: NodeId, frozen: impl Iterator<Item = NodeId>) {
        for node in frozen {
            let patient = self.patients.entry(node).or_default();
            patient.frozen = true;
            patient.loose_since = Some(now);
            patient.not_before = None;
        }
        self.leads(primary);
        self.checkpoint = None;
    }

    /// This server leads: what was done to it before is over.
    pub(crate) fn leads(&mut self, primary: NodeId) {
        if let Some(patient) = self.patients.get_mut(&primary) {
            *patient = Patient { fences: std::mem::take(&mut patient.fences), ..Patient::default() };
        }
    }

    /// The server is none of the herd any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.patients.remove(&node);
    }

    /// An operator wants it to be rejoined.
    pub(crate) fn ordered(&mut self, node: NodeId, (accepts_loss, reclone): (bool, bool), now: Instant) {
        self.ordered.insert(node, Ordered { since: now, accepts_loss, reclone, placed: None });
        if let Some(patient) = self.patients.get_mut(&node) {
            // What has failed before is tried again.
            patient.not_before = None;
            patient.failures = 0;
            patient.given_up = None;
        }
    }

    /// An operator's rejoin of it has yet to be begun; true if it is to be cloned anew.
    fn is_ordered(&self, node: NodeId) -> Option<bool> {
        self.ordered.get(&node).filter(|ordered| ordered.placed.is_none()).map(|ordered| ordered.reclone)
    }

    /// An operator has said that what it has may be lost.
    fn accepts_loss(&self, node: NodeId) -> bool {
        let stopped = self.patients.get(&node).and_then(|patient| patient.stopped);
        let ordered = self.ordered.get(&node).is_some_and(|ordered| ordered.accepts_loss);
        ordered || stopped.is_some_and(|stop| stop.accepts_loss)
    }

    /// True if no server is being repaired.
    pub(crate) fn is_idle(&self) -> bool {
        self.patients.values().all(|patient| patient.repair.is_none() && !patient.frozen)
    }

    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.patients.iter().filter_map(|(node, patient)| {
            let failed = format!(
                "{} attempts to repair it have failed, an operator must rejoin it: {}",
                patient.failures, patient.trouble
            );
            let why = patient.given_up.clone().or_else(|| (patient.failures >= TRIES).then_some(failed))?;
            Some(format!("node {node}: {why}"))
        })
    }
}

/// Gives every server that needs it one command. Only beside a primary that is served.
pub(crate) fn tend(machine: &mut Machine, now: Instant) {
    note_fences(machine);
    end_clones(machine, now);
    let State::Steady { epoch } = machine.state else { return };
    machine.care.leads(epoch.primary);
    // What a server was before pgherd hung is no reason to do anything to it.
    let is_due = |it: &&Member| it.node != epoch.primary && it.asked_since(machine.awake_since);
    let nodes: Vec<NodeId> = machine.topology.members.iter().filter(is_due).map(|it| it.node).collect();
    for node in nodes {
        examine(machine, now, epoch, node);
        if machine.paused && machine.care.is_ordered(node).is_none() {
            continue;
        }
        let Some(step) = remedy(machine, now, epoch, node) else { continue };
        let fence = step == Step::Fence;
        let rejoin = matches!(step, Step::Rejoin { .. } | Step::Clone { .. });
        let is_settled = machine.care.ordered.contains_key(&node);
        let accepts_loss = machine.care.accepts_loss(node);
        let stop = |member| Stop { is_settled, accepts_loss, ..Stop::of(member, now) };
        let stop = machine.topology.member(node).filter(|_| rejoin).map(stop);
        let id = machine.order(now, node, step);
        if fence {
            machine.care.fencing(node, id);
        }
        if let Some(ordered) = machine.care.ordered.get_mut(&node).filter(|_| rejoin) {
            ordered.placed = Some(id);
        }
        let patient = machine.care.patients.entry(node).or_default();
        patient.repair = Some(id);
        // A rejoin, or a clone, begins with a stop, and may end there.
        patient.stopped = if is_settled { stop.or(patient.stopped) } else { patient.stopped.or(stop) };
    }
}

/// A clone may take a day, and its server is down until it ends. Who is up long after it began, and has not been heard of, needs not wait
/// for that day.
fn end_clones(machine: &mut Machine, now: Instant) {
    let (topology, longest) = (Arc::clone(&machine.topology), machine.settings.care_deadline);
    machine.orders.end_clones(now, |node, began| {
        let dated = topology.member(node).filter(|member| member.is_alive()).and_then(Member::dated);
        dated.is_some_and(|dated| dated.asked_at >= began + longest)
    });
}

fn note_fences(machine: &mut Machine) {
    let orders = &machine.orders;
    for (node, patient) in &mut machine.care.patients {
        let Some(member) = machine.topology.member(*node) else { continue };
        let mut stopped = patient.stopped;
        patient.fences.retain(|fence| match orders.outcome(*fence) {
            None => orders.get(*fence).is_some(),
            Some(outcome) => {
                if matches!(outcome, Outcome::Fenced { stopped: true }) {
                    stopped = orders.ended_at(*fence).map(|at| Stop::of(member, at));
                    // It has run since that was seen.
                    patient.kept = None;
                }
                false
            }
        });
        patient.stopped = stopped.filter(|stop| !stop.is_over(member));
    }
}

/// Looks at a server: is it well, and did the last repair work?
fn examine(machine: &mut Machine, now: Instant, epoch: Epoch, node: NodeId) {
    let Some(member) = machine.topology.member(node) else { return };
    let well = follows(machine, epoch, member);
    let recovering = member.state == MemberState::Standby && member.standing == Standing::OnLineage;
    let busy = machine.orders.reshaping(node);
    let patient = machine.care.patients.entry(node).or_default();
    if well && !busy {
        let repair = patient.repair;
        *patient = Patient { fences: std::mem::take(&mut patient.fences), ..Patient::default() };
        if let Some(event) = repair.and_then(|id| event_of(&machine.orders.get(id)?.step)) {
            let what = format!("it follows node {}{}", epoch.primary, lost(machine, repair));
            machine.happened(now, (event, node), Ok(&what));
        }
        return;
    }
    if recovering {
        patient.loose_since.get_or_insert(now);
    } else {
        patient.loose_since = None;
    }
    // An exit code proves nothing: a repair that ended has this long to be seen to work.
    let ended = patient.repair.and_then(|id| machine.orders.ended_at(id));
    let (failed, fence, how) =
        match patient.repair.map(|id| (machine.orders.outcome(id), machine.orders.get(id))) {
            Some((Some(outcome), Some(placed))) => {
                let done = matches!(outcome, Outcome::Done | Outcome::Rejoined(_) | Outcome::Fenced { .. });
                (!done, placed.step == Step::Fence, format!("{:?}: {outcome}", placed.step))
            }
            _ => (true, false, String::new()),
        };
    let Some(ended) = ended else { return };
    if let Some(Outcome::NotRewindable(why)) = patient.repair.and_then(|id| machine.orders.outcome(id)) {
        patient.not_rewindable = Some(why.clone());
    }
    let repair = patient.repair;
    if let Some(Outcome::Kept(loss)) = repair.and_then(|id| machine.orders.outcome(id)) {
        patient.repair = None;
        patient.kept = Some(*loss);
        machine.happened(now, ("pgherd_rejoin", node), Err(&how));
    } else if fence && !failed && member.state != MemberState::Primary {
        patient.repair = None;
    } else if failed || now >= ended + machine.settings.retry_after {
        patient.repair = None;
        patient.failures += 1;
        patient.trouble = how;
        let pause = machine.settings.retry_after * 2_u32.saturating_pow(patient.failures.min(8) - 1);
        patient.not_before = Some(now + pause.min(LONGEST_PAUSE));
        let (why, event) =
            (patient.trouble.clone(), repair.and_then(|id| event_of(&machine.orders.get(id)?.step)));
        if let Some(event) = event {
            machine.happened(now, (event, node), Err(&why));
        }
    }
}

/// What was lost by a rejoin, as far as that could be told.
fn lost(machine: &Machine, repair: Option<CommandId>) -> String {
    match repair.and_then(|id| machine.orders.outcome(id)) {
        Some(Outcome::Rejoined(loss)) => format!("; it lost {loss}"),
        _ => String::new(),
    }
}

/// What a repair is called among the events.
const fn event_of(step: &Step) -> Option<&'static str> {
    match step {
        Step::Follow { .. } => Some("pgherd_follow"),
        Step::Rejoin { .. } => Some("pgherd_rejoin"),
        Step::Clone { .. } => Some("pgherd_clone"),
        _ => None,
    }
}

/// How long a standby that streams from nobody is left alone. One that a pgherd has frozen cannot help itself: only that pgherd, which
/// may still be at it, is given time.
fn patience(settings: &Settings, member: &Member) -> Duration {
    let frozen = member.report().is_some_and(Report::is_frozen);
    if frozen { settings.command_deadline } else { settings.repoint_after }
}

/// What a server needs now.
fn remedy(machine: &mut Machine, now: Instant, epoch: Epoch, node: NodeId) -> Option<Step> {
    let since = now.checked_sub(machine.settings.retry_after).unwrap_or(now);
    let member = machine.topology.member(node)?;
    let patient = machine.care.patients.get(&node);
    let loose_since = patient.and_then(|patient| patient.loose_since);
    // repmgr's rows are right only once the promotion's command has ended. Who was frozen for it is repointed without repmgr, and commits
    // may wait for that.
    let frozen = patient.is_some_and(|patient| patient.frozen);
    let promoting = !frozen && machine.orders.under_way().any(|placed| placed.step == Step::Promote);
    let waited = loose_since.is_some_and(|since| now >= since + patience(&machine.settings, member));
    let above = cascade::upstream_for(machine, epoch, member, !waited);
    if promoting || machine.orders.occupying(node, above, since).next().is_some() {
        return None;
    }
    let upstream = epoch.primary;
    let registered = machine.may_act_on(member)
        && machine.topology.member(upstream).is_some_and(|primary| machine.may_act_on(primary));
    let ours = member.report().is_none_or(|report| report.system_identifier == epoch.system_identifier);
    let stopped = patient.and_then(|patient| patient.stopped);
    let worth = kept_for_an_operator(member, stopped, machine.settings.max_data_loss);
    let state = member.state.clone();
    let standing = member.standing;
    let settings = machine.settings.clone();
    let ordered = machine.care.is_ordered(node);
    let limit = limit(machine, node);
    let patient = machine.care.patients.get_mut(&node)?;
    if patient.repair.is_some() || patient.not_before.is_some_and(|at| now < at) {
        return None;
    }
    let false_primary = machine.topology.leadership.false_primaries().iter().any(|it| it.node == node);
    match state {
        MemberState::Primary if false_primary => return Some(Step::Fence),
        MemberState::Foreign { .. } | MemberState::Primary => return None,
        MemberState::Unwilling { .. } if ordered.is_none() => return None,
        _ => {}
    }
    if !registered || !ours {
        return None;
    }
    if let Some(reclone) = ordered {
        let step = if reclone { Step::Clone { upstream } } else { Step::Rejoin { upstream, limit: limit? } };
        return checkpointed(machine, now, epoch).then_some(step);
    }
    let superseded = state == MemberState::Standby && matches!(standing, Standing::Superseded { .. });
    if superseded || patient.stopped.is_some() {
        let kept = patient.kept.filter(|loss| limit.as_ref().is_some_and(|limit| !limit.allows(loss)));
        if let Some(how) = worth.or(kept.map(|_| TOO_MUCH)) {
            patient.given_up = Some(format!("{how}: an operator must rejoin it"));
            return None;
        }
        patient.given_up = None;
        if let (Some(why), false) = (&patient.not_rewindable, settings.reclone) {
            let how = format!(
                "it cannot be rewound ({why}): an operator must clone it (pgherd rejoin --reclone), or set failover.reclone"
            );
            patient.given_up = Some(how);
            return None;
        }
        let clone = patient.not_rewindable.is_some();
        let step = if clone { Step::Clone { upstream } } else { Step::Rejoin { upstream, limit: limit? } };
        return checkpointed(machine, now, epoch).then_some(step);
    }
    let loose = state == MemberState::Standby && standing == Standing::OnLineage;
    let upstream = above.filter(|_| loose && (patient.frozen || waited))?;
    Some(Step::Follow { upstream })
}

/// How much a server may lose by a rejoin: what it has written after its last report counts, too.
fn limit(machine: &Machine, node: NodeId) -> Option<Limit> {
    let lineage = machine.knowledge.accepted()?.branch.clone();
    let all = machine.care.accepts_loss(node);
    Some(Limit { lineage, bytes: if all { u64::MAX } else { machine.settings.max_data_loss } })
}

/// What a server has beside the lineage that is not thrown away unasked.
fn kept_for_an_operator(member: &Member, stopped: Option<Stop>, max_data_loss: u64) -> Option<&'static str> {
    let divergence = match member.standing {
        Standing::Superseded { divergence, .. } => divergence,
        Standing::Diverged => u64::MAX,
        _ => 0,
    };
    let is_settled = stopped.is_some_and(|stop| stop.is_settled);
    if member.report().is_none() && !is_settled {
        Some(NEVER_ANSWERED)
    } else {
        (divergence > max_data_loss).then_some(TOO_MUCH)
    }
}

/// The primary's CHECKPOINT is done; ordered if it was not yet.
fn checkpointed(machine: &mut Machine, now: Instant, epoch: Epoch) -> bool {
    match machine.care.checkpoint.filter(|(of, _)| *of == epoch) {
        Some((_, id)) => match machine.orders.outcome(id) {
            Some(Outcome::Done) => true,
            None => false,
            Some(_) => {
                machine.care.checkpoint = None;
                false
            }
        },
        None => {
            let id = machine.order(now, epoch.primary, Step::Checkpoint);
            machine.care.checkpoint = Some((epoch, id));
            false
        }
    }
}
