//! A client in transaction mode, whose transactions run on whatever server connection is free, and which shares its
//! statements with others, is answered as on a server of its own.

use std::rc::Rc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

use super::play::{cases, play, starts, turns};
use super::postgres::Backend;
use super::scripts::{Profile, Script, script};
use super::wire;
use super::world::{CAPACITY, World, transaction_mode};
use crate::prepared::Plans;
use crate::session::SequencePolicy;

/// The numbers of each client are its own.
pub(super) fn scripts(resets: bool, asks: bool) -> impl Strategy<Value = Vec<Script>> {
    let client = move |last_number| {
        script(Profile { sessions: true, resets, long: 3000, is_patient: true, asks, last_number }, 1..25)
    };
    (client(0), client(1000), client(2000), 1..=3_usize).prop_map(|(a, b, c, count)| {
        let mut scripts = vec![a, b, c];
        scripts.truncate(count);
        scripts
    })
}

/// Whether and how anything stands for unnamed statements.
pub(super) fn plans() -> impl Strategy<Value = Option<Plans>> {
    select(vec![None, Some(Plans::Custom), Some(Plans::Auto)])
}

/// As on a server of its own, but for one thing: in a failed transaction, a server describes a statement without rows
/// only if it is prepared already, which pgherd cannot promise.
fn alone(script: &Script, settings: &[(String, String)]) -> Vec<String> {
    let mut backend = Backend::new(&Rc::default());
    backend.is_strict = true;
    backend.defaults = settings.iter().cloned().collect();
    backend.settings.clone_from(&backend.defaults);
    script.iter().flatten().for_each(|sent| backend.reads(&sent.bytes));
    wire::replies(&backend.said())
}

/// In a failed transaction, a statement that is not prepared on the server at hand cannot be prepared there: whatever
/// else is wrong with a message, the error is that. And one that is prepared there anew is read by the settings of then.
fn is_same(got: &[String], expected: &[String]) -> bool {
    let refused =
        "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";
    let both_fail = |got: &str, expected: &str| got == refused && expected.starts_with("ErrorResponse ");
    let both_read =
        |got: &str, expected: &str| [got, expected].iter().all(|it| it.starts_with("DataRow date "));
    let is_same = |(got, expected): (&String, &String)| {
        got == expected || both_fail(got, expected) || both_read(got, expected)
    };
    got.len() == expected.len() && got.iter().zip(expected).all(is_same)
}

/// Each client was answered as on a server of its own.
pub(super) fn as_alone(
    world: &World,
    scripts: &[Script],
    settings: &[(String, String)],
) -> Result<(), TestCaseError> {
    for (client, script) in scripts.iter().enumerate() {
        let got = wire::replies(&world.clients[client].got);
        let expected = alone(script, settings);
        prop_assert!(
            is_same(&got, &expected),
            "client {client}: {got:#?}\nis not {expected:#?}\n{script:#?}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn clients_that_share_connections_are_answered_as_if_each_had_its_own(
        scripts in scripts(false, false),
        turns in turns(3, 3),
        starts in starts(3),
        limit in 0..4_usize,
        capacity in select(vec![200_usize, 333, CAPACITY, CAPACITY]),
        plans in plans(),
    ) {
        let world = transaction_mode().with_prepared_limit(limit).with_capacity(capacity).with_stand_ins(plans);
        let mut world = world.with_strict_servers();
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[])?;
    }

    #[test]
    fn resets_go_back_to_the_startup_packet_and_are_seen_by_nobody(
        scripts in scripts(true, false),
        turns in turns(3, 3),
        starts in starts(3),
        limit in 0..4_usize,
        capacity in select(vec![200_usize, 333, CAPACITY, CAPACITY]),
        plans in plans(),
    ) {
        let world = transaction_mode().with_prepared_limit(limit).with_capacity(capacity).with_startup("work_mem", "home");
        let world = world.with_stand_ins(plans);
        let mut world = world.with_strict_servers();
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[("work_mem".into(), "home".into())])?;
    }

    #[test]
    fn sessions_that_keep_their_numbers_are_told_them_as_if_each_had_its_own_connection(
        scripts in scripts(false, true),
        turns in turns(3, 3),
        starts in starts(3),
        capacity in select(vec![200_usize, 333, CAPACITY, CAPACITY]),
        plans in plans(),
    ) {
        let mut world = transaction_mode().with_capacity(capacity).with_strict_servers().with_stand_ins(plans);
        world.sequences.follow(SequencePolicy::Pin);
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[])?;
    }

    #[test]
    fn nobody_is_told_anothers_number_before_it_is_known_that_sessions_ask(
        scripts in scripts(false, true),
        turns in turns(3, 3),
        starts in starts(3),
        capacity in select(vec![200_usize, 333, CAPACITY, CAPACITY]),
    ) {
        let mut world = transaction_mode().with_capacity(capacity).with_strict_servers();
        play(&mut world, &scripts, &turns, &starts);
        for (client, script) in scripts.iter().enumerate() {
            let got = wire::replies(&world.clients[client].got);
            let told = got.iter().filter_map(|said| said.strip_prefix("DataRow last ")?.parse::<usize>().ok());
            let others: Vec<_> = told.filter(|number| *number > 0 && number / 1000 != client).collect();
            prop_assert!(others.is_empty(), "client {client}: {others:?} in {got:#?}\n{script:#?}");
        }
    }
}
