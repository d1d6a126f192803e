//! Promote: lock, look again, promote, and never let an order fire late.

use std::time::Instant;

use pgherd_health::{Member, MemberState, NodeId};

use crate::candidate::{self, Remedy, estranged, lost, ordered, promoted, still_writable};
use crate::freeze::{ceased, choice, frozen, leader, not_frozen};
use crate::state::{Attempt, Hold, HoldKind, Stage, State};
use crate::transition::{On, Transition};
use crate::waking::hung;
use crate::{CommandId, Machine, Outcome, StateName, Step};

pub(crate) const ROWS: &[Transition] = &[
    hung("hung before the order", StateName::Promote, "Unlock and Unfreeze all; probe all at once"),
    Transition {
        name: "led again before the order",
        from: StateName::Promote,
        on: On::Any,
        guard: "nothing is ordered yet, and a server that leads is writable",
        to: StateName::Discover,
        commands: "Unlock and Unfreeze all; probe all at once",
        reason: "never two primaries",
        when: |machine, _| before_order(machine).and_then(|_| leader(machine)),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "no longer safe",
        from: StateName::Promote,
        on: On::Any,
        guard: "nothing is ordered yet, and a lock was refused, a standby thawed, or a guard ceased to hold",
        to: StateName::Hold,
        commands: "Unlock and Unfreeze all",
        reason: "another pgherd may be at it, or the comparison is void",
        when: |machine, now| {
            let attempt = before_order(machine)?;
            refused_lock(machine, attempt)
                .or_else(|| not_frozen(machine, attempt))
                .or_else(|| still_writable(machine, attempt))
                .or_else(|| ceased(machine, attempt, now))
        },
        then: |machine, now, why| machine.hold(now, why),
    },
    Transition {
        name: "herd changed before the order",
        from: StateName::Promote,
        on: On::Any,
        guard: "nothing is ordered yet, and a standby was lost, another has come, or the candidate is not the best any more",
        to: StateName::Freeze,
        commands: "Unlock all",
        reason: "who has most must be found out again",
        when: |machine, _| {
            let attempt = before_order(machine)?;
            let here: Vec<NodeId> = machine.topology.standbys().map(|member| member.node).collect();
            let lost = attempt.locks.keys().find(|node| !here.contains(node));
            let come = here.iter().find(|node| !attempt.freezes.contains_key(node));
            lost.map(|node| format!("node {node} was lost"))
                .or_else(|| come.map(|node| format!("node {node} has come back")))
                .or_else(|| outdone(machine))
        },
        then: |machine, now, _| {
            if let Some(mut attempt) = machine.take_attempt(now) {
                for node in std::mem::take(&mut attempt.locks).into_keys() {
                    machine.order(now, node, Step::Unlock);
                }
                machine.state = State::Freeze(attempt);
            }
        },
    },
    Transition {
        name: "lock the next",
        from: StateName::Promote,
        on: On::Any,
        guard: "all locks so far are held, and a standby is left",
        to: StateName::Promote,
        commands: "Lock the next standby in node-id order",
        reason: "two pgherds that see the same servers never promote both",
        when: |machine, _| next_lock(machine).map(|node| format!("node {node}")),
        then: |machine, now, _| {
            let Some(node) = next_lock(machine) else { return };
            let id = machine.order(now, node, Step::Lock);
            if let Some(attempt) = machine.state.attempt_mut() {
                attempt.locks.insert(node, id);
            }
        },
    },
    Transition {
        name: "look again",
        from: StateName::Promote,
        on: On::Any,
        guard: "all locks are held",
        to: StateName::Promote,
        commands: "probe all at once",
        reason: "what was seen before the locks may have changed",
        when: |machine, _| {
            let State::Promote { attempt, stage: Stage::Lock, .. } = &machine.state else { return None };
            let held = |id: &CommandId| machine.orders.outcome(*id) == Some(&Outcome::Done);
            attempt.locks.values().all(held).then(|| "all locks are held".to_owned())
        },
        then: |machine, now, _| {
            if let State::Promote { stage, .. } = &mut machine.state {
                *stage = Stage::Look { since: now };
            }
            machine.look_at_once();
        },
    },
    Transition {
        name: "promote",
        from: StateName::Promote,
        on: On::Any,
        guard: "every standby was seen again, still frozen; nobody is writable",
        to: StateName::Promote,
        commands: "Promote the candidate",
        reason: "it has all that was acknowledged, and it is the only one",
        when: |machine, now| looked_again(machine, now),
        then: |machine, now, _| give_order(machine, now, 1),
    },
    Transition {
        name: "candidate is something else",
        from: StateName::Promote,
        on: On::Look,
        guard: "it was ordered to promote, and is writable on another timeline, belongs to another cluster, or supersedes one that \
                has standbys",
        to: StateName::Discover,
        commands: "Unlock and Unfreeze all; probe all at once",
        reason: "somebody else has been at work: look",
        when: |machine, _| after_order(machine).and_then(|(of, candidate)| estranged(machine, of, candidate)),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "seen promoted",
        from: StateName::Promote,
        on: On::Look,
        guard: "the candidate is writable, on a timeline grown from the old one",
        to: StateName::Verify,
        commands: "VerifyWrite",
        reason: "what is seen counts, whatever the command says",
        when: |machine, _| after_order(machine).and_then(|(of, candidate)| promoted(machine, of, candidate)),
        then: |machine, now, _| crate::verify::enter(machine, now),
    },
    Transition {
        name: "candidate refused to promote",
        from: StateName::Promote,
        on: On::Any,
        guard: "every order to it failed for good, and it was seen as a standby after that",
        to: StateName::Elect,
        commands: "none",
        reason: "nothing was changed: the next candidate",
        when: |machine, _| match ordered(machine)? {
            (candidate, _, Outcome::Failed(why), true) => {
                let doubtful = machine.state.attempt()?.doubtful;
                (!doubtful).then(|| format!("node {candidate}: {why}"))
            }
            _ => None,
        },
        then: pass_over,
    },
    Transition {
        name: "lock it again",
        from: StateName::Promote,
        on: On::Any,
        guard: "the outcome is unknown, or done and not seen; the candidate is still a standby; nobody is writable or heard, \
                or has come with more WAL; it was told only once, or nobody else could be promoted",
        to: StateName::Promote,
        commands: "Lock the candidate",
        reason: "a late order does no harm on the same server, which is still the best",
        when: |machine, now| match candidate::remedy(machine, now)? {
            (Remedy::Lock(_), why) => Some(why),
            _ => None,
        },
        then: |machine, now, _| {
            let (
                State::Promote {
                    candidate, stage: Stage::Ordered { id, .. } | Stage::Relock { id, .. }, ..
                },
                Some((Remedy::Lock(tries), _)),
            ) = (&machine.state, candidate::remedy(machine, now))
            else {
                return;
            };
            let (id, lock) = (*id, machine.order(now, *candidate, Step::Lock));
            if let State::Promote { attempt, stage, .. } = &mut machine.state {
                attempt.doubtful = true;
                *stage = Stage::Relock { id, tries, lock };
            }
        },
    },
    Transition {
        name: "tell it again",
        from: StateName::Promote,
        on: On::Any,
        guard: "it is locked again; nobody is writable or heard, or has come with more WAL",
        to: StateName::Promote,
        commands: "Promote the same candidate",
        reason: "the first order did not work, or has yet to",
        when: |machine, now| match candidate::remedy(machine, now)? {
            (Remedy::Tell(_), why) => Some(why),
            _ => None,
        },
        then: |machine, now, _| {
            if let Some((Remedy::Tell(tries), _)) = candidate::remedy(machine, now) {
                give_order(machine, now, tries);
            }
        },
    },
    Transition {
        name: "disarm",
        from: StateName::Promote,
        on: On::Any,
        guard: "the outcome is unknown, the candidate is still a standby, and another is to be promoted, or none",
        to: StateName::Promote,
        commands: "Fence the candidate",
        reason: "the order must not fire late, beside another's",
        when: |machine, now| match candidate::remedy(machine, now)? {
            (Remedy::Disarm, why) => Some(why),
            _ => None,
        },
        then: |machine, now, _| {
            let State::Promote {
                candidate, stage: Stage::Ordered { id, .. } | Stage::Relock { id, .. }, ..
            } = machine.state
            else {
                return;
            };
            let fence = machine.fence_candidate(now, candidate);
            if let State::Promote { stage, .. } = &mut machine.state {
                *stage = Stage::Disarm { id, fence };
            }
        },
    },
    Transition {
        name: "disarmed",
        from: StateName::Promote,
        on: On::Any,
        guard: "the candidate is fenced",
        to: StateName::Elect,
        commands: "none",
        reason: "its order cannot fire any more: the next candidate",
        when: |machine, _| {
            let State::Promote { stage: Stage::Disarm { fence, .. }, candidate, .. } = &machine.state else {
                return None;
            };
            matches!(machine.orders.outcome(*fence)?, Outcome::Fenced { .. })
                .then(|| format!("node {candidate} is fenced"))
        },
        then: |machine, now, seen| {
            if let State::Promote { attempt, candidate, .. } = &machine.state {
                machine.disarmed.insert(*candidate, attempt.branch.clone());
            }
            pass_over(machine, now, seen);
        },
    },
    Transition {
        name: "candidate lost",
        from: StateName::Promote,
        on: On::Any,
        guard: "it was ordered to promote and then became unreachable or lets nobody in, or could not be fenced",
        to: StateName::Hold,
        commands: "Fence the candidate",
        reason: "it may be the primary: nobody else is promoted until it answers or is fenced",
        when: |machine, _| lost(machine),
        then: |machine, now, why| hold_ordered(machine, now, why),
    },
];

fn before_order(machine: &Machine) -> Option<&Attempt> {
    match &machine.state {
        State::Promote { attempt, stage, .. } if !stage.is_ordered() => Some(attempt),
        _ => None,
    }
}

/// What the servers say of their timelines may make another the best.
fn outdone(machine: &Machine) -> Option<String> {
    let State::Promote { candidate, .. } = &machine.state else { return None };
    match choice(machine) {
        Ok((node, _)) if node == *candidate => None,
        Ok((node, lsn)) => Some(format!("node {node} at {lsn} is better than node {candidate}")),
        Err(why) => Some(why),
    }
}

fn after_order(machine: &Machine) -> Option<(&Attempt, NodeId)> {
    match &machine.state {
        State::Promote { attempt, candidate, stage } if stage.is_ordered() => Some((attempt, *candidate)),
        _ => None,
    }
}

fn refused_lock(machine: &Machine, attempt: &Attempt) -> Option<String> {
    attempt.locks.iter().find_map(|(node, id)| match machine.orders.outcome(*id)? {
        Outcome::Done => None,
        other => Some(format!("node {node} was not locked: {other}")),
    })
}

fn next_lock(machine: &Machine) -> Option<NodeId> {
    let State::Promote { attempt, stage: Stage::Lock, .. } = &machine.state else { return None };
    let held = |id: &CommandId| machine.orders.outcome(*id) == Some(&Outcome::Done);
    if !attempt.locks.values().all(held) {
        return None;
    }
    let mut standbys = machine.topology.standbys().map(|member| member.node);
    standbys.find(|node| !attempt.locks.contains_key(node))
}

fn looked_again(machine: &Machine, now: Instant) -> Option<String> {
    let State::Promote { attempt, candidate, stage: Stage::Look { since } } = &machine.state else {
        return None;
    };
    let patient = now < *since + machine.settings.look_wait;
    let seen = |member: &Member| {
        let must = attempt.freezes.contains_key(&member.node) && member.state == MemberState::Standby;
        member.asked_since(*since) || (!must && !patient)
    };
    let all = machine.topology.members.iter().all(seen);
    let holds = frozen(machine, attempt).iter().any(|(node, _)| node == candidate);
    (all && holds).then(|| format!("node {candidate} is promoted"))
}

fn give_order(machine: &mut Machine, now: Instant, tries: u32) {
    let State::Promote { candidate, .. } = machine.state else { return };
    let id = machine.order(now, candidate, Step::Promote);
    if let State::Promote { stage, .. } = &mut machine.state {
        *stage = Stage::Ordered { id, tries };
    }
}

fn pass_over(machine: &mut Machine, now: Instant, _: &str) {
    let State::Promote { candidate, .. } = machine.state else { return };
    if let Some(mut attempt) = machine.take_attempt(now) {
        attempt.passed_over.insert(candidate);
        attempt.doubtful = false;
        for node in std::mem::take(&mut attempt.locks).into_keys() {
            machine.order(now, node, Step::Unlock);
        }
        machine.state = State::Elect(attempt);
    }
}

fn hold_ordered(machine: &mut Machine, now: Instant, why: &str) {
    let State::Promote { candidate, stage, .. } = machine.state.clone() else { return };
    let Some(attempt) = machine.take_attempt(now) else { return };
    let (promote, fence) = match stage {
        Stage::Ordered { id, .. } | Stage::Relock { id, .. } => {
            // Where nobody listens nothing is cut off by a fence; a silent one is given time to answer.
            let refused =
                machine.topology.member(candidate).is_some_and(|it| it.state == MemberState::Refused);
            (id, refused.then(|| machine.fence_candidate(now, candidate)))
        }
        Stage::Disarm { id, fence } => (id, Some(fence)),
        Stage::Lock | Stage::Look { .. } => return,
    };
    let kind = HoldKind::Ordered { attempt, candidate, promote, fence };
    let retry_at = now + machine.settings.retry_after;
    machine.state = State::Hold(Hold { reason: why.to_owned(), since: now, retry_at, kind });
}
