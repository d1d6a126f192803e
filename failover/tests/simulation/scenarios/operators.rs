//! What an operator orders, and how it is answered.

use pgherd_failover::{Errand, Mode, Order, StateName, Step, Terms};

use super::herd::{Herd, LOSSY, PG01, PG02, PG03, is_promote, millis, rejoins, seconds, until_ordered};
use super::stories;
use crate::model::{Id, What, node};
use crate::plan::{Packets, Plan, Whom};
use crate::world::Trick;

fn failover(terms: Terms) -> Order {
    Order::Failover(terms)
}

fn to(id: Id) -> Terms {
    Terms { to: Some(node(id)), ..Terms::default() }
}

fn rejoin(id: Id, accept_data_loss: bool) -> Order {
    Order::Rejoin { node: node(id), accept_data_loss, reclone: false }
}

fn manual(servers: usize) -> Herd {
    let mut plan = Plan::quiet(servers);
    plan.settings.mode = Mode::Manual;
    Herd::with(plan)
}

fn advice(herd: &Herd) -> String {
    let pgherd = herd.world.living().unwrap();
    herd.world.pgherds[pgherd].machine.status().advice.unwrap_or_default()
}

stories! {
    fn events_that_could_not_be_written_down_are_counted() {
        let mut herd = Herd::of(2);
        for _ in 0..3 {
            herd.next_goes(Step::Record([].into()), Trick::Fails);
        }
        herd.kill(PG01).serves(PG02, seconds(2));
        let lost = |herd: &Herd| herd.world.pgherds[0].machine.events().lost();
        assert_eq!(lost(&herd), 0);
        herd.runs(seconds(30));
        assert_eq!(lost(&herd), 3, "{}", herd.story());
    }

    fn manual_mode_shows_the_candidate_its_distance_and_the_command() {
        let mut herd = manual(3);
        herd.kill(PG01).holds("failover.mode is manual", seconds(2));
        let shown = advice(&herd);
        assert!(shown.starts_with("pgherd failover (node 1, ") && shown.contains("bytes behind what node 0"), "{shown}");
        herd.orders(failover(Terms::default()));
        assert_eq!(herd.verdict(seconds(2)), Ok("node 1 is the primary, on timeline 2".to_owned()));
        assert_eq!(herd.served(), Some(PG02));
    }

    fn a_failover_promotes_the_one_that_is_named_or_nobody() {
        let mut herd = manual(3);
        herd.kill(PG01).holds("failover.mode is manual", seconds(2));
        herd.orders(failover(to(PG03))).serves(PG03, seconds(2));
        let mut plan = Plan::quiet(3);
        plan.settings.mode = Mode::Manual;
        plan.big_writes = 100;
        let mut herd = Herd::with(plan);
        herd.world.servers[PG03].lagging = true;
        herd.runs(seconds(2)).kill(PG01).holds("failover.mode is manual", seconds(2));
        let told = herd.orders(failover(to(PG03))).verdict(seconds(2)).expect_err("it lacks much");
        assert!(told.contains("bytes behind the primary"), "{told}");
        herd.orders(failover(Terms { to: Some(node(PG03)), ..LOSSY })).serves(PG03, seconds(2));
    }

    /// It was kept from that for reasons that an operator may overrule.
    fn a_server_that_is_named_needs_neither_priority_nor_flag() {
        let mut plan = Plan::quiet(2);
        plan.priorities[PG02] = 0;
        plan.may_be_promoted[PG02] = false;
        let mut herd = Herd::with(plan);
        herd.kill(PG01).holds("nobody can be promoted: node 1 is marked DISALLOW_TO_FAILOVER", seconds(2));
        assert!(advice(&herd).starts_with("pgherd failover --to 1"), "{}", advice(&herd));
        herd.orders(failover(Terms::default())).verdict(seconds(1)).expect_err("nobody is named");
        herd.orders(failover(to(PG02))).serves(PG02, seconds(2));
    }

    fn what_would_lose_commits_is_refused_with_the_way_out() {
        let mut herd = Herd::with(Plan::quiet(3).synchronous(1));
        herd.kill(PG03).runs(seconds(2)).kill(PG01);
        herd.holds("1 of the 2 standbys that must be seen can be", seconds(2));
        assert!(advice(&herd).starts_with("pgherd failover --allow-data-loss"), "{}", advice(&herd));
        let told = herd.orders(failover(Terms::default())).verdict(millis(5)).expect_err("it may lose commits");
        assert!(told.contains("acknowledged commits may be lost"), "{told}");
        herd.runs(seconds(20));
        assert_eq!(herd.promotions(), 0);
        herd.orders(failover(LOSSY));
        assert!(herd.verdict(seconds(2)).is_ok(), "{}", herd.story());
        herd.start(PG01).start(PG03).rests(seconds(60));
    }

    /// An order is not kept for the next occasion.
    fn an_order_whose_attempt_fails_is_answered_and_over() {
        let mut herd = manual(2);
        herd.kill(PG01).holds("failover.mode is manual", seconds(2));
        herd.next_goes(Step::Lock, Trick::Fails).orders(failover(Terms::default()));
        let told = herd.verdict(seconds(3)).expect_err("the lock is refused");
        assert!(told.contains("was not locked"), "{told}");
        herd.runs(seconds(60));
        assert_eq!(herd.promotions(), 0);
        herd.orders(failover(Terms::default())).serves(PG02, seconds(3));
    }

    fn an_order_that_finds_the_primary_back_says_so() {
        let mut herd = manual(2);
        herd.kill(PG01).holds("failover.mode is manual", seconds(2));
        herd.world.plan.slow_starts = 0;
        herd.start(PG01);
        herd.until(|herd| herd.served() == Some(PG01));
        let told = herd.orders(failover(LOSSY)).verdict(millis(5)).expect_err("it is back");
        assert!(told.contains("node 0 is the primary and works"), "{told}");
    }

    fn a_timeline_that_nobody_is_on_is_refused_with_those_that_there_are() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG01).usurp(PG02).runs(seconds(2)).usurp(PG03).runs(seconds(2)).pgherd_starts();
        herd.holds("accept writes on a fork", seconds(2));
        assert!(advice(&herd).contains("pgherd failover --accept-timeline 2 --to 1 (node 1, which accepts writes)"), "{}", advice(&herd));
        for (number, chosen, words) in [(7, None, "no server is on timeline 7"), (2, None, "accept writes on a fork")] {
            let terms = Terms { to: chosen, accept_timeline: Some(pgherd_health::TimelineId(number)), ..Terms::default() };
            let told = herd.orders(failover(terms)).verdict(millis(5)).expect_err("it is not clear");
            assert!(told.contains(words), "{told}");
        }
        herd.chooses(PG03, false);
        assert!(herd.verdict(seconds(1)).is_ok(), "{}", herd.story());
        assert_eq!(herd.served(), Some(PG03));
    }

    /// It is down before it was served: whoever chose it was told so, and chooses anew when it is back.
    fn a_timeline_that_was_chosen_in_vain_is_not_served_later() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG01).usurp(PG02).runs(seconds(2)).usurp(PG03).runs(seconds(2)).pgherd_starts();
        herd.holds("accept writes on a fork", seconds(2));
        herd.kill(PG02).chooses(PG02, false);
        herd.verdict(seconds(130)).expect_err("it is down");
        herd.start(PG02).runs(seconds(5)).holds("accept writes on a fork", seconds(5));
        herd.chooses(PG02, false).serves(PG02, seconds(2));
    }

    /// The last primary is lost for good, and so is what came after its promotion.
    fn an_earlier_timeline_can_be_chosen_where_nobody_has_the_latest() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Follow { upstream: node(PG02) }, Trick::Fails);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(1)).kill(PG02).holds("node 2 has not followed the last promotion", seconds(3));
        herd.chooses(PG03, true).serves(PG03, seconds(3));
        herd.keeps(PG03, seconds(20)).start(PG02).keeps(PG03, seconds(20));
    }

    fn a_lost_candidate_can_be_given_up() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Promote, Trick::Hangs).kill(PG01);
        until_ordered(&mut herd, PG02);
        herd.part(Whom::Pgherd, Whom::This(PG02), Packets::Both);
        herd.holds("node 1 was told to promote and is unreachable since", seconds(4));
        assert!(advice(&herd).contains("pgherd failover --allow-data-loss"), "{}", advice(&herd));
        let told = herd.orders(failover(Terms::default())).verdict(millis(5)).expect_err("it may be the primary");
        assert!(told.contains("make sure that it is down"), "{told}");
        assert_eq!(herd.commands(PG03, is_promote), 0);
        herd.orders(failover(LOSSY)).serves(PG03, seconds(3));
    }

    fn another_cluster_is_never_promoted_whatever_is_ordered() {
        let mut herd = manual(3);
        herd.empty(PG03).runs(seconds(3)).kill(PG01).holds("failover.mode is manual", seconds(2));
        let told = herd.orders(failover(Terms { to: Some(node(PG03)), ..LOSSY })).verdict(millis(5));
        assert!(told.expect_err("it is foreign").contains("belongs to another cluster"), "{}", herd.story());
        herd.orders(failover(LOSSY)).serves(PG02, seconds(2));
        let told = herd.orders(rejoin(PG03, true)).told(Errand::Rejoin(node(PG03)), millis(5));
        assert!(told.expect_err("it is foreign").contains("it is not touched"), "{}", herd.story());
    }

    fn a_server_that_is_detached_is_neither_read_nor_promoted() {
        let mut herd = Herd::of(3);
        herd.orders(Order::Detach(node(PG02))).runs(millis(5));
        assert_eq!(herd.reads(), [PG03]);
        herd.orders(Order::Detach(node(PG01))).told(Errand::Manner, millis(5)).expect_err("it is the primary");
        herd.kill(PG01).serves(PG03, seconds(1));
        herd.runs(seconds(20));
        assert!(herd.reads().is_empty(), "it follows all the same");
        herd.orders(Order::Attach(node(PG02))).runs(millis(5));
        assert_eq!(herd.reads(), [PG02]);
        herd.start(PG01).rests(seconds(40));
    }

    fn while_it_is_paused_nothing_is_repaired_but_what_is_ordered() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(10)).orders(Order::Pause).start(PG01).runs(seconds(30));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 0, "{}", herd.story());
        assert_eq!(herd.served(), Some(PG02));
        herd.orders(rejoin(PG01, false));
        let told = herd.told(Errand::Rejoin(node(PG01)), seconds(40));
        let told = told.expect("it is rejoined");
        assert!(told.starts_with("node 0 follows node 1; "), "{told}\n{}", herd.story());
        herd.orders(Order::Resume).rests(seconds(30));
    }

    fn a_server_that_somebody_has_stopped_is_left_alone_until_its_rejoin_is_ordered() {
        let mut herd = Herd::of(3);
        herd.stop(PG03).runs(seconds(60));
        assert!(herd.world.runs.is_empty(), "{}", herd.story());
        herd.orders(rejoin(PG03, false));
        assert!(herd.told(Errand::Rejoin(node(PG03)), seconds(60)).is_ok(), "{}", herd.story());
        herd.rests(seconds(1));
        let told = herd.orders(rejoin(PG03, false)).told(Errand::Rejoin(node(PG03)), millis(5));
        assert!(told.expect_err("it does").contains("follows node 0 already"), "{}", herd.story());
    }

    fn the_primary_is_not_rejoined_whatever_is_ordered() {
        let mut herd = Herd::of(3);
        let told = herd.orders(rejoin(PG01, true)).told(Errand::Rejoin(node(PG01)), millis(5));
        assert!(told.expect_err("it leads").contains("node 0 is the primary"), "{}", herd.story());
    }

    fn what_a_server_has_of_its_own_is_given_up_only_by_order() {
        let mut herd = Herd::with_much_beside();
        herd.holds("bytes of WAL of its own", seconds(3));
        herd.chooses(PG02, false).serves(PG02, seconds(2));
        herd.runs(seconds(10));
        let errand = Errand::Rejoin(node(PG01));
        let told = herd.orders(rejoin(PG01, false)).told(errand, millis(5)).expect_err("it has much");
        assert!(told.contains("which would be lost"), "{told}");
        herd.orders(rejoin(PG01, true));
        assert!(herd.told(errand, seconds(60)).is_ok(), "{}", herd.story());
        herd.rests(seconds(30));
    }

    /// Whoever came second would be told of the other's, and the other never.
    fn a_rejoin_that_another_operator_has_ordered_is_not_ordered_again() {
        let mut herd = Herd::of(3);
        herd.stop(PG03).runs(seconds(2)).next_goes(Step::Checkpoint, Trick::Hangs).orders(rejoin(PG03, false));
        let errand = Errand::Rejoin(node(PG03));
        let told = herd.orders(rejoin(PG03, true)).told(errand, millis(5)).expect_err("it is ordered already");
        assert!(told.contains("has been ordered already"), "{told}");
        assert!(herd.told(errand, seconds(120)).is_ok(), "{}", herd.story());
        herd.orders(rejoin(PG03, false)).told(errand, millis(5)).expect_err("it follows");
    }

    /// It hangs since before this pgherd has begun, and was stopped by it: nobody knows what it has.
    fn a_primary_that_has_never_answered_is_not_rewound_unasked() {
        let mut herd = Herd::without_pgherd(Plan::quiet(2));
        herd.isolate(Whom::This(PG02)).runs(seconds(8));
        for _ in 0..3 {
            herd.world.append(PG01, 700_000, What::Other);
        }
        herd.freeze(PG01).heal().pgherd_starts().serves(PG02, seconds(30));
        herd.runs(seconds(60));
        assert_eq!(herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })), 0, "{}", herd.story());
        assert!(herd.warns("nobody knows what WAL of its own it has: an operator must rejoin it"), "{}", herd.story());
        // Whose loss is accepted once is tried again.
        herd.next_goes(rejoins(PG02), Trick::Fails).orders(rejoin(PG01, true));
        herd.told(Errand::Rejoin(node(PG01)), seconds(60)).expect_err("it fails once");
        herd.rests(seconds(60));
    }

    fn a_rejoin_that_is_overtaken_by_a_failover_says_so() {
        let mut herd = Herd::of(3);
        herd.stop(PG03).runs(seconds(2)).next_goes(Step::Checkpoint, Trick::Hangs).orders(rejoin(PG03, false));
        herd.kill(PG01);
        let told = herd.told(Errand::Rejoin(node(PG03)), seconds(3)).expect_err("there is no primary");
        assert!(told.contains("the primary was lost meanwhile"), "{told}");
        assert_ne!(herd.state().0, StateName::Hold);
    }
}
