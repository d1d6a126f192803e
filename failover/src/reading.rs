//! What is read off the state: who may be read, and what is wrong but stops nothing.

use std::time::Instant;

use pgherd_health::{Member, MemberState, NodeId, Standing};

use crate::slots::Slots;
use crate::{Machine, synchronous};

/// Standbys on the lineage that answer. One silence or a full server does not take a standby out of the rotation.
pub(crate) fn readable(machine: &Machine, now: Instant) -> Vec<NodeId> {
    if !matches!(machine.topology.system_identifier, Ok(Some(_))) || !machine.knows_the_cluster(now) {
        return Vec::new();
    }
    let valid = |member: &&Member| {
        let was_standby = member.report().is_some_and(|report| !report.is_writable());
        let failures = member.seen.as_ref().map_or(0, |seen| seen.failures);
        let here = match member.state {
            MemberState::Standby | MemberState::Unwilling { .. } => true,
            MemberState::TimedOut => failures < 2,
            _ => false,
        };
        let detached = machine.detached.contains(&member.node);
        here && was_standby && member.standing == Standing::OnLineage && !detached
    };
    machine.topology.members.iter().filter(valid).map(|member| member.node).collect()
}

pub(crate) fn warnings(machine: &Machine) -> Vec<String> {
    let mut warnings: Vec<String> = machine.topology.members.iter().filter_map(warning).collect();
    warnings.extend(machine.care.warnings());
    warnings.extend(synchronous::shortage(machine));
    warnings.extend(Slots::warnings(machine));
    warnings.extend(machine.undecided());
    if machine.paused {
        warnings.push("failover is paused".to_owned());
    }
    warnings.extend(machine.detached.iter().map(|node| format!("node {node} is detached")));
    warnings
}

pub(crate) fn warning(member: &Member) -> Option<String> {
    let node = member.node;
    let what = match &member.state {
        MemberState::Unknown => "has not been asked yet".to_owned(),
        MemberState::Refused => "refuses connections".to_owned(),
        MemberState::TimedOut => "does not answer".to_owned(),
        MemberState::StartingUp => "is starting up".to_owned(),
        MemberState::ShuttingDown => "is shutting down".to_owned(),
        MemberState::Unwilling { message, .. } => format!("lets nobody in: {message}"),
        MemberState::Foreign { system_identifier } => {
            format!("belongs to another cluster ({system_identifier}): it is not used")
        }
        MemberState::Primary | MemberState::Standby => match member.standing {
            Standing::Superseded { divergence, .. } => {
                format!("is superseded, with {divergence} bytes of WAL of its own")
            }
            Standing::Diverged => "is on a fork".to_owned(),
            Standing::Ahead => "is on a later timeline than the one that is served".to_owned(),
            Standing::OnLineage | Standing::Unknown => return None,
        },
    };
    Some(format!("node {node} {what}"))
}
