//! Who streams from whom, where standbys stream from other standbys.

use pgherd_health::{Member, MemberState, NodeId, Standing};

use crate::{Epoch, Machine};

/// It streams what the primary writes, directly or through other standbys.
pub(crate) fn follows(machine: &Machine, epoch: Epoch, member: &Member) -> bool {
    let mut below = member;
    // As many steps as there are servers: more would be a circle, in which nothing comes from the primary.
    for _ in &machine.topology.members {
        if !streams(epoch, below) {
            return false;
        }
        match below.receiving.as_ref().and_then(|receiving| receiving.from) {
            // The sender has an address that no server is known by.
            None => return true,
            Some(from) if from == epoch.primary => return true,
            Some(from) => match machine.topology.member(from) {
                Some(above) => below = above,
                None => return false,
            },
        }
    }
    false
}

fn streams(epoch: Epoch, member: &Member) -> bool {
    let receives =
        member.receiving.as_ref().is_some_and(|receiving| receiving.fresh && receiving.status == "streaming");
    let on_branch = member.report().is_some_and(|report| report.timeline == epoch.timeline);
    let valid = member.state == MemberState::Standby && member.standing == Standing::OnLineage;
    receives && on_branch && valid
}

/// Whom a standby that streams from nobody is to follow: the standby that repmgr says is above it, if that follows the primary
/// itself; else the primary. None while that standby may yet come to follow and `patient` is true.
pub(crate) fn upstream_for(
    machine: &Machine,
    epoch: Epoch,
    member: &Member,
    patient: bool,
) -> Option<NodeId> {
    let above = member.repmgr.as_ref().and_then(|row| row.upstream_node_id).and_then(|id| {
        let has_id = |it: &&Member| it.repmgr.as_ref().is_some_and(|row| row.node_id == id);
        machine.topology.members.iter().find(has_id)
    });
    // One that led is named there for that, by whoever was not repointed since.
    let led = |above: &Member| above.seen.as_ref().is_some_and(|seen| seen.as_primary.is_some());
    match above.filter(|above| above.node != member.node && !led(above)) {
        Some(above) if above.state != MemberState::Standby => Some(epoch.primary),
        // One that is beneath this standby itself does not follow: this one does not.
        Some(above) if follows(machine, epoch, above) => Some(above.node),
        Some(_) if patient => None,
        _ => Some(epoch.primary),
    }
}
