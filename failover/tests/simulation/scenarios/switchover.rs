//! An operator wants another primary while all is well.

use pgherd_failover::{Mode, Order, Step};
use pgherd_health::NodeId;

use super::herd::{Herd, PG01, PG02, PG03, is_promote, millis, seconds};
use super::stories;
use crate::model::{Id, Time, node};
use crate::plan::{Fault, Packets, Plan, Whom};
use crate::world::Trick;

const KILL_PG01: Fault = Fault::Kill { whom: Whom::This(PG01), orphans: false, back: None };
const LONG: Step = Step::Quiesce { within: Time::ZERO };

fn herd_that_commits_every(milliseconds: u64, servers: usize) -> Herd {
    Herd::with(Plan { commit_every: milliseconds, ..Plan::quiet(servers) })
}

/// What an operator is told; no client has met an error and none has lost a commit.
fn goes_unnoticed(herd: &mut Herd, to: Option<Id>, within: Time) -> String {
    let failed = herd.world.ledger.failed();
    let told = herd.switches_over(to, within).unwrap_or_else(|why| panic!("{why}\n{}", herd.story()));
    herd.runs(millis(200));
    assert_eq!(herd.world.ledger.failed(), failed, "a client was told an error\n{}", herd.story());
    herd.has_all_commits();
    told
}

/// Runs until such a command has been given.
fn until(herd: &mut Herd, id: Id, such: impl Fn(&Step) -> bool + Copy) {
    herd.until(|herd| herd.commands(id, such) > 0);
}

const fn is_stop(step: &Step) -> bool {
    matches!(step, Step::Stop)
}

const fn is_quiesce(step: &Step) -> bool {
    matches!(step, Step::Quiesce { .. })
}

const fn is_start(step: &Step) -> bool {
    matches!(step, Step::Start)
}

stories! {
    fn the_named_standby_takes_over_and_no_client_notices() {
        for servers in 2..=4 {
            for synchronous in [0, 1] {
                let plan = Plan { commit_every: 3, ..Plan::quiet(servers) };
                let plan = if synchronous == 0 { plan } else { plan.synchronous(synchronous) };
                let mut herd = Herd::with(plan);
                for next in [servers - 1, PG01, PG02] {
                    let told = goes_unnoticed(&mut herd, Some(next), seconds(3));
                    assert_eq!(herd.served(), Some(next), "{told}");
                    herd.rests(seconds(20)).runs(seconds(1));
                }
                assert_eq!(herd.promotions(), 3);
            }
        }
    }

    fn transactions_wait_for_less_than_a_second() {
        for milliseconds in [1, 10, 100] {
            let mut herd = herd_that_commits_every(milliseconds, 3);
            let told = goes_unnoticed(&mut herd, None, seconds(3));
            let waited = told.rsplit(' ').nth(1).and_then(|text| text.parse::<u64>().ok());
            assert!(waited.is_some_and(|it| it < 1_000), "{told}\n{}", herd.story());
        }
    }

    fn without_a_name_the_best_standby_takes_over() {
        let mut plan = Plan::quiet(3);
        plan.priorities = vec![100, 50, 100];
        let mut herd = Herd::with(plan);
        goes_unnoticed(&mut herd, None, seconds(3));
        assert_eq!(herd.served(), Some(PG03));
    }

    fn an_order_needs_neither_automatic_mode_nor_the_interval() {
        let mut plan = Plan::quiet(3);
        plan.settings.mode = Mode::Manual;
        plan.settings.min_interval = seconds(3600);
        let mut herd = Herd::with(plan);
        for next in [PG02, PG01] {
            goes_unnoticed(&mut herd, Some(next), seconds(3));
            herd.rests(seconds(20)).runs(seconds(1));
        }
    }

    fn what_stands_against_it_is_told_and_nothing_is_done() {
        type Change = fn(&mut Herd);
        let cases: [(Change, Option<Id>, &str); 10] = [
            (|_| {}, Some(PG01), "node 0 is the primary already"),
            (|_| {}, Some(7), "there is no node 7"),
            (|herd| { herd.kill(PG02); }, Some(PG02), "node 1 refuses connections"),
            (|herd| { herd.freeze(PG02); }, Some(PG03), "node 1 does not answer"),
            (|herd| { herd.orders(Order::Pause); }, None, "paused"),
            (|herd| herd.world.servers[PG03].repmgrd = true, None, "repmgrd on node 2 decides"),
            (|herd| herd.world.plan.priorities[PG02] = 0, Some(PG02), "node 1 has priority 0"),
            (|herd| herd.world.servers[PG02].lagging = true, Some(PG02), "bytes behind node 0"),
            (|herd| { herd.part(Whom::This(PG01), Whom::This(PG02), Packets::Both); }, Some(PG02), "does not stream"),
            (|herd| { herd.later(millis(4_900), KILL_PG01); }, None, "not now"),
        ];
        for (change, to, expected) in cases {
            let mut plan = Plan { big_writes: 100, ..Plan::quiet(3) };
            if expected.contains("priority") {
                plan.priorities[PG02] = 0;
            }
            let mut herd = Herd::with(plan);
            change(&mut herd);
            herd.runs(seconds(5));
            let told = herd.switches_over(to, seconds(1)).expect_err(expected);
            assert!(told.contains(expected), "{told}\n{}", herd.story());
            let primary = herd.served();
            let acts = |step: &Step| !matches!(step, Step::Record(_));
            assert!(primary.is_none_or(|it| herd.commands(it, acts) == 0), "{}", herd.story());
        }
    }

    /// A server that is known to be down is no obstacle.
    fn another_standby_may_be_down() {
        let mut herd = Herd::of(3);
        herd.kill(PG03).runs(seconds(3));
        goes_unnoticed(&mut herd, Some(PG02), seconds(3));
    }

    fn an_open_transaction_is_waited_for() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Busy { whom: Whom::Primary, lasts: seconds(5) });
        goes_unnoticed(&mut herd, Some(PG02), seconds(8));
    }

    fn a_transaction_that_does_not_end_has_it_given_up_and_service_goes_on() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Busy { whom: Whom::Primary, lasts: seconds(60) });
        let failed = herd.world.ledger.failed();
        let told = herd.switches_over(Some(PG02), seconds(12)).expect_err("it does not end");
        assert!(told.contains("nothing was changed") && told.contains("idle in transaction"), "{told}");
        herd.keeps(PG01, seconds(5));
        assert_eq!(herd.world.ledger.failed(), failed);
        assert_eq!(herd.commands(PG01, is_stop), 0);
        herd.runs(seconds(60));
        goes_unnoticed(&mut herd, Some(PG02), seconds(3));
    }

    fn a_candidate_that_is_lost_before_the_stop_has_it_given_up() {
        let mut herd = Herd::of(3);
        herd.next_goes(LONG, Trick::Hangs).orders(Order::Switchover { to: Some(node(PG02)) });
        until(&mut herd, PG01, is_quiesce);
        assert!(herd.served().is_none() && herd.keeps_connections());
        herd.kill(PG02);
        let told = herd.verdict(seconds(1)).expect_err("it is lost");
        assert!(told.contains("node 1 refuses connections"), "{told}");
        herd.keeps(PG01, seconds(5));
    }

    fn a_pause_before_the_stop_ends_it() {
        let mut herd = Herd::of(3);
        herd.next_goes(LONG, Trick::Hangs).orders(Order::Switchover { to: None });
        until(&mut herd, PG01, is_quiesce);
        let told = herd.orders(Order::Pause).verdict(seconds(1)).expect_err("it is paused");
        assert!(told.contains("paused"), "{told}");
        herd.keeps(PG01, seconds(5));
    }

    fn a_primary_that_cannot_be_reached_over_ssh_goes_on() {
        for step in [Step::Rehearse, Step::Stop] {
            let mut herd = Herd::of(3);
            let told = herd.next_goes(step, Trick::Fails).switches_over(Some(PG02), seconds(3));
            assert!(told.is_err_and(|why| why.contains("sshd takes no command")), "{}", herd.story());
            herd.keeps(PG01, seconds(5));
        }
    }

    fn a_primary_that_dies_meanwhile_is_replaced_like_any_other() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Checkpoint, Trick::Hangs).orders(Order::Switchover { to: Some(node(PG03)) });
        herd.runs(millis(200)).kill(PG01);
        herd.verdict(seconds(1)).expect_err("it has failed");
        herd.serves(PG02, seconds(1));
    }

    fn a_promotion_by_somebody_else_is_followed() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Checkpoint, Trick::Hangs).orders(Order::Switchover { to: Some(node(PG02)) });
        herd.runs(millis(200)).usurp(PG02).serves(PG02, seconds(15));
        herd.verdict(seconds(1)).expect_err("somebody else has promoted");
    }

    fn a_stop_that_is_not_heard_of_and_did_not_take_place_is_none() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Stop, Trick::Hangs).switches_over(Some(PG02), seconds(8)).expect_err("unknown");
        herd.serves(PG01, seconds(1));
        herd.keeps(PG01, seconds(20));
    }

    fn a_stop_that_is_not_heard_of_and_took_place_is_a_lost_primary() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Stop, Trick::Unheard).switches_over(Some(PG03), seconds(8)).expect_err("unknown");
        herd.serves(PG02, seconds(2));
        herd.rests(seconds(40));
    }

    fn a_primary_that_hangs_in_its_stop_is_fenced_and_replaced() {
        let mut herd = Herd::with(Plan { stop_takes: Some(seconds(60)), ..Plan::quiet(3) });
        herd.switches_over(Some(PG03), seconds(8)).expect_err("it hangs");
        herd.serves(PG02, seconds(5));
        herd.has_all_commits();
        herd.rests(seconds(40));
    }

    fn where_no_standby_has_the_last_record_the_old_primary_is_started_again() {
        let mut herd = herd_that_commits_every(3, 2);
        herd.orders(Order::Switchover { to: None });
        until(&mut herd, PG01, is_stop);
        herd.world.servers[PG02].lagging = true;
        let told = herd.verdict(seconds(2)).expect_err("it lacks the last record");
        assert!(told.contains("must have the record at") && told.contains("node 0 is started again"), "{told}");
        herd.serves(PG01, seconds(4));
        herd.world.servers[PG02].lagging = false;
        herd.has_all_commits();
        herd.rests(seconds(40));
        assert_eq!((herd.promotions(), herd.commands(PG01, is_start)), (0, 1));
    }

    /// What was ordered can only be had from the first; that the second comes instead is told.
    fn where_the_named_one_lacks_the_last_record_another_that_has_it_takes_over() {
        let mut herd = herd_that_commits_every(3, 3);
        herd.orders(Order::Switchover { to: Some(node(PG02)) });
        until(&mut herd, PG01, is_stop);
        herd.world.servers[PG02].lagging = true;
        let told = herd.verdict(seconds(2)).expect("another has it");
        assert!(told.contains("node 2 is the primary"), "{told}");
        herd.world.servers[PG02].lagging = false;
        herd.has_all_commits();
        herd.rests(seconds(40));
    }

    fn a_candidate_that_does_not_promote_makes_way_for_another() {
        let mut herd = Herd::of(3);
        let told = herd.next_goes(Step::Promote, Trick::Fails).switches_over(Some(PG03), seconds(3));
        assert!(told.is_ok_and(|told| told.contains("node 1 is the primary")), "{}", herd.story());
        herd.has_all_commits();
    }

    fn where_nobody_can_be_promoted_after_all_the_old_primary_is_started_again() {
        for step in [Step::Freeze, Step::Lock, Step::Promote] {
            let mut herd = Herd::of(2);
            herd.next_goes(step, Trick::Fails).switches_over(Some(PG02), seconds(3)).expect_err("it fails");
            herd.serves(PG01, seconds(8));
            herd.has_all_commits();
            herd.rests(seconds(40));
        }
    }

    /// A fence would end its start.
    fn an_old_primary_that_takes_long_to_start_again_is_waited_for() {
        let mut plan = Plan::quiet(2);
        plan.settings.start_grace = seconds(60);
        let mut herd = Herd::with(plan);
        herd.world.plan.slow_starts = 100;
        herd.next_goes(Step::Freeze, Trick::Fails).switches_over(None, seconds(3)).expect_err("it fails");
        herd.serves(PG01, seconds(50));
        assert_eq!(herd.commands(PG01, |step| *step == Step::Fence), 0, "{}", herd.story());
        assert_eq!(herd.promotions(), 0);
    }

    /// What a server said before it was stopped says nothing of it.
    fn a_primary_that_was_stopped_before_it_could_be_asked_again_does_not_lead() {
        let mut herd = Herd::of(3);
        herd.orders(Order::Switchover { to: Some(node(PG02)) });
        until(&mut herd, PG01, is_stop);
        herd.world.network.slowness[PG01] = millis(500);
        herd.verdict(seconds(3)).expect("it is done");
        assert_eq!(herd.served(), Some(PG02), "{}", herd.story());
        herd.has_all_commits();
    }

    fn an_old_primary_that_cannot_be_started_again_is_replaced_like_any_other() {
        let mut herd = Herd::of(2);
        herd.next_goes(Step::Freeze, Trick::Fails).next_goes(Step::Start, Trick::Fails);
        herd.switches_over(None, seconds(3)).expect_err("it fails");
        herd.serves(PG02, seconds(8));
        herd.has_all_commits();
    }

    fn an_old_primary_that_somebody_starts_meanwhile_is_served_or_rejoined() {
        for delay in [0, 50, 100, 200, 400, 800] {
            let mut herd = Herd::of(3);
            herd.orders(Order::Switchover { to: Some(node(PG02)) });
            until(&mut herd, PG01, is_stop);
            herd.until(|herd| !herd.world.servers[PG01].responds());
            herd.runs(millis(delay)).start(PG01);
            herd.rests(seconds(60)).has_all_commits();
        }
    }

    fn wherever_pgherd_dies_its_successor_brings_the_herd_to_rest() {
        for lived in (0..1_200).step_by(40) {
            let mut herd = herd_that_commits_every(3, 3);
            herd.orders(Order::Switchover { to: Some(node(PG03)) });
            herd.runs(millis(lived)).pgherd_dies().runs(seconds(1)).pgherd_starts();
            herd.rests(seconds(100)).has_all_commits();
        }
    }

    fn wherever_the_candidate_dies_another_leads() {
        for lived in (0..1_200).step_by(60) {
            let mut herd = herd_that_commits_every(3, 3);
            herd.orders(Order::Switchover { to: Some(node(PG03)) });
            if herd.runs(millis(lived)).served() == Some(PG03) {
                break;
            }
            herd.kill(PG03).runs(seconds(20));
            assert!(herd.served().is_some_and(|it| it != PG03), "{}", herd.story());
            herd.start(PG03).rests_but(&[PG03], seconds(60)).has_all_commits();
        }
    }

    fn wherever_the_primary_is_cut_off_from_pgherd_no_commit_is_lost() {
        for lived in (0..1_200).step_by(60) {
            let mut herd = herd_that_commits_every(3, 3);
            herd.orders(Order::Switchover { to: Some(node(PG03)) });
            herd.runs(millis(lived)).part(Whom::Pgherd, Whom::This(PG01), Packets::Both);
            herd.runs(seconds(20)).heal().rests(seconds(90)).has_all_commits();
        }
    }

    /// Both see the same servers, and the order reaches both.
    fn two_pgherds_that_are_ordered_at_once_promote_one_server() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::SecondPgherd { lasts: seconds(1000) }).runs(seconds(12));
        herd.strikes(Fault::Ordered(Order::Switchover { to: Some(NodeId(1)) })).runs(seconds(30));
        assert!(herd.promotions() <= 1, "{}", herd.story());
        assert!(herd.commands(PG03, is_promote) == 0, "{}", herd.story());
        herd.rests(seconds(60)).has_all_commits();
    }
}
