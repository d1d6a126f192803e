//! A primary that a pgherd has stopped for a switchover before it died.

use pgherd_failover::{Mode, Order, Step};

use super::herd::{Herd, PG01, PG02, PG03, seconds};
use super::stories;
use crate::model::{Id, node};
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

fn is_rejoined(herd: &Herd) -> bool {
    herd.commands(PG01, |step| matches!(step, Step::Rejoin { .. })) > 0
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
}
