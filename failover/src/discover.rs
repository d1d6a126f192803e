//! Discover: who is the primary?

use std::time::Instant;

use pgherd_health::{
    Branch, FalsePrimary, Leadership, Member, MemberState, NodeId, RepmgrNodeType, Standing,
};

use crate::state::{Attempt, State};
use crate::transition::{On, Transition};
use crate::{Machine, StateName, Step};

/// What can be said of the herd when nobody is being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assessment {
    /// Something has yet to be seen.
    Wait(String),
    /// This server is the primary.
    Serve(NodeId, String),
    /// Nobody is, and nobody will come.
    Replace(String),
    /// It cannot be told.
    Stuck(String),
}

pub(crate) const ROWS: &[Transition] = &[
    Transition {
        name: "primary found",
        from: StateName::Discover,
        on: On::Any,
        guard: "every server that is configured or registered was asked, who did not answer twice; one writable server that nobody who ever answered supersedes",
        to: StateName::Steady,
        commands: "none",
        reason: "the servers themselves are the truth",
        when: |machine, now| match assess(machine, now, since(machine)?) {
            Assessment::Serve(_, seen) => Some(seen),
            _ => None,
        },
        then: |machine, now, _| {
            if let Some(Assessment::Serve(node, _)) = since(machine).map(|since| assess(machine, now, since))
            {
                machine.serve(node);
            }
        },
    },
    Transition {
        name: "undecidable",
        from: StateName::Discover,
        on: On::Any,
        guard: "forks, foreign clusters, a false primary with standbys or much WAL of its own, a standby that has more WAL than \
                its primary, or nobody to promote",
        to: StateName::Hold,
        commands: "none",
        reason: "a wrong guess would lose data",
        when: |machine, now| match assess(machine, now, since(machine)?) {
            Assessment::Stuck(why) => Some(why),
            _ => None,
        },
        then: |machine, now, why| machine.hold(now, why),
    },
    Transition {
        name: "nobody leads",
        from: StateName::Discover,
        on: On::Any,
        guard: "nobody is writable or recovers from a crash, no standby hears a primary, and cold_grace is over",
        to: StateName::Confirm,
        commands: "probe all at once",
        reason: "the primary is gone, whoever it was",
        when: |machine, now| match assess(machine, now, since(machine)?) {
            Assessment::Replace(why) => Some(why),
            _ => None,
        },
        then: |machine, now, _| {
            if let Ok(branch) = continued(machine) {
                machine.follow_newest(now);
                let attempt = Attempt::new(None, presumed_primary(machine), branch, now);
                machine.state = State::Confirm(attempt);
                machine.look_at_once();
            }
        },
    },
];

fn since(machine: &Machine) -> Option<Instant> {
    match machine.state {
        State::Discover { since } => Some(since.max(machine.awake_since)),
        _ => None,
    }
}

/// What Discover waits for.
pub(crate) fn awaited(machine: &Machine, now: Instant) -> Option<String> {
    match assess(machine, now, since(machine)?) {
        Assessment::Wait(why) => Some(why),
        _ => None,
    }
}

/// Judges the herd by what was asked since `since`.
fn assess(machine: &Machine, now: Instant, since: Instant) -> Assessment {
    let unasked = machine.topology.members.iter().find(|member| !member.asked_since(since));
    match unasked {
        Some(member) => Assessment::Wait(format!("node {} has not answered yet", member.node)),
        None => machine.unmet().map_or_else(|| judge(machine, now), Assessment::Wait),
    }
}

/// Judges the herd by what is known of it.
pub(crate) fn judge(machine: &Machine, now: Instant) -> Assessment {
    let topology = &machine.topology;
    if let Some(node) = under_way(machine, |step| *step == Step::Promote) {
        return Assessment::Wait(format!("a promotion of node {node} has not ended"));
    }
    if let Err(why) = &topology.system_identifier {
        return Assessment::Stuck(why.clone());
    }
    match &topology.leadership {
        Leadership::Primary { node, false_primaries } => {
            let doubts = || {
                let rival = false_primaries.iter().find_map(|it| rival(machine, it)).map(Assessment::Stuck);
                rival.or_else(|| outdone(machine, *node))
            };
            let doubt = if established(machine, *node) { None } else { doubts() };
            let outdated =
                || machine.outdated(*node).or_else(|| unaccounted(machine, *node)).map(Assessment::Stuck);
            doubt.or_else(|| postponed(machine, *node, now)).or_else(outdated).unwrap_or_else(|| {
                Assessment::Serve(*node, format!("node {node} is writable and nobody supersedes it"))
            })
        }
        Leadership::Contested { reason, .. } => Assessment::Stuck(reason.clone()),
        Leadership::OnlyFalse(them) => match them.iter().find_map(|it| rival(machine, it)) {
            Some(why) => Assessment::Stuck(why),
            None => leaderless(machine, now),
        },
        Leadership::Nobody => leaderless(machine, now),
    }
}

/// Another may have been promoted from its timeline, of which only etcd knows.
fn unaccounted(machine: &Machine, node: NodeId) -> Option<String> {
    let epoch = machine.epoch_of(node).filter(|_| machine.knowledge.trusted() != Some(node))?;
    let why = machine.unaccounted(epoch.timeline)?;
    Some(format!("{why}: an operator may accept the timeline of node {node}"))
}

/// What has yet to come before a primary is served.
fn postponed(machine: &Machine, node: NodeId, now: Instant) -> Option<Assessment> {
    let why = if !machine.knows_the_cluster(now) {
        "nothing says yet that the servers that answer are the right cluster".to_owned()
    } else if machine.awaits_ruling() {
        "etcd has not said yet which timeline was served last".to_owned()
    } else if machine.orders.unmaking(node) {
        format!("a command that stops node {node} has not ended")
    } else if asked_before_its_end(machine, node) {
        format!("node {node} has not answered since it was stopped")
    } else if let Some(silent) = silent_once(machine, node).filter(|_| !established(machine, node)) {
        format!(
            "node {silent} has not answered yet, and is asked a second time: it may know of another primary"
        )
    } else {
        return None;
    };
    Some(Assessment::Wait(why))
}

fn asked_before_its_end(machine: &Machine, node: NodeId) -> bool {
    let unmade = machine.orders.unmade_at(node);
    unmade.zip(machine.topology.member(node)).is_some_and(|(at, member)| !member.asked_since(at))
}

/// Another server that let one probe pass, and no second one since pgherd began, or went on after it had hung: where the machine has
/// stalled, a primary that was replaced may only be the first to answer.
fn silent_once(machine: &Machine, node: NodeId) -> Option<NodeId> {
    let others = machine.topology.members.iter().filter(|member| member.node != node);
    let mut silent = others.filter(|member| member.state == MemberState::TimedOut);
    let is_one = |member: &&Member| {
        member.seen.as_ref().is_some_and(|seen| {
            let lasted = seen.answered_at.saturating_duration_since(seen.asked_at);
            seen.failures < 2 || seen.asked_at < machine.awake_since + lasted
        })
    };
    silent.find(is_one).map(|member| member.node)
}

/// A standby of the primary's own timeline has more WAL than the primary: unless that has only just been written, it is
/// of a later timeline, which the standby does not tell after a restart, or the primary has lost it.
fn outdone(machine: &Machine, primary: NodeId) -> Option<Assessment> {
    let topology = &machine.topology;
    let (of, written) =
        topology.member(primary).and_then(|it| Some((it.branch()?, it.report()?.furthest())))?;
    let further =
        |member: &&Member| member.branch().as_ref() == Some(&of) && member.furthest() > Some(written);
    let member = topology.standbys().find(further)?;
    let node = member.node;
    Some(if member.seen.as_ref().is_some_and(|seen| seen.stray) {
        Assessment::Stuck(format!(
            "node {node} has WAL that node {primary} has never written: an operator may accept the timeline of node {primary}"
        ))
    } else {
        Assessment::Wait(format!("node {node} seems to be ahead of node {primary}"))
    })
}

fn leaderless(machine: &Machine, now: Instant) -> Assessment {
    let topology = &machine.topology;
    if let Some(member) = topology.standbys().find(|member| topology.hears_a_primary(member)) {
        return Assessment::Wait(format!("node {} still streams from a primary", member.node));
    }
    if let Some(node) = under_way(machine, |step| *step == Step::Fence) {
        return Assessment::Wait(format!("the fence of node {node} has not ended"));
    }
    let since = machine.leaderless_since.unwrap_or(now).max(machine.started);
    // An operator who says which timeline is right knows that nobody else will come.
    if now < since + machine.settings.cold_grace && machine.chosen_branch().is_none() {
        return Assessment::Wait("no server is writable; it may just be slow to start".to_owned());
    }
    if let Some(node) = recovering(machine, now) {
        return Assessment::Wait(format!("node {node} is starting up, and may be the primary"));
    }
    let nobody =
        topology.members.iter().all(|member| member.seen.as_ref().is_none_or(|it| it.report.is_none()));
    if nobody {
        return Assessment::Stuck(machine.nobody_known());
    }
    match continued(machine) {
        Ok(_) => Assessment::Replace("no server is writable, and failover.cold_grace is over".to_owned()),
        Err(why) => Assessment::Stuck(why),
    }
}

/// The branch that the next primary is to continue: the newest, or where an operator accepts the loss that of any standby.
pub(crate) fn continued(machine: &Machine) -> Result<Branch, String> {
    let topology = &machine.topology;
    let on = |newest: &Branch, member: &Member| {
        let standing = member.branch().zip(member.furthest()).map(|(of, lsn)| newest.standing_of(&of, lsn));
        standing == Some(Standing::OnLineage)
    };
    if let Some(chosen) = machine.chosen_branch() {
        return Ok(chosen.clone());
    }
    let newest = topology.newest.as_ref();
    if let Some(newest) = newest.filter(|newest| topology.standbys().any(|member| on(newest, member))) {
        return Ok(newest.clone());
    }
    let any = topology.standbys().filter_map(Member::branch).max_by_key(|branch| branch.timeline);
    if let Some(branch) = any.filter(|_| machine.accepts_loss()) {
        return Ok(branch);
    }
    let writable: Vec<String> =
        topology.leadership.false_primaries().iter().map(|it| format!("node {}", it.node)).collect();
    Err(if !writable.is_empty() {
        format!(
            "{} is writable, but a later timeline was seen, of which no server answers: an operator may accept the earlier one",
            writable.join(" and ")
        )
    } else if newest.is_none() {
        "the standbys are on different forks, and none is writable: an operator may order the failover"
            .to_owned()
    } else {
        "no server is writable, and no standby of the latest timeline answers".to_owned()
    })
}

/// A server that recovers from a crash and was not seen as a standby, within `start_grace`.
fn recovering(machine: &Machine, now: Instant) -> Option<NodeId> {
    let starts = |member: &&Member| {
        let since = member.seen.as_ref().and_then(|seen| seen.failing_since);
        let in_time = since.is_some_and(|since| now < since + machine.settings.start_grace);
        let standby = member.report().is_some_and(|report| !report.is_writable());
        member.state == MemberState::StartingUp && in_time && !standby
    };
    machine.topology.members.iter().find(starts).map(|member| member.node)
}

/// A server where such a command has not ended.
fn under_way(machine: &Machine, such: fn(&Step) -> bool) -> Option<NodeId> {
    machine.orders.under_way().find(|placed| such(&placed.step)).map(|placed| placed.node)
}

/// Why a false primary may not just be set aside.
fn rival(machine: &Machine, it: &FalsePrimary) -> Option<String> {
    let FalsePrimary { node, divergence, has_standbys } = it;
    if *has_standbys {
        Some(format!("node {node} is superseded but still has standbys that stream from it"))
    } else if *divergence > machine.settings.max_data_loss {
        Some(format!(
            "node {node} is superseded but has {divergence} bytes of WAL of its own, more than failover.max_data_loss"
        ))
    } else {
        None
    }
}

/// True if the node is on the branch that last took writes, or an operator chose it.
fn established(machine: &Machine, node: NodeId) -> bool {
    let branch = machine.topology.member(node).and_then(Member::branch);
    machine.knowledge.trusted() == Some(node) || (branch.is_some() && branch == machine.served)
}

/// Who was the primary, if nobody is seen as one: who last was, while pgherd ran; else who repmgr says was and does
/// not answer as a standby.
pub(crate) fn presumed_primary(machine: &Machine) -> Option<NodeId> {
    let topology = &machine.topology;
    let silent =
        |node: NodeId| topology.member(node).is_none_or(|member| member.state != MemberState::Standby);
    if let Leadership::OnlyFalse(them) = &topology.leadership
        && let Some(it) = them.first()
    {
        return Some(it.node);
    }
    let last = topology
        .members
        .iter()
        .filter_map(|member| {
            let dated =
                member.seen.as_ref()?.as_primary.as_ref().filter(|dated| machine.is_ours(&dated.report))?;
            Some((dated.report.timeline, dated.asked_at, member.node))
        })
        .max();
    let recorded = || {
        let is_primary = |member: &&Member| {
            member.repmgr.as_ref().is_some_and(|row| row.active && row.node_type == RepmgrNodeType::Primary)
        };
        topology.members.iter().find(is_primary).map(|member| member.node)
    };
    last.map(|(_, _, node)| node).or_else(recorded).filter(|node| silent(*node))
}
