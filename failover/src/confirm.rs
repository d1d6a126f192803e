//! Confirm and Fence: the primary is given up, and kept from writing.

use std::time::Instant;

use pgherd_health::{Leadership, MemberState, NodeId};

use crate::guards::{self, Verdict};
use crate::state::State;
use crate::steady::{recovered, surprise};
use crate::transition::{On, Transition};
use crate::waking::hung;
use crate::{Machine, StateName, Step};

pub(crate) const ROWS: &[Transition] = &[
    hung("hung while confirming", StateName::Confirm, "probe all at once"),
    Transition {
        name: "surprised while confirming",
        from: StateName::Confirm,
        on: On::Any,
        guard: "another server leads, or the primary came back as something else",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "somebody else has promoted: follow what is seen",
        when: |machine, _| led_by_another(machine),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "primary is back in time",
        from: StateName::Confirm,
        on: On::Look,
        guard: "the primary answers, on the same timeline",
        to: StateName::Steady,
        commands: "none",
        reason: "nothing has been done yet: the epoch never ended",
        when: |machine, _| recovered(machine, machine.state.epoch()?),
        then: |machine, _, _| machine.resume(),
    },
    Transition {
        name: "ask over ssh",
        from: StateName::Confirm,
        on: On::Any,
        guard: "a reachable standby may still hear the primary",
        to: StateName::Confirm,
        commands: "CanLogIn on each such standby",
        reason: "a fresh WAL receiver and a primary that is silent to pgherd: a third opinion",
        when: |machine, _| {
            let asked: Vec<String> = to_ask(machine).iter().map(NodeId::to_string).collect();
            (!asked.is_empty()).then(|| format!("node {} may still hear the primary", asked.join(", ")))
        },
        then: |machine, now, _| {
            let asked = to_ask(machine);
            let Some(target) = machine.state.attempt().and_then(|attempt| attempt.old) else { return };
            for node in asked {
                let id = machine.order(now, node, Step::CanLogIn { target });
                if let Some(attempt) = machine.state.attempt_mut() {
                    attempt.logins.insert(node, id);
                }
            }
        },
    },
    Transition {
        name: "guards hold",
        from: StateName::Confirm,
        on: On::Any,
        guard: "(a) to (f)",
        to: StateName::Fence,
        commands: "Fence the old primary; Freeze every reachable standby",
        reason: "the epoch ends",
        when: |machine, now| {
            let attempt = machine.state.attempt()?;
            (guards::all(machine, attempt, now) == Verdict::Pass).then(|| "all guards hold".to_owned())
        },
        then: |machine, now, _| begin(machine, now),
    },
    Transition {
        name: "a guard does not hold",
        from: StateName::Confirm,
        on: On::Any,
        guard: "one of (a) to (f) fails",
        to: StateName::Hold,
        commands: "none",
        reason: "a promotion could lose data or make two primaries",
        when: |machine, now| match guards::all(machine, machine.state.attempt()?, now) {
            Verdict::Fail(why) => Some(why),
            Verdict::Pass | Verdict::Wait(_) => None,
        },
        then: |machine, now, why| machine.hold(now, why),
    },
    hung("hung while fencing", StateName::Fence, "Unfreeze all; probe all at once"),
    Transition {
        name: "fence is over",
        from: StateName::Fence,
        on: On::Any,
        guard: "every fence has ended; one of a server that does not answer only until fence_wait",
        to: StateName::Freeze,
        commands: "none",
        reason: "frozen standbys and the lineage are the safety; the fence spares the old primary's own clients",
        when: |machine, now| {
            let attempt = machine.state.attempt()?;
            let over = now >= attempt.since + machine.settings.fence_wait;
            let done = attempt.fences.iter().all(|(node, id)| {
                let answers =
                    machine.topology.member(*node).is_some_and(|member| member.state == MemberState::Primary);
                machine.orders.outcome(*id).is_some() || (over && !answers)
            });
            done.then(|| if over { "waited for the fence long enough" } else { "fenced" }.to_owned())
        },
        then: |machine, now, _| {
            if let Some(attempt) = machine.take_attempt(now) {
                machine.state = State::Freeze(attempt);
            }
        },
    },
];

/// Somebody else than the primary that is given up leads now.
pub(crate) fn led_by_another(machine: &Machine) -> Option<String> {
    let attempt = machine.state.attempt()?;
    if let Some(epoch) = attempt.epoch {
        return surprise(machine, epoch);
    }
    match &machine.topology.leadership {
        Leadership::Primary { node, .. } => Some(format!("node {node} is writable")),
        Leadership::Contested { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// Standbys that may hear the primary and have not been asked.
fn to_ask(machine: &Machine) -> Vec<NodeId> {
    let Some(attempt) = machine.state.attempt() else { return Vec::new() };
    let Some(old) = attempt.old.and_then(|old| machine.topology.member(old)) else { return Vec::new() };
    if matches!(old.state, MemberState::Foreign { .. }) {
        // Its name answers, but not with the primary.
        return Vec::new();
    }
    let hearing = machine.topology.standbys().filter(|member| machine.topology.hears_a_primary(member));
    hearing.map(|member| member.node).filter(|node| !attempt.logins.contains_key(node)).collect()
}

/// Ends the epoch: the old primary and the standbys are told at the same time, none waits for another.
fn begin(machine: &mut Machine, now: Instant) {
    let Some(attempt) = machine.take_attempt(now) else { return };
    let false_primaries = machine.topology.leadership.false_primaries().iter().map(|it| it.node);
    // Whoever has taken the place of the old primary with another cluster is not ours to stop.
    let foreign = |node: &NodeId| {
        machine.topology.member(*node).is_some_and(|it| matches!(it.state, MemberState::Foreign { .. }))
    };
    let old = attempt.old.filter(|old| !foreign(old));
    let mut targets: Vec<NodeId> = old.into_iter().chain(false_primaries).collect();
    targets.sort();
    targets.dedup();
    machine.state = State::Fence(attempt);
    for node in targets {
        let id = machine.order(now, node, Step::Fence);
        machine.care.fencing(node, id);
        if let Some(attempt) = machine.state.attempt_mut() {
            attempt.fences.insert(node, id);
        }
    }
    crate::freeze::freeze_reachable(machine, now);
}
