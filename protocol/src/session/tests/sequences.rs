//! Who is told which number of a sequence, and what pgherd says to servers for that.

use super::wire::{bind, close_statement, execute_some, function_call, parse, query, sync};
use super::world::{World, transaction_mode};
use super::{A, B};
use crate::session::SequencePolicy;
use crate::statement::Pin;

const ASK: &str = "select lastval()";
const UNDEFINED: [&str; 3] =
    ["RowDescription", "ErrorResponse 55000 lastval is not yet defined in this session", "ReadyForQuery I"];

fn inserts(world: &mut World, client: usize, number: u32) {
    world.sends(client, [query(&format!("insert into t values ({number})"))]);
    world.gets(client, ["CommandComplete INSERT 0 1", "ReadyForQuery I"]);
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
    let refused =
        "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";
    world.gets(B, ["CloseComplete", refused, "ReadyForQuery E"]);
    world.sends(B, [close_statement(""), query("rollback; select lastval()")]);
    world.gets(B, ["CloseComplete", refused, "ReadyForQuery E"]);
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
    assert_eq!(super::wire::requests(&got).iter().filter(|it| *it == "Sync").count(), 1);
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
