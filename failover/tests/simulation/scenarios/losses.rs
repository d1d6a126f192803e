//! Servers are lost and come back.

use pgherd_failover::{Errand, Order, StateName, Step};
use pgherd_health::RepmgrNodeType;

use super::herd::{Herd, PG01, PG02, PG03, millis, rejoins, seconds};
use super::stories;
use crate::model::{What, node, repmgr_id};
use crate::plan::{Fault, Packets, Plan, Whom};
use crate::world::Trick;

/// An event of this kind is in repmgr's table.
fn is_written_down(herd: &Herd, details: &str) -> bool {
    let told = |step: &Step| match step {
        Step::Record(records) => records.iter().any(|it| it.details.contains(details)),
        _ => false,
    };
    herd.commands(PG02, told) > 0
}

stories! {
    fn a_killed_primary_is_replaced_within_a_second_and_the_others_follow() {
        let mut herd = Herd::of(3);
        let took = herd.kill(PG01).serves(PG02, seconds(1));
        assert!(took < millis(700), "{took:?}");
        herd.runs(seconds(2));
        assert_eq!(herd.reads(), [PG03]);
        let version = herd.world.servers[PG02].wal.rows().unwrap();
        let rows = herd.world.rows[version].clone();
        assert_eq!(rows[PG02].node_type, RepmgrNodeType::Primary);
        assert!(!rows[PG01].active && rows[PG02].active);
        assert_eq!(rows[PG03].upstream_node_id, Some(repmgr_id(PG02)));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_primary_that_is_stopped_cleanly_is_replaced() {
        let mut herd = Herd::of(3);
        herd.stop(PG01).serves(PG02, seconds(2));
        herd.runs(seconds(2));
        assert_eq!(herd.reads(), [PG03]);
    }

    fn a_frozen_primary_is_given_up_after_confirm_and_fenced_and_rejoined() {
        let mut herd = Herd::of(3);
        let took = herd.freeze(PG01).serves(PG02, seconds(8));
        assert!(took > seconds(3), "{took:?}");
        herd.rests(seconds(30));
        assert_eq!(herd.reads(), [PG01, PG03]);
        assert_eq!(herd.promotions(), 1);
    }

    /// The WAL receivers' own time-out is PostgreSQL's default, and nobody waits for it.
    fn of_a_frozen_primary_the_standbys_are_asked_over_ssh() {
        let mut plan = Plan::quiet(3);
        plan.receiver_timeout = seconds(60);
        let mut herd = Herd::with(plan);
        herd.freeze(PG01).serves(PG02, seconds(12));
        assert_eq!(herd.commands(PG02, |step| matches!(step, Step::CanLogIn { .. })), 1);
    }

    fn whichever_primary_stops_while_pgherd_is_down_is_replaced_when_it_starts() {
        for primary in [PG01, PG02, PG03] {
            let mut herd = Herd::without_pgherd(Plan { primary, ..Plan::quiet(3) });
            herd.kill(primary).runs(seconds(30)).pgherd_starts();
            let candidate = if primary == PG01 { PG02 } else { PG01 };
            let took = herd.serves(candidate, seconds(12));
            assert!(took >= seconds(10), "{took:?}: cold_grace is given");
            herd.runs(seconds(3));
            assert_eq!(herd.reads().len(), 1);
        }
    }

    fn primary_and_pgherd_are_lost_together() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).pgherd_dies().runs(seconds(5)).pgherd_starts();
        herd.serves(PG02, seconds(12));
        herd.start(PG01).rests(seconds(30));
        assert_eq!(herd.promotions(), 1);
    }

    fn a_restart_of_pgherd_alone_changes_nothing() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().pgherd_starts();
        herd.serves(PG01, millis(50));
        herd.keeps(PG01, seconds(30));
        assert!(herd.world.runs.is_empty(), "no command was given");
        assert_eq!(herd.reads(), [PG02, PG03]);
    }

    fn a_standby_that_stops_and_starts_is_in_rotation_again_and_disturbs_nobody() {
        let mut herd = Herd::of(3);
        herd.kill(PG03).keeps(PG01, seconds(20));
        assert_eq!(herd.reads(), [PG02]);
        herd.start(PG03).keeps(PG01, seconds(5)).rests(seconds(1));
        assert_eq!(herd.reads(), [PG02, PG03]);
        assert!(herd.world.runs.is_empty(), "it helps itself");
    }

    fn an_old_primary_that_comes_back_writable_is_fenced_and_rejoined_and_never_written() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).start(PG01).keeps(PG02, seconds(20)).rests(seconds(1));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 1);
        assert_eq!(herd.reads(), [PG01, PG03]);
        assert!(is_written_down(&herd, "it follows node 1; it lost no WAL of its own"), "{}", herd.story());
    }

    fn what_an_old_primary_has_written_before_its_fence_counts_also_if_no_probe_has_seen_it() {
        for (written, much) in [(100, false), (2 << 20, true)] {
            let mut herd = Herd::of(3);
            herd.kill(PG01).serves(PG02, seconds(1));
            herd.runs(seconds(5)).start(PG01);
            // As if in its last moment.
            herd.until(|herd| herd.world.servers[PG01].fenced);
            herd.world.append(PG01, written, What::Other);
            herd.keeps(PG02, seconds(60));
            assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 1, "{}", herd.story());
            if much {
                let why = "it has more WAL of its own than failover.max_data_loss: an operator must rejoin it";
                assert!(herd.warns(why) && is_written_down(&herd, "it has 2097152 bytes"), "{}", herd.story());
                let order = |accept_data_loss| {
                    let node = node(PG01);
                    (Order::Rejoin { node, accept_data_loss, reclone: false }, Errand::Rejoin(node))
                };
                let (refused, errand) = order(false);
                let told = herd.orders(refused).told(errand, millis(5)).expect_err("it is too much");
                assert!(told.contains("it has 2097152 bytes of WAL of its own, from 0/"), "{told}");
                herd.orders(order(true).0).told(errand, seconds(40)).expect("the loss is accepted");
            }
            herd.rests(seconds(1));
            let lost = format!("it follows node 1; it lost {written} bytes of WAL of its own, from 0/");
            assert!(is_written_down(&herd, &lost), "{}", herd.story());
        }
    }

    fn an_old_primary_that_comes_back_while_pgherd_restarts_is_never_written() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).pgherd_dies().start(PG01).runs(seconds(3)).pgherd_starts();
        herd.serves(PG02, seconds(1));
        herd.keeps(PG02, seconds(30)).rests(seconds(1));
    }

    /// Where the machine has stalled nobody answers the first time, and whoever answers first the second time is not the only one.
    fn an_old_primary_that_answers_first_after_a_stall_is_not_served_before_the_others_were_asked_again() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).pgherd_dies().start(PG01).runs(seconds(3));
        herd.freeze(PG01).freeze(PG02).freeze(PG03).pgherd_starts().runs(millis(900));
        for slow in [PG02, PG03] {
            herd.strikes(Fault::Slow { whom: Whom::This(slow), by: millis(300) }).thaw(slow);
        }
        herd.thaw(PG01).until(|herd| {
            assert_ne!(herd.served(), Some(PG01), "{}", herd.story());
            herd.served() == Some(PG02)
        });
    }

    fn a_lone_old_primary_is_not_served_while_a_standby_tells_of_a_later_timeline() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).pgherd_dies().isolate(Whom::This(PG02)).start(PG01);
        herd.runs(seconds(3)).pgherd_starts().runs(seconds(8));
        assert_eq!(herd.served(), None);
        herd.heal().serves(PG02, seconds(2));
        herd.rests(seconds(30));
    }

    fn a_primary_that_restarts_within_its_grace_keeps_its_reign() {
        let mut plan = Plan::quiet(3);
        plan.settings.restart_grace = seconds(5);
        let mut herd = Herd::with(plan);
        herd.kill(PG01).runs(seconds(1)).start(PG01);
        assert!(herd.keeps_connections(), "it is only suspected");
        herd.serves(PG01, seconds(3));
        assert_eq!(herd.promotions(), 0);
    }

    fn without_a_grace_the_failover_goes_ahead_and_who_returns_is_rejoined() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).runs(millis(300)).start(PG01);
        herd.serves(PG02, seconds(1));
        herd.keeps(PG02, seconds(20)).rests(seconds(1));
    }

    fn a_primary_in_crash_recovery_is_given_its_grace() {
        let mut plan = Plan::quiet(3);
        plan.settings.restart_grace = seconds(1);
        let mut herd = Herd::with(plan);
        herd.kill(PG01).recovers_for(PG01, seconds(25)).runs(seconds(24));
        assert_eq!(herd.served(), None);
        assert!(herd.keeps_connections());
        herd.serves(PG01, seconds(2));
        herd.kill(PG01).recovers_for(PG01, seconds(3_600)).serves(PG02, seconds(32));
    }

    fn a_primary_in_crash_recovery_is_given_its_grace_also_at_a_cold_start() {
        let mut herd = Herd::without_pgherd(Plan::quiet(3));
        herd.kill(PG01).recovers_for(PG01, seconds(25)).pgherd_starts().runs(seconds(20));
        let (state, why) = herd.state();
        assert_eq!(state, StateName::Discover);
        assert!(why.contains("starting up, and may be the primary"), "{why}");
        herd.serves(PG01, seconds(10));
        assert_eq!(herd.promotions(), 0);
    }

    fn primary_and_candidate_are_lost_at_once() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).kill(PG02).serves(PG03, seconds(1));
        herd.start(PG02).start(PG01).rests(seconds(40));
        assert_eq!(herd.promotions(), 1);
    }

    fn after_every_server_was_down_the_primary_is_found_in_whatever_order_they_return() {
        for order in [[PG01, PG02, PG03], [PG03, PG02, PG01], [PG02, PG01, PG03]] {
            let mut herd = Herd::of(3);
            herd.kill(PG01).kill(PG02).kill(PG03).runs(seconds(60));
            for server in order {
                herd.start(server).runs(seconds(2));
            }
            herd.rests(seconds(60));
            // A standby that is the first to answer has all that the others had.
            assert_eq!(herd.promotions(), usize::from(order[0] != PG01), "{}", herd.story());
        }
    }

    fn each_server_is_primary_in_turn_ten_times() {
        let mut plan = Plan::quiet(3).synchronous(1);
        plan.settings.min_interval = seconds(0);
        let mut herd = Herd::with(plan);
        let mut primary = PG01;
        for _ in 0..30 {
            herd.kill(primary).runs(seconds(2));
            let next = herd.served().unwrap_or_else(|| panic!("{}", herd.story()));
            herd.start(primary).rests(seconds(40)).runs(seconds(1));
            primary = next;
        }
        assert_eq!(herd.promotions(), 30);
    }

    fn a_host_that_goes_silent_takes_confirm_and_no_ssh() {
        let mut herd = Herd::of(3);
        let took = herd.lose_host(PG01).serves(PG02, seconds(8));
        assert!(took > seconds(3), "{took:?}");
    }

    fn a_standby_that_follows_the_promoted_one_already_goes_on_so() {
        let mut plan = Plan::quiet(3);
        plan.upstreams[PG03] = Some(PG02);
        let mut herd = Herd::with(plan);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(3));
        assert_eq!(herd.reads(), [PG03]);
        herd.start(PG01).rests(seconds(30));
    }

    fn a_primary_that_was_fenced_once_and_is_stopped_by_an_operator_later_is_left_alone() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Lock, Trick::Fails).freeze(PG01).holds("was not locked", seconds(8));
        assert_eq!(herd.commands(PG01, |step| *step == Step::Fence), 1);
        herd.orders(Order::Pause).start(PG01).serves(PG01, seconds(4));
        herd.orders(Order::Resume).rests(seconds(30)).runs(seconds(1));
        herd.stop(PG01).serves(PG02, seconds(3));
        herd.runs(seconds(30));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 0, "{}", herd.story());
    }

    fn a_standby_left_frozen_by_a_pgherd_that_died_is_told_whom_to_follow() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG03].cut_off = true;
        herd.world.detach(PG03, false);
        herd.pgherd_dies().pgherd_starts().rests(seconds(15));
        assert_eq!(herd.commands(PG03, |step| matches!(step, Step::Follow { .. })), 1);
    }

    fn a_rejoin_that_is_cut_short_is_finished() {
        let mut herd = Herd::of(3);
        herd.next_goes(rejoins(PG02), Trick::Hangs);
        herd.freeze(PG01).serves(PG02, seconds(8));
        herd.rests(seconds(90));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 2);
    }

    fn an_old_primary_that_cannot_be_rewound_is_cloned_if_that_is_allowed() {
        let mut plan = Plan::quiet(3);
        plan.settings.reclone = true;
        let mut herd = Herd::with(plan);
        herd.next_goes(rejoins(PG02), Trick::Spoilt);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).start(PG01).keeps(PG02, seconds(40)).rests(seconds(1));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 1);
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Clone { .. })), 1);
        assert_eq!(herd.reads(), [PG01, PG03]);
    }

    fn an_old_primary_that_cannot_be_rewound_is_left_to_an_operator_otherwise() {
        let mut herd = Herd::of(3);
        herd.next_goes(rejoins(PG02), Trick::Spoilt);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).start(PG01).keeps(PG02, seconds(60));
        assert!(herd.warns("cannot be rewound"), "{}", herd.story());
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. } | Step::Clone { .. })), 1);
    }

    fn a_superseded_standby_whose_rejoin_is_cut_short_is_not_left_down() {
        let mut herd = Herd::of(3);
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(1)).isolate(Whom::This(PG03)).pgherd_dies().kill(PG01).usurp(PG02);
        herd.world.servers[PG02].lagging = false;
        herd.pgherd_starts().serves(PG02, seconds(12));
        herd.heal().part(Whom::This(PG02), Whom::This(PG03), Packets::Both).runs(seconds(4));
        assert_eq!(herd.commands(PG03, |step| matches!(step, Step::Rejoin { .. })), 1, "{}", herd.story());
        herd.heal().rests_but(&[PG01], seconds(60));
    }

    fn a_fault_a_second_ends_in_peace() {
        let mut herd = Herd::of(4);
        for id in [PG02, PG01, PG03] {
            herd.later(seconds(1), Fault::Kill { whom: Whom::This(id), orphans: true, back: Some(seconds(2)) });
            herd.runs(seconds(2));
        }
        herd.rests(seconds(120));
    }

    fn a_primary_that_hangs_is_given_up_confirm_after_its_last_answer_whenever_it_is_asked() {
        for phase in [0, 100, 200, 300, 400] {
            let mut herd = Herd::of(3);
            herd.runs(millis(phase)).freeze(PG01);
            let mut took = millis(0);
            while took < seconds(9) && matches!(herd.state().0, StateName::Steady | StateName::Suspect) {
                herd.runs(millis(10));
                took += millis(10);
            }
            assert!(took > millis(3_400) && took < millis(4_200), "{took:?}: {}", herd.story());
        }
    }

    fn a_standby_that_a_pgherd_has_frozen_before_it_died_follows_soon_after_the_next_has_come() {
        let mut herd = Herd::of(3);
        herd.kill(PG01);
        herd.until(|herd| herd.state().0 == StateName::Verify);
        assert!(herd.world.servers[PG03].cut_off);
        herd.pgherd_dies().pgherd_starts().serves(PG02, seconds(2));
        herd.runs(seconds(5));
        assert!(!herd.world.servers[PG03].cut_off, "{}", herd.story());
    }
}
