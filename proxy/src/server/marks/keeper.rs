//! Takes the positions from what the probes tell.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_failover::actor::Control;
use pgherd_failover::{Epoch, Writes};
use pgherd_health::{
    Asked, Branch, Dated, Lsn, Member, NodeId, Position, Sample, Samples as Asking, Standing, Topology,
};
use tokio::time::sleep;

use super::samples::end_of_records;
use super::{Positions, Samples, Standby};
use crate::server::table::Backends;

/// Somebody waits for a position, and those that were asked for last are so old.
const PACE: Duration = Duration::from_millis(25);

/// Keeps the positions up to date, until the control loop ends.
pub(crate) async fn keep(control: Control, backends: Arc<Backends>) {
    tokio::select! {
        () = follow(&control, &backends) => {}
        never = ask(&control.samples, &backends) => match never {},
    }
}

/// Has positions asked for between the probes as long as sessions wait for one.
async fn ask(asking: &Asking, backends: &Backends) -> Infallible {
    loop {
        backends.positions_wanted().await;
        asking.demand();
        sleep(PACE).await;
    }
}

async fn follow(control: &Control, backends: &Backends) {
    let mut topology = control.topology.clone();
    let mut samples = control.samples.found();
    let mut keeper = Keeper::default();
    loop {
        let found = samples.borrow_and_update().clone();
        let seen = Arc::clone(&topology.borrow_and_update());
        // Looked at behind both: what was seen after a change of the primary is never taken for a position of the one before.
        let decided = Arc::clone(&control.routing.borrow());
        let mut is_new = keeper.observe(&seen, &decided.writes);
        for (node, sample) in &found {
            is_new |= keeper.take(*node, sample);
        }
        if is_new {
            backends.set_positions(keeper.positions.clone());
        }
        tokio::select! {
            Ok(()) = samples.changed() => {}
            changed = topology.changed() => if changed.is_err() {
                return;
            },
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
        let mut standbys = primary.map(|_| self.standbys(topology)).unwrap_or_default();
        for standby in &mut standbys {
            let of_same_run = |it: &&Standby| (it.node, it.was) == (standby.node, standby.was);
            if let Some(known) = self.positions.standbys.iter().find(of_same_run)
                && known.asked_at > standby.asked_at
            {
                standby.clone_from(known);
            }
        }
        let locations = locations(topology);
        let is_new = before != (self.positions.reign, self.positions.samples.last())
            || self.positions.standbys != standbys
            || *self.positions.locations != *locations;
        if *self.positions.locations != *locations {
            self.positions.locations = locations.into();
        }
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

    /// Takes in a position that was asked for between two probes; false if it tells nothing new. It counts if the server was then what
    /// it was at its last probe, by which it belongs to this reign: of a primary the same run; of a standby the same run, on the primary's own
    /// timeline, since on an older one it may have gone on where that was left.
    pub(super) fn take(&mut self, node: NodeId, Sample { asked, asked_at, lsn }: &Sample) -> bool {
        let Some(epoch) = self.epoch else { return false };
        if (asked.system_identifier, asked.timeline) != (epoch.system_identifier, epoch.timeline) {
            return false;
        }
        if !asked.is_primary {
            let is_it = |it: &&mut Standby| (it.node, it.was) == (node, *asked) && it.asked_at < *asked_at;
            let Some(standby) = self.positions.standbys.iter_mut().find(is_it) else { return false };
            // It may be less than it was: behind a crash, of which the probes have not told yet.
            (standby.replayed, standby.asked_at) = (*lsn, *asked_at);
            standby.lag = self.positions.samples.lag(standby.replayed, *asked_at);
            return true;
        }
        let lsn = end_of_records(*lsn);
        let goes_on = |(last, last_asked): (Lsn, Instant)| last_asked < *asked_at && last <= lsn;
        let is_it = node == epoch.primary
            && self.started_at == Some(asked.started_at)
            && self.positions.samples.last().is_some_and(goes_on);
        if is_it {
            self.positions.samples.push(lsn, *asked_at);
        }
        is_it
    }

    fn begin_reign(&mut self) {
        self.started_at = None;
        let (reign, locations) = (self.positions.reign + 1, Arc::clone(&self.positions.locations));
        self.positions = Positions { reign, locations, ..Positions::default() };
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

fn locations(topology: &Topology) -> Vec<(NodeId, Box<str>)> {
    let location = |member: &Member| Some((member.node, member.repmgr.as_ref()?.location.as_str().into()));
    topology.members.iter().filter_map(location).collect()
}

/// What a standby is known to have; none if it was down since it said so.
fn standby(member: &Member, samples: &Samples) -> Option<Standby> {
    let stays = member.seen.as_ref().is_some_and(|seen| !seen.restarted);
    let dated = member.dated().filter(|_| stays && member.standing == Standing::OnLineage)?;
    let Position::Standby { replay: Some(replayed), .. } = dated.report.position else { return None };
    let lag = samples.lag(replayed, dated.asked_at);
    let was = Asked::of(&dated.report);
    Some(Standby { node: member.node, was, replayed, asked_at: dated.asked_at, lag })
}
