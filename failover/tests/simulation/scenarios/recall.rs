//! A primary that a pgherd has stopped for a switchover, or has fenced, before it died.

use pgherd_failover::{Errand, Mode, Order, Step, Terms};

use super::herd::{Herd, PG01, PG02, PG03, millis, seconds};
use super::stories;
use crate::model::{Id, Process, What, node};
use crate::plan::Plan;

/// The primary is stopped for another, and the pgherd that did so is gone.
fn stopped_by_one_that_died(plan: Plan, to: Id) -> Herd {
    stopped_while(plan, to, |_| {})
}

fn stopped_while(plan: Plan, to: Id, also: impl FnOnce(&mut Herd)) -> Herd {
    let mut herd = Herd::with(plan);
    herd.orders(Order::Switchover { to: Some(node(to)) });
    herd.until(|herd| herd.commands(PG01, |step| *step == Step::Stop) > 0);
    also(&mut herd);
    herd.pgherd_dies().runs(seconds(1));
    assert!(herd.world.servers[PG01].recalled_at().is_some(), "{}", herd.story());
    herd
}

/// The old primary is back beside the next one, has written so much, and is fenced, and the pgherd that did so is gone.
fn fenced_by_one_that_died(plan: Plan, written: u64) -> Herd {
    let mut herd = Herd::with(plan);
    herd.kill(PG01).serves(PG02, seconds(20));
    herd.runs(seconds(30)).start(PG01).until(|herd| herd.world.servers[PG01].is_up());
    herd.world.append(PG01, written, What::Other);
    dies_of_the_fence(&mut herd);
    herd
}

fn dies_of_the_fence(herd: &mut Herd) {
    herd.until(|herd| herd.world.servers[PG01].fenced);
    herd.pgherd_dies().runs(seconds(1));
    assert!(herd.world.servers[PG01].fenced, "{}", herd.story());
}

fn is_rejoined(herd: &Herd) -> bool {
    rejoins(herd, PG01) > 0
}

fn rejoins(herd: &Herd, id: Id) -> usize {
    herd.commands(id, |step| matches!(step, Step::Rejoin { .. }))
}

fn is_started(herd: &Herd) -> bool {
    herd.commands(PG01, |step| *step == Step::Start) > 0
}

stories! {
    fn it_comes_back_by_itself_as_a_standby_of_the_next_primary() {
        for servers in 2..=4 {
            let mut herd = stopped_by_one_that_died(Plan::quiet(servers), PG02);
            herd.pgherd_starts().rests(seconds(40)).has_all_commits();
            assert!(herd.served() != Some(PG01) && is_rejoined(&herd), "{}", herd.story());
        }
    }

    /// Whoever stops a server may be at work on it.
    fn one_that_somebody_else_has_stopped_stays_down() {
        let mut herd = Herd::of(3);
        herd.stop(PG01).runs(seconds(120));
        assert!(herd.served() == Some(PG02) && !is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
        herd.pgherd_dies().pgherd_starts().runs(seconds(120));
        assert!(!is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
    }

    /// The next primary lacks the end of it: what it has would be lost.
    fn one_with_wal_of_its_own_is_left_to_an_operator() {
        let plan = Plan { commit_every: 3, ..Plan::quiet(2) };
        let mut herd = stopped_while(plan, PG02, |herd| herd.world.servers[PG02].lagging = true);
        herd.pgherd_starts().serves(PG02, seconds(40));
        herd.world.servers[PG02].lagging = false;
        herd.runs(seconds(60));
        assert!(!is_rejoined(&herd) && herd.warns("an operator must rejoin it"), "{}", herd.story());
    }

    /// The mark of an earlier stop says nothing of a later one.
    fn one_that_has_run_since_stays_down_when_it_is_stopped_again() {
        let mut herd = stopped_by_one_that_died(Plan::quiet(3), PG02);
        herd.start(PG01).runs(seconds(5)).pgherd_starts().serves(PG01, seconds(20));
        herd.pgherd_dies().stop(PG01).runs(seconds(2)).pgherd_starts().runs(seconds(60));
        assert!(!is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
    }

    fn where_nobody_may_be_promoted_it_is_started_again() {
        let mut plan = Plan::quiet(3);
        plan.settings.mode = Mode::Manual;
        let mut herd = stopped_by_one_that_died(plan, PG03);
        herd.pgherd_starts().serves(PG01, seconds(40));
        herd.rests(seconds(40)).has_all_commits();
        assert!(herd.promotions() == 0 && is_started(&herd), "{}", herd.story());
    }

    fn it_is_not_started_where_a_repmgrd_decides_or_an_operator_has_paused_failover() {
        for paused in [false, true] {
            let mut herd = stopped_by_one_that_died(Plan::quiet(3), PG03);
            herd.world.servers[PG02].repmgrd = !paused;
            herd.pgherd_starts();
            if paused {
                herd.orders(Order::Pause);
            }
            herd.runs(seconds(60));
            assert!(herd.served().is_none() && !is_started(&herd) && !is_rejoined(&herd), "{}", herd.story());
        }
    }

    /// It may have been promoted, and have taken writes that nobody else has.
    fn it_is_not_started_beside_a_server_that_is_down() {
        for promoted in [false, true] {
            let mut plan = Plan::quiet(3);
            plan.settings.mode = Mode::Manual;
            let mut herd = stopped_by_one_that_died(plan, PG02);
            if promoted {
                herd.usurp(PG02).runs(seconds(2));
            }
            herd.kill(PG02).pgherd_starts().runs(seconds(60));
            assert!(herd.served().is_none() && !is_started(&herd), "{}", herd.story());
            herd.start(PG02);
            if promoted {
                herd.serves(PG02, seconds(20));
            }
            herd.rests(seconds(60));
        }
    }

    fn a_false_primary_that_was_fenced_comes_back_by_itself() {
        for servers in 2..=4 {
            let mut herd = fenced_by_one_that_died(Plan::quiet(servers), 100);
            herd.pgherd_starts().serves(PG02, seconds(20));
            herd.rests(seconds(40)).has_all_commits();
            assert!(is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
        }
    }

    fn a_false_primary_that_was_fenced_with_much_wal_of_its_own_is_left_to_an_operator() {
        let mut herd = fenced_by_one_that_died(Plan::quiet(3), 2 << 20);
        herd.pgherd_starts().serves(PG02, seconds(20));
        herd.runs(seconds(90));
        let why = "it has more WAL of its own than failover.max_data_loss: an operator must rejoin it";
        assert!(!is_rejoined(&herd) && herd.warns(why), "{}", herd.story());
        let rejoin = |accept_data_loss| Order::Rejoin { node: node(PG01), accept_data_loss, reclone: false };
        let refused = herd.orders(rejoin(false)).told(Errand::Rejoin(node(PG01)), millis(5));
        assert!(refused.is_err_and(|why| why.contains("bytes of WAL of its own, from")), "{}", herd.story());
        let told = herd.orders(rejoin(true)).told(Errand::Rejoin(node(PG01)), seconds(40));
        let told = told.expect("it is rejoined");
        assert!(told.starts_with("node 0 follows node 1; it lost 20"), "{told}");
        herd.rests(seconds(20));
    }

    /// What was down was not ended by a pgherd, and neither was what somebody else was about to stop.
    fn one_that_was_down_or_on_its_way_down_when_it_was_fenced_stays_down() {
        for stops in [false, true] {
            let mut herd = Herd::with(Plan { stop_takes: Some(seconds(40)), ..Plan::quiet(3) });
            herd.kill(PG01).serves(PG02, seconds(20));
            herd.runs(seconds(30));
            let fences = |herd: &Herd| herd.commands(PG01, |step| *step == Step::Fence);
            assert_eq!(fences(&herd), 1, "{}", herd.story());
            if stops {
                herd.start(PG01).until(|herd| fences(herd) == 2);
                herd.stop(PG01).until(|herd| herd.world.servers[PG01].process == Process::Down);
            }
            herd.pgherd_dies().runs(seconds(1)).pgherd_starts().runs(seconds(90));
            assert!(!is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
        }
    }

    fn one_that_was_fenced_and_has_run_since_stays_down_when_it_is_stopped_again() {
        let mut herd = fenced_by_one_that_died(Plan::quiet(3), 100);
        herd.start(PG01).runs(seconds(5)).stop(PG01).runs(seconds(2)).pgherd_starts().runs(seconds(90));
        assert!(!is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
    }

    /// It was given up: whoever was to lead next may have taken writes, and be down.
    fn a_primary_that_was_fenced_is_never_started_as_one() {
        let mut plan = Plan::quiet(3);
        plan.settings.mode = Mode::Manual;
        let mut herd = Herd::with(plan);
        herd.pgherd_dies().kill(PG01);
        herd.world.servers[PG01].fenced = true;
        herd.pgherd_starts().runs(seconds(60));
        assert!(herd.served().is_none() && !is_started(&herd) && !is_rejoined(&herd), "{}", herd.story());
        herd.orders(Order::Failover(Terms { accept_data_loss: true, ..Terms::default() }));
        herd.rests(seconds(60));
        assert!(herd.served() != Some(PG01) && is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
    }

    /// It was to be promoted, and the old primary was back before.
    fn a_standby_that_was_fenced_comes_back_by_itself() {
        for ahead in [false, true] {
            let mut herd = Herd::of(3);
            herd.pgherd_dies().kill(PG03);
            herd.world.servers[PG03].fenced = true;
            if ahead {
                herd.world.append(PG03, 1 << 20, What::Other);
            }
            herd.pgherd_starts().serves(PG01, seconds(20));
            herd.runs(seconds(60));
            let why = "as the primary, which has not come so far: an operator must rejoin it";
            let outcome = (rejoins(&herd, PG03), herd.warns(why));
            assert_eq!(outcome, (usize::from(!ahead), ahead), "{}", herd.story());
        }
    }

    /// Another may have been promoted at the same place, to a timeline of the same number.
    fn one_that_was_fenced_when_it_was_writable_on_the_timeline_of_the_primary_is_left_to_an_operator() {
        let mut herd = Herd::of(3);
        herd.pgherd_dies().kill(PG03);
        herd.world.servers[PG03].fenced = true;
        herd.world.servers[PG03].standby = false;
        herd.pgherd_starts().serves(PG01, seconds(20));
        herd.runs(seconds(60));
        let why = "as the primary, though it was writable itself: an operator must rejoin it";
        assert!(rejoins(&herd, PG03) == 0 && herd.warns(why), "{}", herd.story());
    }

    fn a_primary_that_was_fenced_for_another_follows_whoever_leads_next() {
        let mut herd = Herd::of(3);
        herd.freeze(PG01);
        dies_of_the_fence(&mut herd);
        herd.pgherd_starts().rests(seconds(60));
        assert!(herd.served() != Some(PG01) && is_rejoined(&herd) && !is_started(&herd), "{}", herd.story());
    }
}
