//! What is known of the servers, and for how long: it decides who is served, read and waited for.

use pgherd_failover::{Order, Step};
use pgherd_health::NodeId;

use super::herd::{Herd, PG01, PG02, PG03, PG04, millis, seconds};
use super::stories;
use crate::model::Time;
use crate::plan::{Plan, Whom};
use crate::world::Trick;

stories! {
    /// It has forgotten its volume, and nobody else was on its timeline.
    fn a_replaced_primary_is_not_served_when_the_next_has_lost_its_data() {
        let mut herd = Herd::of(2);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).empty(PG02).runs(seconds(3)).start(PG01);
        herd.holds("a later timeline was seen, of which no server answers", seconds(20));
        herd.chooses(PG01, false).serves(PG01, seconds(3));
    }

    /// It has no place for pgherd, and then goes down for a moment.
    fn a_primary_that_let_nobody_in_before_has_its_grace_all_the_same() {
        let mut plan = Plan::quiet(3);
        plan.settings.restart_grace = seconds(5);
        let mut herd = Herd::with(plan);
        herd.world.servers[PG01].unwilling = true;
        herd.keeps(PG01, seconds(20)).kill(PG01).runs(seconds(1));
        herd.world.servers[PG01].unwilling = false;
        herd.start(PG01).serves(PG01, seconds(4));
        assert_eq!(herd.promotions(), 0);
    }

    /// That one is stopped, and need not be asked whether it is there.
    fn a_standby_that_hears_a_primary_that_was_replaced_is_no_reason_to_wait() {
        let mut plan = Plan::quiet(4);
        plan.settings.min_interval = seconds(0);
        let mut herd = Herd::with(plan);
        for _ in 0..2 {
            herd.next_goes(Step::Follow { upstream: NodeId(1) }, Trick::Hangs);
        }
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.orders(Order::Pause).recovers_for(PG01, millis(1));
        for (standby, primary) in [(PG03, PG01), (PG04, PG02)] {
            let server = &mut herd.world.servers[standby];
            (server.cut_off, server.upstream) = (false, Some(primary));
            herd.world.reconnect(standby, millis(100));
        }
        herd.runs(seconds(3)).kill(PG02).holds("failover is paused", seconds(2));
        herd.next_goes(Step::CanLogIn { target: NodeId(1) }, Trick::Hangs).orders(Order::Resume);
        herd.serves(PG04, seconds(2));
    }

    fn a_standby_that_falls_silent_is_not_read_for_long() {
        let mut herd = Herd::of(3);
        herd.isolate(Whom::This(PG03)).runs(seconds(4));
        assert_eq!(herd.reads(), [PG02], "{}", herd.story());
    }

    fn a_standby_of_another_cluster_that_answers_first_is_not_read() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG01).kill(PG02);
        herd.world.servers[PG03].system_identifier += 1;
        herd.pgherd_starts();
        let end = herd.world.now + seconds(9);
        while herd.world.now < end {
            herd.runs(Time::from_millis(10));
            assert!(herd.reads().is_empty(), "{}", herd.story());
        }
    }
}
