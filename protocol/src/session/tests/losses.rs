//! The server is lost at any byte: what the client is told is true.

use proptest::prelude::*;

use super::play::{cases, play, starts, turns};
use super::scripts::{Profile, script};
use super::server::Lifetime;
use super::world::transaction_mode;
use super::{A, oracle, wire};

const PROFILE: Profile =
    Profile { sessions: true, resets: false, long: 60, is_patient: true, asks: false, last_number: 0 };

fn lifetime() -> impl Strategy<Value = Lifetime> {
    let bytes = || prop_oneof![0..40_usize, 0..1500_usize];
    let farewell = any::<bool>();
    (bytes(), bytes(), farewell).prop_map(|(requests, replies, farewell)| Lifetime {
        requests,
        replies,
        farewell,
    })
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn nothing_is_told_that_is_not_known_to_be_true(
        script in script(PROFILE, 1..25),
        lifetimes in prop::collection::vec(lifetime(), 1..4),
        turns in turns(1, 1),
        starts in starts(1),
    ) {
        let mut world = transaction_mode().with_lifetimes(&lifetimes);
        play(&mut world, std::slice::from_ref(&script), &turns, &starts);
        let answers = wire::replies(&world.clients[A].got);
        let sent: Vec<_> = script.iter().flatten().collect();
        println!("{answers:#?}");
        let told = oracle::read(&sent, &answers, world.is_gone(A));
        let committed = &world.database.borrow().committed;
        prop_assert!(told.committed.is_subset(committed), "{told:?} {committed:?}\n{script:#?}\n{answers:#?}");
        prop_assert!(told.rolled_back.is_disjoint(committed), "{told:?} {committed:?}\n{script:#?}\n{answers:#?}");
    }
}
