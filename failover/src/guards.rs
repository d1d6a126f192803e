//! The guards of a failover: all must hold before anything is done to the herd.

use std::time::{Duration, Instant};

use pgherd_health::{Lsn, Member, MemberState, NodeId, Position, Report};

use crate::state::{Attempt, State};
use crate::synchronous::Synchronous;
use crate::{Machine, Mode, Outcome, election};

/// What is asked before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    Looked,
    NoLogin,
    Unheard,
    EveryoneKnown,
    NewestServed,
    Eligible,
    OneDecider,
    Started,
    Permitted,
}

impl Guard {
    /// What must hold, by the letters of the table where it has one.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Looked => "every other server was asked since the primary failed",
            Self::NoLogin => "(a) the old primary does not answer pgherd",
            Self::Unheard => "(b) no reachable standby still hears it",
            Self::EveryoneKnown => "every other server has answered, or is down",
            Self::NewestServed => "no later timeline was served, or may have begun, that etcd knows of",
            Self::Eligible => "(c), (d) a standby that may be promoted has all that it must have",
            Self::OneDecider => "(f) no repmgrd decides",
            Self::Started => "the old primary is not about to come back",
            Self::Permitted => "(e) neither paused nor manual, nor within failover.min_interval",
        }
    }
}

/// What a guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// It may still come to hold, and it is known when that is decided.
    Wait(String),
    Fail(String),
}

/// All guards; the first that fails, else the first that waits.
pub(crate) fn all(machine: &Machine, attempt: &Attempt, now: Instant) -> Verdict {
    let verdicts = each(machine, attempt, now);
    let verdicts = || verdicts.iter().map(|(_, verdict)| verdict);
    let failed = verdicts().find(|verdict| matches!(verdict, Verdict::Fail(_)));
    let waiting = || verdicts().find(|verdict| matches!(verdict, Verdict::Wait(_)));
    failed.or_else(waiting).cloned().unwrap_or(Verdict::Pass)
}

/// Every guard, with what it is there for.
pub(crate) fn each(machine: &Machine, attempt: &Attempt, now: Instant) -> [(Guard, Verdict); 9] {
    [
        (Guard::Looked, looked(machine, attempt)),
        (Guard::NoLogin, no_login(machine, attempt)),
        (Guard::Unheard, unheard(machine, attempt, now)),
        (Guard::EveryoneKnown, everyone_known(machine, attempt, now)),
        (Guard::NewestServed, newest_served(machine, attempt)),
        (Guard::Eligible, somebody_eligible(machine, attempt)),
        (Guard::OneDecider, one_decider(machine)),
        (Guard::Started, started(machine, attempt)),
        (Guard::Permitted, permitted(machine, attempt, now)),
    ]
}

/// What Confirm waits for.
pub(crate) fn awaited(machine: &Machine, now: Instant) -> Option<String> {
    let State::Confirm(attempt) = &machine.state else { return None };
    match all(machine, attempt, now) {
        Verdict::Wait(why) => Some(why),
        Verdict::Pass | Verdict::Fail(_) => None,
    }
}

/// Only what was asked after the primary failed counts; and of the primary itself what was asked since pgherd hung last.
fn looked(machine: &Machine, attempt: &Attempt) -> Verdict {
    let mut unseen = machine.topology.members.iter().filter(|member| {
        let is_old = Some(member.node) == attempt.old;
        !member.asked_since(if is_old { machine.awake_since } else { attempt.began })
    });
    match unseen.next() {
        Some(member) => Verdict::Wait(format!("node {} has not been looked at since", member.node)),
        None => Verdict::Pass,
    }
}

/// (a) pgherd cannot log in to it.
fn no_login(machine: &Machine, attempt: &Attempt) -> Verdict {
    let old = attempt.old.and_then(|old| machine.topology.member(old));
    match old.map(|member| (&member.state, member.node)) {
        Some((MemberState::Unwilling { message, .. }, node)) => {
            Verdict::Fail(format!("node {node} is alive: it answers \"{message}\""))
        }
        Some((MemberState::Primary, node)) if attempt.epoch.is_some() => {
            Verdict::Fail(format!("node {node} answers again"))
        }
        _ => Verdict::Pass,
    }
}

/// (b) no reachable standby still hears it.
fn unheard(machine: &Machine, attempt: &Attempt, now: Instant) -> Verdict {
    let mut verdict = Verdict::Pass;
    for member in machine.topology.standbys() {
        if !machine.topology.hears_a_primary(member) {
            continue;
        }
        let node = member.node;
        match attempt.logins.get(&node).map(|id| machine.orders.outcome(*id)) {
            Some(Some(Outcome::Failed(_))) => {}
            Some(Some(Outcome::Done)) => {
                return Verdict::Fail(format!("node {node} can log in to the primary, pgherd cannot"));
            }
            _ if now < attempt.since + patience(member) => {
                verdict = Verdict::Wait(format!("node {node} may still hear the primary"));
            }
            _ => return Verdict::Fail(format!("node {node} still hears the primary, pgherd does not")),
        }
    }
    verdict
}

/// How long a WAL receiver that hears nothing may take to give up.
fn patience(member: &Member) -> Duration {
    let own = member.report().map_or(Duration::ZERO, |report| report.wal_receiver_timeout);
    own + Duration::from_secs(1)
}

/// Without a lock service every registered standby must have answered or refused: one that is silent or shut to us may
/// be led by another pgherd, or still receive. One that starts has `start_grace` to come to answer.
pub(crate) fn everyone_known(machine: &Machine, attempt: &Attempt, now: Instant) -> Verdict {
    if machine.accepts_loss() {
        return Verdict::Pass;
    }
    let mut silent = others(machine, attempt).filter_map(|member| {
        let how = match &member.state {
            MemberState::Unknown | MemberState::TimedOut => {
                "does not answer: it may be on the other side of a partition"
            }
            MemberState::Unwilling { .. } => "lets nobody in: it may still receive from the primary",
            MemberState::StartingUp | MemberState::ShuttingDown if within_grace(machine, member, now) => {
                "is starting or stopping: it cannot be asked yet"
            }
            _ => return None,
        };
        Some(format!("node {} {how}", member.node))
    });
    silent.next().map_or(Verdict::Pass, Verdict::Fail)
}

fn within_grace(machine: &Machine, member: &Member, now: Instant) -> bool {
    let since = member.seen.as_ref().and_then(|seen| seen.failing_since);
    since.is_none_or(|since| now < since + machine.settings.start_grace)
}

/// There is somebody to promote, with all that it must have: (c) and (d), as far as can be told before the freeze.
fn somebody_eligible(machine: &Machine, attempt: &Attempt) -> Verdict {
    let reachable = reachable(machine, attempt);
    let eligible = match election::ranked(machine, attempt, &reachable) {
        Ok(ranked) => ranked,
        Err(why) => return Verdict::Fail(why),
    };
    let best = eligible.first().map(|(_, lsn)| *lsn).unwrap_or_default();
    durable(machine, attempt, &reachable, best).map_or_else(Verdict::Fail, |()| Verdict::Pass)
}

/// Who would be promoted now, and how many bytes it is behind the primary's last known position, if that is known.
pub(crate) fn prospect(machine: &Machine, attempt: &Attempt) -> Option<(NodeId, Option<u64>)> {
    let ranked = election::ranked(machine, attempt, &reachable(machine, attempt)).ok()?;
    let (node, lsn) = *ranked.first()?;
    let behind = match last_report(machine, attempt).map(|report| &report.position) {
        Some(Position::Primary { insert, .. }) => Some(insert.bytes_since(lsn)),
        _ => None,
    };
    Some((node, behind))
}

/// Standbys that could be frozen now, with the end of their WAL.
fn reachable(machine: &Machine, attempt: &Attempt) -> Vec<(NodeId, Lsn)> {
    machine
        .topology
        .standbys()
        .filter_map(|member| Some((member, member.furthest()?)))
        .filter(|(member, lsn)| election::continues(machine, attempt, member, *lsn))
        .map(|(member, lsn)| (member.node, lsn))
        .collect()
}

/// (c) and (d): what was acknowledged is on the standbys that hold `frozen`, and the best candidate has it.
pub(crate) fn durable(
    machine: &Machine,
    attempt: &Attempt,
    frozen: &[(NodeId, Lsn)],
    best: Lsn,
) -> Result<(), String> {
    if machine.accepts_loss() {
        return Ok(());
    }
    let registered = machine.knowledge.nodes().len().saturating_sub(1);
    let name = |node: NodeId| machine.topology.member(node).and_then(|member| member.repmgr.as_ref());
    let (have, need) = match waited_for(machine, attempt) {
        Waited::Nobody => return within_loss(machine, attempt, best),
        Waited::Unknown => (frozen.len(), registered),
        Waited::For(these) => {
            let listed =
                |node: NodeId| name(node).is_some_and(|row| these.lists(&row.node_name)) || these.lists("*");
            let have = frozen.iter().filter(|(node, _)| listed(*node)).count();
            (have, these.to_freeze(registered))
        }
    };
    if have >= need {
        Ok(())
    } else {
        Err(format!(
            "acknowledged commits may be lost: {have} of the {need} standbys that must be seen can be; \
             an operator may order the failover"
        ))
    }
}

/// (d) the best candidate is near enough to the primary's last known position.
fn within_loss(machine: &Machine, attempt: &Attempt, best: Lsn) -> Result<(), String> {
    let Some(Position::Primary { insert, .. }) = last_report(machine, attempt).map(|report| &report.position)
    else {
        return Ok(());
    };
    let behind = insert.bytes_since(best);
    if behind <= machine.settings.max_data_loss {
        Ok(())
    } else {
        Err(format!(
            "the best standby is {behind} bytes behind the primary, more than failover.max_data_loss"
        ))
    }
}

/// A primary that a switchover has stopped may be about to come back.
fn started(machine: &Machine, attempt: &Attempt) -> Verdict {
    let start = attempt.old.and_then(|old| machine.orders.last_start(old));
    let Some((start, member)) = start.and_then(|start| Some((start, machine.topology.member(start.node)?)))
    else {
        return Verdict::Pass;
    };
    match &start.ended {
        None => Verdict::Wait(format!("node {} is being started again", start.node)),
        Some((at, _)) if !member.asked_since(*at) => {
            Verdict::Wait(format!("node {} has not answered since it was started again", start.node))
        }
        Some(_) => Verdict::Pass,
    }
}

/// (e) not paused, not manual, not too soon after the last one. An operator who orders a switchover wants it now.
pub(crate) fn permitted(machine: &Machine, attempt: &Attempt, now: Instant) -> Verdict {
    if let Some(why) = machine.objection(now) {
        return Verdict::Fail(why);
    }
    if machine.paused {
        return Verdict::Fail("failover is paused by an operator".to_owned());
    }
    if machine.wanted.is_some() || attempt.handover().is_some() {
        return Verdict::Pass;
    }
    if machine.settings.mode == Mode::Manual {
        return Verdict::Fail("failover.mode is manual: an operator must promote a standby".to_owned());
    }
    match machine.last_promotion.map(|last| last + machine.settings.min_interval) {
        Some(end) if now < end => {
            Verdict::Wait("the last promotion is less than failover.min_interval ago".to_owned())
        }
        _ => Verdict::Pass,
    }
}

/// Nobody goes on from a timeline after which another was served, by whichever pgherd.
fn newest_served(machine: &Machine, attempt: &Attempt) -> Verdict {
    if machine.accepts_loss() {
        return Verdict::Pass;
    }
    if let Some(why) = machine.unaccounted(attempt.branch.timeline) {
        return Verdict::Fail(format!("{why}: an operator may order the failover"));
    }
    let floor = machine.floor().filter(|floor| attempt.branch.timeline < *floor);
    match floor {
        None => Verdict::Pass,
        Some(floor) => Verdict::Fail(format!(
            "etcd knows that timeline {} was served, and no standby of it answers: an operator may order the failover",
            floor.0
        )),
    }
}

/// (f) exactly one decider.
pub(crate) fn one_decider(machine: &Machine) -> Verdict {
    let decides = |member: &&Member| {
        matches!(member.state, MemberState::Standby | MemberState::Primary)
            && member.report().is_some_and(|report| report.repmgrd_decides)
    };
    match machine.topology.members.iter().find(decides) {
        Some(member) => {
            Verdict::Fail(format!("repmgrd on node {} decides (failover=automatic)", member.node))
        }
        None => Verdict::Pass,
    }
}

/// For whom a commit on the lost primary waited.
pub(crate) enum Waited {
    Nobody,
    For(Synchronous),
    Unknown,
}

pub(crate) fn waited_for(machine: &Machine, attempt: &Attempt) -> Waited {
    let old = attempt.old.and_then(|old| machine.topology.member(old)?.repmgr.as_ref());
    let parse = |setting: &str| {
        let these = Synchronous::parse(setting)?;
        Some(match old {
            Some(old) => these.without(&old.node_name),
            None => these,
        })
    };
    let named = |setting: &str| parse(setting).map_or(Waited::Nobody, Waited::For);
    if let Some(report) = last_report(machine, attempt) {
        return named(&report.synchronous_standby_names);
    }
    if let Some(configured) = &machine.settings.synchronous {
        return named(configured);
    }
    // A standby's own empty setting says nothing of the primary's.
    let own = machine.topology.standbys().filter_map(|member| member.report());
    let strictest = own
        .filter_map(|report| parse(&report.synchronous_standby_names))
        .max_by_key(|these| these.to_freeze(machine.knowledge.nodes().len().saturating_sub(1)));
    strictest.map_or(Waited::Unknown, Waited::For)
}

/// The lost primary's last report as one, on the lineage that is to be continued.
fn last_report<'a>(machine: &'a Machine, attempt: &Attempt) -> Option<&'a Report> {
    let seen = machine.topology.member(attempt.old?)?.seen.as_ref()?;
    let report = &seen.as_primary.as_ref()?.report;
    let continues = pgherd_health::Branch::of(report) == attempt.branch && machine.is_ours(report);
    continues.then_some(report)
}

fn others<'a>(machine: &'a Machine, attempt: &Attempt) -> impl Iterator<Item = &'a Member> {
    let old = attempt.old;
    machine.topology.members.iter().filter(move |member| Some(member.node) != old)
}
