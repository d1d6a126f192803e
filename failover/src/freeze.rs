//! Freeze and Elect: no standby receives any more, and only then positions are compared.

use std::time::Instant;

use pgherd_health::{Branch, Lsn, MemberState, NodeId};

use crate::candidate::ended_since;
use crate::confirm::led_by_another;
use crate::guards::{Verdict, durable, everyone_known, one_decider, permitted};
use crate::orders::Placed;
use crate::state::{Attempt, Stage, State};
use crate::transition::{On, Transition};
use crate::waking::hung;
use crate::{Machine, Outcome, StateName, Step, election};

pub(crate) const ROWS: &[Transition] = &[
    hung("hung while freezing", StateName::Freeze, "Unfreeze all; probe all at once"),
    Transition {
        name: "led again while freezing",
        from: StateName::Freeze,
        on: On::Look,
        guard: "a server that leads is writable",
        to: StateName::Discover,
        commands: "Unfreeze all; probe all at once",
        reason: "the old primary came back before anybody was promoted, or somebody else has promoted",
        when: |machine, _| leader(machine),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "freeze another",
        from: StateName::Freeze,
        on: On::Any,
        guard: "a reachable standby was not told to stop receiving, and nothing else is under way there",
        to: StateName::Freeze,
        commands: "Freeze it",
        reason: "it has just come back, or was being repaired",
        when: |machine, now| {
            let next = unfrozen(machine, now).next()?;
            Some(format!("node {next} is reachable"))
        },
        then: |machine, now, _| freeze_reachable(machine, now),
    },
    Transition {
        name: "cannot freeze",
        from: StateName::Freeze,
        on: On::Any,
        guard: "a reachable standby could not be stopped from receiving, or a guard ceased to hold",
        to: StateName::Hold,
        commands: "Unfreeze all",
        reason: "what it receives after the others were compared would be lost",
        when: |machine, now| {
            let attempt = machine.state.attempt()?;
            not_frozen(machine, attempt).or_else(|| ceased(machine, attempt, now))
        },
        then: |machine, now, why| machine.hold(now, why),
    },
    Transition {
        name: "all frozen",
        from: StateName::Freeze,
        on: On::Any,
        guard: "every reachable standby is frozen",
        to: StateName::Elect,
        commands: "none",
        reason: "their positions stand still",
        when: |machine, _| {
            let attempt = machine.state.attempt()?;
            let mut standbys = machine.topology.standbys();
            let all = standbys.all(|member| position(machine, attempt, member.node).is_some());
            all.then(|| describe(&frozen(machine, attempt)))
        },
        then: |machine, now, _| {
            if let Some(attempt) = machine.take_attempt(now) {
                machine.state = State::Elect(attempt);
            }
        },
    },
    Transition {
        name: "elected",
        from: StateName::Elect,
        on: On::Any,
        guard: "the best eligible standby has all that any frozen one has, and (c) and (d) hold",
        to: StateName::Promote,
        commands: "Lock the first standby",
        reason: "nothing that was acknowledged is lost",
        when: |machine, _| {
            let (node, lsn) = choice(machine).ok()?;
            Some(format!("node {node} at {lsn} of {}", describe(&frozen(machine, machine.state.attempt()?))))
        },
        then: |machine, now, _| {
            if let (Ok((candidate, _)), Some(mut attempt)) = (choice(machine), machine.take_attempt(now)) {
                // Another than the lineage's own only where an operator accepts the loss of what came after it.
                attempt.branch = branch_of(machine, candidate).unwrap_or(attempt.branch);
                machine.state = State::Promote { attempt, candidate, stage: Stage::Lock };
            }
        },
    },
    Transition {
        name: "nobody electable",
        from: StateName::Elect,
        on: On::Any,
        guard: "no eligible standby, or not all that may have been acknowledged",
        to: StateName::Hold,
        commands: "Unfreeze all",
        reason: "a promotion would lose data",
        when: |machine, _| choice(machine).err(),
        then: |machine, now, why| machine.hold(now, why),
    },
];

/// Tells every reachable standby that was not told yet, and where nothing else is under way, to stop receiving.
pub(crate) fn freeze_reachable(machine: &mut Machine, now: Instant) {
    let next: Vec<NodeId> = unfrozen(machine, now).collect();
    for node in next {
        let id = machine.order(now, node, Step::Freeze);
        if let Some(attempt) = machine.state.attempt_mut() {
            attempt.freezes.insert(node, id);
        }
    }
}

/// Standbys that were stopped from receiving and are still reachable, with the end of their WAL.
pub(crate) fn frozen(machine: &Machine, attempt: &Attempt) -> Vec<(NodeId, Lsn)> {
    machine
        .topology
        .standbys()
        .filter_map(|member| Some((member, position(machine, attempt, member.node)?)))
        .filter(|(member, lsn)| election::continues(machine, attempt, member, *lsn))
        .map(|(member, lsn)| (member.node, lsn))
        .collect()
}

/// A writable server that leads: whoever it is, nobody may be promoted beside it.
pub(crate) fn leader(machine: &Machine) -> Option<String> {
    let attempt = machine.state.attempt()?;
    let ended = |node: &NodeId| {
        machine.topology.member(*node).is_some_and(|member| ended_since(machine, attempt, member))
    };
    let leads = machine.topology.leadership.primary().filter(|node| !ended(node));
    leads.map(|node| format!("node {node} is writable")).or_else(|| led_by_another(machine))
}

/// A reachable standby that receives, or may, although it was told not to.
pub(crate) fn not_frozen(machine: &Machine, attempt: &Attempt) -> Option<String> {
    machine.topology.standbys().find_map(|member| {
        let node = member.node;
        let id = attempt.freezes.get(&node)?;
        match machine.orders.outcome(*id)? {
            Outcome::Frozen { .. } => {
                let ended = machine.orders.ended_at(*id)?;
                let receives = member.receiving.is_some() && member.asked_since(ended);
                receives.then(|| format!("node {node} receives again although it was frozen"))
            }
            Outcome::Failed(why) | Outcome::Unknown(why) => {
                Some(format!("node {node} was not frozen: {why}"))
            }
            Outcome::Done
            | Outcome::Fenced { .. }
            | Outcome::Stopped { .. }
            | Outcome::Recalled { .. }
            | Outcome::Rejoined(_)
            | Outcome::Kept(_)
            | Outcome::NotRewindable(_) => Some(format!("node {node} did not say where its WAL ends")),
        }
    })
}

/// A guard that may have ceased to hold since the confirmation.
pub(crate) fn ceased(machine: &Machine, attempt: &Attempt, now: Instant) -> Option<String> {
    [everyone_known(machine, attempt, now), one_decider(machine), permitted(machine, attempt, now)]
        .into_iter()
        .find_map(|verdict| match verdict {
            Verdict::Pass => None,
            Verdict::Wait(why) | Verdict::Fail(why) => Some(why),
        })
}

/// The best that may be promoted of those that are frozen, if all that may have been acknowledged is there.
pub(crate) fn choice(machine: &Machine) -> Result<(NodeId, Lsn), String> {
    let attempt = machine.state.attempt().ok_or("no attempt is under way")?;
    best(machine, attempt, frozen(machine, attempt))
}

/// The best of these.
pub(crate) fn best(
    machine: &Machine,
    attempt: &Attempt,
    mut frozen: Vec<(NodeId, Lsn)>,
) -> Result<(NodeId, Lsn), String> {
    if let Some(handover) = attempt.handover()
        && !machine.accepts_loss()
    {
        // Whoever has the last record has all.
        frozen.retain(|(_, lsn)| *lsn > handover.checkpoint);
        return election::elect(machine, attempt, &frozen).map_err(|why| {
            format!("{why}; to be promoted, a standby must have the record at {}", handover.checkpoint)
        });
    }
    let (node, lsn) = election::elect(machine, attempt, &frozen)?;
    durable(machine, attempt, &frozen, lsn)?;
    Ok((node, lsn))
}

fn branch_of(machine: &Machine, node: NodeId) -> Option<Branch> {
    machine.topology.member(node)?.branch()
}

fn position(machine: &Machine, attempt: &Attempt, node: NodeId) -> Option<Lsn> {
    match machine.orders.outcome(*attempt.freezes.get(&node)?)? {
        Outcome::Frozen { lsn } => Some(*lsn),
        _ => None,
    }
}

/// Standbys that were not told, and where nothing is under way but waiting for a primary that is lost.
fn unfrozen(machine: &Machine, now: Instant) -> impl Iterator<Item = NodeId> {
    let since = now.checked_sub(machine.settings.retry_after).unwrap_or(now);
    let told = machine.state.attempt().map(|attempt| &attempt.freezes);
    machine
        .topology
        .members
        .iter()
        .filter(|member| member.state == MemberState::Standby)
        .map(|member| member.node)
        .filter(move |node| told.is_some_and(|told| !told.contains_key(node)))
        .filter(move |node| !machine.orders.occupying(*node, None, since).any(Placed::reshapes))
}

fn describe(frozen: &[(NodeId, Lsn)]) -> String {
    let them: Vec<String> = frozen.iter().map(|(node, lsn)| format!("node {node} at {lsn}")).collect();
    format!("frozen: {}", them.join(", "))
}
