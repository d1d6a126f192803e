use std::collections::BTreeMap;

use pgherd_failover::{Epoch, Routing, Writes};
use pgherd_health::{Node, NodeId, TimelineId};

use super::*;
use crate::config::{Consistency, Live, Preference, Preferred, ReadPolicy, Reads, load_with};
use crate::server::table::{Backends, Server};

const DRAWS: usize = 100_000;

fn candidate(server: usize, weight: f64, nearness: f64, outstanding: f64) -> Candidate<usize> {
    Candidate { server, weight, nearness, outstanding }
}

/// The parts of many draws that each candidate has.
fn parts_of(candidates: impl Fn(usize) -> Candidate<usize>, count: usize) -> Vec<f64> {
    let mut dice = Dice::new(1);
    let mut drawn = vec![0.0; count];
    for _ in 0..DRAWS {
        if let Some(server) = pick((0..count).map(&candidates), &mut dice) {
            drawn[server] += 1.0 / DRAWS as f64;
        }
    }
    drawn
}

/// As [`parts_of`], given weights and what they have to do; all are near.
fn parts(candidates: &[(f64, f64)]) -> Vec<f64> {
    let near = |id: usize| candidate(id, candidates[id].0, 1.0, candidates[id].1);
    parts_of(near, candidates.len())
}

fn are_near(found: &[f64], expected: &[f64]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 0.01)
}

#[test]
fn idle_servers_are_drawn_by_their_weights() {
    for (weights, expected) in [
        (vec![1.0], vec![1.0]),
        (vec![1.0, 1.0], vec![0.5, 0.5]),
        (vec![3.0, 1.0], vec![0.75, 0.25]),
        (vec![1.0, 2.0, 0.0, 5.0], vec![0.125, 0.25, 0.0, 0.625]),
        (vec![0.0, 0.0], vec![0.0, 0.0]),
        (vec![], vec![]),
    ] {
        let idle: Vec<_> = weights.iter().map(|weight| (*weight, 0.0)).collect();
        assert!(are_near(&parts(&idle), &expected), "{weights:?}: {:?}", parts(&idle));
    }
}

#[test]
fn of_two_the_one_with_less_to_do_for_its_weight_is_taken() {
    assert!(are_near(&parts(&[(1.0, 5.0), (1.0, 4.0)]), &[0.0, 1.0]));
    assert!(are_near(&parts(&[(1.0, 5.0), (1.0, 5.0)]), &[0.5, 0.5]));
    assert!(are_near(&parts(&[(3.0, 5.0), (1.0, 5.0)]), &[1.0, 0.0]));
    assert!(are_near(&parts(&[(1.0, 9.0), (0.0, 0.0)]), &[1.0, 0.0]), "one without a weight is never taken");
    // Of three the busiest gets nothing, since one of the others is always drawn with it; the idlest does not get all.
    assert!(are_near(&parts(&[(1.0, 9.0), (1.0, 5.0), (1.0, 0.0)]), &[0.0, 1.0 / 3.0, 2.0 / 3.0]));
}

#[test]
fn what_is_far_is_read_where_the_near_have_too_much_to_do() {
    // What is 20 ms further is worth so much.
    let of = |busy: f64| {
        parts_of(|id| if id == 0 { candidate(0, 1.0, 1.0, busy) } else { candidate(1, 1.0, 0.05, 0.0) }, 2)
    };
    let idle = 1.0 / 401.0;
    assert!(of(0.0)[1] < 2.0 * idle && of(0.0)[1] > idle / 2.0, "{:?}", of(0.0));
    assert_eq!(of(19.0)[1], of(0.0)[1]);
    assert!(are_near(&of(20.0), &[0.0, 1.0]));
}

#[test]
fn who_waits_counts_as_what_is_lent_does() {
    let share = Share::new(1.0, None);
    let has_to_do = || share.candidate((), (Duration::ZERO, Instant::now())).outstanding;
    share.outstanding.begin();
    let waiting = [(); 2].map(|()| Waiting::begin(&share.outstanding));
    assert_eq!((has_to_do(), share.outstanding.lent()), (3.0, 1));
    drop(waiting);
    share.outstanding.end();
    assert_eq!((has_to_do(), share.outstanding.lent()), (0.0, 0));
}

#[test]
fn work_in_progress_settles_at_the_weights() {
    let weights = [4.0, 2.0, 1.0];
    let mut dice = Dice::new(2);
    let mut outstanding = [0.0; 3];
    // 70 reads are under way at any time; now one ends, now another, and a new one begins.
    let mut under_way = Vec::new();
    let mut total = [0.0; 3];
    for round in 0..DRAWS {
        if under_way.len() == 70 {
            let ends = under_way.swap_remove(round * 31 % 70);
            outstanding[ends] -= 1.0;
        }
        let offered = (0..3).map(|id| candidate(id, weights[id], 1.0, outstanding[id]));
        let chosen = pick(offered, &mut dice).unwrap();
        outstanding[chosen] += 1.0;
        under_way.push(chosen);
        if round >= DRAWS / 2 {
            (0..3).for_each(|id| total[id] += outstanding[id] / (DRAWS / 2) as f64);
        }
    }
    for (found, expected) in total.iter().zip([40.0, 20.0, 10.0]) {
        assert!((found - expected).abs() < 2.0, "{total:?}");
    }
}

#[test]
fn one_that_comes_back_has_its_weight_little_by_little() {
    let start = Instant::now();
    let share = Share::new(8.0, Some(start));
    let weight = |share: &Share, millis| {
        let now = start + Duration::from_millis(millis);
        share.candidate((), (Duration::from_secs(10), now)).weight
    };
    let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
    assert!(near(weight(&share, 0), 0.8) && near(weight(&share, 500), 0.8));
    assert!(near(weight(&share, 5_000), 4.0) && near(weight(&share, 10_000), 8.0));
    share.set_weight(2.0);
    assert!(near(weight(&share, 5_000), 1.0) && near(weight(&share, 60_000), 2.0));
    assert!(near(share.candidate((), (Duration::ZERO, start)).weight, 2.0), "no slow start");
    assert!(near(weight(&Share::new(8.0, None), 0), 8.0));
    share.set_nearness(0.5);
    let far = share.candidate((), (Duration::ZERO, start));
    assert!(near(far.pull(), 0.5) && near(far.weight, 2.0), "what is far is drawn less");
}

/// A table of a primary, 0, and two standbys, 1 and 2, with these weights.
fn publish(backends: &Backends, weights: [f64; 3], is_open: bool) {
    let epoch = Epoch { system_identifier: 7, timeline: TimelineId(1), primary: NodeId(0) };
    let held = Writes::Held { keep: Some(epoch), quiesces: false, reason: String::new() };
    let node = |id: u32, weight| Node { weight, ..Node::new(NodeId(id), format!("pg{id}"), 5432) };
    backends.publish(&Routing {
        generation: 1,
        writes: if is_open { Writes::Open(epoch) } else { held },
        readable: vec![NodeId(1), NodeId(2)],
        nodes: Arc::new((0..3).zip(weights).map(|(id, weight)| node(id, weight)).collect()),
    });
}

const POLICY: ReadPolicy =
    ReadPolicy { reads: Reads::Standbys, consistency: Consistency::Session, max_lag: None, prefer: None };

/// The parts of many reads that each server gets by this policy: the primary, and the two standbys.
fn shares(backends: &Backends, policy: &ReadPolicy) -> Vec<f64> {
    let (table, mut dice) = (backends.load(), Dice::new(4));
    let mut drawn = vec![0.0; 3];
    for _ in 0..DRAWS {
        let server =
            table.choose((policy, Duration::ZERO), (Instant::now(), &mut dice), (|_| true, |_| false));
        drawn[server.map_or(0, |server| server.node.id.0 as usize)] += 1.0 / DRAWS as f64;
    }
    drawn
}

#[test]
fn what_is_preferred_has_its_part_and_others_have_the_rest() {
    let config = load_with(&[("PG_BACKEND_NODE_LIST", "0:pg0")]).config;
    let backends = Backends::new(Live::new(config), 1);
    publish(&backends, [2.0, 1.0, 1.0], true);
    for (reads, of, ratio, expected) in [
        (Reads::Standbys, Preferred::Node(NodeId(1)), 1.0, [0.0, 1.0, 0.0]),
        (Reads::Standbys, Preferred::Node(NodeId(1)), 0.3, [0.0, 0.3, 0.7]),
        (Reads::Any, Preferred::Node(NodeId(1)), 0.4, [0.4, 0.4, 0.2]),
        (Reads::Any, Preferred::Node(NodeId(0)), 0.4, [0.4, 0.3, 0.3]),
        (Reads::Any, Preferred::Node(NodeId(7)), 1.0, [0.5, 0.25, 0.25]),
        (Reads::Standbys, Preferred::Standbys, 0.3, [0.7, 0.15, 0.15]),
        (Reads::Any, Preferred::Standbys, 0.3, [0.7, 0.15, 0.15]),
        (Reads::Standbys, Preferred::Primary, 0.3, [0.3, 0.35, 0.35]),
        (Reads::Any, Preferred::Primary, 1.0, [1.0, 0.0, 0.0]),
        (Reads::Primary, Preferred::Standbys, 1.0, [1.0, 0.0, 0.0]),
    ] {
        let policy = ReadPolicy { reads, prefer: Some(Preference { of, ratio }), ..POLICY };
        let found = shares(&backends, &policy);
        assert!(are_near(&found, &expected), "{policy:?}: {found:?}");
        let strong = ReadPolicy { consistency: Consistency::Strong, ..policy };
        assert!(are_near(&shares(&backends, &strong), &[1.0, 0.0, 0.0]));
    }
}

#[test]
fn what_is_near_is_read_as_long_as_it_may_be() {
    let config = load_with(&[("PG_BACKEND_NODE_LIST", "0:pg0")]).config;
    let backends = Backends::new(Live::new(config), 1);
    let mut dice = Dice::new(5);
    let mut chosen = |reads, prefer, near: &[u32], may: &[u32]| {
        let policy = ReadPolicy { reads, prefer, ..POLICY };
        let table = backends.load();
        let mut chosen = BTreeMap::new();
        for _ in 0..1000 {
            let is_one = |of: &[u32], server: &Server| of.contains(&server.node.id.0);
            let which = (|it: &Server| is_one(may, it), |it: &Server| is_one(near, it));
            let server = table.choose((&policy, Duration::ZERO), (Instant::now(), &mut dice), which);
            *chosen.entry(server.map(|server| server.node.id.0)).or_insert(0) += 1;
        }
        chosen.into_keys().collect::<Vec<_>>()
    };
    publish(&backends, [1.0, 1.0, 1.0], true);
    assert_eq!(chosen(Reads::Standbys, None, &[1], &[1, 2]), [Some(1)]);
    assert_eq!(chosen(Reads::Standbys, None, &[1], &[2]), [Some(2)], "none that is near may be read");
    assert_eq!(chosen(Reads::Any, None, &[0, 1], &[1, 2]), [Some(0), Some(1)]);
    let prefer = |of| Some(Preference { of, ratio: 1.0 });
    assert_eq!(chosen(Reads::Standbys, prefer(Preferred::Node(NodeId(2))), &[1], &[1, 2]), [Some(2)]);
    assert_eq!(chosen(Reads::Any, prefer(Preferred::Standbys), &[0, 1], &[1, 2]), [Some(1)]);
    publish(&backends, [1.0, 0.0, 1.0], true);
    assert_eq!(chosen(Reads::Standbys, None, &[1], &[1, 2]), [Some(2)], "one without a weight is not read");
}

#[test]
fn reads_go_to_servers_that_may_be_read_and_can_be_reached() {
    let config =
        load_with(&[("PG_BACKEND_NODE_LIST", "0:pg0"), ("PGHERD_POOL__SERVER_LOGIN_RETRY", "1min")]).config;
    let backends = Backends::new(Live::new(config), 1);
    let mut dice = Dice::new(3);
    let mut chosen = |reads, may: &dyn Fn(u32) -> bool| {
        let policy = ReadPolicy { reads, ..POLICY };
        let table = backends.load();
        let mut chosen = BTreeMap::new();
        for _ in 0..1000 {
            let may = |server: &Server| may(server.node.id.0);
            let server =
                table.choose((&policy, Duration::ZERO), (Instant::now(), &mut dice), (may, |_| false));
            *chosen.entry(server.map(|server| server.node.id.0)).or_insert(0) += 1;
        }
        chosen.into_keys().collect::<Vec<_>>()
    };
    let all = |_| true;
    assert_eq!(chosen(Reads::Any, &all), [None], "no server is known yet");
    publish(&backends, [1.0; 3], true);
    assert_eq!(chosen(Reads::Primary, &all), [None]);
    assert_eq!(chosen(Reads::Standbys, &all), [Some(1), Some(2)]);
    assert_eq!(chosen(Reads::Any, &all), [Some(0), Some(1), Some(2)]);
    assert_eq!(chosen(Reads::Standbys, &|id| id == 2), [Some(2)]);
    assert_eq!(chosen(Reads::Any, &|_| false), [Some(0)], "the primary has everything");
    assert_eq!(chosen(Reads::Standbys, &|_| false), [None]);
    publish(&backends, [1.0, 0.0, 1.0], false);
    assert_eq!(
        chosen(Reads::Any, &all),
        [Some(2)],
        "another weight counts at once, a primary that is held does not"
    );
    publish(&backends, [1.0; 3], true);
    let standby = Arc::clone(&backends.load().readable[0]);
    standby.was_tried(false);
    assert_eq!(chosen(Reads::Standbys, &all), [Some(2)], "one that could not be reached is left out");
    standby.was_tried(true);
    assert_eq!(chosen(Reads::Standbys, &all), [Some(1), Some(2)]);
}

#[test]
fn what_is_far_is_hardly_read_unless_distance_is_not_heeded() {
    for (is_heeded, far) in [("true", 1.0 / 401.0), ("false", 0.5)] {
        let variables = [("PG_BACKEND_NODE_LIST", "0:pg0"), ("PGHERD_ROUTING__LATENCY_AWARE", is_heeded)];
        let backends = Backends::new(Live::new(load_with(&variables).config), 1);
        publish(&backends, [1.0; 3], true);
        let round_trips = [(0, 2), (1, 2), (2, 22)];
        let millis = |(id, millis)| (NodeId(id), Duration::from_millis(millis));
        backends.set_round_trips(round_trips.map(millis).into());
        assert!(are_near(&shares(&backends, &POLICY), &[0.0, 1.0 - far, far]), "{is_heeded}");
        assert_eq!(backends.round_trip(NodeId(2)), Some(Duration::from_millis(22)));
        backends.set_round_trips(BTreeMap::new());
        assert!(are_near(&shares(&backends, &POLICY), &[0.0, 0.5, 0.5]), "nothing is known");
    }
}
