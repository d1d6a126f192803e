//! Hold: what needs a primary waits, and everything is tried again as soon as something changes.

use std::time::Instant;

use pgherd_health::{MemberState, NodeId};

use crate::candidate::{estranged, heir, promoted};
use crate::confirm::led_by_another;
use crate::discover::{Assessment, judge};
use crate::guards::{self, Verdict};
use crate::state::{Attempt, Hold, HoldKind, Stage, State};
use crate::steady::recovered;
use crate::transition::{On, Transition};
use crate::{Machine, Outcome, StateName};

pub(crate) const ROWS: &[Transition] = &[
    Transition {
        name: "decidable",
        from: StateName::Hold,
        on: On::Any,
        guard: "what stood against a decision is gone",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "look afresh",
        when: |machine, now| {
            of_kind(machine, |kind| matches!(kind, HoldKind::Undecided))?;
            // By what is known: all were asked before the hold, and it lasts until one says something else.
            match judge(machine, now) {
                Assessment::Stuck(_) => None,
                Assessment::Wait(why) | Assessment::Serve(_, why) | Assessment::Replace(why) => Some(why),
            }
        },
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "held for another reason",
        from: StateName::Hold,
        on: On::Any,
        guard: "it still cannot be decided, but for another reason",
        to: StateName::Hold,
        commands: "none",
        reason: "the operator sees the present reason",
        when: other_reason,
        then: |machine, _, why| {
            if let State::Hold(hold) = &mut machine.state {
                why.clone_into(&mut hold.reason);
            }
        },
    },
    Transition {
        name: "another timeline is chosen",
        from: StateName::Hold,
        on: On::Order,
        guard: "nothing is frozen, and an operator says that another timeline than the attempt's is right",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "the herd is judged by what the operator knows",
        when: |machine, _| {
            let (attempt, chosen) = (guarded(machine)?, machine.chosen_branch()?);
            (attempt.branch != *chosen).then(|| format!("an operator accepts {chosen}"))
        },
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "primary is back while held",
        from: StateName::Hold,
        on: On::Look,
        guard: "nothing was fenced or frozen, and the primary answers on the same timeline",
        to: StateName::Steady,
        commands: "none",
        reason: "the epoch never ended",
        when: |machine, _| recovered(machine, guarded(machine)?.epoch?),
        then: |machine, _, _| machine.resume(),
    },
    Transition {
        name: "led again while held",
        from: StateName::Hold,
        on: On::Look,
        guard: "a server leads, or the primary came back as something else",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "look before anything is written",
        when: |machine, _| {
            guarded(machine)?;
            let leads = machine.topology.leadership.primary();
            led_by_another(machine).or_else(|| leads.map(|node| format!("node {node} is writable")))
        },
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "try again",
        from: StateName::Hold,
        on: On::Any,
        guard: "all guards hold now, or it is time to ask again",
        to: StateName::Confirm,
        commands: "probe all at once",
        reason: "a hold ends by itself when its reason does",
        when: |machine, now| {
            let attempt = guarded(machine)?;
            let State::Hold(hold) = &machine.state else { return None };
            let due = now >= hold.retry_at;
            let untouched = attempt.epoch.is_some() || machine.wanted.is_some();
            let pass = || guards::all(machine, attempt, now) == Verdict::Pass;
            (due || (untouched && pass())).then(|| "the guards are tried again".to_owned())
        },
        then: |machine, now, _| {
            if let Some(attempt) = machine.take_attempt(now) {
                machine.state = State::Confirm(attempt.afresh(now));
                machine.look_at_once();
            }
        },
    },
    Transition {
        name: "lost candidate is something else",
        from: StateName::Hold,
        on: On::Look,
        guard: "the candidate is writable on another timeline, belongs to another cluster, or supersedes one that has standbys",
        to: StateName::Discover,
        commands: "Unlock and Unfreeze all; probe all at once",
        reason: "somebody else has been at work: look",
        when: |machine, _| {
            let (attempt, candidate) = ordered(machine)?;
            estranged(machine, attempt, candidate)
        },
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "lost candidate is primary",
        from: StateName::Hold,
        on: On::Look,
        guard: "the candidate that was ordered to promote answers as the primary",
        to: StateName::Verify,
        commands: "VerifyWrite",
        reason: "it was promoted after all",
        when: |machine, _| {
            let (attempt, candidate) = ordered(machine)?;
            promoted(machine, attempt, candidate)
        },
        then: |machine, now, _| crate::verify::enter(machine, now),
    },
    Transition {
        name: "lost candidate is fenced",
        from: StateName::Hold,
        on: On::Any,
        guard: "the candidate that was ordered to promote is fenced",
        to: StateName::Elect,
        commands: "none",
        reason: "its order cannot fire any more: the next candidate",
        when: |machine, _| match &machine.state {
            State::Hold(Hold { kind: HoldKind::Ordered { fence: Some(fence), candidate, .. }, .. }) => {
                matches!(machine.orders.outcome(*fence)?, Outcome::Fenced { .. })
                    .then(|| format!("node {candidate} is fenced"))
            }
            _ => None,
        },
        then: pass_over,
    },
    Transition {
        name: "lost candidate is given up",
        from: StateName::Hold,
        on: On::Order,
        guard: "the candidate that was ordered to promote does not answer, and an operator accepts the loss of what it may have taken",
        to: StateName::Elect,
        commands: "none",
        reason: "the operator knows that it is down: the next candidate",
        when: |machine, _| {
            let (_, candidate) = ordered(machine)?;
            machine.gives_up(candidate).then(|| format!("an operator gives up node {candidate}"))
        },
        then: pass_over,
    },
    Transition {
        name: "lost candidate is a standby",
        from: StateName::Hold,
        on: On::Look,
        guard: "the candidate that was ordered to promote answers as a standby, and no fence of it is under way",
        to: StateName::Promote,
        commands: "none",
        reason: "its order's outcome decides what is done next",
        when: |machine, _| match &machine.state {
            State::Hold(Hold { kind: HoldKind::Ordered { candidate, fence, .. }, since, .. }) => {
                if fence.is_some_and(|fence| machine.orders.outcome(fence).is_none()) {
                    return None;
                }
                let member = machine.topology.member(*candidate)?;
                let standby = member.state == MemberState::Standby && member.asked_since(*since);
                standby.then(|| format!("node {candidate} answers as a standby"))
            }
            _ => None,
        },
        then: |machine, now, _| {
            let State::Hold(Hold { kind: HoldKind::Ordered { promote, candidate, .. }, .. }) = machine.state
            else {
                return;
            };
            if let Some(attempt) = machine.take_attempt(now) {
                let stage = Stage::Ordered { id: promote, tries: 0 };
                machine.state = State::Promote { attempt, candidate, stage };
            }
        },
    },
    Transition {
        name: "fence the lost candidate",
        from: StateName::Hold,
        on: On::Any,
        guard: "it is time to ask again, no fence of the candidate is under way, and nobody listens there, another is writable, \
                or another could be promoted",
        to: StateName::Hold,
        commands: "Fence the candidate",
        reason: "a candidate that cannot be asked can at least be stopped",
        when: |machine, now| match &machine.state {
            State::Hold(Hold {
                kind: HoldKind::Ordered { attempt, candidate, fence, .. }, retry_at, ..
            }) => {
                let under_way = fence.is_some_and(|fence| machine.orders.outcome(fence).is_none());
                let due = !under_way && now >= *retry_at;
                (due && dispensable(machine, attempt, *candidate)).then(|| format!("node {candidate}"))
            }
            _ => None,
        },
        then: |machine, now, _| {
            let Some((_, candidate)) = ordered(machine) else { return };
            let id = machine.fence_candidate(now, candidate);
            let pause = machine.settings.retry_after;
            if let State::Hold(Hold { kind: HoldKind::Ordered { fence, .. }, retry_at, .. }) =
                &mut machine.state
            {
                *fence = Some(id);
                *retry_at = now + pause;
            }
        },
    },
];

/// Whoever was ordered to promote and is lost is no candidate any more.
fn pass_over(machine: &mut Machine, now: Instant, _: &str) {
    let Some((_, candidate)) = ordered(machine) else { return };
    if let Some(mut attempt) = machine.take_attempt(now) {
        attempt.passed_over.insert(candidate);
        machine.disarmed.insert(candidate, attempt.branch.clone());
        attempt.doubtful = false;
        machine.state = State::Elect(attempt);
    }
}

/// The fence of a lost candidate loses nothing, or lets another lead.
fn dispensable(machine: &Machine, attempt: &Attempt, candidate: NodeId) -> bool {
    let refused = machine.topology.member(candidate).is_some_and(|it| it.state == MemberState::Refused);
    let writable = machine.topology.members.iter().any(|it| it.state == MemberState::Primary);
    refused || writable || heir(machine, attempt, candidate)
}

fn of_kind(machine: &Machine, wanted: fn(&HoldKind) -> bool) -> Option<&Hold> {
    match &machine.state {
        State::Hold(hold) if wanted(&hold.kind) => Some(hold),
        _ => None,
    }
}

fn guarded(machine: &Machine) -> Option<&Attempt> {
    match &of_kind(machine, |kind| matches!(kind, HoldKind::Guarded(_)))?.kind {
        HoldKind::Guarded(attempt) => Some(attempt),
        _ => None,
    }
}

fn ordered(machine: &Machine) -> Option<(&Attempt, NodeId)> {
    match &machine.state {
        State::Hold(Hold { kind: HoldKind::Ordered { attempt, candidate, .. }, .. }) => {
            Some((attempt, *candidate))
        }
        _ => None,
    }
}

fn other_reason(machine: &Machine, now: Instant) -> Option<String> {
    let hold = of_kind(machine, |kind| !matches!(kind, HoldKind::Ordered { .. }))?;
    let reason = match &hold.kind {
        HoldKind::Undecided => match judge(machine, now) {
            Assessment::Stuck(why) => why,
            _ => return None,
        },
        HoldKind::Guarded(attempt) if attempt.epoch.is_some() => match guards::all(machine, attempt, now) {
            Verdict::Fail(why) => why,
            _ => return None,
        },
        _ => return None,
    };
    (reason != hold.reason).then_some(reason)
}
