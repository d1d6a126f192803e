//! What is known of the servers, and for how long: it decides who is served, read and waited for.

use pgherd_failover::{Order, Step};
use pgherd_health::NodeId;

use super::herd::{Herd, PG01, PG02, PG03, PG04, millis, seconds};
use super::stories;
use crate::model::{Time, What, repmgr_id};
use crate::plan::{Plan, Whom};
use crate::world::Trick;

/// A primary that hung, was fenced for that, and is cloned by an operator before pgherd can have it rejoined.
fn stopped_and_cloned() -> Herd {
    let mut herd = Herd::of(3);
    herd.next_goes(Step::Checkpoint, Trick::Hangs).freeze(PG01).serves(PG02, seconds(8));
    herd.runs(seconds(2)).world.clone_from(PG01, PG02);
    herd
}

const fn is_rejoin(step: &Step) -> bool {
    matches!(step, Step::Rejoin { .. })
}

stories! {
    /// It has forgotten its volume, and nobody else was on its timeline.
    fn a_replaced_primary_is_not_served_when_the_next_has_lost_its_data() {
        let mut herd = Herd::of(2);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5)).empty(PG02).runs(seconds(3)).start(PG01);
        herd.holds("a later timeline was seen, of which no server answers", seconds(20));
        herd.chooses(PG01, false).serves(PG01, seconds(3));
    }

    /// It was replaced while pgherd was away, and has written much since; who has replaced it is down.
    fn a_replaced_primary_with_much_wal_of_its_own_is_not_given_up_for_a_standby_of_the_next() {
        let mut herd = Herd::with(Plan { big_writes: 100, ..Plan::quiet(3) });
        herd.pgherd_dies().isolate(Whom::This(PG01)).runs(seconds(8)).usurp(PG02);
        let server = &mut herd.world.servers[PG03];
        server.upstream = Some(PG02);
        herd.world.reconnect(PG03, Time::ZERO);
        herd.runs(seconds(3));
        for _ in 0..3 {
            herd.world.append(PG01, 700_000, What::Other);
        }
        herd.heal().kill(PG02).pgherd_starts();
        herd.holds("bytes of WAL of its own, more than failover.max_data_loss", seconds(15));
        herd.runs(seconds(20));
        assert_eq!(herd.commands(PG01, |step| *step == Step::Fence), 0, "{}", herd.story());
    }

    /// An operator has cloned it meanwhile.
    fn a_server_that_pgherd_has_stopped_is_left_alone_when_it_is_back_and_lets_nobody_in() {
        let mut herd = stopped_and_cloned();
        herd.world.servers[PG01].unwilling = true;
        herd.runs(seconds(100));
        assert_eq!(herd.commands(PG01, is_rejoin), 0, "{}", herd.story());
        herd.world.servers[PG01].unwilling = false;
        herd.rests(seconds(20));
    }

    /// The same, and it streams from nobody before it is stopped again.
    fn a_server_that_has_run_since_pgherd_stopped_it_is_left_alone_when_somebody_stops_it() {
        let mut herd = stopped_and_cloned();
        herd.world.servers[PG01].upstream = None;
        herd.runs(seconds(4)).stop(PG01).runs(seconds(100));
        assert_eq!(herd.commands(PG01, is_rejoin), 0, "{}", herd.story());
    }

    /// Its volume is lost before pgherd can have it rejoined.
    fn a_server_that_pgherd_has_stopped_and_that_is_another_clusters_now_is_left_alone() {
        let mut herd = Herd::of(3);
        herd.next_goes(Step::Checkpoint, Trick::Hangs).freeze(PG01).serves(PG02, seconds(8));
        herd.runs(seconds(2)).empty(PG01).runs(seconds(100));
        assert_eq!(herd.commands(PG01, is_rejoin), 0, "{}", herd.story());
    }

    fn a_standby_that_repmgr_does_not_know_is_left_alone() {
        let mut herd = Herd::of(3);
        herd.world.change_rows(PG01, |rows| rows.retain(|row| row.node_id != repmgr_id(PG03)));
        herd.world.servers[PG03].upstream = None;
        herd.runs(seconds(2)).world.detach(PG03, true);
        herd.keeps(PG01, seconds(30));
        assert!(herd.world.runs.is_empty(), "{}", herd.story());
    }

    /// It has no place for pgherd, and then goes down for a moment.
    fn a_primary_that_let_nobody_in_before_has_its_grace_all_the_same() {
        let mut plan = Plan::quiet(3);
        plan.settings.restart_grace = seconds(5);
        let mut herd = Herd::with(plan);
        herd.world.servers[PG01].unwilling = true;
        herd.keeps(PG01, seconds(20)).kill(PG01).runs(seconds(1));
        herd.world.servers[PG01].unwilling = false;
        herd.start(PG01).serves(PG01, seconds(4));
        assert_eq!(herd.promotions(), 0);
    }

    /// That one is stopped, and need not be asked whether it is there.
    fn a_standby_that_hears_a_primary_that_was_replaced_is_no_reason_to_wait() {
        let mut herd = Herd::of_any_pace(4);
        for _ in 0..2 {
            herd.next_goes(Step::Follow { upstream: NodeId(1) }, Trick::Hangs);
        }
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.orders(Order::Pause).recovers_for(PG01, millis(1));
        for (standby, primary) in [(PG03, PG01), (PG04, PG02)] {
            let server = &mut herd.world.servers[standby];
            (server.cut_off, server.upstream) = (false, Some(primary));
            herd.world.reconnect(standby, millis(100));
        }
        herd.runs(seconds(3)).kill(PG02).holds("failover is paused", seconds(2));
        herd.next_goes(Step::CanLogIn { target: NodeId(1) }, Trick::Hangs).orders(Order::Resume);
        herd.serves(PG04, seconds(2));
    }

    fn a_standby_that_falls_silent_is_not_read_for_long() {
        let mut herd = Herd::of(3);
        herd.isolate(Whom::This(PG03)).runs(seconds(4));
        assert_eq!(herd.reads(), [PG02], "{}", herd.story());
    }

    fn a_standby_of_another_cluster_that_answers_first_is_not_read() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG01).kill(PG02);
        herd.world.servers[PG03].system_identifier += 1;
        herd.pgherd_starts();
        let end = herd.world.now + seconds(9);
        while herd.world.now < end {
            herd.runs(Time::from_millis(10));
            assert!(herd.reads().is_empty(), "{}", herd.story());
        }
    }
}
