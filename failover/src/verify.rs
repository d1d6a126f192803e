//! Verify and Swap: the new primary is believed when it is seen to write, and then takes all writes.

use std::time::Instant;

use pgherd_health::{Member, MemberState, Void};

use crate::candidate::promoted;
use crate::state::State;
use crate::transition::{On, Transition};
use crate::{Machine, Outcome, StateName, Step, slots};

/// How often the write is tried.
const TRIES: u32 = 5;

pub(crate) const ROWS: &[Transition] = &[
    Transition {
        name: "lost while verifying",
        from: StateName::Verify,
        on: On::Look,
        guard: "the new primary does not answer as one any more",
        to: StateName::Discover,
        commands: "Unlock and Unfreeze all; probe all at once",
        reason: "what became of it is unknown: look",
        when: |machine, _| {
            let State::Verify { attempt, candidate, .. } = &machine.state else { return None };
            let member = machine.topology.member(*candidate)?;
            let failing = member.seen.as_ref().is_some_and(|seen| seen.failures >= 2);
            let changed =
                member.state == MemberState::Primary && promoted(machine, attempt, *candidate).is_none();
            let demoted = matches!(member.state, MemberState::Standby | MemberState::Foreign { .. });
            (failing || changed || demoted).then(|| format!("node {candidate} is not the primary any more"))
        },
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "verified",
        from: StateName::Verify,
        on: On::Any,
        guard: "it is seen writable on the new timeline, and a write was committed there",
        to: StateName::Swap,
        commands: "Unlock all",
        reason: "it is the primary: one atomic store, and the waiting writes go there",
        when: |machine, _| {
            let State::Verify { attempt, candidate, write, .. } = &machine.state else { return None };
            let seen = promoted(machine, attempt, *candidate)?;
            (machine.orders.outcome(*write)? == &Outcome::Done).then_some(seen)
        },
        then: swap,
    },
    Transition {
        name: "write again",
        from: StateName::Verify,
        on: On::Look,
        guard: "the write failed or its outcome is unknown, and tries are left",
        to: StateName::Verify,
        commands: "VerifyWrite",
        reason: "it may have only just opened",
        when: |machine, _| failed_write(machine).filter(|(_, tries)| *tries < TRIES).map(|(why, _)| why),
        then: |machine, now, _| {
            let State::Verify { candidate, .. } = machine.state else { return };
            let id = machine.order(now, candidate, Step::VerifyWrite);
            if let State::Verify { write, tries, .. } = &mut machine.state {
                *write = id;
                *tries += 1;
            }
        },
    },
    Transition {
        name: "cannot write",
        from: StateName::Verify,
        on: On::Look,
        guard: "the write failed too often",
        to: StateName::Discover,
        commands: "Unlock and Unfreeze all; probe all at once",
        reason: "it is the primary all the same, if it is still seen as one",
        when: |machine, _| failed_write(machine).map(|(why, _)| why),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "swapped",
        from: StateName::Swap,
        on: On::Any,
        guard: "always",
        to: StateName::Steady,
        commands: "none",
        reason: "the others are told whom to follow in the background",
        when: |machine, _| machine.state.epoch().map(|epoch| epoch.to_string()),
        then: |machine, _, _| machine.resume(),
    },
];

/// The candidate is seen as a primary: its timeline is the lineage from now on, whatever becomes of it.
pub(crate) fn enter(machine: &mut Machine, now: Instant) {
    let candidate = match &machine.state {
        State::Promote { candidate, .. } => *candidate,
        State::Hold(hold) => match &hold.kind {
            crate::state::HoldKind::Ordered { candidate, .. } => *candidate,
            _ => return,
        },
        _ => return,
    };
    let Some(attempt) = machine.take_attempt(now) else { return };
    machine.knowledge.accept(candidate);
    machine.disown(candidate);
    if machine.accepts_loss()
        && let Some(old) = attempt.old.and_then(|old| machine.topology.member(old))
        && let Some(branch) = old.branch()
    {
        // An operator who accepts the loss has given up what the old primary may come back with.
        machine.knowledge.disown(old.node, Void::Branch(branch));
    }
    if let Some(chosen) = machine.chosen_branch().cloned() {
        machine.disown_rivals(candidate, &chosen);
    }
    let write = machine.order(now, candidate, Step::VerifyWrite);
    machine.state = State::Verify { attempt, candidate, write, tries: 1 };
}

fn failed_write(machine: &Machine) -> Option<(String, u32)> {
    let State::Verify { write, tries, candidate, .. } = &machine.state else { return None };
    match machine.orders.outcome(*write)? {
        Outcome::Done => None,
        other => Some((format!("the write on node {candidate}: {other}"), *tries)),
    }
}

fn swap(machine: &mut Machine, now: Instant, _: &str) {
    let State::Verify { candidate, .. } = machine.state else { return };
    let (Some(epoch), Some(attempt)) = (machine.epoch_of(candidate), machine.take_attempt(now)) else {
        return;
    };
    machine.last_promotion = Some(now);
    machine.served = machine.topology.member(candidate).and_then(Member::branch);
    machine.state = State::Swap { epoch };
    slots::note_succession(machine, epoch);
    for node in attempt.locks.keys() {
        machine.order(now, *node, Step::Unlock);
    }
    machine.care.swapped(now, candidate, attempt.freezes.keys().copied());
}
