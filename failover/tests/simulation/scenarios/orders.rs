//! What becomes of an order to promote: it fails, hangs, fires late, or its candidate is lost.

use pgherd_failover::{Order, StateName, Step};

use super::herd::{Herd, LOSSY, PG01, PG02, PG03, is_promote, millis, seconds, until_ordered};
use super::stories;
use crate::plan::{Packets, Whom};
use crate::world::Trick;

stories! {
    fn a_promotion_that_fails_passes_to_the_next() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Fails).kill(PG01).serves(PG03, seconds(2));
        herd.start(PG01).rests(seconds(40));
        assert_eq!(herd.promotions(), 1);
    }

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

    fn the_only_candidate_does_not_stand_in_the_way_of_the_old_primary() {
        for back in [false, true] {
            let mut herd = Herd::of(2);
            herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
            until_ordered(&mut herd, PG02);
            herd.freeze(PG02).holds("node 1 was told to promote and is unreachable since", seconds(4));
            if back {
                herd.kill(PG02).runs(seconds(3));
            }
            herd.start(PG01).serves(PG01, seconds(20));
        }
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
        let fences = |herd: &Herd| herd.commands(PG02, |step| *step == Step::Fence);
        let before = fences(herd.empty(PG02));
        herd.runs(seconds(12));
        assert_eq!(fences(&herd), before, "it is not ours to stop: {}", herd.story());
        herd.kill(PG02).serves(PG03, seconds(40));
    }

    /// Its promotion took place, and nobody saw it.
    fn a_candidate_that_dies_of_its_promotion_is_no_rival_when_it_comes_back() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.until(|herd| !herd.world.servers[PG02].standby);
        herd.kill(PG02).serves(PG03, seconds(2));
        herd.runs(seconds(20)).start(PG02).keeps(PG03, seconds(20));
        assert!(herd.warns("an operator must rejoin it"), "{}", herd.story());
    }

    /// The same, and the old primary has come back in the meantime.
    fn a_candidate_that_dies_of_its_promotion_does_not_supersede_who_is_served_since() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.until(|herd| !herd.world.servers[PG02].standby);
        herd.kill(PG02).runs(seconds(2)).start(PG01).serves(PG01, seconds(12));
        herd.runs(seconds(20)).start(PG02).keeps(PG01, seconds(20)).rests(seconds(60));
    }

    /// It comes back as a standby, and later is promoted by somebody else.
    fn a_candidate_that_was_disarmed_in_time_can_be_promoted_later() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.kill(PG02).runs(seconds(2)).start(PG01).serves(PG01, seconds(12));
        herd.start(PG02).rests(seconds(60)).runs(seconds(1));
        herd.kill(PG01).usurp(PG02).serves(PG02, seconds(2));
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

    fn a_candidate_that_lets_nobody_in_is_waited_for_and_fenced() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.world.servers[PG02].unwilling = true;
        herd.holds("node 1 was told to promote and lets nobody in", seconds(12));
        let told = herd.orders(Order::Failover(LOSSY)).verdict(millis(5)).expect_err("it is there");
        assert!(told.contains("make sure that it is down"), "{told}");
        herd.serves(PG03, seconds(10));
        assert_eq!(herd.promotions(), 1);
    }
}
