//! Repoint and Rejoin: what standbys and old primaries need, server by server, in the background of Steady.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pgherd_health::{Member, MemberState, NodeId, Standing};

use crate::cascade::follows;
use crate::state::State;
use crate::{CommandId, Epoch, Machine, Outcome, Step, cascade};

/// The longest pause between two repairs of one server.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// After so many failed repairs of one server an operator is told. They go on.
const TRIES: u32 = 3;

/// What is being done for the servers that do not lead.
#[derive(Debug, Default)]
pub(crate) struct Care {
    patients: BTreeMap<NodeId, Patient>,
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
    /// Why it is left alone.
    given_up: Option<String>,
}

/// What was known of a server when it was stopped.
#[derive(Clone, Copy, Debug)]
struct Stop {
    at: Instant,
    /// Its start time then.
    run: Option<i64>,
}

impl Stop {
    fn of(member: &Member, at: Instant) -> Self {
        Self { at, run: member.report().map(|report| report.started_at) }
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

    /// The primary is about to be stopped, to be started again as a standby.
    pub(crate) fn stopping(&mut self, primary: &Member, now: Instant) {
        self.patients.entry(primary.node).or_default().stopped = Some(Stop::of(primary, now));
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
    let State::Steady { epoch } = machine.state else { return };
    machine.care.leads(epoch.primary);
    let nodes: Vec<NodeId> =
        machine.topology.members.iter().map(|it| it.node).filter(|it| *it != epoch.primary).collect();
    for node in nodes {
        examine(machine, now, epoch, node);
        let Some(step) = remedy(machine, now, epoch, node) else { continue };
        let fence = step == Step::Fence;
        let rejoin = matches!(step, Step::Rejoin { .. } | Step::Clone { .. });
        let stop = machine.topology.member(node).filter(|_| rejoin).map(|member| Stop::of(member, now));
        let id = machine.order(now, node, step);
        if fence {
            machine.care.fencing(node, id);
        }
        let patient = machine.care.patients.entry(node).or_default();
        patient.repair = Some(id);
        // A rejoin, or a clone, begins with a stop, and may end there.
        patient.stopped = patient.stopped.or(stop);
    }
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
        *patient = Patient { fences: std::mem::take(&mut patient.fences), ..Patient::default() };
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
                let done = matches!(outcome, Outcome::Done | Outcome::Fenced { .. });
                (!done, placed.step == Step::Fence, format!("{:?}: {outcome}", placed.step))
            }
            _ => (true, false, String::new()),
        };
    let Some(ended) = ended else { return };
    if let Some(Outcome::NotRewindable(why)) = patient.repair.and_then(|id| machine.orders.outcome(id)) {
        patient.not_rewindable = Some(why.clone());
    }
    if fence && !failed && member.state != MemberState::Primary {
        patient.repair = None;
    } else if failed || now >= ended + machine.settings.retry_after {
        patient.repair = None;
        patient.failures += 1;
        patient.trouble = how;
        let pause = machine.settings.retry_after * 2_u32.saturating_pow(patient.failures.min(8) - 1);
        patient.not_before = Some(now + pause.min(LONGEST_PAUSE));
    }
}

/// What a server needs now.
fn remedy(machine: &mut Machine, now: Instant, epoch: Epoch, node: NodeId) -> Option<Step> {
    // repmgr's rows are right only once the promotion's command has ended.
    let since = now.checked_sub(machine.settings.retry_after).unwrap_or(now);
    let promoting = machine.orders.under_way().any(|placed| placed.step == Step::Promote);
    let member = machine.topology.member(node)?;
    let loose_since = machine.care.patients.get(&node).and_then(|patient| patient.loose_since);
    let waited = loose_since.is_some_and(|since| now >= since + machine.settings.repoint_after);
    let above = cascade::upstream_for(machine, epoch, member, !waited);
    if promoting || machine.orders.occupying(node, above, since).next().is_some() {
        return None;
    }
    let upstream = epoch.primary;
    let registered = machine.may_act_on(member)
        && machine.topology.member(upstream).is_some_and(|primary| machine.may_act_on(primary));
    let ours = member.report().is_none_or(|report| report.system_identifier == epoch.system_identifier);
    let divergence = match member.standing {
        Standing::Superseded { divergence, .. } => divergence,
        Standing::Diverged => u64::MAX,
        _ => 0,
    };
    let state = member.state.clone();
    let standing = member.standing;
    let settings = machine.settings.clone();
    let patient = machine.care.patients.get_mut(&node)?;
    if patient.repair.is_some() || patient.not_before.is_some_and(|at| now < at) {
        return None;
    }
    let false_primary = machine.topology.leadership.false_primaries().iter().any(|it| it.node == node);
    match state {
        MemberState::Primary if false_primary => return Some(Step::Fence),
        MemberState::Foreign { .. } | MemberState::Unwilling { .. } | MemberState::Primary => return None,
        _ => {}
    }
    if !registered || !ours {
        return None;
    }
    let superseded = state == MemberState::Standby && matches!(standing, Standing::Superseded { .. });
    if superseded || patient.stopped.is_some() {
        if divergence > settings.max_data_loss {
            let how = "has more WAL of its own than failover.max_data_loss: an operator must rejoin it";
            patient.given_up = Some(how.to_owned());
            return None;
        }
        patient.given_up = None;
        if let (Some(why), false) = (&patient.not_rewindable, settings.reclone) {
            let how = format!(
                "it cannot be rewound ({why}): an operator must clone it (repmgr standby clone --force), or set failover.reclone"
            );
            patient.given_up = Some(how);
            return None;
        }
        let clone = patient.not_rewindable.is_some();
        let step = if clone { Step::Clone { upstream } } else { Step::Rejoin { upstream } };
        return checkpointed(machine, now, epoch).then_some(step);
    }
    let loose = state == MemberState::Standby && standing == Standing::OnLineage;
    let upstream = above.filter(|_| loose && (patient.frozen || waited))?;
    Some(Step::Follow { upstream })
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
