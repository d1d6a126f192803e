//! What happens in the moment that only one safeguard looks at.

use pgherd_failover::{Order, Step};
use pgherd_health::RepmgrNodeType;

use super::herd::{Herd, PG01, PG02, PG03, is_promote, millis, rejoins, seconds, until_ordered};
use super::stories;
use crate::model::{Id, Time, What, node, repmgr_id};
use crate::plan::{Packets, Plan, Whom};
use crate::world::Trick;

/// Runs until such a command is given.
fn until(herd: &mut Herd, id: Id, such: impl Fn(&Step) -> bool + Copy) {
    let before = herd.commands(id, such);
    herd.until(|herd| herd.commands(id, such) > before);
}

/// A primary that no standby hears any more, and that is slow to answer: pgherd alone knows that it is there.
fn heard_by_pgherd_alone(plan: Plan) -> Herd {
    let mut herd = Herd::with(plan);
    for standby in [PG02, PG03] {
        herd.part(Whom::This(PG01), Whom::This(standby), Packets::Both);
    }
    herd.world.network.slowness[PG01] = millis(50);
    herd.runs(seconds(5));
    assert_eq!(herd.served(), Some(PG01), "{}", herd.story());
    herd
}

/// Nothing was done to the primary for what has just happened.
fn goes_on(herd: &mut Herd) {
    herd.runs(seconds(5));
    assert_eq!((herd.served(), herd.promotions()), (Some(PG01), 0), "{}", herd.story());
    assert_eq!(herd.commands(PG01, |step| *step == Step::Fence), 0, "{}", herd.story());
}

/// The network between a primary and one standby is mended, and somebody has that one follow.
fn finds_again(herd: &mut Herd, primary: Id, standby: Id) {
    for (from, to) in [(primary, standby), (standby, primary)] {
        herd.world.network.drop_packets(from, to, false);
    }
    herd.world.servers[standby].cut_off = false;
    herd.world.servers[standby].upstream = Some(primary);
    herd.world.reconnect(standby, Time::ZERO);
}

/// Its name leads to another cluster's server until it has heeded its order to promote.
fn is_hidden_until_promoted(herd: &mut Herd, candidate: Id) {
    herd.world.servers[candidate].system_identifier += 1;
    herd.until(|herd| !herd.world.servers[candidate].standby);
    herd.world.servers[candidate].system_identifier -= 1;
}

/// One of several pgherds sends writes to one of these within that time.
fn is_served_by(herd: &mut Herd, pgherd: usize, those: &[Id], within: Time) {
    let end = herd.world.now + within;
    while !herd.world.served(pgherd).is_some_and(|id| those.contains(&id)) {
        assert!(herd.world.now < end, "{}", herd.story());
        herd.runs(millis(5));
    }
}

stories! {
    fn one_refusal_of_a_primary_that_nobody_else_hears_is_not_believed() {
        let mut herd = heard_by_pgherd_alone(Plan::quiet(3));
        herd.world.network.reject(PG01, herd.world.network.pgherd(), true);
        herd.until(|herd| herd.served().is_none());
        herd.world.network.reject(PG01, herd.world.network.pgherd(), false);
        goes_on(&mut herd);
    }

    /// However little `failover.confirm` is.
    fn one_silence_of_a_primary_that_nobody_else_hears_is_not_believed() {
        let mut plan = Plan::quiet(3);
        plan.settings.confirm = seconds(1);
        let mut herd = heard_by_pgherd_alone(plan);
        herd.freeze(PG01);
        herd.until(|herd| herd.served().is_none());
        herd.thaw(PG01);
        goes_on(&mut herd);
    }

    /// The old primary is cut off from pgherd, and one standby finds it again.
    fn a_standby_that_receives_again_after_its_freeze_stops_the_attempt() {
        let mut herd = Herd::of(3);
        herd.isolate(Whom::This(PG01));
        until(&mut herd, PG02, |step| *step == Step::Lock);
        finds_again(&mut herd, PG01, PG03);
        herd.runs(seconds(20));
        assert_eq!(herd.commands(PG02, is_promote), 0, "{}", herd.story());
        herd.heal().serves(PG01, seconds(10));
        herd.rests(seconds(40)).has_all_commits();
    }

    fn a_standby_that_receives_again_stops_the_second_order_to_a_candidate() {
        let mut herd = Herd::of(3);
        herd.isolate(Whom::This(PG01)).next_goes(Step::Promote, Trick::Hangs);
        until_ordered(&mut herd, PG02);
        finds_again(&mut herd, PG01, PG03);
        herd.runs(seconds(40));
        assert_eq!(herd.commands(PG02, is_promote), 1, "{}", herd.story());
        herd.heal().serves(PG01, seconds(10));
        herd.rests(seconds(90)).has_all_commits();
    }

    fn nobody_is_promoted_beside_a_candidate_that_cannot_be_seen_before_its_order_has_ended() {
        let mut plan = Plan::quiet(3);
        plan.settings.cold_grace = seconds(2);
        let mut herd = Herd::with(plan);
        herd.next_goes(Step::Promote, Trick::Late(seconds(6))).kill(PG01);
        until_ordered(&mut herd, PG02);
        is_hidden_until_promoted(&mut herd, PG02);
        herd.serves(PG02, seconds(5));
        assert_eq!(herd.promotions(), 1, "{}", herd.story());
    }

    fn nobody_is_promoted_beside_a_candidate_that_cannot_be_seen_before_its_fence_has_ended() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Late(seconds(30))).next_goes(Step::Promote, Trick::Hangs);
        herd.next_goes(Step::Fence, Trick::None).next_goes(Step::Fence, Trick::Hangs).kill(PG01);
        until(&mut herd, PG02, |step| *step == Step::Fence);
        is_hidden_until_promoted(&mut herd, PG02);
        herd.serves(PG02, seconds(70));
        assert_eq!(herd.promotions(), 1, "{}", herd.story());
    }

    /// It was stopped by SIGSTOP, and goes on while it is being fenced.
    fn a_primary_that_answers_once_more_before_its_fence_is_not_served() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Freeze, Trick::Hangs).freeze(PG01);
        until(&mut herd, PG01, |step| *step == Step::Fence);
        herd.runs(millis(250)).thaw(PG01);
        while herd.world.servers[PG01].is_up() {
            assert!(herd.world.now < seconds(30), "{}", herd.story());
            herd.runs(Time::from_micros(200));
            let answered = herd.state().1.contains("a command that stops node 0 has not ended");
            herd.world.network.slowness[PG01] = if answered { millis(100) } else { Time::ZERO };
            assert_eq!(herd.served(), None, "{}", herd.story());
        }
        herd.runs(seconds(2)).serves(PG02, seconds(20));
    }

    /// What its command has yet to do there, such as repmgr's rows, is not to be disturbed.
    fn no_switchover_is_begun_before_the_last_promotion_has_ended() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Unheard).kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(3));
        let told = herd.switches_over(Some(PG03), seconds(1)).expect_err("it has not ended");
        assert!(told.contains("a command is under way on node 1"), "{told}");
        herd.runs(seconds(12)).switches_over(Some(PG03), seconds(5)).expect("it has ended");
    }

    fn nobody_waits_for_a_switchover_before_it_is_known_that_the_primary_can_be_stopped() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Rehearse, Trick::Hangs).orders(Order::Switchover { to: Some(node(PG02)) });
        herd.keeps(PG01, seconds(5));
        let told = herd.verdict(millis(5)).expect_err("that is not known");
        assert!(told.contains("nothing was changed"), "{told}");
    }

    fn no_switchover_is_begun_while_a_server_is_rewound() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(3)).next_goes(rejoins(PG02), Trick::Hangs).start(PG01);
        until(&mut herd, PG01, |step| matches!(step, Step::Rejoin { .. }));
        let told = herd.switches_over(Some(PG03), seconds(1)).expect_err("it is being rewound");
        assert!(told.contains("not now"), "{told}");
        herd.keeps(PG02, seconds(20));
    }

    fn a_standby_that_comes_back_before_the_order_with_more_wal_is_promoted() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(2)).kill(PG03).runs(seconds(1)).kill(PG01);
        until(&mut herd, PG02, |step| *step == Step::Lock);
        herd.world.servers[PG02].lagging = false;
        herd.recovers_for(PG03, Time::ZERO).serves(PG03, seconds(2));
        assert_eq!(herd.promotions(), 1, "{}", herd.story());
    }

    /// Whoever may have served the old primary meanwhile has commits there.
    fn a_candidate_that_is_promoted_beside_a_primary_with_standbys_is_the_operators_to_judge() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Late(seconds(5))).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.recovers_for(PG01, Time::ZERO).runs(millis(1));
        finds_again(&mut herd, PG01, PG03);
        herd.holds("node 0 is superseded but still has standbys that stream from it", seconds(8));
        herd.chooses(PG02, false).serves(PG02, seconds(2));
    }

    /// Somebody else promotes it, just when pgherd is told that its own order has failed.
    fn a_candidate_that_is_promoted_although_the_order_failed_is_served() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Fails).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.usurp(PG02).serves(PG02, seconds(5));
        assert_eq!((herd.promotions(), herd.commands(PG03, is_promote)), (1, 0), "{}", herd.story());
    }

    /// Its promotion takes place in the moment before that, and nobody sees it.
    fn a_candidate_that_was_disarmed_too_late_is_no_rival_when_it_comes_back() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until(&mut herd, PG02, |step| *step == Step::Fence);
        herd.world.network.slowness[PG02] = millis(900);
        herd.runs(millis(5));
        let order = herd.world.runs.iter().position(|run| is_promote(&run.command.step));
        assert!(herd.world.promote(PG02, order), "{}", herd.story());
        herd.until(|herd| !herd.world.servers[PG02].responds()).heal().serves(PG03, seconds(15));
        herd.runs(seconds(20)).start(PG02).keeps(PG03, seconds(20));
        assert!(herd.warns("node 1"), "{}", herd.story());
    }

    /// It alone has what was acknowledged last.
    fn a_standby_that_is_lost_while_it_is_frozen_is_missed_by_synchronous_commits() {
        let mut herd = Herd::with(Plan::quiet(3).synchronous(1));
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(2)).kill(PG01);
        until(&mut herd, PG03, |step| *step == Step::Freeze);
        herd.kill(PG03).holds("1 of the 2 standbys that must be seen can be", seconds(2));
        herd.world.servers[PG02].lagging = false;
        herd.start(PG03).serves(PG03, seconds(10));
        herd.has_all_commits();
    }

    fn who_is_not_active_or_a_witness_in_repmgr_is_not_promoted() {
        for witness in [false, true] {
            let mut herd = Herd::of(3);
            herd.world.change_rows(PG01, |rows| match witness {
                true => rows[PG02].node_type = RepmgrNodeType::Witness,
                false => rows[PG02].active = false,
            });
            herd.runs(seconds(2)).kill(PG01).serves(PG03, seconds(2));
            assert_eq!(herd.commands(PG02, is_promote), 0, "{}", herd.story());
        }
    }

    fn who_is_not_registered_with_repmgr_is_not_promoted() {
        let mut herd = Herd::of(2);
        herd.world.change_rows(PG01, |rows| rows.retain(|row| row.node_id != repmgr_id(PG02)));
        herd.runs(seconds(2)).kill(PG01).holds("node 1 is not registered with repmgr", seconds(2));
        herd.runs(seconds(20));
        assert_eq!(herd.commands(PG02, is_promote), 0, "{}", herd.story());
    }

    fn a_pause_before_the_order_stops_the_attempt_and_another_pgherd_can_go_on() {
        let mut herd = Herd::of(3);
        herd.kill(PG01);
        until(&mut herd, PG03, |step| *step == Step::Lock);
        herd.orders(Order::Pause).holds("failover is paused", seconds(1));
        assert_eq!(herd.commands(PG02, is_promote), 0, "{}", herd.story());
        herd.pgherd_starts();
        is_served_by(&mut herd, 1, &[PG02], seconds(15));
    }

    fn what_was_locked_for_a_promotion_is_let_go_when_that_is_over() {
        let mut herd = Herd::of_any_pace(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.start(PG01).rests(seconds(60)).pgherd_starts().runs(seconds(12));
        herd.orders(Order::Pause).kill(PG02);
        is_served_by(&mut herd, 1, &[PG01, PG03], seconds(5));
    }

    /// Clients of its own may write there: it is stopped first.
    fn a_primary_that_was_replaced_and_comes_back_before_the_order_is_stopped_first() {
        let mut herd = Herd::of_any_pace(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).kill(PG02);
        until(&mut herd, PG03, |step| *step == Step::Lock);
        let before = herd.commands(PG01, |step| *step == Step::Fence);
        herd.recovers_for(PG01, Time::ZERO).serves(PG03, seconds(10));
        assert!(herd.commands(PG01, |step| *step == Step::Fence) > before, "{}", herd.story());
    }

    /// Its timeline has the number of one that was served, and another history.
    fn a_server_on_a_fork_that_is_numbered_like_an_ancestor_is_the_operators_to_judge() {
        let mut herd = Herd::of_any_pace(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).kill(PG02).serves(PG03, seconds(2));
        let number = herd.world.number();
        herd.world.servers[PG01].wal.append(number, 500, What::Other);
        herd.world.servers[PG01].wal.fork();
        herd.start(PG01).holds("accept writes on a fork", seconds(5));
        herd.chooses(PG03, false).serves(PG03, seconds(2));
        herd.keeps(PG03, seconds(20));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 0, "{}", herd.story());
    }

    /// Somebody has restored it from the first primary's data, and started it as a primary.
    fn a_candidate_that_comes_back_on_a_fork_is_not_served() {
        let mut herd = Herd::of_any_pace(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).next_goes(Step::Promote, Trick::Hangs).kill(PG02);
        until_ordered(&mut herd, PG03);
        let number = herd.world.number();
        let mut wal = herd.world.servers[PG01].wal.clone();
        wal.append(number, 500, What::Other);
        wal.fork();
        let server = &mut herd.world.servers[PG03];
        server.forget_processes();
        (server.wal, server.standby) = (wal, false);
        herd.holds("it forked off the lineage that was served", seconds(12));
        herd.kill(PG03).start(PG02).serves(PG02, seconds(10));
    }
}
