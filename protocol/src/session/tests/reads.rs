//! What may be read anywhere is read on standbys, and nobody notices.

use proptest::prelude::*;
use proptest::sample::select;

use super::equivalence::{as_alone, scripts};
use super::play::{cases, play, starts, turns};
use super::wire::{bind, close_statement, describe_statement, execute_some, flush, parse, query, sync};
use super::world::{World, transaction_mode};
use super::{A, B};

fn herd(refusals: &[bool]) -> World {
    transaction_mode().with_standbys(refusals)
}

#[test]
fn reads_go_to_a_standby_and_writes_to_the_primary() {
    let mut world = herd(&[false]);
    world.sends(A, [query("select 'a'"), query("insert into t values (1)")]);
    world.sends(A, [query("select 'b'")]);
    world.server_got(1, ["Query select 'a'", "Query select 'b'"]);
    world.server_got(0, ["Query insert into t values (1)"]);
    let run = [parse("", "select 'a' || $1"), bind("", "", &["1"]), execute_some("", 0), sync()].concat();
    world.sends(A, [run]);
    assert!(world.servers[0].got.is_empty());
    world.sends(B, [query("begin"), query("select 'a'"), query("commit")]);
    world.server_got(0, ["Query begin", "Query select 'a'", "Query commit"]);
}

#[test]
fn a_statement_is_prepared_where_it_runs() {
    let mut world = herd(&[false]);
    world.sends(A, [parse("r", "select 'a'"), describe_statement("r"), sync()]);
    world.sends(A, [parse("w", "insert into t values (1)"), sync()]);
    let run = |name: &str| [bind("", name, &[]), execute_some("", 0), sync()].concat();
    world.sends(A, [run("r"), run("w"), run("r")]);
    world.gets(
        A,
        [
            "ParseComplete",
            "ParameterDescription 0",
            "RowDescription",
            "ReadyForQuery I",
            "ParseComplete",
            "ReadyForQuery I",
            "BindComplete",
            "DataRow a",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
            "BindComplete",
            "CommandComplete INSERT 0 1",
            "ReadyForQuery I",
            "BindComplete",
            "DataRow a",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
        ],
    );
}

#[test]
fn what_is_not_all_there_or_more_than_one_statement_is_for_the_primary() {
    let run = || [bind("", "", &[]), execute_some("", 0)].concat();
    for sent in [
        [parse("", "select 'a'"), run(), flush()].concat(),
        [parse("", "select 'a'"), run(), run(), sync()].concat(),
        [query("select 'a'; select 'b'")].concat(),
        parse("", "select 'a'"),
    ] {
        let mut world = herd(&[false]);
        world.sends(A, [sent]);
        assert!(world.servers.get(1).is_none_or(|standby| standby.got.is_empty()));
        assert!(!world.servers[0].got.is_empty());
    }
}

#[test]
fn what_a_standby_refuses_is_answered_by_the_primary() {
    let mut world = herd(&[true]);
    world.sends(A, [query("select 'a'")]);
    world.server_got(1, ["Query select 'a'"]);
    world.server_got(0, ["Query select 'a'"]);
    world.gets(A, ["RowDescription", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    let run = [parse("s", "select 'a'"), bind("", "s", &[]), execute_some("", 0), sync()].concat();
    world.sends(A, [run, query("select 'b'")]);
    world.gets(
        A,
        [
            "ParseComplete",
            "BindComplete",
            "DataRow a",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
            "RowDescription",
            "DataRow b",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
        ],
    );
}

#[test]
fn what_could_not_be_sent_again_is_read_on_the_primary() {
    let mut world = herd(&[true]);
    let run = || [bind("", "", &[]), execute_some("", 0)].concat();
    for (ends, answer) in [(close_statement(""), "CloseComplete"), (parse("", "select 'b'"), "ParseComplete")]
    {
        world.sends(A, [parse("", "select 'u'"), run(), sync()]);
        world.client(A).got.clear();
        // It uses the unnamed statement that it ends, and that would be missing elsewhere.
        world.sends(A, [[run(), ends, sync()].concat()]);
        world.gets(A, ["BindComplete", "DataRow u", "CommandComplete SELECT 1", answer, "ReadyForQuery I"]);
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn clients_whose_reads_go_to_standbys_are_answered_as_if_each_had_a_server_of_its_own(
        scripts in scripts(false, false),
        turns in turns(3, 3),
        starts in starts(3),
        limit in 0..4_usize,
        capacity in select(vec![200_usize, 333, 16 * 1024, 16 * 1024]),
        refusals in prop::collection::vec(any::<bool>(), 1..6),
    ) {
        let world = transaction_mode().with_prepared_limit(limit).with_capacity(capacity);
        let mut world = world.with_strict_servers().with_standbys(&refusals);
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[])?;
    }
}
