//! Every hold that an operator has to end, and the order that ends it.

use pgherd_failover::{Order, StateName, Step, Terms};
use pgherd_health::TimelineId;

use super::herd::{Herd, LOSSY, PG01, PG02, PG03, millis, seconds};
use super::stories;
use crate::model::node;
use crate::plan::{Packets, Whom};

const ACCEPTED: Order = Order::Failover(LOSSY);

/// Two servers, each promoted from the first timeline beside the other, at one point of it or at two.
fn forks(equal: bool) -> Herd {
    let mut herd = Herd::of(3);
    if !equal {
        herd.world.servers[PG03].lagging = true;
        herd.runs(seconds(2));
    }
    herd.pgherd_dies().kill(PG01).usurp(PG02).runs(seconds(2)).usurp(PG03).runs(seconds(2)).pgherd_starts();
    herd
}

stories! {
    fn of_diverged_forks_the_operator_chooses() {
        for (chosen, equal) in [(PG02, false), (PG03, false), (PG02, true)] {
            let mut herd = forks(equal);
            herd.holds("accept writes on a fork", seconds(2));
            herd.runs(seconds(60)).chooses(chosen, false).serves(chosen, seconds(1));
            herd.keeps(chosen, seconds(20));
        }
    }

    fn a_fork_is_not_chosen_by_a_number_that_another_has_too() {
        let mut herd = forks(false);
        herd.holds("accept writes on a fork", seconds(2));
        let terms = Terms { accept_timeline: Some(TimelineId(2)), ..Terms::default() };
        let told = herd.orders(Order::Failover(terms)).verdict(millis(5)).expect_err("there are two");
        assert!(told.contains("timeline 2 is not the same everywhere: name a server"), "{told}");
    }

    fn a_fork_that_was_given_up_is_no_rival_of_a_later_primary_either() {
        let mut herd = forks(false);
        herd.holds("accept writes on a fork", seconds(2)).kill(PG03);
        herd.chooses(PG02, false).serves(PG02, seconds(2));
        herd.start(PG01).rests_but(&[PG03], seconds(60)).runs(seconds(1));
        herd.kill(PG02).serves(PG01, seconds(5));
        herd.start(PG03).keeps(PG01, seconds(20));
    }

    fn a_fork_that_falls_silent_does_not_settle_the_matter() {
        for equal in [false, true] {
            let mut herd = forks(equal);
            herd.holds("accept writes on a fork", seconds(2));
            herd.kill(PG03).holds("another, which does not answer now, was writable on another", seconds(2));
            herd.chooses(PG02, false).serves(PG02, seconds(1));
        }
    }

    fn a_hold_stays_and_shows_its_reason() {
        let mut herd = forks(false);
        herd.holds("accept writes on a fork", seconds(2));
        let changes = herd.world.pgherds[1].machine.history().iter().count();
        herd.runs(seconds(60));
        assert_eq!(herd.state().0, StateName::Hold);
        assert_eq!(herd.world.pgherds[1].machine.history().iter().count(), changes);
    }

    fn a_superseded_primary_that_standbys_follow_is_the_operators_to_judge() {
        let mut herd = Herd::of(4);
        herd.usurp(PG02).holds("node 0 is superseded but still has standbys that stream from it", seconds(2));
        herd.chooses(PG01, false).serves(PG01, seconds(1));
        herd.keeps(PG01, seconds(30));
    }

    fn a_superseded_primary_with_much_wal_of_its_own_is_the_operators_to_judge() {
        let mut herd = Herd::with_much_beside();
        herd.holds("bytes of WAL of its own, more than failover.max_data_loss", seconds(3));
        herd.chooses(PG02, false).serves(PG02, seconds(2));
        herd.runs(seconds(10));
        assert!(herd.warns("an operator must rejoin it"), "{}", herd.story());
    }

    fn a_later_timeline_that_was_seen_once_is_not_forgotten() {
        let mut herd = Herd::of(3);
        herd.kill(PG03).runs(seconds(2)).usurp(PG02);
        herd.until(|herd| herd.state().0 == StateName::Discover);
        herd.isolate(Whom::This(PG02)).runs(seconds(5));
        assert_eq!(herd.served(), None, "{}", herd.story());
        herd.holds("a later timeline was seen, of which no server answers", seconds(20));
        herd.chooses(PG01, false).serves(PG01, seconds(3));
    }

    fn where_the_last_primary_is_lost_for_good_an_older_standby_needs_an_order() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Follow { upstream: node(PG02) }, crate::world::Trick::Fails);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(1)).kill(PG02);
        herd.holds("node 2 has not followed the last promotion", seconds(3));
        herd.runs(seconds(20));
        assert_eq!(herd.promotions(), 1);
        herd.orders(ACCEPTED).serves(PG03, seconds(3));
        // What the operator has given up is no rival when it comes back.
        herd.keeps(PG03, seconds(20)).start(PG02).keeps(PG03, seconds(20));
        assert!(herd.warns("node 1: it has more WAL of its own than failover.max_data_loss"), "{}", herd.story());
    }

    fn where_only_diverged_standbys_are_left_one_needs_an_order() {
        let mut herd = Herd::of(3);
        // pg03 has WAL of the first timeline that pg02 never had.
        herd.world.servers[PG02].lagging = true;
        herd.runs(seconds(1)).isolate(Whom::This(PG03)).pgherd_dies().kill(PG01).usurp(PG02).pgherd_starts();
        herd.serves(PG02, seconds(12));
        herd.kill(PG02).heal();
        herd.holds("nobody can be promoted: no standby answers", seconds(20));
        herd.orders(ACCEPTED).serves(PG03, seconds(3));
    }

    fn standbys_on_forks_with_nobody_writable_need_an_order() {
        let mut herd = forks(false);
        for id in [PG02, PG03] {
            herd.kill(id);
            herd.world.servers[id].standby = true;
            herd.world.servers[id].control_timeline = 2;
            herd.start(id);
        }
        herd.pgherd_dies().runs(seconds(3)).pgherd_starts();
        herd.holds("the standbys are on different forks, and none is writable", seconds(15));
        herd.chooses(PG03, true).serves(PG03, seconds(3));
    }

    fn where_no_server_has_ever_answered_it_waits() {
        let mut herd = Herd::of(2);
        herd.pgherd_dies().kill(PG01).kill(PG02).pgherd_starts();
        herd.holds("no server has answered yet", seconds(12));
        herd.start(PG02).start(PG01).serves(PG01, seconds(5));
    }

    fn a_primary_that_lacks_what_a_standby_of_its_timeline_has_is_the_operators_to_judge() {
        let mut herd = Herd::of(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        // pg03 has followed, and after a restart its control file does not tell so yet.
        herd.runs(seconds(3)).kill(PG03).kill(PG02).pgherd_dies();
        herd.world.servers[PG03].control_timeline = 1;
        herd.start(PG03).start(PG01).runs(seconds(3)).pgherd_starts();
        herd.holds("node 2 has WAL that node 0 has never written", seconds(5));
        herd.start(PG02).serves(PG02, seconds(5));
    }

    fn an_empty_cluster_under_a_known_name_is_never_admitted() {
        for id in [PG01, PG02, PG03] {
            let mut herd = Herd::of(3);
            herd.empty(id).runs(seconds(40));
            let expected = if id == PG01 { PG02 } else { PG01 };
            assert_eq!(herd.served(), Some(expected), "{}", herd.story());
            assert!(!herd.reads().contains(&id));
            assert!(herd.warns("belongs to another cluster") || id == PG01);
            assert_eq!(herd.commands(id, |step| matches!(step, Step::Fence | Step::Rejoin { .. })), 0);
        }
    }

    fn an_empty_cluster_that_is_up_first_is_not_taken_for_the_herd() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG01).kill(PG02).empty(PG03).runs(seconds(3)).pgherd_starts();
        herd.runs(seconds(5));
        assert_eq!(herd.served(), None, "{}", herd.story());
        assert!(herd.state().1.contains("the right cluster"), "{}", herd.state().1);
        herd.start(PG01).start(PG02).serves(PG01, seconds(5));
        assert_eq!(herd.reads(), [PG02]);
    }

    fn an_empty_cluster_and_one_standby_are_told_apart_by_repmgr() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG01).empty(PG03).runs(seconds(3)).pgherd_starts();
        herd.holds("acknowledged commits may be lost", seconds(12));
        herd.start(PG01).serves(PG01, seconds(3));
    }

    fn a_standby_with_wal_of_its_own_is_not_read_and_the_operator_is_told() {
        let mut herd = Herd::of(3);
        herd.world.detach(PG03, false);
        herd.world.servers[PG03].cut_off = true;
        let number = herd.world.number();
        herd.world.servers[PG03].wal.append(number, 100_000_000, crate::model::What::Other);
        herd.runs(seconds(3));
        assert_eq!(herd.reads(), [PG02], "{}", herd.story());
        assert!(herd.warns("node 2 is on a fork"));
        for _ in 0..100 {
            herd.runs(millis(97));
            assert_eq!(herd.reads(), [PG02]);
        }
        herd.kill(PG01).serves(PG02, seconds(1));
    }

    fn a_repair_that_fails_again_and_again_is_told_to_the_operator() {
        let mut herd = Herd::of(2);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.part(Whom::This(PG01), Whom::This(PG02), Packets::Both);
        herd.start(PG01).runs(seconds(100));
        assert!(herd.warns("attempts to repair it have failed, an operator must rejoin it"), "{}", herd.story());
        herd.heal().rests(seconds(300));
    }

    fn a_fence_that_succeeds_outweighs_an_older_answer() {
        let mut herd = Herd::of_any_pace(3);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(3)).orders(Order::Pause).kill(PG02).runs(seconds(1)).start(PG01);
        herd.holds("failover is paused", seconds(5));
        assert!(herd.world.servers[PG01].is_writable(), "superseded, and nobody fences it yet");
        herd.orders(Order::Resume).serves(PG03, seconds(2));
        herd.start(PG02).rests(seconds(60));
    }
}
