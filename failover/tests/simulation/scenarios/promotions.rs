//! Who is promoted, and what can go wrong with it: S19.

use pgherd_failover::{Order, StateName, Step};
use pgherd_health::NodeId;

use super::herd::{Herd, PG01, PG02, PG03, PG04, millis, seconds};
use super::stories;
use crate::plan::{Fault, Packets, Plan, Whom};
use crate::world::Trick;

fn is_promote(step: &Step) -> bool {
    *step == Step::Promote
}

/// Runs until a promotion is ordered there.
fn until_ordered(herd: &mut Herd, id: usize) {
    while herd.commands(id, is_promote) == 0 {
        assert!(herd.world.now < seconds(60), "{}", herd.story());
        herd.runs(millis(1));
    }
}

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
        herd.orders(Order::Failover { accept_data_loss: true }).serves(PG03, seconds(2));
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

    /// S19
    fn a_promotion_that_fails_passes_to_the_next() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Fails).kill(PG01).serves(PG03, seconds(2));
        herd.start(PG01).rests(seconds(40));
        assert_eq!(herd.promotions(), 1);
    }

    /// S19
    fn where_every_promotion_fails_it_is_held_and_tried_again() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Promote, Trick::Fails).kill(PG01);
        herd.holds("node 1 failed to promote", seconds(2));
        herd.serves(PG02, seconds(8));
    }

    /// I12
    fn an_exit_code_is_not_believed() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Lies).kill(PG01).serves(PG02, seconds(5));
        assert_eq!(herd.commands(PG02, is_promote), 2, "it is told again");
    }

    fn a_promotion_that_is_done_and_not_heard_of_is_seen() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01).serves(PG02, seconds(1));
        assert_eq!(herd.promotions(), 1);
        herd.runs(seconds(30)).start(PG01).rests(seconds(40));
    }

    fn a_promotion_that_hangs_is_ordered_again_and_then_disarmed_for_the_next() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).next_goes(Step::Promote, Trick::Hangs);
        herd.kill(PG01).serves(PG03, seconds(25));
        assert_eq!(herd.commands(PG02, is_promote), 2);
        assert_eq!(herd.commands(PG02, |step| *step == Step::Fence), 1);
        herd.start(PG01).rests(seconds(40));
        assert_eq!(herd.promotions(), 1);
    }

    fn the_only_candidate_is_told_again_and_again_and_not_fenced() {
        let mut herd = Herd::of(2);
        (0..3).for_each(|_| {
            herd.next_goes(Step::Promote, Trick::Hangs);
        });
        herd.kill(PG01).serves(PG02, seconds(60));
        assert_eq!(herd.commands(PG02, is_promote), 4);
        assert_eq!(herd.commands(PG02, |step| *step == Step::Fence), 0);
    }

    fn the_only_candidate_is_waited_for_when_it_falls_silent() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.freeze(PG02).holds("node 1 was told to promote and is unreachable since", seconds(4));
        herd.runs(seconds(60)).thaw(PG02).serves(PG02, seconds(5));
        assert_eq!(herd.commands(PG02, |step| *step == Step::Fence), 0);
    }

    fn a_candidate_that_was_restarted_is_locked_again() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.kill(PG02).runs(seconds(3)).start(PG02).serves(PG02, seconds(20));
    }

    fn a_promotion_that_fires_late_is_seen() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Late(seconds(8))).kill(PG01).serves(PG02, seconds(10));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_promotion_cannot_fire_once_its_candidate_was_disarmed() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Late(seconds(23)));
        herd.next_goes(Step::Promote, Trick::Hangs);
        herd.kill(PG01).serves(PG03, seconds(25));
        herd.runs(seconds(20)).start(PG01).rests(seconds(40));
        assert_eq!(herd.promotions(), 1, "{}", herd.story());
    }

    /// The first order may yet fire, whatever became of the second.
    fn where_a_second_order_fails_the_candidate_is_disarmed() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Late(seconds(20))).next_goes(Step::Promote, Trick::Fails);
        herd.kill(PG01).serves(PG03, seconds(25));
        assert_eq!(herd.commands(PG02, |step| *step == Step::Fence), 1, "{}", herd.story());
        herd.runs(seconds(20)).start(PG01).rests(seconds(40));
        assert_eq!(herd.promotions(), 1);
    }

    /// A fence that fails says nothing of the promotion.
    fn where_the_candidate_cannot_be_fenced_nobody_else_is_promoted() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Fence, Trick::None).next_goes(Step::Fence, Trick::Fails);
        herd.next_goes(Step::Promote, Trick::Late(seconds(24))).next_goes(Step::Promote, Trick::Hangs);
        herd.kill(PG01).serves(PG02, seconds(40));
        assert_eq!(herd.commands(PG03, is_promote), 0, "{}", herd.story());
        assert_eq!(herd.promotions(), 1);
    }

    fn a_candidate_that_dies_before_its_promotion_makes_way_for_the_next() {
        let mut herd = Herd::of(3);
        herd.kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.kill(PG02).serves(PG03, seconds(2));
        herd.start(PG02).start(PG01).rests(seconds(60));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_candidate_that_falls_silent_is_waited_for_and_fenced() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.freeze(PG02).holds("node 1 was told to promote and is unreachable since", seconds(4));
        herd.serves(PG03, seconds(10));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_silent_candidate_that_was_promoted_after_all_is_served() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.part(Whom::Pgherd, Whom::This(PG02), Packets::Both);
        herd.holds("was told to promote and is unreachable", seconds(4));
        herd.heal().serves(PG02, seconds(2));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_silent_candidate_that_was_not_promoted_is_told_again() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.part(Whom::Pgherd, Whom::This(PG02), Packets::Both);
        herd.runs(seconds(30)).heal().serves(PG02, seconds(15));
        assert_eq!(herd.promotions(), 1);
    }

    /// Its name leads to another server now.
    fn a_candidate_that_turns_out_to_be_of_another_cluster_is_no_candidate() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.world.servers[PG02].system_identifier += 1;
        herd.runs(seconds(5));
        assert_eq!(herd.state().0, StateName::Discover, "{}", herd.story());
        herd.kill(PG02).serves(PG03, seconds(30));
    }

    fn a_lost_candidate_that_is_of_another_cluster_now_is_no_candidate() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.lose_host(PG02).holds("was told to promote and is unreachable", seconds(4));
        herd.world.host(PG02, false);
        herd.empty(PG02).runs(seconds(4)).kill(PG02).serves(PG03, seconds(40));
    }

    /// Its promotion took place, and nobody saw it.
    fn a_candidate_that_dies_of_its_promotion_is_no_rival_when_it_comes_back() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01);
        until_ordered(&mut herd, PG02);
        while herd.world.servers[PG02].standby {
            herd.runs(millis(1));
        }
        herd.kill(PG02).serves(PG03, seconds(2));
        herd.runs(seconds(20)).start(PG02).keeps(PG03, seconds(20));
        assert!(herd.warns("an operator must rejoin it"), "{}", herd.story());
    }

    /// The same, and the old primary has come back in the meantime.
    fn a_candidate_that_dies_of_its_promotion_does_not_supersede_who_is_served_since() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01);
        until_ordered(&mut herd, PG02);
        while herd.world.servers[PG02].standby {
            herd.runs(millis(1));
        }
        herd.kill(PG02).runs(seconds(2)).start(PG01).serves(PG01, seconds(12));
        herd.runs(seconds(20)).start(PG02).keeps(PG01, seconds(20)).rests(seconds(60));
    }

    fn an_old_primary_that_returns_while_an_order_is_unresolved_is_no_neighbour() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.runs(seconds(2)).start(PG01).serves(PG01, seconds(15));
        assert_eq!(herd.commands(PG02, is_promote), 1, "{}", herd.story());
        herd.rests(seconds(60));
        assert_eq!(herd.promotions(), 0);
    }

    fn a_standby_that_returns_with_more_wal_is_promoted_instead() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(2)).kill(PG03).runs(seconds(1));
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.world.servers[PG02].lagging = false;
        herd.start(PG03).serves(PG03, seconds(25));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_standby_that_returns_while_the_others_freeze_is_frozen_too() {
        let mut herd = Herd::of(3);
        herd.part(Whom::Pgherd, Whom::This(PG03), Packets::Rejected).runs(seconds(2));
        herd.next_goes(Step::Freeze, Trick::Hangs).kill(PG01).runs(millis(500)).heal().runs(seconds(1));
        assert_eq!(herd.state().0, StateName::Freeze, "{}", herd.story());
        assert_eq!(herd.commands(PG03, |step| *step == Step::Freeze), 1);
        herd.serves(PG02, seconds(15));
    }

    fn a_candidate_that_lets_nobody_in_is_waited_for_and_fenced() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.world.servers[PG02].unwilling = true;
        herd.holds("node 1 was told to promote and lets nobody in", seconds(12));
        herd.serves(PG03, seconds(10));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_standby_that_returns_before_the_order_is_compared_too() {
        let mut herd = Herd::of(3);
        herd.kill(PG03).runs(seconds(1));
        herd.next_goes(Step::Lock, Trick::Unheard).kill(PG01);
        while herd.commands(PG02, |step| *step == Step::Lock) == 0 {
            herd.runs(millis(1));
        }
        herd.start(PG03).serves(PG02, seconds(15));
        assert!(herd.commands(PG03, |step| *step == Step::Freeze) > 0);
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
        while herd.commands(PG02, |step| *step == Step::VerifyWrite) == 0 {
            herd.runs(millis(1));
        }
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
