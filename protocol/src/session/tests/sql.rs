//! PREPARE, EXECUTE and DEALLOCATE in SQL.

use super::step::Step;
use super::wire::{
    self, bind, close_portal, close_statement, describe_portal, execute_some, parse, query, sync,
};
use super::world::{World, transaction_mode};
use super::{A, B};

const ROW: [&str; 4] = ["RowDescription", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"];

/// Of two servers, the other one is taken next.
fn elsewhere(world: &mut World) {
    world.preferred = 1 - world.preferred;
}

#[test]
fn a_statement_that_was_prepared_in_sql_is_executed_wherever_the_session_is_served() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare s as select 'a'")]);
    world.gets(A, ["CommandComplete PREPARE", "ReadyForQuery I"]);
    assert_eq!(world.held(A), None);
    let asks = ["Describe statement \"pgherd_1\"", "Sync"];
    world.server_got(0, ["Query prepare pgherd_1 as select 'a'", asks[0], asks[1]]);
    elsewhere(&mut world);
    world.sends(A, [query("execute s")]);
    world.gets(A, ROW);
    let again = "Parse \"pgherd_1\"              select 'a'";
    world.server_got(1, [again, asks[0], asks[1], "Query execute pgherd_1"]);
    world.sends(A, [bind("", "s", &[]), execute_some("", 0), sync()]);
    world.gets(A, ["BindComplete", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    world.sends(B, [query("execute s")]);
    world.gets(B, ["ErrorResponse 26000 prepared statement \"s\" does not exist", "ReadyForQuery I"]);
}

#[test]
fn a_prepare_of_a_batch_that_failed_is_not_brought_back_by_what_executes_its_portal_later() {
    // So that the error comes in the middle of the batch.
    let mut world = transaction_mode().with_capacity(200).with_strict_servers();
    let run = |name: &str| [bind("", name, &[]), describe_portal(""), execute_some("", 0)].concat();
    let batch = [
        [parse("", "execute \"s1\""), run(""), close_statement(""), close_portal("")].concat(),
        [parse("", "select 'a'"), parse("s1", "select 'a'"), run("s1")].concat(),
        [parse("", "prepare \"s1\" as select 'p'"), run(""), sync(), execute_some("", 0)].concat(),
    ];
    world.client(A).sent.extend(batch.concat());
    while world.step(A, Step::Read(usize::MAX)) {}
    world.settle();
    assert_eq!(world.clients[A].session.prepared(), 0);
}

#[test]
fn a_deallocate_holds_though_the_commit_behind_it_fails() {
    let mut world = transaction_mode();
    world.sends(A, [[parse("s1", "select 'a'"), parse("s2", "insert into d values (1)"), sync()].concat()]);
    world.gets(A, ["ParseComplete", "ParseComplete", "ReadyForQuery I"]);
    world.sends(A, [query("execute s2; deallocate s1")]);
    world.gets(A, ["CommandComplete INSERT 0 1", "ErrorResponse 23514 refused at commit", "ReadyForQuery I"]);
    let again = || [bind("", "s1", &[]), sync()].concat();
    world.sends(A, [again()]);
    world.gets(A, ["ErrorResponse 26000 prepared statement \"s1\" does not exist", "ReadyForQuery I"]);
    world.sends(A, [[parse("s1", "select 'a'"), again()].concat()]);
    world.gets(A, ["ParseComplete", "BindComplete", "ReadyForQuery I"]);
}

#[test]
fn a_prepare_holds_though_the_commit_behind_it_fails() {
    let mut world = transaction_mode();
    world.sends(A, [[parse("s", "insert into d values (1)"), sync()].concat()]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
    for (typed, name) in [("", "p"), (" (text)", "pt")] {
        let prepare = format!("prepare {name}{typed} as select 'p'");
        world.sends(A, [query(&format!("execute s; {prepare}"))]);
        world.gets(
            A,
            ["CommandComplete INSERT 0 1", "ErrorResponse 23514 refused at commit", "ReadyForQuery I"],
        );
        world.sends(A, [query(&prepare)]);
        let exists = format!("ErrorResponse 42P05 prepared statement \"{name}\" already exists");
        world.gets(A, [&exists, "ReadyForQuery I"]);
        assert_eq!(world.held(A), None);
        world.sends(A, [query(&format!("deallocate {name}"))]);
        world.gets(A, ["CommandComplete DEALLOCATE", "ReadyForQuery I"]);
    }
}

#[test]
fn what_a_portal_has_forgotten_that_is_gone_makes_no_other_name_unsure() {
    let mut world = transaction_mode();
    world.sends(A, [[parse("s", "select 'a'"), sync()].concat()]);
    let run = [parse("", "deallocate none"), bind("", "", &[]), execute_some("", 0)].concat();
    world.sends(A, [run, close_portal(""), sync()]);
    world.client(A).got.clear();
    let prepare = || [sync(), query("prepare s as select 'p'")].concat();
    let exists = "ErrorResponse 42P05 prepared statement \"s\" already exists";
    world.sends(A, [execute_some("", 0), prepare()]);
    let missing = "ErrorResponse 34000 portal \"\" does not exist";
    world.gets(A, [missing, "ReadyForQuery I", exists, "ReadyForQuery I"]);
    // As little as a statement that is gone.
    world.sends(A, [parse("", "deallocate none"), close_statement(""), sync()]);
    world.client(A).got.clear();
    world.sends(A, [bind("", "", &[]), execute_some("", 0), prepare()]);
    let missing = "ErrorResponse 26000 unnamed prepared statement does not exist";
    world.gets(A, [missing, "ReadyForQuery I", exists, "ReadyForQuery I"]);
}

#[test]
fn an_execute_in_a_failed_transaction_is_answered_though_a_batch_without_its_sync_stands_before_it() {
    let refused =
        "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";
    for is_known in [true, false] {
        let mut world = transaction_mode();
        world.sends(A, [[parse("s", "select 'a'"), sync()].concat()]);
        world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
        // The statement is on another server.
        world.sends(B, [query("begin")]);
        let fails = [query("begin"), query("selec")];
        let executes = [close_statement(""), query("execute s")];
        if is_known {
            world.sends(A, fails);
            world.sends(A, executes);
        } else {
            world.sends(A, [fails.concat(), executes.concat()]);
        }
        world.gets(
            A,
            [
                "CommandComplete BEGIN",
                "ReadyForQuery T",
                "ErrorResponse 42601 syntax error",
                "ReadyForQuery E",
                "CloseComplete",
                refused,
                "ReadyForQuery E",
            ],
        );
    }
}

#[test]
fn the_types_that_a_prepare_gives_are_asked_for_so_that_other_servers_get_them() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare s (text) as select 'a' || $1")]);
    world.gets(A, ["CommandComplete PREPARE", "ReadyForQuery I"]);
    let sent =
        ["Query prepare pgherd_1 (text) as select 'a' || $1", "Describe statement \"pgherd_1\"", "Sync"];
    world.server_got(0, sent);
    assert_eq!(world.held(A), None);
    elsewhere(&mut world);
    world.sends(A, [query("execute s ('')")]);
    world.gets(A, ROW);
    let again = "Parse \"pgherd_1\"                     select 'a' || $1";
    world.server_got(1, [again, sent[1], sent[2], "Query execute pgherd_1 ('')"]);
    // By the extended protocol, in which the question belongs to the client's batch.
    let text = "prepare t (text) as select 'a' || $1";
    world.sends(A, [parse("", text), bind("", "", &[]), execute_some("", 0), query("execute t ('')")]);
    let told = ["ParseComplete", "BindComplete", "CommandComplete PREPARE"];
    world.gets(A, [told[0], told[1], told[2], ROW[0], ROW[1], ROW[2], ROW[3]]);
    assert_eq!(world.held(A), None);
}

#[test]
fn a_statement_that_no_other_server_can_be_given_makes_no_place_for_others() {
    let mut world = transaction_mode().with_prepared_limit(0);
    // Behind a COPY the server cannot be asked for the type.
    world.sends(A, [query("prepare s (text) as select 'a' || $1; copy u to stdout")]);
    world.sends(A, [parse("t", "select 'b'"), sync(), parse("u", "select 'c'"), sync()]);
    assert!(world.held(A).is_some());
    world.clients[A].got.clear();
    world.sends(A, [query("execute s ('')")]);
    world.gets(A, ROW);
}

#[test]
fn a_name_stays_taken_though_there_is_no_place_for_its_statement() {
    let mut world = transaction_mode().with_prepared_limit(0);
    let texts = ["prepare s as select 'p'", "prepare s as select 'p'; deallocate s"];
    for (text, other) in texts.into_iter().zip(["t", "u"]) {
        world.sends(A, [query("prepare s as select 'p'")]);
        world.gets(A, ["CommandComplete PREPARE", "ReadyForQuery I"]);
        // Others have it make place.
        world.sends(B, [parse(other, "select 'b'"), sync()]);
        world.gets(B, ["ParseComplete", "ReadyForQuery I"]);
        world.sends(A, [query(text)]);
        world.gets(A, ["ErrorResponse 42P05 prepared statement \"s\" already exists", "ReadyForQuery I"]);
        world.sends(A, [query("deallocate s")]);
        world.gets(A, ["CommandComplete DEALLOCATE", "ReadyForQuery I"]);
    }
}

#[test]
fn execute_finds_what_the_protocol_has_prepared_and_deallocate_leaves_it_to_others() {
    let mut world = transaction_mode();
    for client in [A, B] {
        world.sends(client, [parse("s", "select 'a'"), sync()]);
        world.gets(client, ["ParseComplete", "ReadyForQuery I"]);
    }
    world.sends(A, [query("execute s; deallocate s")]);
    world.gets(A, [ROW[0], ROW[1], ROW[2], "CommandComplete DEALLOCATE", ROW[3]]);
    world.sends(A, [query("execute s")]);
    world.gets(A, ["ErrorResponse 26000 prepared statement \"s\" does not exist", "ReadyForQuery I"]);
    world.server(0).got.clear();
    world.sends(B, [bind("", "s", &[]), execute_some("", 0), sync()]);
    world.gets(B, ["BindComplete", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    world.server_got(0, ["Bind \"\" to \"pgherd_1\"", "Execute \"\"", "Sync"]);
}

#[test]
fn an_execute_that_was_prepared_itself_runs_what_its_name_means_when_it_is_bound() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare s as select 'a'"), parse("e", "execute s"), sync()]);
    world.gets(A, ["CommandComplete PREPARE", "ReadyForQuery I", "ParseComplete", "ReadyForQuery I"]);
    let run = || [bind("", "e", &[]), execute_some("", 0), sync()];
    world.sends(A, run());
    world.gets(A, ["BindComplete", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    world.sends(A, [query("deallocate s"), query("prepare s as select 'b'")]);
    world.gets(
        A,
        ["CommandComplete DEALLOCATE", "ReadyForQuery I", "CommandComplete PREPARE", "ReadyForQuery I"],
    );
    for _ in 0..2 {
        elsewhere(&mut world);
        world.sends(A, run());
        world.gets(A, ["BindComplete", "DataRow b", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    }
}

#[test]
fn why_a_statement_cannot_be_prepared_elsewhere_is_told_in_answer_to_its_execute() {
    let mut world = transaction_mode();
    world.sends(A, [parse("s", "select 'a'"), sync(), query("begin")]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I", "CommandComplete BEGIN", "ReadyForQuery T"]);
    world.sends(A, [query("selec"), query("execute s"), query("rollback"), query("execute s")]);
    let aborted =
        "ErrorResponse 25P02 current transaction is aborted, commands ignored until end of transaction block";
    world.gets(
        A,
        [
            "ErrorResponse 42601 syntax error",
            "ReadyForQuery E",
            aborted,
            "ReadyForQuery E",
            "CommandComplete ROLLBACK",
            "ReadyForQuery I",
            ROW[0],
            ROW[1],
            ROW[2],
            ROW[3],
        ],
    );
}

#[test]
fn a_name_is_taken_as_soon_as_a_batch_is_sent_that_takes_it() {
    let mut world = transaction_mode();
    world.sends(A, [[parse("s", "select 'a'"), sync(), parse("s", "select 'b'"), sync()].concat()]);
    let exists = "ErrorResponse 42P05 prepared statement \"s\" already exists";
    world.gets(A, ["ParseComplete", "ReadyForQuery I", exists, "ReadyForQuery I"]);
    // What has taken it may have failed, and what lets it go, too.
    world.sends(A, [[parse("t", "nonsense"), sync(), parse("t", "select 'a'"), sync()].concat()]);
    let refused = "ErrorResponse 42601 syntax error";
    world.gets(A, [refused, "ReadyForQuery I", "ParseComplete", "ReadyForQuery I"]);
    world.sends(A, [[query("deallocate all"), parse("s", "select 'c'"), sync()].concat()]);
    world.gets(A, ["CommandComplete DEALLOCATE ALL", "ReadyForQuery I", "ParseComplete", "ReadyForQuery I"]);
}

#[test]
fn a_failed_part_of_a_text_takes_back_what_was_to_follow_and_nothing_else() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare a as select 'a'; select fail(); prepare b as select 'b'")]);
    world.gets(
        A,
        ["CommandComplete PREPARE", "RowDescription", "ErrorResponse 22012 division by zero", ROW[3]],
    );
    elsewhere(&mut world);
    world.sends(A, [query("execute a")]);
    world.gets(A, ROW);
    world.sends(A, [query("execute b")]);
    world.gets(A, ["ErrorResponse 26000 prepared statement \"b\" does not exist", "ReadyForQuery I"]);
    world.sends(A, [query("prepare a as select 'b'")]);
    world.gets(A, ["ErrorResponse 42P05 prepared statement \"a\" already exists", "ReadyForQuery I"]);
}

#[test]
fn what_is_forgotten_within_a_text_is_not_executed_behind() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare s as select 'a'; deallocate all; execute s")]);
    let missing = "ErrorResponse 26000 prepared statement \"s\" does not exist";
    world.gets(A, ["CommandComplete PREPARE", "CommandComplete DEALLOCATE ALL", missing, "ReadyForQuery I"]);
    world.sends(A, [query("begin; prepare s (text) as select 'a' || $1; deallocate all")]);
    world.gets(
        A,
        [
            "CommandComplete BEGIN",
            "CommandComplete PREPARE",
            "CommandComplete DEALLOCATE ALL",
            "ReadyForQuery T",
        ],
    );
    world.sends(A, [query("select 'a'")]);
    world.gets(A, [ROW[0], ROW[1], ROW[2], "ReadyForQuery T"]);
}

#[test]
fn a_text_that_is_too_long_is_executed_and_one_that_prepares_pins() {
    let mut world = transaction_mode().with_capacity(100);
    world.sends(A, [query("prepare s as select 'a' || $1")]);
    world.gets(A, ["CommandComplete PREPARE", "ReadyForQuery I"]);
    let value = "x".repeat(200);
    world.sends(A, [query(&format!("execute s ('{value}')"))]);
    world.gets(
        A,
        [
            "RowDescription",
            "DataRow axxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.. 201 bytes",
            ROW[2],
            ROW[3],
        ],
    );
    assert_eq!(world.held(A), None);
    world.sends(A, [query(&format!("prepare t as select '{value}'")), query("execute t")]);
    world.gets(
        A,
        [
            "CommandComplete PREPARE",
            "ReadyForQuery I",
            "RowDescription",
            "DataRow xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.. 200 bytes",
            ROW[2],
            ROW[3],
        ],
    );
    assert_eq!(world.held(A), Some(0));
}

/// A session in a failed transaction on a connection that lacks its statement `s`.
fn failed_elsewhere() -> World {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare s as select 'a'")]);
    elsewhere(&mut world);
    world.sends(A, [query("begin"), query("select fail()")]);
    world.client(A).got.clear();
    world
}

#[test]
fn a_text_that_ends_a_failed_transaction_and_executes_finds_its_statement() {
    let mut world = failed_elsewhere();
    world.sends(A, [query("rollback; execute s"), query("execute s")]);
    let [row, data, done, ready] = ROW;
    world.gets(A, ["CommandComplete ROLLBACK", row, data, done, ready, row, data, done, ready]);
    assert_eq!(world.held(A), None);
}

#[test]
fn such_a_text_may_come_before_the_server_has_said_that_the_transaction_failed() {
    let mut world = transaction_mode();
    world.sends(A, [query("prepare s as select 'a'")]);
    elsewhere(&mut world);
    world.client(A).got.clear();
    world.sends(A, [query("begin"), query("select fail()"), query("rollback; execute s")]);
    let failed = [ROW[0], "ErrorResponse 22012 division by zero", "ReadyForQuery E"];
    let begun = ["CommandComplete BEGIN", "ReadyForQuery T"];
    let [row, data, done, ready] = ROW;
    let ended = "CommandComplete ROLLBACK";
    world.gets(A, [begun[0], begun[1], failed[0], failed[1], failed[2], ended, row, data, done, ready]);
    world.sends(A, [query("begin"), query("commit; execute s")]);
    world.gets(A, [begun[0], begun[1], "CommandComplete COMMIT", row, data, done, ready]);
}

#[test]
fn such_a_text_that_cannot_be_read_ends_nothing() {
    let mut world = failed_elsewhere();
    world.sends(A, [query("rollback; execute s; selec")]);
    world.gets(A, ["ErrorResponse 42601 syntax error", "ReadyForQuery E"]);
    world.sends(A, [query("rollback; execute s")]);
    world.gets(A, ["CommandComplete ROLLBACK", ROW[0], ROW[1], ROW[2], ROW[3]]);
}

#[test]
fn such_a_text_goes_on_elsewhere_if_its_server_is_lost_in_between() {
    // Before and after the server has said that the transaction has ended.
    for answer in [0, b"C....ROLLBACK\0".len()] {
        let mut world = failed_elsewhere();
        world.client(A).sent.extend(query("rollback; execute s"));
        let all = usize::MAX;
        for step in [Step::Read(all), Step::Forward(all), Step::Serve(all), Step::Return(all)] {
            world.step(A, step);
        }
        for step in [Step::Forward(all), Step::Serve(all), Step::Return(answer)] {
            world.step(A, step);
        }
        let server = world.held(A).unwrap();
        world.lose(A, server);
        world.settle();
        let [row, data, done, ready] = ROW;
        world.gets(A, ["CommandComplete ROLLBACK", row, data, done, ready]);
        world.sends(A, [query("rollback; execute s")]);
        let warning = "NoticeResponse 25P01 there is no transaction in progress";
        world.gets(A, [warning, "CommandComplete ROLLBACK", row, data, done, ready]);
    }
}

#[test]
fn where_the_server_of_a_failed_transaction_is_lost_a_text_that_ends_it_goes_on_elsewhere() {
    let mut world = failed_elsewhere();
    let server = world.held(A).unwrap();
    world.lose(A, server);
    world.sends(A, [query("rollback; execute s"), query("begin; select fail()")]);
    let [row, data, done, ready] = ROW;
    world.gets(
        A,
        [
            "CommandComplete ROLLBACK",
            row,
            data,
            done,
            ready,
            "CommandComplete BEGIN",
            row,
            "ErrorResponse 22012 division by zero",
            "ReadyForQuery E",
        ],
    );
    let server = world.held(A).unwrap();
    world.lose(A, server);
    world.sends(A, [query("commit; begin"), query("rollback")]);
    world.gets(
        A,
        [
            "CommandComplete ROLLBACK",
            "CommandComplete BEGIN",
            "ReadyForQuery T",
            "CommandComplete ROLLBACK",
            ready,
        ],
    );
}

#[test]
fn a_commit_of_what_is_lost_without_the_clients_knowing_fails() {
    let lost = "ErrorResponse 40001 connection to node 1 was lost; the transaction was rolled back";
    let commits = [
        query("commit"),
        query("commit; select 'a'"),
        [parse("", "commit"), bind("", "", &[]), execute_some("", 0), sync()].concat(),
    ];
    for commit in commits {
        let mut world = transaction_mode();
        world.sends(A, [query("begin")]);
        world.client(A).got.clear();
        let server = world.held(A).unwrap();
        world.lose(A, server);
        world.sends(A, [commit]);
        let mut told = wire::replies(&std::mem::take(&mut world.client(A).got));
        told.retain(|reply| !matches!(reply.as_str(), "ParseComplete" | "BindComplete"));
        assert_eq!(told, [lost, "ReadyForQuery I"]);
    }
}
