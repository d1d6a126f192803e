//! What stands for unnamed statements that are parsed again and again.

use super::step::Step;
use super::wire::{
    bind, close_statement, describe_statement, execute_some, flush, parse, query, replies, requests, sync,
};
use super::world::{World, suspects, transaction_mode};
use super::{A, B};
use crate::prepared::Plans;
use crate::statement::Trust;

const READ: &str = "select 'a' || $1";
const SCHEMA: &str = "select * from s";

fn world(plans: Plans) -> World {
    transaction_mode().with_stand_ins(Some(plans))
}

fn run(text: &str, values: &[&str]) -> Vec<u8> {
    [parse("", text), bind("", "", values), execute_some("", 0), sync()].concat()
}

/// Runs it, and gives what the server of this number has got for it.
fn runs(world: &mut World, client: usize, text: &str, place: usize) -> Vec<String> {
    let values: &[&str] = if text.contains('$') { &["1"] } else { &[] };
    world.sends(client, [run(text, values)]);
    requests(&std::mem::take(&mut world.server(place).got))
}

/// Runs it until something stands for it on the first server.
fn warm(world: &mut World, client: usize, text: &str) {
    (0..3).for_each(|_| _ = runs(world, client, text, 0));
}

/// Everybody else adds a column, and pgherd does not see it.
fn alter_unseen(world: &mut World) {
    world.server(2).backend.reads(&query("alter table s add b int"));
    world.server(2).backend.said();
}

#[test]
fn what_is_parsed_again_is_prepared_once_and_planned_anew() {
    let unnamed = [&format!("Parse \"\" {READ}"), "Bind \"\" to \"\"", "Execute \"\"", "Sync"];
    let prepares =
        [&format!("Parse \"pgherd_1\" {READ}"), "Bind \"\" to \"pgherd_1\"", "Execute \"\"", "Sync"];
    let uses = ["Bind \"\" to \"pgherd_1\"", "Execute \"\"", "Sync"];
    for plans in [Plans::Custom, Plans::Auto] {
        let mut world = world(plans);
        assert_eq!(runs(&mut world, A, READ, 0), unnamed);
        // It is whosever it is.
        assert_eq!(runs(&mut world, B, READ, 0), prepares);
        for turn in 1..5 {
            assert_eq!(runs(&mut world, turn % 2, READ, 0), uses);
        }
        // After five executions PostgreSQL might take one plan for all values.
        let sixth = runs(&mut world, A, READ, 0);
        match plans {
            Plans::Custom => assert_eq!(sixth[..2], ["Close statement \"pgherd_1\"", prepares[0]]),
            Plans::Auto => assert_eq!(sixth, uses),
        }
        assert_eq!(runs(&mut world, B, READ, 0), uses);
        let told =
            ["ParseComplete", "BindComplete", "DataRow a1", "CommandComplete SELECT 1", "ReadyForQuery I"];
        assert_eq!(replies(&world.client(A).got), [told; 4].concat());
    }
}

#[test]
fn where_the_values_make_no_difference_it_is_not_parsed_again() {
    let mut world = world(Plans::Custom);
    for turn in 0..20 {
        let got = runs(&mut world, A, "select 'a'", 0);
        assert_eq!(got.len(), if turn < 2 { 4 } else { 3 }, "{got:?}");
    }
}

#[test]
fn the_statement_lasts_as_an_unnamed_one_does() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, READ);
    world.client(A).got.clear();
    let missing = "ErrorResponse 26000 unnamed prepared statement does not exist";
    world.sends(A, [[describe_statement(""), bind("", "", &["2"]), execute_some("", 0), sync()].concat()]);
    // On a connection that has not got it, too.
    world.preferred = 1;
    world.sends(A, [[bind("", "", &["3"]), execute_some("", 0), sync()].concat()]);
    let done = ["CommandComplete SELECT 1", "ReadyForQuery I"];
    let described = ["ParameterDescription 1", "RowDescription", "BindComplete", "DataRow a2"];
    world.gets(
        A,
        [
            described[0],
            described[1],
            described[2],
            described[3],
            done[0],
            done[1],
            "BindComplete",
            "DataRow a3",
            done[0],
            done[1],
        ],
    );
    // A Query ends it, and so does a Close.
    for ends in [query("select 'a'"), [close_statement(""), sync()].concat()] {
        runs(&mut world, A, READ, 1);
        world.sends(A, [ends]);
        world.client(A).got.clear();
        world.sends(A, [[bind("", "", &["4"]), sync()].concat()]);
        world.gets(A, [missing, "ReadyForQuery I"]);
    }
}

#[test]
fn what_the_client_asks_about_is_parsed_by_itself() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, READ);
    world.client(A).got.clear();
    world.sends(A, [[parse("", READ), describe_statement(""), sync()].concat()]);
    world.server_got(0, [format!("Parse \"\" {READ}").as_str(), "Describe statement \"\"", "Sync"]);
    world.gets(A, ["ParseComplete", "ParameterDescription 1", "RowDescription", "ReadyForQuery I"]);
    world.sends(A, [[bind("", "", &["6"]), execute_some("", 0), sync()].concat()]);
    world.gets(A, ["BindComplete", "DataRow a6", "CommandComplete SELECT 1", "ReadyForQuery I"]);
}

#[test]
fn its_errors_name_the_unnamed_statement() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, READ);
    world.client(A).got.clear();
    world.sends(A, [run(READ, &[])]);
    let wrong =
        "ErrorResponse 08P01 bind message supplies 0 parameters, but prepared statement \"\" requires 1";
    world.gets(A, ["ParseComplete", wrong, "ReadyForQuery I"]);
    // What stands behind an error is not parsed.
    world.sends(A, [[bind("", "none", &[]), parse("", READ), sync()].concat()]);
    world.client(A).got.clear();
    world.sends(A, [[bind("", "", &["1"]), sync()].concat()]);
    world.gets(A, ["ErrorResponse 26000 unnamed prepared statement does not exist", "ReadyForQuery I"]);
}

#[test]
fn a_parse_is_told_at_once_where_the_client_asks_for_it() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, READ);
    world.client(A).got.clear();
    world.sends(A, [[parse("", READ), flush()].concat()]);
    world.gets(A, ["ParseComplete"]);
    world.sends(A, [[bind("", "", &["5"]), execute_some("", 0), sync()].concat()]);
    world.gets(A, ["BindComplete", "DataRow a5", "CommandComplete SELECT 1", "ReadyForQuery I"]);
}

#[test]
fn a_schema_that_was_changed_unseen_is_not_noticed() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, SCHEMA);
    alter_unseen(&mut world);
    world.client(A).got.clear();
    let told = ["ParseComplete", "BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"];
    let misfit = runs(&mut world, A, SCHEMA, 0);
    assert_eq!(misfit.iter().filter(|sent| sent.starts_with("Bind")).count(), 2, "{misfit:?}");
    world.gets(A, told);
    for _ in 0..4 {
        world.sends(A, [run(SCHEMA, &[])]);
        world.gets(A, told);
    }
}

#[test]
fn what_the_client_has_parsed_before_the_schema_was_changed_is_refused_as_by_postgresql() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, SCHEMA);
    world.sends(A, [[parse("", SCHEMA), describe_statement(""), sync()].concat()]);
    alter_unseen(&mut world);
    world.client(A).got.clear();
    world.sends(A, [[bind("", "", &[]), execute_some("", 0), sync()].concat()]);
    world.gets(A, ["ErrorResponse 0A000 cached plan must not change result type", "ReadyForQuery I"]);
}

#[test]
fn in_a_transaction_block_only_what_gives_no_rows_is_prepared() {
    let insert = "insert into t values ($1)";
    let mut world = world(Plans::Custom);
    world.sends(A, [query("begin")]);
    for (text, is_prepared) in [(READ, false), (insert, true)] {
        let last = (0..4).map(|_| runs(&mut world, A, text, 0)).last().unwrap();
        assert_eq!(!last.iter().any(|sent| sent.starts_with("Parse")), is_prepared, "{text}: {last:?}");
    }
}

#[test]
fn what_means_something_else_to_a_session_is_parsed_by_itself() {
    let insert = "insert into t values ($1)";
    let all = [
        "set local datestyle = 'dmy'",
        "create temp table mine (n int)",
        "alter table s add b int",
        "select 'a'",
    ];
    for before in all {
        let mut world = world(Plans::Auto);
        warm(&mut world, B, insert);
        world.sends(A, [query("begin"), query(before)]);
        world.server(0).got.clear();
        let is_stood_for = !runs(&mut world, A, insert, 0)[0].starts_with("Parse");
        assert_eq!(is_stood_for, before == "select 'a'", "{before}");
    }
}

#[test]
fn what_pgherd_has_to_say_does_not_wait_for_a_server_that_has_nothing_to_say() {
    let mut world = transaction_mode();
    world.sends(A, [[parse("foo", "select 'a'"), parse("bar", "select 'b'"), sync()].concat()]);
    world.preferred = 1;
    world.sends(A, [query("begin"), query("select fail()")]);
    world.client(A).got.clear();
    // The server lacks it, and cannot prepare it in a failed transaction.
    world.sends(A, [[close_statement("bar"), query("execute foo")].concat()]);
    let refused =
        "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";
    world.gets(A, ["CloseComplete", refused, "ReadyForQuery E"]);
}

#[test]
fn a_connection_that_owes_more_is_not_given_back_for_a_misfit() {
    let mut world = world(Plans::Auto);
    warm(&mut world, A, SCHEMA);
    alter_unseen(&mut world);
    world.client(A).got.clear();
    let begun = [run(SCHEMA, &[]), query("select 'b'")].concat();
    let first = run(SCHEMA, &[]).len();
    world.client(A).sent.extend(begun);
    while world.step(A, Step::Read(usize::MAX)) || world.step(A, Step::Forward(usize::MAX)) {}
    // It has answered no more than the first.
    let asked = world.server(0).to.len();
    world.step(A, Step::Serve(asked - query("select 'b'").len()));
    assert!(first > 0 && !world.server(0).from.is_empty());
    world.step(A, Step::Return(usize::MAX));
    assert_eq!(world.held(A), Some(0), "it has not been given back");
    world.settle();
    world.gets(
        A,
        [
            "ParseComplete",
            "ErrorResponse 0A000 cached plan must not change result type",
            "ReadyForQuery I",
            "RowDescription",
            "DataRow b",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
        ],
    );
    // It is told once: from then on the text is parsed by itself.
    world.sends(A, [run(SCHEMA, &[])]);
    world.gets(
        A,
        ["ParseComplete", "BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"],
    );
}

#[test]
fn what_forgets_all_statements_in_between_leaves_the_unnamed_one() {
    let insert = "insert into t values ($1)";
    let mut world = world(Plans::Auto);
    warm(&mut world, A, insert);
    world.sends(A, [[parse("d", "deallocate all"), sync()].concat()]);
    world.client(A).got.clear();
    let forgets = [bind("", "d", &[]), execute_some("", 0)].concat();
    let uses = [bind("", "", &["9"]), execute_some("", 0), sync()].concat();
    world.sends(A, [[parse("", insert), forgets, uses].concat()]);
    let told = replies(&world.client(A).got);
    assert_eq!(told[3..], ["BindComplete", "CommandComplete INSERT 0 1", "ReadyForQuery I"], "{told:?}");
}

#[test]
fn behind_what_may_have_set_anything_nothing_stands_for_it() {
    let insert = "insert into t values (7)";
    let mut world = world(Plans::Auto);
    world.client(A).session.heed(&suspects(Trust::Names, &["note"]));
    warm(&mut world, A, insert);
    world.sends(A, [query("begin"), query("select note()")]);
    world.server(0).got.clear();
    assert_eq!(runs(&mut world, A, insert, 0)[0], format!("Parse \"\" {insert}"));
}

#[test]
fn who_binds_after_others_have_used_it_up_is_planned_for_its_values_too() {
    let mut world = world(Plans::Custom);
    warm(&mut world, A, READ);
    world.sends(A, [[parse("", READ), sync()].concat()]);
    warm(&mut world, B, READ);
    world.server(0).got.clear();
    world.sends(A, [[bind("", "", &["1"]), execute_some("", 0), sync()].concat()]);
    let parse = format!("Parse \"\" {READ}");
    world.server_got(0, [parse.as_str(), "Bind \"\" to \"\"", "Execute \"\"", "Sync"]);
}
