//! Statements from before a migration.

use super::wire::{bind, describe_statement, execute_some, parse, query, sync};
use super::world::{World, transaction_mode};
use super::{A, B};

const CHANGED: &str = "ErrorResponse 0A000 cached plan must not change result type";
const TEXT: &str = "select * from s";

fn run(name: &str) -> [Vec<u8>; 3] {
    [bind("", name, &[]), execute_some("", 0), sync()]
}

/// Two servers, on the first of which a client has prepared what a migration has changed since. It is served by the second.
fn migrated() -> World {
    let mut world = transaction_mode();
    world.sends(A, [parse("s", TEXT), sync(), query("prepare p as select * from s")]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I", "CommandComplete PREPARE", "ReadyForQuery I"]);
    world.sends(B, [query("alter table s add b int")]);
    world.gets(B, ["CommandComplete ALTER TABLE", "ReadyForQuery I"]);
    world.preferred = 1;
    world
}

#[test]
fn a_statement_from_before_a_migration_is_not_run_wherever_it_has_to_be_prepared_again() {
    let mut world = migrated();
    for place in [1, 1, 0, 0, 1] {
        world.preferred = place;
        world.sends(A, run("s"));
        world.gets(A, [CHANGED, "ReadyForQuery I"]);
        world.sends(A, [query("execute p")]);
        world.gets(A, [CHANGED, "ReadyForQuery I"]);
        world.sends(A, [describe_statement("s"), sync()]);
        world.gets(A, ["ParameterDescription 0", CHANGED, "ReadyForQuery I"]);
    }
    assert_eq!(world.held(A), None);
}

#[test]
fn nothing_is_sent_behind_before_the_server_has_said_what_the_statement_is() {
    let mut world = migrated();
    let mut messages = run("s").concat();
    messages.extend(query("insert into t values (1); execute p"));
    world.sends(A, [messages]);
    world.gets(A, [CHANGED, "ReadyForQuery I", "CommandComplete INSERT 0 1", CHANGED, "ReadyForQuery I"]);
    assert!(world.database.borrow().committed.is_empty(), "{:?}", world.database);
    let asked = |id: u32| [format!("Parse \"pgherd_{id}\""), format!("Describe statement \"pgherd_{id}\"")];
    let got = super::wire::requests(&std::mem::take(&mut world.server(1).got));
    let at = |what: &str| got.iter().position(|sent| sent.starts_with(what)).expect(what);
    assert!(
        at(&asked(1)[0]) < at(&asked(1)[1]) && at(&asked(1)[1]) < at("Bind \"\" to \"pgherd_0\""),
        "{got:?}"
    );
    assert!(at(&asked(2)[1]) < at("Query insert into t values (1); execute pgherd_0"), "{got:?}");
}

#[test]
fn a_transaction_fails_in_which_a_changed_statement_is_executed() {
    let mut world = migrated();
    world.sends(
        A,
        [query("begin"), query("insert into t values (1)"), bind("", "s", &[]), sync(), query("commit")],
    );
    world.gets(
        A,
        [
            "CommandComplete BEGIN",
            "ReadyForQuery T",
            "CommandComplete INSERT 0 1",
            "ReadyForQuery T",
            CHANGED,
            "ReadyForQuery E",
            "CommandComplete ROLLBACK",
            "ReadyForQuery I",
        ],
    );
    assert!(world.database.borrow().committed.is_empty());
}

#[test]
fn who_prepares_a_text_after_a_migration_gets_it_and_so_does_who_prepares_it_again() {
    let mut world = migrated();
    for client in [A, B] {
        world.sends(client, [parse("new", TEXT), bind("", "new", &[]), execute_some("", 0), sync()]);
        let told =
            ["ParseComplete", "BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"];
        world.gets(client, told);
    }
    world.sends(A, run("s"));
    world.gets(A, [CHANGED, "ReadyForQuery I"]);
    for place in [0, 1] {
        world.preferred = place;
        for client in [A, B] {
            world.sends(client, run("new"));
            world.gets(client, ["BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"]);
        }
    }
}

#[test]
fn who_prepares_a_text_after_a_migration_that_nobody_saw_gets_it_where_it_was_not_prepared_before() {
    let mut world = transaction_mode();
    world.sends(A, [parse("s", TEXT), sync()]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
    world.server(2).backend.reads(&query("alter table s add b int"));
    world.server(2).backend.said();
    world.preferred = 1;
    let told = ["ParseComplete", "BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"];
    world.sends(B, [parse("s", TEXT), bind("", "s", &[]), execute_some("", 0), sync()]);
    world.gets(B, told);
    // It is B's own now, and A's is what it was.
    for place in [1, 0, 2] {
        world.preferred = place;
        world.sends(B, run("s"));
        world.gets(B, ["BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"]);
        world.sends(A, run("s"));
        world.gets(A, [CHANGED, "ReadyForQuery I"]);
    }
    // Who prepares it from now on does not get what A has.
    world.preferred = 0;
    world.sends(A, [parse("again", TEXT), bind("", "again", &[]), execute_some("", 0), sync()]);
    world.gets(A, told);
}

#[test]
fn why_a_statement_cannot_be_prepared_again_is_told_and_not_tried_for_ever() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare p as select 'a'")]);
    world.server(0).state.statements.clear();
    world.server(0).backend.reads(&query("deallocate all"));
    world.server(0).backend.said();
    world.sends(A, [query("begin"), query("selec")]);
    world.client(A).got.clear();
    world.sends(A, [query("execute p"), bind("", "p", &[]), sync(), query("rollback"), query("execute p")]);
    let aborted =
        "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";
    world.gets(
        A,
        [
            aborted,
            "ReadyForQuery E",
            aborted,
            "ReadyForQuery E",
            "CommandComplete ROLLBACK",
            "ReadyForQuery I",
            "RowDescription",
            "DataRow a",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
        ],
    );
}

#[test]
fn the_unnamed_statement_gives_what_the_client_was_told_or_nothing() {
    for is_described in [true, false] {
        let mut world = transaction_mode();
        let describe = if is_described { describe_statement("") } else { Vec::new() };
        world.sends(A, [parse("", TEXT), describe, sync()]);
        world.client(A).got.clear();
        world.sends(B, [query("alter table s add b int")]);
        for place in [1, 0, 1] {
            world.preferred = place;
            world.sends(A, run(""));
            if is_described {
                world.gets(A, [CHANGED, "ReadyForQuery I"]);
            } else {
                world.gets(A, ["BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"]);
            }
        }
        world.sends(A, [parse("", TEXT), describe_statement(""), sync()]);
        world.gets(A, ["ParseComplete", "ParameterDescription 0", "RowDescription", "ReadyForQuery I"]);
        world.preferred = 0;
        world.sends(A, run(""));
        world.gets(A, ["BindComplete", "DataRow s", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    }
}
