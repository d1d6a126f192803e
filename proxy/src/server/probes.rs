//! How the probes of each server ended, counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use pgherd_failover::actor::Control;
use pgherd_health::{Member, MemberState, NodeId, Topology};

/// Probes by server, and by how they ended.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// When the last one that was counted was sent.
    last: BTreeMap<NodeId, Instant>,
    counts: BTreeMap<(NodeId, &'static str), u64>,
}

/// Counts, until the control loop ends.
pub(crate) async fn keep(control: Control, probes: Arc<Probes>) {
    at_each(&control, |topology| probes.observe(topology)).await;
}

/// Has a look at what is known of the servers, now and whenever a probe has ended, until the control loop ends.
pub(super) async fn at_each(control: &Control, mut look: impl FnMut(&Topology)) {
    let mut topology = control.topology.clone();
    loop {
        let seen = Arc::clone(&topology.borrow_and_update());
        look(&seen);
        if topology.changed().await.is_err() {
            return;
        }
    }
}

impl Probes {
    /// Takes in the probes that have ended.
    fn observe(&self, topology: &Topology) {
        let mut counted = self.0.lock();
        for member in &topology.members {
            let Some(seen) = &member.seen else { continue };
            if counted.last.insert(member.node, seen.asked_at) != Some(seen.asked_at) {
                *counted.counts.entry((member.node, result(member))).or_default() += 1;
            }
        }
    }

    /// The counts of one server.
    pub(crate) fn of(&self, node: NodeId) -> Vec<(&'static str, u64)> {
        let counted = self.0.lock();
        let of_node = counted.counts.iter().filter(|((of, _), _)| *of == node);
        of_node.map(|((_, result), count)| (*result, *count)).collect()
    }
}

/// How the last probe ended, in one word.
const fn result(member: &Member) -> &'static str {
    match member.state {
        MemberState::Unknown => "unknown",
        MemberState::Primary | MemberState::Standby => "answered",
        MemberState::Refused => "refused",
        MemberState::StartingUp => "starting_up",
        MemberState::ShuttingDown => "shutting_down",
        MemberState::Unwilling { .. } => "unwilling",
        MemberState::TimedOut => "timed_out",
        MemberState::Foreign { .. } => "foreign",
    }
}
