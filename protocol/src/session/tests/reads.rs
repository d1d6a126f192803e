//! What may be read anywhere is read on standbys, and nobody notices.

use proptest::prelude::*;
use proptest::sample::select;

use super::equivalence::{as_alone, plans, scripts};
use super::play::{cases, play, starts, turns};
use super::wire::{
    bind, close_statement, describe_statement, execute_some, flush, parse, query, replies, requests, sync,
};
use super::world::{CAPACITY, World, home_mode, session_mode, suspects, transaction_mode};
use super::{A, B};
use crate::frame::{Frame, backend_header};
use crate::statement::Trust;

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
fn what_is_not_all_there_or_does_not_only_read_is_for_the_primary() {
    let run = || [bind("", "", &[]), execute_some("", 0)].concat();
    for sent in [
        [parse("", "select 'a'"), run(), flush()].concat(),
        [parse("", "select 'a'"), run(), parse("", "select put(1)"), run(), sync()].concat(),
        query("select 'a'; insert into t values (1)"),
        query("begin read only; select 'a'"),
        parse("", "select 'a'"),
    ] {
        let mut world = herd(&[false]);
        world.sends(A, [sent]);
        assert!(world.servers.get(1).is_none_or(|standby| standby.got.is_empty()));
        assert!(!world.servers[0].got.is_empty());
    }
}

#[test]
fn several_statements_are_read_on_a_standby_if_it_answers_all_of_them() {
    let run = |letter: char| {
        [parse("", &format!("select '{letter}'")), bind("", "", &[]), execute_some("", 0)].concat()
    };
    let several = [query("select 'a'; select 'b'"), [run('a'), run('b'), sync()].concat()];
    for sent in &several {
        let mut world = herd(&[false]);
        world.sends(A, [sent.clone()]);
        assert!(world.servers[0].got.is_empty());
        // The second is refused.
        let mut world = herd(&[false, true]);
        world.sends(A, [sent.clone()]);
        let rows: Vec<_> =
            replies(&world.client(A).got).into_iter().filter(|said| said.starts_with("DataRow")).collect();
        assert_eq!(rows, ["DataRow a", "DataRow b"]);
        assert!(!world.servers[0].got.is_empty());
    }
    // What they answer is too long to be held back: that is found out once.
    let long = query("select repeat('x', 300); select 'b'");
    let mut world = herd(&[false]).with_capacity(200);
    for (times, sent) in [(1, long.clone()), (1, long)] {
        world.sends(A, [sent]);
        assert_eq!(requests(&world.servers[1].got).len(), times);
    }
    assert_eq!(requests(&world.servers[0].got).len(), 2);
}

#[test]
fn a_session_that_keeps_its_connection_reads_there() {
    let mut world = session_mode().with_standbys(&[false]);
    world.sends(A, [query("select 'a'"), query("begin read only"), query("select 'a'"), query("commit")]);
    world.server_got(0, ["Query select 'a'", "Query begin read only", "Query select 'a'", "Query commit"]);
}

#[test]
fn a_session_with_a_home_reads_elsewhere_what_that_would_answer_in_the_same_way() {
    let mut world = home_mode().with_standbys(&[false]);
    world.sends(A, [query("select 'a'"), query("insert into t values (1)")]);
    world.server_got(1, ["Query select 'a'"]);
    world.server_got(0, ["Query insert into t values (1)"]);
    // Its own is nobody else's, though nothing pins it.
    world.sends(B, [query("insert into t values (2)")]);
    world.sends(B, [query("select 'b'")]);
    world.server_got(2, ["Query insert into t values (2)"]);
    world.server_got(1, ["Query select 'b'"]);
    // To listen keeps nobody, for it goes on there.
    world.sends(A, [query("listen c")]);
    world.sends(A, [query("select 'c'"), query("begin read only"), query("select 'd'"), query("commit")]);
    world.sends(A, [query("select put(1)")]);
    world.server_got(1, ["Query select 'c'", "Query begin read only", "Query select 'd'", "Query commit"]);
    world.server_got(0, ["Query listen c", "Query select put(1)"]);
    world.sends(A, [query("create temp table mine (n int)"), query("select 'e'"), query("discard all")]);
    world.sends(A, [query("select 'f'")]);
    world.server_got(0, ["Query create temp table mine (n int)", "Query select 'e'", "Query discard all"]);
    world.server_got(1, ["Query select 'f'"]);
}

#[test]
fn what_ran_at_home_before_it_was_known_what_it_does_is_looked_at_when_that_is_known() {
    for (run_any, is_read_there) in [(&["other"][..], true), (&["put"], false)] {
        let mut world = home_mode().with_standbys(&[false]);
        world.client(A).session.heed(&suspects(Trust::Nothing, &[]));
        world.sends(A, [query("select put(1)")]);
        world.sends(A, [query("select 'a'")]);
        world.server_got(0, ["Query select put(1)", "Query select 'a'"]);
        world.client(A).session.heed(&suspects(Trust::Names, run_any));
        world.sends(A, [query("select 'b'")]);
        world.server_got(usize::from(is_read_there), ["Query select 'b'"]);
        world.sends(A, [query("discard all")]);
        world.sends(A, [query("select 'c'")]);
        world.server_got(1, ["Query select 'c'"]);
    }
}

#[test]
fn a_session_that_was_notified_is_to_see_what_that_tells_of() {
    let notification = [b'A', 0, 0, 0, 12, 0, 0, 0, 1, b'c', 0, b'p', 0];
    let frame = Frame::new(backend_header(&notification).unwrap().unwrap(), &notification);
    let mut world = home_mode().with_standbys(&[false]);
    world.sends(A, [query("insert into t values (1)")]);
    assert!(world.client(A).session.take_wrote() && !world.client(A).session.take_wrote());
    let World { clients, servers, .. } = &mut world;
    clients[A].session.on_backend(&frame, &mut servers[0].state, &mut Vec::new());
    assert!(clients[A].session.take_wrote());
}

#[test]
fn the_loss_of_a_home_is_the_end_of_its_session_and_that_of_a_standby_is_not() {
    let mut world = home_mode().with_standbys(&[false]);
    world.sends(A, [query("insert into t values (1)"), query("select 'a'"), query("select put(1)")]);
    assert_eq!(world.held(A), Some(0));
    world.lose(A, 0);
    assert!(world.is_gone(A));
    world.sends(B, [query("insert into t values (2)")]);
    world.sends(B, [query("begin read only"), query("select 'a'")]);
    assert_eq!(world.held(B), Some(1));
    world.lose(B, 1);
    world.client(B).got.clear();
    world.sends(B, [query("rollback"), query("insert into t values (3)")]);
    assert!(!world.is_gone(B) && world.held(B) == Some(2));
    world.gets(
        B,
        ["CommandComplete ROLLBACK", "ReadyForQuery I", "CommandComplete INSERT 0 1", "ReadyForQuery I"],
    );
}

#[test]
fn several_that_need_statements_from_before_are_for_the_primary() {
    let run = |name: &str| [bind("", name, &[]), execute_some("", 0)].concat();
    let mut world = herd(&[false]);
    world.sends(A, [parse("s1", "select 'a'"), parse("s2", "select 'b'"), sync()]);
    world.server(1).got.clear();
    world.sends(A, [run("s1"), run("s1"), sync()]);
    assert!(!world.servers[1].got.is_empty());
    world.server(1).got.clear();
    world.sends(A, [run("s1"), run("s2"), sync()]);
    assert!(world.servers[1].got.is_empty());
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

/// What is looked at as a whole is kept as a whole.
#[test]
fn a_long_read_that_a_standby_refuses_is_answered_by_the_primary() {
    let mut world = herd(&[true]);
    let text = format!("select '{}'", "a".repeat(CAPACITY - 100));
    world.sends(A, [query(&text)]);
    assert!(!world.servers[1].got.is_empty(), "it was not read on the standby");
    let told = replies(&world.client(A).got);
    assert!(told[1].starts_with("DataRow aaa") && told[3] == "ReadyForQuery I", "{told:?}");
}

#[test]
fn what_is_told_of_many_statements_before_the_first_row_is_for_the_primary() {
    let mut world = herd(&[true]).with_capacity(200);
    let asks =
        [parse("", "select 'u'"), describe_statement(""), describe_statement(""), describe_statement("")];
    let reads = [parse("s1", "select 'a'"), bind("", "s1", &[]), execute_some("", 0), sync()];
    world.sends(A, [[asks.concat(), reads.concat()].concat()]);
    assert!(!world.servers[1].got.is_empty());
    let told = replies(&world.client(A).got);
    assert_eq!(
        told[told.len() - 3..],
        ["DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"],
        "{told:?}"
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

#[test]
fn what_has_to_be_told_before_it_is_known_whether_all_of_it_is_answered_is_for_the_primary() {
    let mut world = herd(&[true]);
    world.sends(A, [[parse("s", "select put(1)"), sync()].concat()]);
    world.client(A).got.clear();
    // Before the statement is described, which the standby has not got, it is to say that it gives the same there.
    let read =
        [parse("", "select 'u'"), bind("", "", &[]), describe_statement("s"), execute_some("", 0), sync()];
    world.sends(A, [read.concat()]);
    assert!(!world.servers[1].got.is_empty());
    world.gets(
        A,
        [
            "ParseComplete",
            "BindComplete",
            "ParameterDescription 0",
            "RowDescription",
            "DataRow u",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
        ],
    );
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn clients_whose_reads_go_to_standbys_are_answered_as_if_each_had_a_server_of_its_own(
        scripts in scripts(false, false),
        turns in turns(3, 3),
        starts in starts(3),
        limit in 0..4_usize,
        capacity in select(vec![200_usize, 333, CAPACITY, CAPACITY]),
        refusals in prop::collection::vec(any::<bool>(), 1..6),
        plans in plans(),
    ) {
        let world = transaction_mode().with_prepared_limit(limit).with_capacity(capacity).with_stand_ins(plans);
        let mut world = world.with_strict_servers().with_standbys(&refusals);
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[])?;
    }

    #[test]
    fn clients_with_a_connection_of_their_own_that_read_on_standbys_notice_nothing(
        scripts in scripts(true, true),
        turns in turns(3, 3),
        starts in starts(3),
        limit in 0..4_usize,
        capacity in select(vec![200_usize, 333, CAPACITY, CAPACITY]),
        refusals in prop::collection::vec(any::<bool>(), 1..6),
        plans in plans(),
    ) {
        let world = home_mode().with_prepared_limit(limit).with_capacity(capacity).with_startup("work_mem", "home");
        let world = world.with_stand_ins(plans);
        let mut world = world.with_strict_servers().with_standbys(&refusals);
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[("work_mem".into(), "home".into())])?;
    }
}
