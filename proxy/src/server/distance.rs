//! How far away the servers are, by their probes: what is far is read less.
//!
//! Of a server's last probes the shortest counts: a busy server, or a busy pgherd, makes some of them long and seldom all, so that what is
//! left is the way there and back. What a server has to do is seen elsewhere, by what is lent ([`super::balance`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_failover::actor::Control;
use pgherd_health::{Dated, NodeId, Topology};

use super::probes;
use super::table::Backends;

/// So many of the last probes count; as many as make it seldom that all of them were slow.
const LOOKS: usize = 8;

/// Of fewer nothing is concluded: the first one logs in, too.
const FEWEST: usize = 3;

/// Servers that differ by no more are equally near.
const ALIKE: Duration = Duration::from_millis(1);

/// What a short read takes where it is near. One that takes so much longer on its way is worth half as much.
const SHORT_READ: Duration = Duration::from_millis(1);

/// Measures, until the control loop ends.
pub(crate) async fn keep(control: Control, backends: Arc<Backends>) {
    let mut distances = Distances::default();
    let look = |topology: &Topology| {
        distances.observe(topology);
        backends.set_round_trips(distances.shortest());
    };
    probes::at_each(&control, look).await;
}

/// The round trips of the last probes.
#[derive(Debug, Default)]
pub(super) struct Distances(BTreeMap<NodeId, Probes>);

#[derive(Debug, Default)]
struct Probes {
    /// When the last one was sent.
    last: Option<Instant>,
    round_trips: VecDeque<Duration>,
}

impl Distances {
    /// Takes in the answers that have come.
    pub(super) fn observe(&mut self, topology: &Topology) {
        self.0.retain(|node, _| topology.member(*node).is_some());
        for member in &topology.members {
            if let Some(Dated { asked_at, answered_at, .. }) = member.dated() {
                self.answered(member.node, *asked_at, answered_at.saturating_duration_since(*asked_at));
            }
        }
    }

    fn answered(&mut self, node: NodeId, asked_at: Instant, round_trip: Duration) {
        let probes = self.0.entry(node).or_default();
        if probes.last.replace(asked_at) == Some(asked_at) {
            return;
        }
        if probes.round_trips.len() == LOOKS {
            probes.round_trips.pop_front();
        }
        probes.round_trips.push_back(round_trip);
    }

    /// The shortest of each server's last probes, as far as it is known.
    pub(super) fn shortest(&self) -> BTreeMap<NodeId, Duration> {
        let known = self.0.iter().filter(|(_, probes)| probes.round_trips.len() >= FEWEST);
        known.filter_map(|(node, probes)| Some((*node, *probes.round_trips.iter().min()?))).collect()
    }
}

/// What a read is worth at the servers with these round trips, from 0 to 1: 1 at the nearest, and at all that are as near.
pub(super) fn nearness(round_trips: &BTreeMap<NodeId, Duration>) -> impl Iterator<Item = (NodeId, f64)> {
    let nearest = round_trips.values().min().copied().unwrap_or_default();
    round_trips.iter().map(move |(node, round_trip)| {
        let further = round_trip.saturating_sub(nearest + ALIKE);
        (*node, SHORT_READ.div_duration_f64(SHORT_READ + further))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each server is worth whose probes took so many milliseconds, one after the other.
    fn worth(of: &[&[u64]]) -> Vec<Option<f64>> {
        let (mut distances, begin) = (Distances::default(), Instant::now());
        for (node, probes) in (1..).zip(of) {
            for (second, millis) in (0..).zip(*probes) {
                let asked_at = begin + Duration::from_secs(second);
                // It is seen again before the next probe has ended, and counts once.
                for _ in 0..3 {
                    distances.answered(NodeId(node), asked_at, Duration::from_millis(*millis));
                }
            }
        }
        let nearness: BTreeMap<_, _> = nearness(&distances.shortest()).collect();
        let hundredths = |worth: &f64| (worth * 100.0).round() / 100.0;
        (1..).zip(of).map(|(node, _)| nearness.get(&NodeId(node)).map(hundredths)).collect()
    }

    #[test]
    fn what_takes_a_short_read_longer_on_its_way_is_worth_half() {
        assert_eq!(worth(&[&[2; 3], &[4; 3], &[22; 3]]), [Some(1.0), Some(0.5), Some(0.05)]);
    }

    #[test]
    fn servers_that_are_about_as_near_are_equal() {
        assert_eq!(worth(&[&[40; 3], &[41; 3]]), [Some(1.0); 2]);
    }

    #[test]
    fn slow_probes_among_others_say_nothing() {
        assert_eq!(worth(&[&[2; 8], &[500, 90, 2, 90, 90, 90, 90, 90, 90]]), [Some(1.0); 2]);
        assert_eq!(worth(&[&[2; 8], &[2, 50, 50, 50, 50, 50, 50, 50, 50]]), [Some(1.0), Some(0.02)]);
    }

    #[test]
    fn of_few_probes_nothing_is_concluded() {
        assert_eq!(worth(&[&[2; 3], &[50; 2]]), [Some(1.0), None]);
    }
}
