//! Replication slots: those that repmgr made and nobody needs are dropped, logical ones that a promotion has lost are told of.

use std::collections::BTreeMap;
use std::time::Instant;

use pgherd_health::{Member, MemberState, NodeId, ReplicationSlot, Report};

use crate::state::State;
use crate::{CommandId, Epoch, Machine, Step};

/// repmgr names the slot of a standby so, with its `node_id`.
const REPMGRS: &str = "repmgr_slot_";

/// What is known of slots beyond what the servers say now.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Since when a slot on a server is needless.
    needless: BTreeMap<(NodeId, String), Instant>,
    dropping: Option<CommandId>,
    /// The epoch whose beginning was looked at.
    epoch: Option<Epoch>,
    /// Logical slots that the primary before had, with their databases.
    before: Vec<(String, String)>,
}

impl Slots {
    /// Logical slots that the primary before had and the present one has not.
    pub(crate) fn warnings(machine: &Machine) -> impl Iterator<Item = String> {
        let primary = machine.slots.epoch.and_then(|epoch| machine.topology.member(epoch.primary));
        let present: Vec<&str> = primary
            .and_then(Member::report)
            .map(|report| report.slots.iter().map(|slot| slot.name.as_str()).collect())
            .unwrap_or_default();
        let lost = machine.slots.before.iter().filter(move |(name, _)| !present.contains(&name.as_str()));
        lost.filter_map(move |(name, database)| {
            let node = primary?.node;
            Some(format!(
                "logical slot {name} of database {database} was lost when node {node} became the primary: who received by it must be \
                 set up again"
            ))
        })
    }
}

/// A primary is served. If it has taken another's place, what logical slots that had is remembered.
pub(crate) fn note_succession(machine: &mut Machine, epoch: Epoch) {
    if machine.slots.epoch == Some(epoch) {
        return;
    }
    let former = machine
        .topology
        .members
        .iter()
        .filter(|member| member.node != epoch.primary)
        .filter_map(|member| member.seen.as_ref()?.as_primary.as_ref())
        .filter(|dated| machine.is_ours(&dated.report) && dated.report.timeline < epoch.timeline)
        .max_by_key(|dated| (dated.report.timeline, dated.asked_at));
    let logical =
        |slot: &ReplicationSlot| slot.database.clone().map(|database| (slot.name.clone(), database));
    let before = former.map(|dated| dated.report.slots.iter().filter_map(logical).collect());
    machine.slots.before = before.unwrap_or_default();
    machine.slots.epoch = Some(epoch);
}

/// Drops a slot of repmgr's that has been needless for long enough. Only beside a primary that is served, and not while an
/// operator wants nothing to be done.
pub(crate) fn tend(machine: &mut Machine, now: Instant) {
    let epoch = match machine.state {
        State::Steady { epoch } if !machine.paused => epoch,
        _ => return machine.slots.needless.clear(),
    };
    let needless = needless(machine, epoch);
    let slots = &mut machine.slots;
    slots.needless.retain(|slot, _| needless.contains(slot));
    for slot in needless {
        slots.needless.entry(slot).or_insert(now);
    }
    let grace = machine.settings.slot_grace;
    let due = slots.needless.iter().find(|(_, since)| now >= **since + grace).map(|(slot, _)| slot.clone());
    let is_dropping = slots.dropping.is_some_and(|id| machine.orders.outcome(id).is_none());
    if let Some((node, name)) = due.filter(|_| !is_dropping) {
        let id = machine.order(now, node, Step::DropSlot { name: name.clone() });
        machine.slots.dropping = Some(id);
        // If it fails, it is due again after a while.
        machine.slots.needless.insert((node, name), now);
    }
}

/// Slots of repmgr's for servers that do not need them: they would hold WAL back for ever. One that is down may yet come back
/// to where its slot is.
fn needless(machine: &Machine, epoch: Epoch) -> Vec<(NodeId, String)> {
    let members = &machine.topology.members;
    let answers = |member: &&Member| matches!(member.state, MemberState::Primary | MemberState::Standby);
    let of = |member: &Member| -> Vec<(NodeId, String)> {
        let slots = member.report().map(|report: &Report| report.slots.as_slice()).unwrap_or_default();
        let idle = slots.iter().filter(|slot| !slot.active && slot.database.is_none());
        let needless = idle.filter(|slot| {
            let owner = members.iter().find(|it| owns(it, &slot.name));
            owner.is_some_and(|owner| is_elsewhere(machine, epoch, owner, member.node))
        });
        needless.map(|slot| (member.node, slot.name.clone())).collect()
    };
    members.iter().filter(answers).flat_map(of).collect()
}

fn owns(member: &Member, slot: &str) -> bool {
    let id = slot.strip_prefix(REPMGRS);
    member.repmgr.as_ref().is_some_and(|row| id == Some(row.node_id.to_string().as_str()))
}

/// True if `owner` is not about to receive from `server`: it is the server itself or the primary, or streams from another.
fn is_elsewhere(machine: &Machine, epoch: Epoch, owner: &Member, server: NodeId) -> bool {
    let busy = machine.orders.under_way().any(|placed| placed.node == owner.node && !placed.is_harmless());
    let streams = owner.receiving.as_ref().is_some_and(|receiving| {
        receiving.status == "streaming"
            && receiving.fresh
            && receiving.from.is_some_and(|from| from != server)
    });
    !busy && (owner.node == server || owner.node == epoch.primary || streams)
}
