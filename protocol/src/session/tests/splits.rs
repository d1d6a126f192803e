//! What goes through does not depend on how the streams are cut.

use proptest::prelude::*;
use proptest::sample::select;

use super::A;
use super::play::cases;
use super::scripts::{Profile, Script, script};
use super::step::Step;
use super::world::{CAPACITY, World, session_mode, transaction_mode};
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

/// What came of a conversation.
#[derive(Default)]
struct Heard {
    by_server: Vec<u8>,
    by_client: Vec<u8>,
    /// A message waited for answers of the server: what becomes of it and of those behind it depends on how far those have come.
    waits: bool,
}

/// The server answers a phase of the script only when all of it has arrived that does not wait for an answer.
fn converse(mut world: World, script: &Script, asides: &[Vec<u8>], cuts: &[usize]) -> Heard {
    let mut cuts = cuts.iter().copied().cycle();
    let mut asides = asides.iter().cycle();
    let mut heard = Heard::default();
    world.client(A);
    for phase in script {
        let bytes = phase.iter().flat_map(|sent| &sent.bytes);
        world.client(A).sent.extend(bytes);
        let mut aside = asides.next();
        loop {
            while world.step(A, Step::Read(cuts.next().unwrap())) | world.step(A, Step::Forward(usize::MAX)) {
            }
            if let (Some(server), Some(aside)) = (world.held(A), aside.take()) {
                world.server(server).says(aside);
            }
            let waits = world.clients[A].session.is_stalled();
            let mut moved = false;
            while world.step(A, Step::Serve(usize::MAX)) {
                moved = true;
            }
            while world.step(A, Step::Return(cuts.next().unwrap())) | world.step(A, Step::Reply(usize::MAX)) {
                moved = true;
            }
            if !waits || !moved {
                break;
            }
            heard.waits = true;
        }
    }
    heard.by_server = world.servers.iter().flat_map(|server| server.got.clone()).collect();
    heard.by_client = std::mem::take(&mut world.client(A).got);
    heard
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn bytes_do_not_depend_on_cuts(
        script in script(PROFILE, 1..20),
        asides in prop::collection::vec(aside(), 1..5),
        cuts in prop::collection::vec(prop_oneof![Just(1_usize), 1..5_usize, 1..300_usize], 1..10),
        capacity in select(vec![48_usize, 61, 100, 333, 2048, CAPACITY]),
        pooled in any::<bool>(),
    ) {
        let world = || if pooled { transaction_mode() } else { session_mode() }.with_capacity(capacity);
        let whole = converse(world(), &script, &asides, &[usize::MAX]);
        let cut = converse(world(), &script, &asides, &cuts);
        // What it does not wait for itself is answered by what is known by then.
        prop_assume!(!whole.waits && !cut.waits);
        let readable = |bytes: &[u8]| bytes.escape_ascii().to_string();
        prop_assert_eq!(readable(&whole.by_server), readable(&cut.by_server), "to the server");
        prop_assert_eq!(readable(&whole.by_client), readable(&cut.by_client), "to the client");
    }
}
