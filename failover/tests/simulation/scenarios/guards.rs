//! Each guard fails once, and what lets it hold again.

use pgherd_failover::{Mode, Order, Step, Terms};

use super::herd::{Herd, LOSSY, PG01, PG02, PG03, millis, seconds};
use super::stories;
use crate::plan::{Fault, Packets, Plan, Whom};

const fn accepted() -> Order {
    Order::Failover(LOSSY)
}

stories! {
    /// (a)
    fn a_primary_that_only_lets_nobody_in_is_never_suspected() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG01].unwilling = true;
        herd.keeps(PG01, seconds(60));
        assert!(herd.warns("lets nobody in"));
    }

    /// (a)
    fn a_primary_that_was_down_and_lets_nobody_in_is_held_until_it_does() {
        let mut herd = Herd::of(3);
        herd.empty(PG01);
        herd.world.servers[PG01].unwilling = true;
        herd.runs(seconds(5));
        assert_eq!(herd.served(), None, "an empty cluster answers so: {}", herd.story());
        herd.holds("role \"repmgr\" does not exist", seconds(40));
        herd.kill(PG01).serves(PG02, seconds(8));
    }

    /// (a)
    fn a_primary_that_is_full_after_a_restart_is_back() {
        let mut plan = Plan::quiet(3);
        plan.settings.restart_grace = seconds(5);
        let mut herd = Herd::with(plan);
        herd.kill(PG01).start(PG01);
        herd.world.servers[PG01].unwilling = true;
        herd.serves(PG01, seconds(3));
    }

    /// (b)
    fn pgherd_cut_off_from_a_primary_that_standbys_hear_promotes_nobody() {
        for receiver_timeout in [seconds(2), seconds(60)] {
            let mut herd = Herd::with(Plan { receiver_timeout, ..Plan::quiet(3) });
            herd.part(Whom::Pgherd, Whom::This(PG01), Packets::Both);
            herd.holds("the primary, pgherd", seconds(8));
            assert!(herd.keeps_connections(), "they may yet be answered");
            assert_eq!(herd.reads(), [PG02, PG03]);
            herd.runs(seconds(60)).heal().serves(PG01, seconds(2));
            assert_eq!(herd.promotions(), 0);
        }
    }

    /// (b): the same where connections are rejected, which looks like a killed server.
    fn a_primary_that_only_rejects_pgherd_is_not_replaced() {
        let mut herd = Herd::of(3);
        herd.part(Whom::Pgherd, Whom::This(PG01), Packets::Rejected);
        herd.holds("the primary, pgherd", seconds(2));
        herd.heal().serves(PG01, seconds(2));
        assert_eq!(herd.promotions(), 0);
    }

    /// (b): without an answer over ssh, the WAL receivers' own time-out decides.
    fn where_a_standby_cannot_be_asked_its_receiver_is_waited_for() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::CanLogIn { target: pgherd_health::NodeId(0) }, crate::world::Trick::Hangs);
        herd.part(Whom::Pgherd, Whom::This(PG01), Packets::Both);
        herd.holds("still hears the primary, pgherd does not", seconds(12));
        assert_eq!(herd.promotions(), 0);
    }

    /// (b): pgherd and one standby are on one side, the primary and the other standby on the other.
    fn a_partition_through_the_herd_promotes_nobody() {
        let mut herd = Herd::of(3);
        for one in [Whom::Pgherd, Whom::This(PG03)] {
            for other in [PG01, PG02] {
                herd.part(one, Whom::This(other), Packets::Both);
            }
        }
        herd.holds("does not answer: it may be on the other side of a partition", seconds(10));
        herd.heal().serves(PG01, seconds(3));
        assert_eq!(herd.promotions(), 0);
    }

    /// (c)
    fn too_few_of_the_standbys_that_a_commit_waited_for_are_left() {
        let mut herd = Herd::with(Plan::quiet(3).synchronous(1));
        herd.kill(PG03).runs(seconds(2)).kill(PG01);
        herd.holds("1 of the 2 standbys that must be seen can be", seconds(2));
        herd.orders(accepted()).serves(PG02, seconds(2));
        herd.start(PG01).start(PG03).rests(seconds(60));
    }

    /// (c)
    fn where_a_commit_waited_for_all_any_one_will_do() {
        let mut herd = Herd::with(Plan::quiet(3).synchronous(2));
        herd.kill(PG03).runs(seconds(2)).kill(PG01).serves(PG02, seconds(1));
    }

    /// (c): the list names all servers, the primary among them.
    fn a_primary_is_not_waited_for_as_its_own_standby() {
        let mut herd = Herd::with(Plan::quiet(3).synchronous(1));
        assert!(herd.world.plan.synchronous.contains("pg01"));
        herd.kill(PG01).serves(PG02, seconds(1));
    }

    /// (c): at a cold start it is not known whom commits waited for.
    fn a_cold_start_with_a_standby_missing_asks_an_operator() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG03).kill(PG01).runs(seconds(1)).pgherd_starts();
        herd.holds("acknowledged commits may be lost: 1 of the 2", seconds(12));
        herd.orders(accepted()).serves(PG02, seconds(2));
    }

    /// (c): an operator has written down that no commit waits.
    fn a_cold_start_with_a_standby_missing_goes_ahead_where_it_is_configured() {
        let mut plan = Plan::quiet(3);
        plan.settings.synchronous = Some(String::new());
        let mut herd = Herd::with(plan);
        herd.pgherd_dies().kill(PG03).kill(PG01).runs(seconds(1)).pgherd_starts();
        herd.serves(PG02, seconds(12));
    }

    /// (c): the standbys' own setting tells at a cold start.
    fn a_cold_start_reads_the_standbys_own_setting() {
        let mut herd = Herd::with(Plan::quiet(4).synchronous(3));
        herd.pgherd_dies().kill(PG03).kill(PG01).runs(seconds(1)).pgherd_starts();
        herd.serves(PG02, seconds(12));
    }

    /// (d)
    fn a_standby_too_far_behind_is_not_promoted() {
        let mut plan = Plan::quiet(2);
        plan.big_writes = 100;
        let mut herd = Herd::with(plan);
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(2)).kill(PG01);
        herd.holds("bytes behind the primary, more than failover.max_data_loss", seconds(2));
        herd.orders(accepted()).serves(PG02, seconds(2));
    }

    /// (e)
    fn a_paused_failover_waits_for_its_end() {
        let mut herd = Herd::of(3);
        herd.orders(Order::Pause).kill(PG01);
        herd.holds("failover is paused by an operator", seconds(2));
        assert!(herd.warns("failover is paused"));
        herd.orders(Order::Resume).serves(PG02, seconds(1));
    }

    /// (e)
    fn manual_mode_waits_for_the_order_and_says_so() {
        let mut plan = Plan::quiet(3);
        plan.settings.mode = Mode::Manual;
        let mut herd = Herd::with(plan);
        herd.kill(PG01).holds("failover.mode is manual: an operator must promote a standby", seconds(2));
        herd.runs(seconds(60));
        assert_eq!(herd.promotions(), 0);
        herd.orders(Order::Failover(Terms::default())).serves(PG02, seconds(2));
    }

    /// (e)
    fn a_second_failover_waits_for_min_interval() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.start(PG01).rests(seconds(9));
        herd.kill(PG02).runs(millis(500));
        assert!(herd.state().1.contains("min_interval"), "{}", herd.story());
        let third = herd.runs(seconds(11)).served();
        assert!(third.is_some_and(|it| it != PG02), "{}", herd.story());
    }

    /// (e)
    fn an_ordered_failover_does_not_wait_for_the_grace_or_the_interval() {
        let mut plan = Plan::quiet(3);
        plan.settings.restart_grace = seconds(3600);
        let mut herd = Herd::with(plan);
        herd.kill(PG01).runs(seconds(30));
        assert_eq!(herd.promotions(), 0);
        herd.orders(Order::Failover(Terms::default())).serves(PG02, seconds(1));
    }

    /// (e)
    fn an_order_that_comes_while_all_is_well_is_refused_and_forgotten() {
        let mut plan = Plan::quiet(3);
        plan.settings.mode = Mode::Manual;
        let mut herd = Herd::with(plan);
        let told = herd.orders(accepted()).verdict(millis(5)).expect_err("all is well");
        assert!(told.contains("node 0 is the primary and works: a switchover"), "{told}");
        herd.keeps(PG01, seconds(60));
        herd.kill(PG01).holds("failover.mode is manual", seconds(2));
        assert_eq!(herd.promotions(), 0);
    }

    /// (f)
    fn a_repmgrd_that_decides_is_left_to_it() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Repmgrd { whom: Whom::This(PG02), on: true, lasts: seconds(3600) });
        herd.runs(seconds(1)).kill(PG01);
        herd.holds("repmgrd on node 1 decides", seconds(2));
        herd.usurp(PG02).serves(PG02, seconds(1));
        herd.start(PG01).rests(seconds(40));
    }

    /// (f)
    fn a_repmgrd_that_is_paused_frees_the_way() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Repmgrd { whom: Whom::This(PG03), on: true, lasts: seconds(20) });
        herd.runs(seconds(1)).kill(PG01);
        herd.holds("repmgrd on node 2 decides", seconds(2));
        herd.serves(PG02, seconds(25));
    }

    fn a_guard_that_ceases_to_hold_stops_the_attempt_and_thaws_the_standbys() {
        let mut herd = Herd::of(3);
        herd.kill(PG01);
        herd.until(|herd| herd.commands(PG02, |step| *step == Step::Freeze) > 0);
        herd.orders(Order::Pause).holds("failover is paused", seconds(1));
        herd.runs(seconds(5));
        assert!(!herd.world.servers[PG02].cut_off && !herd.world.servers[PG03].cut_off);
        herd.orders(Order::Resume).serves(PG02, seconds(8));
    }

    fn a_standby_that_lets_nobody_in_may_still_receive() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG03].unwilling = true;
        herd.runs(seconds(1)).kill(PG01);
        herd.holds("node 2 lets nobody in", seconds(2));
        herd.world.servers[PG03].unwilling = false;
        herd.serves(PG02, seconds(2));
    }

    fn a_standby_that_cannot_finish_its_start_is_waited_for_only_so_long() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG03].consistent_at = pgherd_health::Lsn(u64::MAX);
        herd.kill(PG03).start(PG03).runs(seconds(1)).kill(PG01);
        herd.holds("node 2 is starting or stopping", seconds(2));
        herd.serves(PG02, seconds(30));
    }
}
