//! What was not expected: late answers, promotions by others, servers that are not what they were.

use pgherd_failover::{StateName, Step};

use super::herd::{Herd, PG01, PG02, PG03, millis, seconds};
use super::stories;
use crate::plan::{Fault, Packets, Plan, Whom};
use crate::world::Trick;

stories! {
    fn an_answer_that_arrives_after_a_newer_one_changes_nothing() {
        let mut herd = Herd::of(3);
        let old = herd.answer_of(PG01);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.tells(old).keeps(PG02, seconds(2));
        let mut herd = Herd::of(3);
        let old = herd.answer_of(PG02);
        herd.runs(seconds(2)).kill(PG02).runs(seconds(1));
        herd.tells(old);
        assert_eq!(herd.reads(), [PG03], "it is still down");
    }

    fn one_lost_answer_is_no_loss() {
        let mut herd = Herd::of(3);
        herd.freeze(PG01).runs(millis(1_600)).thaw(PG01).serves(PG01, seconds(2));
        assert!(herd.world.runs.is_empty(), "{}", herd.story());
        assert_eq!(herd.promotions(), 0);
    }

    fn a_primary_that_is_back_before_the_guards_have_spoken_keeps_its_reign() {
        let mut plan = Plan::quiet(2);
        plan.receiver_timeout = seconds(60);
        let mut herd = Herd::with(plan);
        herd.part(Whom::Pgherd, Whom::This(PG01), Packets::Both);
        herd.next_goes(Step::CanLogIn { target: pgherd_health::NodeId(0) }, Trick::Hangs);
        herd.until(|herd| herd.state().0 == StateName::Confirm);
        assert!(herd.keeps_connections());
        herd.heal().serves(PG01, seconds(2));
    }

    fn a_promotion_by_somebody_else_is_followed() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).usurp(PG02).serves(PG02, seconds(1));
        herd.start(PG01).rests(seconds(60));
    }

    fn a_promotion_by_somebody_else_while_pgherd_only_suspects_is_followed() {
        let mut herd = Herd::of(2);
        herd.freeze(PG01).runs(seconds(2));
        assert_eq!(herd.state().0, StateName::Suspect);
        herd.usurp(PG02).serves(PG02, seconds(3));
    }

    fn a_promotion_by_somebody_else_while_the_guards_speak_is_followed() {
        let mut plan = Plan::quiet(3);
        plan.receiver_timeout = seconds(60);
        let mut herd = Herd::with(plan);
        herd.freeze(PG01);
        herd.until(|herd| herd.state().0 == StateName::Confirm);
        herd.usurp(PG03);
        herd.world.detach(PG02, false);
        herd.serves(PG03, seconds(3));
    }

    fn a_promotion_by_somebody_else_while_the_standbys_freeze_is_followed() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Freeze, Trick::None).next_goes(Step::Freeze, Trick::Hangs).kill(PG01);
        herd.until(|herd| herd.state().0 == StateName::Freeze);
        herd.usurp(PG02).serves(PG02, seconds(1));
        assert!(!herd.world.servers[PG03].cut_off, "it is let go: {}", herd.story());
    }

    fn an_old_primary_that_returns_while_the_standbys_freeze_is_served_again() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Freeze, Trick::Hangs).kill(PG01);
        herd.until(|herd| herd.state().0 == StateName::Freeze);
        herd.start(PG01).serves(PG01, seconds(3));
        herd.rests(seconds(20));
        assert_eq!(herd.promotions(), 0);
    }

    fn a_primary_that_returns_into_its_own_fence_is_not_served_by_what_it_said_before() {
        let mut herd = Herd::of(2);
        herd.kill(PG01);
        herd.until(|herd| herd.state().0 == StateName::Fence);
        herd.recovers_for(PG01, millis(1)).runs(seconds(1));
        assert_eq!(herd.commands(PG01, |step| *step == Step::Fence), 1);
        assert_ne!(herd.served(), Some(PG01), "{}", herd.story());
        herd.runs(seconds(30));
        assert_eq!(herd.served(), Some(PG02), "{}", herd.story());
    }

    fn a_primary_that_comes_back_as_a_standby_is_looked_at() {
        let mut plan = Plan::quiet(2);
        plan.settings.restart_grace = seconds(30);
        let mut herd = Herd::with(plan);
        herd.kill(PG01);
        herd.world.servers[PG01].standby = true;
        herd.start(PG01).runs(seconds(3));
        assert_eq!(herd.state().0, StateName::Discover, "{}", herd.story());
        herd.runs(seconds(15));
        assert!(herd.served().is_some(), "{}", herd.story());
    }

    fn a_primary_that_is_made_a_standby_under_pgherds_eyes_is_looked_at() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG01].standby = true;
        herd.runs(seconds(2));
        assert_eq!(herd.state().0, StateName::Discover, "{}", herd.story());
    }

    fn a_standby_that_loses_its_stream_is_told_whom_to_follow() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG03].upstream = None;
        herd.world.detach(PG03, true);
        herd.rests(seconds(20));
        assert_eq!(herd.commands(PG03, |step| matches!(step, Step::Follow { .. })), 1);
    }

    fn a_superseded_standby_is_rewound() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(1)).isolate(Whom::This(PG03)).pgherd_dies().kill(PG01).usurp(PG02);
        herd.world.servers[PG02].lagging = false;
        herd.pgherd_starts().serves(PG02, seconds(12));
        herd.heal().rests_but(&[PG01], seconds(60));
        assert_eq!(herd.commands(PG03, |step| matches!(step, Step::Rejoin { .. })), 1);
    }

    fn a_slow_primary_is_not_a_dead_one() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Slow { whom: Whom::This(PG01), by: millis(700) });
        herd.runs(seconds(60));
        assert_eq!(herd.promotions(), 0);
        assert_eq!(herd.served(), Some(PG01), "{}", herd.story());
    }

    fn a_primary_that_answers_ever_too_late_but_is_heard_is_held() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Slow { whom: Whom::This(PG01), by: millis(1_500) });
        herd.holds("the primary, pgherd", seconds(8));
        herd.heal().serves(PG01, seconds(2));
        assert_eq!(herd.promotions(), 0);
    }
}
