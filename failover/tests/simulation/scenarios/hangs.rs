//! pgherd itself hangs for a while, and goes on: what it has seen before, and what it hears first, is old.

use pgherd_failover::{Order, StateName, Step};

use super::herd::{Herd, PG01, PG02, is_promote, millis, seconds};
use super::stories;
use crate::model::Time;
use crate::plan::{Fault, Plan, Whom};
use crate::world::Happening;

const LONG: Time = seconds(30);

fn hangs(herd: &mut Herd, lasts: Time) {
    let pgherd = herd.world.living().unwrap();
    herd.strikes(Fault::HangPgherd { pgherd, lasts });
}

stories! {
    /// The primary is back before pgherd goes on, wherever in the failover that hangs.
    fn a_pgherd_that_hangs_in_a_failover_promotes_nobody_beside_a_primary_that_came_back() {
        for after in (0..500).step_by(3) {
            let mut herd = Herd::of(3);
            herd.kill(PG01).runs(millis(after));
            let before = herd.commands(PG02, is_promote);
            hangs(&mut herd, LONG);
            herd.runs(seconds(1));
            if before > 0 || herd.promotions() > 0 {
                break;
            }
            herd.start(PG01).runs(LONG);
            assert_eq!(herd.commands(PG02, is_promote), 0, "{after}\n{}", herd.story());
            herd.serves(PG01, seconds(20));
            herd.rests(seconds(60));
        }
    }

    /// What a standby was asked, and what it said, is long over.
    fn a_pgherd_that_hangs_while_it_confirms_asks_again() {
        let mut herd = Herd::with(Plan { receiver_timeout: seconds(60), ..Plan::quiet(3) });
        herd.freeze(PG01).runs(seconds(6));
        assert_eq!(herd.state().0, StateName::Confirm, "{}", herd.story());
        hangs(&mut herd, LONG);
        herd.runs(seconds(9)).thaw(PG01).runs(LONG - seconds(9)).serves(PG01, millis(5));
        assert_eq!(herd.commands(PG01, |step| *step == Step::Fence), 0, "{}", herd.story());
    }

    /// What the standbys held when they were frozen says nothing: they have received more since.
    fn a_comparison_from_before_a_hang_is_void() {
        let mut herd = Herd::of(3);
        herd.kill(PG01);
        herd.until(|herd| herd.commands(PG02, |step| *step == Step::Lock) > 0);
        hangs(&mut herd, LONG);
        herd.runs(LONG).serves(PG02, seconds(2));
        assert_eq!(herd.commands(PG02, |step| *step == Step::Freeze), 2, "{}", herd.story());
    }

    /// An operator has cloned it meanwhile: that it was writable is what pgherd hears first.
    fn a_server_is_not_stopped_for_what_it_was_before_a_hang() {
        let mut herd = Herd::of(2);
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.runs(seconds(5));
        let fences = |herd: &Herd| herd.commands(PG01, |step| *step == Step::Fence);
        let before = fences(&herd);
        hangs(&mut herd, LONG);
        herd.start(PG01).runs(seconds(3));
        let (pgherd, event) = (herd.world.living().unwrap(), Box::new(herd.answer_of(PG01)));
        herd.world.after(Time::ZERO, Happening::Stale { pgherd, event });
        herd.world.clone_from(PG01, PG02);
        herd.runs(LONG).rests(seconds(5));
        assert_eq!(fences(&herd), before, "{}", herd.story());
    }

    /// It was about to be taken for well again; what it said then is what pgherd hears first.
    fn a_primary_that_was_lost_while_pgherd_hung_is_not_served_by_what_it_said_before() {
        let mut herd = Herd::of(3);
        herd.freeze(PG01).until(|herd| herd.state().0 == StateName::Suspect).thaw(PG01);
        let (pgherd, event) = (herd.world.living().unwrap(), Box::new(herd.answer_of(PG01)));
        hangs(&mut herd, LONG);
        herd.world.after(Time::ZERO, Happening::Stale { pgherd, event });
        herd.kill(PG01);
        while herd.served() != Some(PG02) {
            assert!(herd.served().is_none() && herd.world.now < seconds(60), "{}", herd.story());
            herd.runs(Time::from_micros(200));
        }
    }

    /// Nobody has asked it meanwhile.
    fn a_hang_of_pgherd_is_no_silence_of_the_primary() {
        let mut herd = Herd::with(Plan { wire: (300, 400), ..Plan::quiet(3) });
        herd.until(|herd| herd.world.now.subsec_millis() % 500 == 0);
        // It is being asked.
        herd.freeze(PG01).runs(millis(2));
        hangs(&mut herd, LONG);
        herd.runs(millis(10)).thaw(PG01).runs(LONG - seconds(1)).freeze(PG01).runs(seconds(3));
        assert_eq!(herd.state().0, StateName::Suspect, "{}", herd.story());
        herd.thaw(PG01).serves(PG01, seconds(2));
    }

    /// Whoever is connected to the primary itself may have begun a transaction since.
    fn a_switchover_is_given_up_if_pgherd_hangs_in_it() {
        let mut herd = Herd::of(3);
        herd.strikes(Fault::Busy { whom: Whom::This(PG01), lasts: seconds(1) });
        herd.orders(Order::Switchover { to: None });
        herd.until(|herd| herd.commands(PG01, |step| matches!(step, Step::Quiesce { .. })) > 0);
        hangs(&mut herd, seconds(9));
        let told = herd.verdict(seconds(12)).expect_err("it hung");
        assert!(told.contains("pgherd itself has hung"), "{told}");
        herd.keeps(PG01, seconds(5));
    }

    /// It had asked everybody, and had the answers yet to read.
    fn a_pgherd_that_hangs_at_its_start_serves_nobody_by_answers_from_before() {
        for after in 0..10 {
            let mut herd = Herd::without_pgherd(Plan::quiet(3));
            herd.pgherd_starts().runs(millis(after));
            if herd.served().is_some() {
                break;
            }
            hangs(&mut herd, LONG);
            herd.runs(millis(20)).kill(PG01).usurp(PG02).runs(LONG - millis(30));
            herd.until(|herd| herd.served().is_some());
            assert_eq!(herd.served(), Some(PG02), "{after}\n{}", herd.story());
        }
    }
}
