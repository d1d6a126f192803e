//! Positions in the log that are asked for between two probes, when somebody waits for one: with one short question to each server, over the
//! connection of its probes.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::watch;

use crate::{Lsn, NodeId, Position, Report, TimelineId};

/// What a server was when it was probed last, over the connection that is asked now: so it is the same run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its cluster.
    pub system_identifier: u64,
    /// When it was started.
    pub started_at: i64,
    /// The timeline that a primary writes; that which a standby was receiving then, and was still receiving after it had said its position.
    pub timeline: TimelineId,
    /// It is a primary, which says where it inserts; a standby says how far it has replayed.
    pub is_primary: bool,
}

impl Asked {
    /// What this report says of it.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        Self {
            system_identifier: report.system_identifier,
            started_at: report.started_at,
            timeline: report.timeline,
            is_primary: matches!(report.position, Position::Primary { .. }),
        }
    }
}

/// A position between two probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who was asked.
    pub asked: Asked,
    /// When it was: it says nothing of any later time.
    pub asked_at: Instant,
    /// What it said.
    pub lsn: Lsn,
}

/// Has positions asked for, and holds the last one of each server.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    demands: watch::Sender<u64>,
    found: watch::Sender<BTreeMap<NodeId, Sample>>,
}

impl Samples {
    /// Has every server asked at once that is not being probed.
    pub fn demand(&self) {
        self.demands.send_modify(|demands| *demands = demands.wrapping_add(1));
    }

    /// The last sample of each server; new after each.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<BTreeMap<NodeId, Sample>> {
        self.found.subscribe()
    }

    pub(super) fn demands(&self) -> watch::Receiver<u64> {
        self.demands.subscribe()
    }

    pub(super) fn tell(&self, node: NodeId, sample: Sample) {
        self.found.send_modify(|found| _ = found.insert(node, sample));
    }
}
