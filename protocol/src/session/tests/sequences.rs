//! Who is told which number of a sequence, and what pgherd says to servers for that.

use super::step::Step;
use super::wire::{self, bind, close_statement, copy_fail, execute_some, function_call, parse, query, sync};
use super::world::{World, transaction_mode};
use super::{A, B};
use crate::session::SequencePolicy;
use crate::statement::Pin;

const ASK: &str = "select lastval()";
const UNDEFINED: [&str; 3] =
    ["RowDescription", "ErrorResponse 55000 lastval is not yet defined in this session", "ReadyForQuery I"];

const REFUSED: &str =
    "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";

fn inserts(world: &mut World, client: usize, number: u32) {
    world.sends(client, [query(&format!("insert into t values ({number})"))]);
    world.gets(client, ["CommandComplete INSERT 0 1", "ReadyForQuery I"]);
}

fn said(world: &mut World, client: usize) -> Vec<String> {
    wire::replies(&std::mem::take(&mut world.clients[client].got))
}

#[track_caller]
fn is_told(world: &mut World, client: usize, number: u32) {
    world.sends(client, [query(ASK)]);
    let row = format!("DataRow last {number}");
    world.gets(client, ["RowDescription", &row, "CommandComplete SELECT 1", "ReadyForQuery I"]);
}

#[test]
fn sessions_that_do_not_ask_cost_nothing() {
    let mut world = transaction_mode();
    for (client, number) in [(A, 1), (B, 2), (A, 3)] {
        inserts(&mut world, client, number);
        assert_eq!(world.held(client), None);
    }
    world.server_got(
        0,
        [
            "Query insert into t values (1)",
            "Query insert into t values (2)",
            "Query insert into t values (3)",
        ],
    );
}

#[test]
fn who_asks_on_a_connection_with_others_numbers_has_it_forget_them() {
    let mut world = transaction_mode();
    inserts(&mut world, A, 1);
    world.server_got(0, ["Query insert into t values (1)"]);
    world.sends(B, [query(ASK)]);
    world.gets(B, UNDEFINED);
    let ask = format!("Query {ASK}");
    world.server_got(
        0,
        [
            "Parse \"pgherd_1\" DISCARD SEQUENCES",
            "Bind \"pgherd_!\" to \"pgherd_1\"",
            "Execute \"pgherd_!\"",
            "Close portal \"pgherd_!\"",
            "Sync",
            &ask,
        ],
    );
    assert_eq!(world.held(B), None, "it has none to keep");
    world.sends(B, [query(ASK)]);
    world.gets(B, UNDEFINED);
    world.server_got(0, [&ask]);
}

#[test]
fn in_a_failed_transaction_a_batch_without_its_sync_is_not_made_to_fail_by_it() {
    let mut world = transaction_mode();
    inserts(&mut world, A, 1);
    world.sends(B, [query("begin"), query("selec")]);
    world.clients[B].got.clear();
    // Nothing that a function call may ask for is there, and the server answers the call.
    world.sends(B, [close_statement(""), function_call(7)]);
    world.gets(B, ["CloseComplete", REFUSED, "ReadyForQuery E"]);
    world.sends(B, [close_statement(""), query("rollback; select lastval()")]);
    world.gets(B, ["CloseComplete", REFUSED, "ReadyForQuery E"]);
}

#[test]
fn a_function_call_is_answered_though_its_transaction_fails_before_it_is_known() {
    let mut world = transaction_mode();
    inserts(&mut world, A, 1);
    // What had the connection forget would be refused, and the call skipped, for which there is no Sync.
    world.sends(B, [query("begin"), query("selec"), close_statement(""), function_call(7)]);
    world.gets(
        B,
        [
            "CommandComplete BEGIN",
            "ReadyForQuery T",
            "ErrorResponse 42601 syntax error",
            "ReadyForQuery E",
            "CloseComplete",
            REFUSED,
            "ReadyForQuery E",
        ],
    );
    // Nor is it if a batch without its Sync stands before what fails.
    world.sends(B, [query("rollback"), query("begin")]);
    world.clients[B].got.clear();
    world.sends(B, [close_statement(""), query("selec"), function_call(7)]);
    world.gets(
        B,
        ["CloseComplete", "ErrorResponse 42601 syntax error", "ReadyForQuery E", REFUSED, "ReadyForQuery E"],
    );
}

#[test]
fn a_function_call_is_answered_behind_a_copy_that_fails() {
    let copy = [parse("", "copy t from stdin"), bind("", "", &[]), execute_some("", 0)].concat();
    // A Sync in its middle is ignored.
    for before_end in [Vec::new(), sync()] {
        let mut world = transaction_mode();
        inserts(&mut world, A, 1);
        world.sends(B, [query("begin")]);
        world.clients[B].got.clear();
        let end = [copy_fail("no"), sync(), close_statement(""), function_call(7)].concat();
        world.client(B).sent.extend([copy.clone(), before_end, end].concat());
        for step in [Step::Read(usize::MAX), Step::Forward(usize::MAX), Step::Serve(usize::MAX)] {
            world.step(B, step);
        }
        // ParseComplete, BindComplete and CopyInResponse, and not yet that it has failed.
        world.step(B, Step::Return(5 + 5 + 10));
        world.settle();
        let failed = "ErrorResponse 57014 COPY from stdin failed: no";
        let copied = ["ParseComplete", "BindComplete", "CopyInResponse", failed, "ReadyForQuery E"];
        assert_eq!(
            said(&mut world, B),
            [&copied[..], &["CloseComplete", REFUSED, "ReadyForQuery E"]].concat()
        );
    }
}

#[test]
fn a_text_that_may_end_a_failed_transaction_is_told_nobody_elses_number_before_that_is_known() {
    let long = "w".repeat(400);
    let mut world = transaction_mode().with_capacity(200);
    inserts(&mut world, A, 1);
    world.sends(B, [query("begin"), query("selec")]);
    world.clients[B].got.clear();
    let row = format!("DataRow {}.. 400 bytes", "w".repeat(60));
    let carried_out =
        ["CommandComplete ROLLBACK", "RowDescription", &row, "CommandComplete SELECT 1", "ReadyForQuery I"];
    world.sends(B, [query(&format!("commit; select '{long}'"))]);
    world.gets(B, carried_out);
    // Nor is it refused for what it does not do.
    world.sends(B, [query("begin"), query("selec"), query(&format!("rollback; select '{long}'"))]);
    let failed =
        ["CommandComplete BEGIN", "ReadyForQuery T", "ErrorResponse 42601 syntax error", "ReadyForQuery E"];
    assert_eq!(said(&mut world, B), [&failed[..], &carried_out].concat());
    for asks in [format!("commit; select '{long}'; {ASK}"), format!("commit; {ASK}; select '{long}'")] {
        let mut world = transaction_mode().with_capacity(200);
        inserts(&mut world, A, 1);
        world.sends(B, [query("begin"), query("selec"), query(&asks)]);
        assert_eq!(said(&mut world, B), [&failed[..], &[REFUSED, "ReadyForQuery E"]].concat());
        world.sends(B, [query(&asks), query("rollback"), query(ASK)]);
        let [described, undefined, ready] = UNDEFINED;
        let ended = ["CommandComplete ROLLBACK", ready, described, undefined, ready];
        assert_eq!(said(&mut world, B), [&[REFUSED, "ReadyForQuery E"], &ended[..]].concat());
    }
}

#[test]
fn in_the_middle_of_a_batch_it_belongs_to_the_batch() {
    let mut world = transaction_mode();
    inserts(&mut world, A, 1);
    world.server_got(0, ["Query insert into t values (1)"]);
    let run = |text: &str| [parse("", text), bind("", "", &[]), execute_some("", 0)].concat();
    world.sends(B, [run("select 'a'"), run(ASK), sync()]);
    let [_, error, ready] = UNDEFINED;
    let done = ["ParseComplete", "BindComplete", "DataRow a", "CommandComplete SELECT 1"];
    world.gets(B, [done[0], done[1], done[2], done[3], done[0], done[1], error, ready]);
    let got = std::mem::take(&mut world.server(0).got);
    assert_eq!(wire::requests(&got).iter().filter(|it| *it == "Sync").count(), 1);
}

#[test]
fn it_is_done_behind_what_drops_all_statements() {
    let mut world = transaction_mode().with_capacity(200);
    inserts(&mut world, A, 1);
    world.sends(B, [query(&format!("select '{}'", "w".repeat(400)))]);
    inserts(&mut world, A, 2);
    world.client(B).got.clear();
    world.sends(B, [query("deallocate all"), function_call(7)]);
    let done = ["CommandComplete DEALLOCATE ALL", "ReadyForQuery I"];
    world.gets(B, [done[0], done[1], "FunctionCallResponse", "ReadyForQuery I"]);
}

#[test]
fn before_a_long_text_it_makes_no_pipeline_of_a_batch() {
    let mut world = transaction_mode().with_capacity(200);
    inserts(&mut world, A, 1);
    let long = format!("select '{}'", "w".repeat(400));
    world.sends(B, [parse("", &long), bind("", "", &[]), query("create database d2")]);
    world.gets(B, ["ParseComplete", "BindComplete", "CommandComplete CREATE DATABASE", "ReadyForQuery I"]);
    // Nor of one that follows what had no Sync.
    inserts(&mut world, A, 3);
    world.sends(B, [close_statement(""), query("select 'a'"), parse("", &long), query("create database d4")]);
    let created = ["ParseComplete", "CommandComplete CREATE DATABASE", "ReadyForQuery I"];
    let selected =
        ["CloseComplete", "RowDescription", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"];
    assert_eq!(said(&mut world, B), [&selected[..], &created].concat());
}

#[test]
fn when_one_has_asked_all_keep_their_connections_from_their_next_number_on() {
    let mut world = transaction_mode();
    inserts(&mut world, A, 1);
    is_told(&mut world, A, 1);
    assert_eq!(world.clients[A].session.pin(), Some(Pin::Sequence));
    inserts(&mut world, B, 2);
    assert_eq!(world.held(B), Some(1));
    is_told(&mut world, A, 1);
    is_told(&mut world, B, 2);
    world.sends(A, [query("discard sequences")]);
    world.gets(A, ["CommandComplete DISCARD SEQUENCES", "ReadyForQuery I"]);
    assert_eq!(world.held(A), None);
    // Behind it, in the same text, another may have been taken.
    world.sends(B, [query("discard sequences; insert into t values (3)")]);
    world.gets(B, ["CommandComplete DISCARD SEQUENCES", "CommandComplete INSERT 0 1", "ReadyForQuery I"]);
    is_told(&mut world, B, 3);
}

#[test]
fn a_text_that_ends_a_failed_transaction_and_asks_is_told_nobody_elses_number() {
    let mut world = transaction_mode();
    inserts(&mut world, A, 1);
    world.sends(B, [query("begin"), query("select fail()")]);
    world.client(B).got.clear();
    world.sends(B, [query("rollback; select lastval()")]);
    world.gets(B, ["CommandComplete ROLLBACK", UNDEFINED[0], UNDEFINED[1], UNDEFINED[2]]);
}

#[test]
fn what_an_operator_wants_is_done() {
    let mut world = transaction_mode();
    world.sequences.follow(SequencePolicy::Off);
    inserts(&mut world, A, 1);
    is_told(&mut world, B, 1);
    world.sequences.follow(SequencePolicy::Pin);
    inserts(&mut world, B, 2);
    assert_eq!(world.held(B), Some(0));
    inserts(&mut world, A, 3);
    is_told(&mut world, B, 2);
    is_told(&mut world, A, 3);
}
