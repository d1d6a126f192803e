//! Takes the positions from what the probes tell.

use std::sync::Arc;

use pgherd_failover::{Epoch, Routing, Writes};
use pgherd_health::{Branch, Dated, Member, Position, Standing, Topology};
use tokio::sync::watch;

use super::samples::end_of_records;
use super::{Positions, Samples, Standby};
use crate::server::table::Backends;

/// Keeps the positions up to date, until the control loop ends.
pub(crate) async fn keep(
    mut topology: watch::Receiver<Arc<Topology>>,
    routing: watch::Receiver<Arc<Routing>>,
    backends: Arc<Backends>,
) {
    let mut keeper = Keeper::default();
    loop {
        let seen = Arc::clone(&topology.borrow_and_update());
        // Looked at behind the topology: what was seen after a change of the primary is never taken for a position of the one before.
        let decided = Arc::clone(&routing.borrow());
        if keeper.observe(&seen, &decided.writes) {
            backends.set_positions(keeper.positions.clone());
        }
        if topology.changed().await.is_err() {
            return;
        }
    }
}

/// The positions, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// The reign of the primary that takes writes, or took them last.
    epoch: Option<Epoch>,
    /// When that server was started.
    started_at: Option<i64>,
    pub(super) positions: Positions,
}

impl Keeper {
    /// Takes in what was seen; false if it tells nothing new.
    pub(super) fn observe(&mut self, topology: &Topology, writes: &Writes) -> bool {
        let before = (self.positions.reign, self.positions.samples.last());
        let epoch = match writes {
            Writes::Open(epoch) | Writes::Held { keep: Some(epoch), .. } => Some(*epoch),
            Writes::Held { keep: None, .. } => self.epoch,
        };
        if self.epoch != epoch {
            self.epoch = epoch;
            self.begin_reign();
        }
        let primary = epoch.and_then(|epoch| seen_in(epoch, topology));
        if let Some(primary) = primary {
            self.take_sample(primary);
        }
        // Positions on another branch than the primary's say nothing.
        let standbys = primary.map(|_| self.standbys(topology)).unwrap_or_default();
        let is_new = before != (self.positions.reign, self.positions.samples.last())
            || self.positions.standbys != standbys;
        self.positions.standbys = standbys;
        is_new
    }

    fn take_sample(&mut self, primary: &Dated) {
        let Position::Primary { insert, .. } = primary.report.position else { return };
        let lsn = end_of_records(insert);
        let last = self.positions.samples.last();
        if last.is_some_and(|(_, asked_at)| primary.asked_at <= asked_at) {
            return;
        }
        // After a crash the log may go on from before what was sampled and had not been flushed.
        let was_restarted = self.started_at.is_some_and(|started_at| started_at != primary.report.started_at);
        if was_restarted || last.is_some_and(|(last, _)| lsn < last) {
            self.begin_reign();
        }
        self.started_at = Some(primary.report.started_at);
        self.positions.first.get_or_insert(lsn);
        self.positions.samples.push(lsn, primary.asked_at);
    }

    fn begin_reign(&mut self) {
        self.started_at = None;
        self.positions = Positions { reign: self.positions.reign + 1, ..Positions::default() };
    }

    fn standbys(&self, topology: &Topology) -> Vec<Standby> {
        topology.members.iter().filter_map(|member| standby(member, &self.positions.samples)).collect()
    }
}

/// What the primary of this reign has last said, if it was on the lineage that the others are measured against.
fn seen_in(epoch: Epoch, topology: &Topology) -> Option<&Dated> {
    let primary = topology.member(epoch.primary)?.dated()?;
    let report = &primary.report;
    let is_it = (report.system_identifier, report.timeline) == (epoch.system_identifier, epoch.timeline)
        && report.is_writable();
    (is_it && topology.lineage.as_ref() == Some(&Branch::of(report))).then_some(primary)
}

/// What a standby is known to have; none if it was down since it said so.
fn standby(member: &Member, samples: &Samples) -> Option<Standby> {
    let stays = member.seen.as_ref().is_some_and(|seen| !seen.restarted);
    let dated = member.dated().filter(|_| stays && member.standing == Standing::OnLineage)?;
    let Position::Standby { replay: Some(replayed), .. } = dated.report.position else { return None };
    let lag = samples.lag(replayed, dated.asked_at);
    Some(Standby { node: member.node, replayed, asked_at: dated.asked_at, lag })
}
