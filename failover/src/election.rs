//! Who is promoted.

use std::cmp::Reverse;

use pgherd_health::{Lsn, Member, NodeId, Position, RepmgrNodeType, Standing};

use crate::Machine;
use crate::guards::{Waited, waited_for};
use crate::state::Attempt;

/// The eligible of these standbys, best first: by position, then priority, then node id.
///
/// # Errors
/// Why none is eligible.
pub(crate) fn ranked(
    machine: &Machine,
    attempt: &Attempt,
    standbys: &[(NodeId, Lsn)],
) -> Result<Vec<(NodeId, Lsn)>, String> {
    let mut refused = Vec::new();
    let mut eligible = Vec::new();
    for (node, lsn) in standbys {
        let Some(member) = machine.topology.member(*node) else { continue };
        match bar(machine, member, attempt, *lsn) {
            Some(why) => refused.push(format!("node {node} {why}")),
            None => {
                let priority = member.repmgr.as_ref().map_or(0, |row| row.priority);
                // Where an operator accepts the loss, the lineage itself comes first.
                let strays = member.branch().as_ref() != Some(&attempt.branch);
                let named = attempt.handover().is_some_and(|it| it.to == Some(*node));
                eligible.push((strays, Reverse(named), Reverse(*lsn), Reverse(priority), *node));
            }
        }
    }
    eligible.sort();
    if eligible.is_empty() {
        let none = if refused.is_empty() { "no standby answers".to_owned() } else { refused.join("; ") };
        return Err(format!("nobody can be promoted: {none}"));
    }
    Ok(eligible.into_iter().map(|(_, _, Reverse(lsn), _, node)| (node, lsn)).collect())
}

/// The one to promote, of the frozen standbys.
///
/// # Errors
/// Why nobody may be.
pub(crate) fn elect(
    machine: &Machine,
    attempt: &Attempt,
    frozen: &[(NodeId, Lsn)],
) -> Result<(NodeId, Lsn), String> {
    let best = ranked(machine, attempt, frozen)?.first().copied();
    let (node, lsn) = best.ok_or("nobody can be promoted")?;
    // Whoever failed to promote is out of the race, but what it has may have been acknowledged.
    let any_loss_is_known = matches!(waited_for(machine, attempt), Waited::Nobody);
    let counts = |it: &NodeId| !any_loss_is_known || !attempt.passed_over.contains(it);
    let furthest = frozen.iter().filter(|(it, _)| counts(it)).max_by_key(|(_, lsn)| *lsn);
    match furthest {
        Some((other, ahead)) if *ahead > lsn && !machine.accepts_loss() => Err(format!(
            "node {other} has more WAL ({ahead}) than the best that may be promoted, node {node} ({lsn})"
        )),
        _ => Ok((node, lsn)),
    }
}

/// True if a standby with WAL up to `lsn` is on the lineage, or an operator accepts the loss of what is not.
pub(crate) fn continues(machine: &Machine, attempt: &Attempt, member: &Member, lsn: Lsn) -> bool {
    let standing = member.branch().map(|branch| attempt.branch.standing_of(&branch, lsn));
    let stray = member.seen.as_ref().is_some_and(|seen| seen.stray);
    (standing == Some(Standing::OnLineage) && !stray) || machine.accepts_loss()
}

/// Why a standby may not be promoted.
fn bar(machine: &Machine, member: &Member, attempt: &Attempt, lsn: Lsn) -> Option<&'static str> {
    let Some(report) = member.report() else { return Some("has never answered") };
    let Position::Standby { replay_paused, apply_delay, .. } = &report.position else {
        return Some("is no standby");
    };
    let row = member.repmgr.as_ref();
    // Promoted from an older timeline it would fork off beside the lineage, whose own WAL would be lost.
    let named = machine.named_candidate();
    let by_name = named == Some(member.node);
    let behind = member.branch().as_ref() != Some(&attempt.branch) && !machine.accepts_loss();
    let bars = [
        (!machine.may_act_on(member), "is not registered with repmgr"),
        (attempt.passed_over.contains(&member.node), "failed to promote"),
        (named.is_some() && !by_name, "was not named"),
        (machine.detached.contains(&member.node), "is detached by an operator"),
        (!member.may_be_promoted && !by_name, "is marked DISALLOW_TO_FAILOVER"),
        (row.is_some_and(|row| row.priority <= 0) && !by_name, "has priority 0"),
        (row.is_some_and(|row| !row.active), "is not active in repmgr"),
        (row.is_some_and(|row| row.node_type == RepmgrNodeType::Witness), "is a witness"),
        (!continues(machine, attempt, member, lsn), "is not on the lineage"),
        (behind, "has not followed the last promotion: what came after it may be lost"),
        (*replay_paused, "has its replay paused"),
        (!apply_delay.is_zero(), "has a recovery_min_apply_delay"),
    ];
    bars.iter().find(|(barred, _)| *barred).map(|(_, why)| *why)
}
