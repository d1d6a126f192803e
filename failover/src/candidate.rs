//! What is seen of a candidate and beside it, once it is chosen and once it is told to promote.

use std::time::{Duration, Instant};

use pgherd_health::{Member, MemberState, NodeId, Relation};

use crate::freeze::{best, frozen};
use crate::state::{Attempt, Stage, State};
use crate::{Machine, Outcome, election};

/// How long a candidate may still be seen as a standby after its promotion was reported done.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// How often a candidate whose promotion has an unknown outcome is told before it is fenced for another.
const TRIES: u32 = 2;

/// What is to be done about an order whose outcome cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Take the lock again, for the order with this number.
    Lock(u32),
    /// Give the order with this number.
    Tell(u32),
    /// Fence the candidate: another is to be promoted, or none.
    Disarm,
}

/// The candidate is a primary whose history contains the old lineage.
pub(crate) fn promoted(machine: &Machine, attempt: &Attempt, candidate: NodeId) -> Option<String> {
    let member = machine.topology.member(candidate).filter(|member| member.state == MemberState::Primary)?;
    let branch = member.branch()?;
    let grown = matches!(branch.relation(&attempt.branch), Relation::Supersedes { .. });
    grown.then(|| format!("node {candidate} is writable on {branch}"))
}

/// The candidate is neither a standby nor the primary that the promotion would have made of it; or standbys stream from
/// whom it supersedes, which another pgherd may have served in the meantime.
pub(crate) fn estranged(machine: &Machine, attempt: &Attempt, candidate: NodeId) -> Option<String> {
    let member = machine.topology.member(candidate)?;
    let mut beneath = machine.topology.leadership.false_primaries().iter();
    if let Some(rival) = beneath.find(|it| it.has_standbys)
        && promoted(machine, attempt, candidate).is_some()
    {
        return Some(format!("node {} is superseded by node {candidate}, but has standbys", rival.node));
    }
    match &member.state {
        MemberState::Foreign { system_identifier } => {
            Some(format!("node {candidate} belongs to another cluster now ({system_identifier})"))
        }
        MemberState::Primary if promoted(machine, attempt, candidate).is_none() => {
            Some(format!("node {candidate} is writable, and has not grown from the old timeline"))
        }
        _ => None,
    }
}

/// The candidate, its order, how that ended, and whether the candidate was seen as a standby since.
pub(crate) fn ordered(machine: &Machine) -> Option<(NodeId, u32, &Outcome, bool)> {
    let State::Promote { candidate, stage: Stage::Ordered { id, tries }, .. } = &machine.state else {
        return None;
    };
    let (ended, outcome) = (machine.orders.ended_at(*id)?, machine.orders.outcome(*id)?);
    let member = machine.topology.member(*candidate)?;
    let standby = member.state == MemberState::Standby && member.asked_since(ended);
    Some((*candidate, *tries, outcome, standby))
}

/// What is to be done about the order that was given, and why; none while that may show by itself. A late order does no
/// harm on the same server: it is only kept from coming late where another may be promoted.
pub(crate) fn remedy(machine: &Machine, now: Instant) -> Option<(Remedy, String)> {
    let State::Promote { attempt, candidate, stage } = &machine.state else { return None };
    let (last, tries, why) = match stage {
        Stage::Ordered { id, tries } => (*id, *tries, unresolved(machine, now)?),
        Stage::Relock { lock, tries, .. } => match machine.orders.outcome(*lock)? {
            Outcome::Done => {
                let locked = || (Remedy::Tell(tries + 1), format!("node {candidate} is locked again"));
                return Some(beside(machine).map_or_else(locked, |why| (Remedy::Disarm, why)));
            }
            other => {
                // Where the lock is refused because a promotion is under way, it will show.
                let late = now >= machine.orders.ended_at(*lock)? + SEEN_WITHIN;
                let why = late.then(|| format!("node {candidate} was not locked again: {other}"))?;
                (*lock, tries + 1, why)
            }
        },
        _ => return None,
    };
    if let Some(why) = beside(machine) {
        return Some((Remedy::Disarm, why));
    }
    if tries < TRIES {
        return Some((Remedy::Lock(tries), why));
    }
    if heir(machine, attempt, *candidate) {
        return Some((Remedy::Disarm, why));
    }
    let paused = now >= machine.orders.ended_at(last)? + machine.settings.retry_after;
    paused.then_some((Remedy::Lock(tries), why))
}

/// Another than the candidate could be promoted.
pub(crate) fn heir(machine: &Machine, attempt: &Attempt, candidate: NodeId) -> bool {
    let mut without = attempt.clone();
    without.passed_over.insert(candidate);
    let others: Vec<_> =
        frozen(machine, attempt).into_iter().filter(|(node, _)| *node != candidate).collect();
    best(machine, &without, others).is_ok()
}

/// Why the order's outcome cannot be told although the candidate answers.
fn unresolved(machine: &Machine, now: Instant) -> Option<String> {
    let (candidate, _, outcome, standby) = ordered(machine)?;
    let State::Promote { stage: Stage::Ordered { id, .. }, .. } = &machine.state else { return None };
    let late = now >= machine.orders.ended_at(*id)? + SEEN_WITHIN;
    match outcome {
        _ if !standby => None,
        Outcome::Failed(why) if machine.state.attempt()?.doubtful => {
            Some(format!("node {candidate} was told twice, and may yet heed the first order: {why}"))
        }
        Outcome::Failed(_) => None,
        Outcome::Unknown(why) => Some(format!("node {candidate} is still a standby: {why}")),
        _ if late => Some(format!("node {candidate} is still a standby although promotion was reported")),
        _ => None,
    }
}

/// It was ordered to promote, and what became of that cannot be seen.
pub(crate) fn lost(machine: &Machine) -> Option<String> {
    let State::Promote { candidate, stage, .. } = &machine.state else { return None };
    let member = machine.topology.member(*candidate)?;
    let seen = member.seen.as_ref()?;
    match stage {
        Stage::Ordered { .. } | Stage::Relock { .. } if seen.failures >= 2 && !member.is_alive() => {
            Some(format!("node {candidate} was told to promote and is unreachable since"))
        }
        Stage::Ordered { id, .. } | Stage::Relock { id, .. }
            if matches!(member.state, MemberState::Unwilling { .. }) =>
        {
            let ended = machine.orders.ended_at(*id)?;
            member
                .asked_since(ended)
                .then(|| format!("node {candidate} was told to promote and lets nobody in since"))
        }
        Stage::Disarm { fence, .. } => match machine.orders.outcome(*fence)? {
            Outcome::Fenced { .. } => None,
            other => Some(format!("node {candidate} was told to promote and could not be fenced: {other}")),
        },
        _ => None,
    }
}

/// Even a false primary must not be writable while another is promoted. What it said before it was fenced is over.
pub(crate) fn still_writable(machine: &Machine, attempt: &Attempt) -> Option<String> {
    let mut members = machine.topology.members.iter();
    let writable =
        members.find(|member| member.state == MemberState::Primary && !ended_since(machine, attempt, member));
    writable.map(|member| format!("node {} still accepts writes", member.node))
}

/// It was fenced or stopped, and has not been asked since.
pub(crate) fn ended_since(machine: &Machine, attempt: &Attempt, member: &Member) -> bool {
    attempt.fences.get(&member.node).is_some_and(|id| {
        let ended = machine.orders.outcome(*id).is_some_and(Outcome::ended_it);
        ended && machine.orders.ended_at(*id).is_some_and(|ended| !member.asked_since(ended))
    })
}

/// A primary that a promotion now would stand beside.
fn beside(machine: &Machine) -> Option<String> {
    let hears = |member: &&Member| machine.topology.hears_a_primary(member);
    still_writable(machine, machine.state.attempt()?)
        .or_else(|| {
            let hearing = machine.topology.standbys().find(hears)?;
            Some(format!("node {} streams from a primary", hearing.node))
        })
        .or_else(|| surpassed(machine))
}

/// A standby that has come since the comparison and has more than the candidate.
fn surpassed(machine: &Machine) -> Option<String> {
    let State::Promote { attempt, candidate, .. } = &machine.state else { return None };
    let compared = frozen(machine, attempt);
    let (_, own) = *compared.iter().find(|(node, _)| node == candidate)?;
    let mut come =
        machine.topology.standbys().filter(|member| !compared.iter().any(|(it, _)| *it == member.node));
    let more = come.find(|member| {
        let lsn = member.furthest().unwrap_or_default();
        lsn > own && election::continues(machine, attempt, member, lsn)
    })?;
    Some(format!("node {} has come with more WAL than node {candidate}", more.node))
}
