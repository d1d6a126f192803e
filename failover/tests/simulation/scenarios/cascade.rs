//! A standby that streams from another standby.

use pgherd_failover::Step;

use super::herd::{Herd, PG01, PG02, PG03, PG04, seconds};
use crate::model::{Id, node};
use crate::plan::Plan;
use crate::world::Trick;

impl Herd {
    fn streams_from(&self, id: Id) -> Option<Id> {
        self.world.servers[id].receiver.map(|receiver| receiver.from)
    }
}

#[test]
fn a_cascade_is_kept_through_a_failover() {
    let mut plan = Plan::quiet(4);
    plan.upstreams[PG04] = Some(PG03);
    let mut herd = Herd::with(plan);
    herd.kill(PG01).serves(PG02, seconds(1));
    herd.runs(seconds(20));
    assert_eq!(herd.streams_from(PG03), Some(PG02), "{}", herd.story());
    assert_eq!(herd.streams_from(PG04), Some(PG03), "{}", herd.story());
    assert_eq!(herd.commands(PG04, |step| *step == Step::Follow { upstream: node(PG03) }), 1);
}

#[test]
fn the_end_of_a_cascade_follows_the_primary_when_its_upstream_is_lost() {
    let mut plan = Plan::quiet(3);
    plan.upstreams[PG03] = Some(PG02);
    let mut herd = Herd::with(plan);
    herd.kill(PG02).keeps(PG01, seconds(9));
    assert_eq!(herd.streams_from(PG03), None, "it may yet help itself");
    herd.keeps(PG01, seconds(20));
    assert_eq!(herd.streams_from(PG03), Some(PG01), "{}", herd.story());
    herd.start(PG02).rests(seconds(20));
    assert_eq!(herd.streams_from(PG03), Some(PG01), "it stays there");
}

#[test]
fn nobody_is_put_beneath_the_old_primary_because_it_was_followed_once() {
    let mut herd = Herd::of(3);
    for _ in 0..3 {
        herd.next_goes(Step::Follow { upstream: node(PG02) }, Trick::Fails);
    }
    herd.switches_over(Some(PG02), seconds(10)).unwrap();
    herd.rests(seconds(120));
    assert_eq!(herd.streams_from(PG01), Some(PG02), "{}", herd.story());
    assert_eq!(herd.streams_from(PG03), Some(PG02), "{}", herd.story());
}
