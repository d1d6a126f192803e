//! Rejoins that an operator orders.

use std::time::{Duration, Instant};

use pgherd_health::{MemberState, NodeId, Standing};

use super::{NEVER_ANSWERED, Ordered, lost};
use crate::cascade::follows;
use crate::state::State;
use crate::{Machine, Outcome};

/// Whether an operator may have a server rejoined now, and what that would do.
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn can_rejoin(
    machine: &Machine,
    node: NodeId,
    accept_data_loss: bool,
    reclone: bool,
) -> Result<String, String> {
    if let Some(why) = machine.looks_on() {
        return Err(format!("{why}: give the order to the one that decides"));
    }
    let State::Steady { epoch } = machine.state else {
        return Err(format!("not now, there is no primary to follow: {}", machine.state.name()));
    };
    let primary = epoch.primary;
    let member = machine.topology.member(node).ok_or_else(|| format!("there is no node {node}"))?;
    if node == primary {
        return Err(format!("node {node} is the primary: there is nobody whom it could follow"));
    }
    if let MemberState::Foreign { system_identifier } = member.state {
        return Err(format!(
            "node {node} belongs to another cluster ({system_identifier}): it is not touched"
        ));
    }
    let led = machine.topology.member(primary).is_some_and(|it| machine.may_act_on(it));
    if !machine.may_act_on(member) || !led {
        return Err(format!("node {node} or node {primary} is not registered with repmgr"));
    }
    if follows(machine, epoch, member) && !reclone {
        return Err(format!("node {node} follows node {primary} already"));
    }
    if machine.care.ordered.contains_key(&node) {
        return Err(format!("the rejoin of node {node} has been ordered already, and has not ended"));
    }
    if let Some(placed) = machine.orders.under_way().find(|placed| placed.node == node) {
        return Err(format!("not now: a command is under way there: {:?}", placed.step));
    }
    let seen = machine.care.patients.get(&node).and_then(|patient| patient.kept);
    let lost = match (member.report(), member.standing) {
        _ if seen.is_some() => seen.map(|loss| format!("it has {loss}, more than failover.max_data_loss")),
        (None, _) => Some(NEVER_ANSWERED.to_owned()),
        (_, Standing::Superseded { divergence, .. }) if divergence > machine.settings.max_data_loss => {
            Some(format!("it has {divergence} bytes of WAL of its own, more than failover.max_data_loss"))
        }
        (_, Standing::Diverged | Standing::Ahead) => {
            Some("it has WAL of its own, from another fork".to_owned())
        }
        _ => None,
    };
    let how = if reclone {
        format!("stopped, emptied and cloned from node {primary}")
    } else {
        format!("stopped, rewound and made to follow node {primary}")
    };
    match lost {
        Some(why) if !accept_data_loss => {
            Err(format!("node {node}: {why}, which would be lost: accept the loss"))
        }
        Some(why) => Ok(format!("node {node} is {how}; {why}, which is lost")),
        None => Ok(format!("node {node} is {how}")),
    }
}

/// The orders to rejoin a server that have come to their ends, and how.
pub(crate) fn ended_orders(
    machine: &mut Machine,
    now: Instant,
    lasts: Duration,
) -> Vec<(NodeId, Result<String, String>)> {
    let told: Vec<_> = machine
        .care
        .ordered
        .iter()
        .filter_map(|(node, ordered)| Some((*node, end_of_order(machine, now, *node, *ordered, lasts)?)))
        .collect();
    machine.care.ordered.retain(|node, _| !told.iter().any(|(of, _)| of == node));
    told
}

fn end_of_order(
    machine: &Machine,
    now: Instant,
    node: NodeId,
    ordered: Ordered,
    lasts: Duration,
) -> Option<Result<String, String>> {
    let State::Steady { epoch } = machine.state else {
        return Some(Err(format!("the primary was lost meanwhile: {}", machine.state.name())));
    };
    let Some(member) = machine.topology.member(node) else {
        return Some(Err(format!("node {node} is none of the herd any more")));
    };
    let Some((placed, outcome)) = ordered.placed.map(|id| (id, machine.orders.outcome(id))) else {
        let over = now >= ordered.since + lasts;
        return over.then(|| Err(format!("it could not be begun within {lasts:?}")));
    };
    let ended = machine.orders.ended_at(placed)?;
    let primary = epoch.primary;
    match outcome? {
        Outcome::Done | Outcome::Rejoined(_)
            if follows(machine, epoch, member) && member.asked_since(ended) =>
        {
            Some(Ok(format!("node {node} follows node {primary}{}", lost(machine, Some(placed)))))
        }
        Outcome::Done | Outcome::Rejoined(_) if now < ended + machine.settings.retry_after => None,
        Outcome::Kept(loss) => Some(Err(format!(
            "node {node}: it has {loss}, more than failover.max_data_loss, which would be lost: accept the loss"
        ))),
        Outcome::Done | Outcome::Rejoined(_) => {
            Some(Err(format!("node {node} is not seen to follow node {primary}")))
        }
        other => Some(Err(format!("node {node}: {other}; it is tried again"))),
    }
}
