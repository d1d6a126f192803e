//! What goes through does not depend on how the streams are cut.

use proptest::prelude::*;
use proptest::sample::select;

use super::A;
use super::play::cases;
use super::scripts::{Profile, Script, script};
use super::step::Step;
use super::world::{World, session_mode, transaction_mode};
use crate::error::{ClientError, Severity};
use crate::write;

const PROFILE: Profile =
    Profile { sessions: true, resets: false, long: 3000, is_patient: false, asks: true, last_number: 0 };

/// What a server says out of turn.
fn aside() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(vec![b'A', 0, 0, 0, 12, 0, 0, 0, 1, b'c', 0, b'p', 0]),
        1 => (1..300_usize).prop_map(|len| {
            let mut notice = Vec::new();
            ClientError::new("00000", "n".repeat(len)).write(&mut notice, Severity::Error);
            notice[0] = b'N';
            notice
        }),
        1 => Just(()).prop_map(|()| {
            let mut status = Vec::new();
            write::parameter_status(&mut status, "TimeZone", "UTC");
            status
        }),
    ]
}

/// The server answers a phase of the script only when all of it has arrived. Gives what it got, and what the client got.
fn converse(mut world: World, script: &Script, asides: &[Vec<u8>], cuts: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let mut cuts = cuts.iter().copied().cycle();
    let mut asides = asides.iter().cycle();
    world.client(A);
    for phase in script {
        let bytes = phase.iter().flat_map(|sent| &sent.bytes);
        world.client(A).sent.extend(bytes);
        while world.step(A, Step::Read(cuts.next().unwrap())) | world.step(A, Step::Forward(usize::MAX)) {}
        if let Some(server) = world.held(A) {
            world.server(server).says(asides.next().unwrap());
        }
        while world.step(A, Step::Serve(usize::MAX)) {}
        while world.step(A, Step::Return(cuts.next().unwrap())) | world.step(A, Step::Reply(usize::MAX)) {}
    }
    let requests = world.servers.iter().flat_map(|server| server.got.clone()).collect();
    (requests, std::mem::take(&mut world.client(A).got))
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn bytes_do_not_depend_on_cuts(
        script in script(PROFILE, 1..20),
        asides in prop::collection::vec(aside(), 1..5),
        cuts in prop::collection::vec(prop_oneof![Just(1_usize), 1..5_usize, 1..300_usize], 1..10),
        capacity in select(vec![48_usize, 61, 100, 333, 2048, 16 * 1024]),
        pooled in any::<bool>(),
    ) {
        let world = || if pooled { transaction_mode() } else { session_mode() }.with_capacity(capacity);
        let whole = converse(world(), &script, &asides, &[usize::MAX]);
        let cut = converse(world(), &script, &asides, &cuts);
        prop_assert_eq!(whole.0.escape_ascii().to_string(), cut.0.escape_ascii().to_string(), "to the server");
        prop_assert_eq!(whole.1.escape_ascii().to_string(), cut.1.escape_ascii().to_string(), "to the client");
    }
}
