//! What an operator reads in the log: what was seen, what was decided, and why.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use pgherd_health::{Node, NodeId, Position, ProbeOutcome};
use tracing::{info, warn};

use crate::{Routing, StateName, Status, Writes};

/// Remembers what was last written, so that only changes are.
#[derive(Debug, Default)]
pub(super) struct Journal {
    contacts: HashMap<NodeId, (Discriminant<ProbeOutcome>, Option<Discriminant<Position>>)>,
}

impl Journal {
    /// A probe ended otherwise than the one before.
    pub(super) fn probed(&mut self, node: NodeId, outcome: &ProbeOutcome) {
        let position = match outcome {
            ProbeOutcome::Answered(report) => Some(discriminant(&report.position)),
            _ => None,
        };
        let contact = (discriminant(outcome), position);
        if self.contacts.insert(node, contact) == Some(contact) {
            return;
        }
        match outcome {
            ProbeOutcome::Answered(report) => {
                let role = if report.is_writable() { "primary" } else { "standby" };
                info!(%node, role, timeline = report.timeline.0, lsn = %report.furthest(), "server answers");
            }
            ProbeOutcome::Refused(reason) => warn!(%node, %reason, "server refuses connections"),
            ProbeOutcome::StartingUp => warn!(%node, "server starts up"),
            ProbeOutcome::ShuttingDown => warn!(%node, "server shuts down"),
            ProbeOutcome::Unwilling { sqlstate, message } => {
                warn!(%node, %sqlstate, %message, "server is alive but rejects the monitor user");
            }
            ProbeOutcome::TimedOut => warn!(%node, "server does not answer in time"),
        }
    }

    /// Servers have come or gone by what repmgr has registered.
    pub(super) fn herd(&self, before: &[Node], now: &[Node]) {
        let lacks = |nodes: &[Node], node: &Node| !nodes.iter().any(|other| other.is_same(node));
        for node in before.iter().filter(|node| lacks(now, node)) {
            match now.iter().find(|other| other.is_at(&node.host, node.port)) {
                Some(same) => info!(server = %node, same = %same.id, "one server by two addresses"),
                None => info!(server = %node, "server is not registered with repmgr any more"),
            }
        }
        for node in now.iter().filter(|node| lacks(before, node)) {
            info!(server = %node, "server found in repmgr.nodes");
        }
    }

    /// Statements go elsewhere.
    pub(super) fn routed(&self, routing: &Routing) {
        let generation = routing.generation;
        let readable: Vec<u32> = routing.readable.iter().map(|node| node.0).collect();
        match &routing.writes {
            Writes::Open(epoch) => info!(generation, %epoch, ?readable, "writes are open"),
            Writes::Held { keep, reason, .. } => {
                let cut = keep.is_none();
                warn!(generation, cut, %reason, ?readable, "writes wait");
            }
        }
    }

    /// The machine is in another state, or has another reason or warning.
    /// `row` is the last one of the table that was taken.
    pub(super) fn moved(&self, before: &Status, now: &Status, row: &str) {
        if (before.state, &before.reason) != (now.state, &now.reason) {
            let (from, to, reason) = (before.state, now.state, now.reason.as_str());
            match to {
                StateName::Suspect | StateName::Confirm | StateName::Fence | StateName::Hold => {
                    warn!(%from, %to, row, reason, "state");
                }
                _ => info!(%from, %to, row, reason, "state"),
            }
        }
        for warning in now.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            warn!("{warning}");
        }
        for warning in before.warnings.iter().filter(|warning| !now.warnings.contains(warning)) {
            info!("no longer: {warning}");
        }
    }
}
