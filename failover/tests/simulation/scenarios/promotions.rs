//! Who is promoted, and what stands in the way before and after the order.

use pgherd_failover::{Order, StateName, Step};
use pgherd_health::NodeId;

use super::herd::{Herd, LOSSY, PG01, PG02, PG03, PG04, millis, seconds, until_ordered};
use super::stories;
use crate::plan::{Fault, Packets, Plan, Whom};
use crate::world::Trick;

stories! {
    fn the_standby_that_has_most_is_promoted() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(2)).kill(PG01);
        herd.world.servers[PG02].lagging = false;
        herd.serves(PG03, seconds(1));
    }

    fn of_equals_the_one_with_the_higher_priority_is_promoted() {
        let mut plan = Plan::quiet(3);
        plan.priorities[PG02] = 50;
        Herd::with(plan).kill(PG01).serves(PG03, seconds(1));
    }

    fn who_may_not_be_promoted_is_not() {
        let mut plan = Plan::quiet(4);
        plan.may_be_promoted[PG02] = false;
        plan.priorities[PG03] = 0;
        let mut herd = Herd::with(plan);
        herd.kill(PG01).serves(PG04, seconds(1));
        herd.kill(PG04).holds("node 1 is marked DISALLOW_TO_FAILOVER; node 2 has priority 0", seconds(20));
        herd.start(PG04).serves(PG04, seconds(3));
    }

    fn who_may_not_be_promoted_but_has_most_is_not_overtaken() {
        let mut plan = Plan::quiet(3);
        plan.may_be_promoted[PG02] = false;
        let mut herd = Herd::with(plan);
        herd.world.servers[PG03].lagging = true;
        herd.runs(seconds(1)).kill(PG01);
        herd.holds("has more WAL", seconds(2));
        herd.orders(Order::Failover(LOSSY)).serves(PG03, seconds(2));
    }

    fn a_standby_whose_replay_is_paused_or_delayed_is_not_promoted() {
        let mut plan = Plan::quiet(4);
        plan.apply_delays[PG02] = seconds(3600);
        let mut herd = Herd::with(plan);
        herd.strikes(Fault::PauseReplay { whom: Whom::This(PG03), on: true, lasts: seconds(3600) });
        herd.runs(seconds(1)).kill(PG01).serves(PG04, seconds(2));
    }

    fn a_cascaded_standby_is_frozen_with_the_others_and_can_be_promoted() {
        let mut plan = Plan::quiet(3);
        plan.upstreams[PG03] = Some(PG02);
        plan.may_be_promoted[PG02] = false;
        let mut herd = Herd::with(plan);
        herd.kill(PG01).serves(PG03, seconds(1));
        herd.runs(seconds(3));
        assert_eq!(herd.reads(), [PG02]);
    }

    fn a_standby_that_returns_while_the_others_freeze_is_frozen_too() {
        let mut herd = Herd::of(3);
        herd.part(Whom::Pgherd, Whom::This(PG03), Packets::Rejected).runs(seconds(2));
        herd.next_goes(Step::Freeze, Trick::Hangs).kill(PG01).runs(millis(500)).heal().runs(seconds(1));
        assert_eq!(herd.state().0, StateName::Freeze, "{}", herd.story());
        assert_eq!(herd.commands(PG03, |step| *step == Step::Freeze), 1);
        herd.serves(PG02, seconds(15));
    }

    fn a_standby_that_returns_before_the_order_is_compared_too() {
        let mut herd = Herd::of(3);
        herd.kill(PG03).runs(seconds(1));
        herd.next_goes(Step::Lock, Trick::Unheard).kill(PG01);
        herd.until(|herd| herd.commands(PG02, |step| *step == Step::Lock) > 0);
        herd.start(PG03).serves(PG02, seconds(15));
        assert!(herd.commands(PG03, |step| *step == Step::Freeze) > 0);
    }

    /// After a restart its control file tells of its timeline only late.
    fn a_standby_that_turns_out_to_be_on_the_lineage_is_compared_too() {
        let mut plan = Plan::quiet(4);
        plan.settings.synchronous = Some(String::new());
        let mut herd = Herd::with(plan);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(12)).kill(PG03);
        herd.world.servers[PG03].control_timeline = 1;
        herd.start(PG03).runs(seconds(2)).pgherd_dies();
        herd.world.servers[PG04].lagging = true;
        herd.runs(seconds(1)).kill(PG02).runs(seconds(1));
        // pgherd knows pg03 by what its control file says, and pg04 has seen the new timeline.
        herd.world.detach(PG03, false);
        herd.pgherd_starts();
        herd.world.servers[PG04].control_timeline = 2;
        herd.until(|herd| herd.commands(PG04, |step| *step == Step::Lock) == 2);
        herd.world.servers[PG03].control_timeline = 2;
        herd.serves(PG03, seconds(10));
    }

    fn a_lock_that_another_pgherd_holds_stops_the_attempt() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG03].lock = Some((99, 99));
        herd.kill(PG01).holds("another pgherd holds its promotion lock", seconds(2));
        herd.world.servers[PG03].lock = None;
        herd.serves(PG02, seconds(8));
    }

    fn a_standby_that_cannot_be_frozen_stops_the_attempt() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Freeze, Trick::Fails).kill(PG01);
        herd.holds("node 1 was not frozen: out of memory", seconds(1));
        herd.serves(PG02, seconds(8));
    }

    fn a_write_that_fails_is_tried_again_and_a_primary_that_cannot_write_is_looked_at() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::VerifyWrite, Trick::Fails).kill(PG01).serves(PG02, seconds(1));
        let mut herd = Herd::of(3);
        (0..5).for_each(|_| {
            herd.next_goes(Step::VerifyWrite, Trick::Fails);
        });
        herd.kill(PG01).serves(PG02, seconds(3));
        herd.start(PG01).rests(seconds(60));
    }

    fn a_new_primary_that_is_lost_before_it_is_verified_is_waited_for() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::VerifyWrite, Trick::Hangs).kill(PG01);
        herd.until(|herd| herd.commands(PG02, |step| *step == Step::VerifyWrite) > 0);
        herd.kill(PG02).runs(seconds(20));
        assert_eq!(herd.promotions(), 1, "whoever has not followed it is not promoted: {}", herd.story());
        herd.start(PG02).serves(PG02, seconds(5));
        herd.start(PG01).rests(seconds(60));
    }

    fn a_second_pgherd_that_sees_the_same_promotes_nobody_beside() {
        let mut herd = Herd::of(3);
        herd.pgherd_starts().runs(seconds(5)).kill(PG01).runs(seconds(20));
        assert_eq!(herd.promotions(), 1, "{}", herd.story());
        assert_eq!(herd.world.served(0), Some(PG02));
        assert_eq!(herd.world.served(1), Some(PG02));
    }

    fn a_promotion_of_a_pgherd_that_died_is_followed_by_the_next() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Late(seconds(6))).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.pgherd_dies().runs(seconds(1)).pgherd_starts().serves(PG02, seconds(8));
        herd.start(PG01).rests(seconds(60));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_follow_that_hangs_is_given_again() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Follow { upstream: NodeId(1) }, Trick::Hangs).kill(PG01).serves(PG02, seconds(1));
        herd.start(PG01).rests(seconds(60));
    }
}
