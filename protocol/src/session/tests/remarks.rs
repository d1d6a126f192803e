//! What a transaction block on a standby says of itself is said there, and goes with it to the primary.

use std::sync::Arc;

use super::wire::{bind, execute_some, parse, query, replies, sync};
use super::world::{World, transaction_mode};
use super::{A, B};
use crate::prepared::Lookup;
use crate::session::NoViews;
use crate::statement::{Named, Names, Suspects, Trust};

const BEGIN: &str = "begin isolation level read committed read only";
const SNAPSHOT: &str = "begin isolation level repeatable read read only";
/// Fails on any server.
const FAIL: &str = "fetch 1 missing";
const DECLARE: &str = "declare c cursor for select 'k' from three";

fn herd() -> World {
    transaction_mode().with_standbys(&[false])
}

fn run(text: &str) -> Vec<u8> {
    [parse("", text), bind("", "", &[]), execute_some("", 0)].concat()
}

/// What a client is told to each of these texts, said one after the other; of errors their SQLSTATEs.
fn told(world: &mut World, texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| last_of(world, query(text))).collect()
}

fn last_of(world: &mut World, messages: Vec<u8>) -> String {
    world.client(A).got.clear();
    world.sends(A, [messages]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    let says = got.iter().rev().find(|said| said.starts_with("CommandComplete") || said.starts_with("Error"));
    let said = says.cloned().unwrap_or_default();
    match said.strip_prefix("ErrorResponse ") {
        Some(error) => error[..5].to_owned(),
        None => said.trim_start_matches("CommandComplete ").to_owned(),
    }
}

#[test]
fn what_it_says_of_itself_it_says_on_its_standby() {
    let mut world = herd();
    let texts = [
        BEGIN,
        "show transaction_isolation",
        "set local statement_timeout = '1'",
        "savepoint a",
        DECLARE,
        "fetch 2 c",
        "close c",
        "rollback to a",
        "release a",
        "commit",
    ];
    let tags = [
        "BEGIN",
        "SHOW",
        "SET",
        "SAVEPOINT",
        "DECLARE CURSOR",
        "FETCH 2",
        "CLOSE CURSOR",
        "ROLLBACK",
        "RELEASE",
        "COMMIT",
    ];
    assert_eq!(told(&mut world, &texts), tags);
    assert!(world.servers[0].got.is_empty());
    // And by the extended protocol, in one batch or several.
    let batch = texts.iter().take(6).flat_map(|text| run(text)).chain(sync()).collect();
    assert_eq!(last_of(&mut world, batch), "FETCH 2");
    for text in ["close c", "release a", "show app.tenant", "set local app.tenant = '1'"] {
        let batch = [run(text), sync()].concat();
        let said = last_of(&mut world, batch);
        assert!(said.contains(text.split(' ').next().unwrap().to_uppercase().as_str()), "{text}: {said}");
    }
    assert!(world.servers[0].got.is_empty());
    // It is no write.
    world.sends(A, [query("commit")]);
    assert!(!world.client(A).session.take_wrote());
    assert_eq!(world.held(A), None);
}

#[test]
fn elsewhere_it_is_said_to_the_primary() {
    for text in ["show transaction_isolation", "savepoint a", DECLARE, "set local statement_timeout = '1'"] {
        let mut world = herd();
        world.sends(A, [query(text)]);
        world.server_got(0, [&format!("Query {text}")]);
        let mut world = herd();
        world.sends(A, [run("select 'a'"), run(text), sync()]);
        assert!(!world.servers[0].got.is_empty(), "{text}");
    }
}

#[test]
fn it_goes_to_the_primary_with_what_it_has_said() {
    let mut world = herd();
    let said = [BEGIN, "savepoint a", "set local statement_timeout = '1'", "savepoint b", "select 'a'"];
    told(&mut world, &said);
    let begin = "BEGIN ISOLATION LEVEL read committed, READ ONLY\n; SAVEPOINT \"a\"\n; \
                 set local statement_timeout = '1'\n; SAVEPOINT \"b\"";
    assert_eq!(world.client(A).session.begin_anew(), begin);
    let texts = ["select note()", "rollback to b", "release a", "rollback to b"];
    assert_eq!(told(&mut world, &texts), ["SELECT 1", "ROLLBACK", "RELEASE", "3B001"]);
    assert_eq!(world.held(A), Some(0));
    world.sends(A, [query("rollback")]);
    // Nothing of it is said in the next.
    told(&mut world, &[BEGIN]);
    assert_eq!(world.client(A).session.begin_anew(), "BEGIN ISOLATION LEVEL read committed, READ ONLY");
}

#[test]
fn a_level_that_it_sets_is_its_level() {
    let mut world = herd();
    let level = "set transaction isolation level repeatable read";
    // The model answers that as it answers SET LOCAL.
    told(&mut world, &["begin read only", level]);
    let begin = world.client(A).session.begin_anew();
    assert_eq!(begin, format!("BEGIN ISOLATION LEVEL repeatable read, READ ONLY\n; {level}"));
    assert_eq!(
        told(&mut world, &["select 'a'", "select put(1)", "rollback"]),
        ["SELECT 1", "40001", "ROLLBACK"]
    );
}

#[test]
fn a_failed_block_that_has_a_savepoint_comes_to_life_wherever_it_is() {
    let mut world = herd();
    let texts = [BEGIN, "savepoint a", "select 'a'", FAIL, "select 'b'", "rollback to a", "select 'c'"];
    let tags = ["BEGIN", "SAVEPOINT", "SELECT 1", "34000", "25P02", "ROLLBACK", "SELECT 1"];
    assert_eq!(told(&mut world, &texts), tags);
    assert!(world.servers[0].got.is_empty());
    // It comes to the primary as it is.
    let texts = [FAIL, "select put(1)", "rollback to a", "select 'c'", "release a", "commit"];
    let tags = ["34000", "25P02", "ROLLBACK", "SELECT 1", "RELEASE", "COMMIT"];
    assert_eq!(told(&mut world, &texts), tags);
    // With what it does then, too, though that is in the batch that has it come to life.
    let mut world = herd();
    told(&mut world, &[BEGIN, "savepoint a", FAIL]);
    let batch = [run("rollback to a"), run("select note()"), sync()].concat();
    assert_eq!(last_of(&mut world, batch), "SELECT 1");
    assert_eq!(world.held(A), Some(0));
    // With a snapshot it cannot.
    let mut world = herd();
    told(&mut world, &[SNAPSHOT, "savepoint a", "select 'a'", FAIL]);
    let batch = [run("rollback to a"), run("select note()"), sync()].concat();
    assert_eq!(last_of(&mut world, batch), "40001");
}

#[test]
fn what_it_refuses_behind_a_savepoint_is_run_on_the_primary_with_that() {
    let mut world = transaction_mode().with_standbys(&[true]);
    let batch = [run("begin read only"), run("savepoint a"), run("select 'a'"), sync()].concat();
    assert_eq!(last_of(&mut world, batch), "SELECT 1");
    assert_eq!(world.held(A), Some(0));
    assert_eq!(told(&mut world, &["rollback to a", "rollback to a"]), ["ROLLBACK", "ROLLBACK"]);
    let mut world = transaction_mode().with_standbys(&[false, true]);
    told(&mut world, &[BEGIN, "select 'a'", "savepoint a", FAIL]);
    let batch = [run("rollback to a"), run("select 'b'"), sync()].concat();
    assert_eq!(last_of(&mut world, batch), "SELECT 1");
    assert_eq!(world.held(A), Some(0));
}

#[test]
fn a_block_that_follows_at_once_has_seen_nothing_and_stays_there() {
    for (end, tag) in [("commit and chain", "COMMIT"), ("rollback and chain", "ROLLBACK")] {
        let mut world = herd();
        let texts =
            [SNAPSHOT, "select 'a'", "savepoint a", DECLARE, "set local statement_timeout = '1'", end];
        assert_eq!(told(&mut world, &texts).last().map(String::as_str), Some(tag));
        assert_eq!(world.held(A), Some(1));
        let begin = "BEGIN ISOLATION LEVEL repeatable read, READ ONLY";
        assert_eq!(world.client(A).session.begin_anew(), begin);
        let texts = ["select note()", "select 'a'", "rollback to a"];
        assert_eq!(told(&mut world, &texts), ["SELECT 1", "SELECT 1", "3B001"]);
        assert_eq!(world.held(A), Some(0));
        // What is read in it binds it.
        let mut world = herd();
        let texts = [SNAPSHOT, "select 'a'", end, "select 'b'", "select note()"];
        assert_eq!(told(&mut world, &texts).last().map(String::as_str), Some("40001"));
        // It may fail before.
        let mut world = herd();
        let texts = [SNAPSHOT, "savepoint a", "select 'a'", FAIL, end, "select 'a'"];
        let tags = ["BEGIN", "SAVEPOINT", "SELECT 1", "34000", "ROLLBACK", "SELECT 1"];
        assert_eq!(told(&mut world, &texts), tags);
        assert!(world.servers[0].got.is_empty());
        // With what reads behind it in one batch it is for the primary, and can go there.
        let mut world = herd();
        told(&mut world, &[SNAPSHOT, "select 'a'"]);
        let batch = [run(end), run("select 'b'"), sync()].concat();
        assert_eq!(last_of(&mut world, batch), "SELECT 1");
        assert_eq!(world.held(A), Some(0));
    }
}

#[test]
fn it_is_begun_anew_as_deferrable_as_it_was() {
    for (asked, said) in [("deferrable", "DEFERRABLE"), ("not deferrable", "NOT DEFERRABLE")] {
        let mut world = herd();
        told(&mut world, &[&format!("begin {asked} read only")]);
        assert_eq!(world.client(A).session.begin_anew(), format!("BEGIN {said}, READ ONLY"));
        // So is the next, if it is what the last became.
        let mut world = herd();
        told(&mut world, &["begin read only", &format!("set transaction {asked}"), "commit and chain"]);
        assert_eq!(world.client(A).session.begin_anew(), format!("BEGIN {said}, READ ONLY"));
    }
}

#[test]
fn where_transactions_only_read_by_default_each_is_begun_on_a_standby() {
    let mut world = transaction_mode().with_startup("default_transaction_read_only", "on");
    world = world.with_standbys(&[false]);
    assert_eq!(told(&mut world, &["begin", "select 'a'", "savepoint a"]), ["BEGIN", "SELECT 1", "SAVEPOINT"]);
    assert_eq!(world.held(A), Some(1));
    assert_eq!(world.client(A).session.begin_anew(), "BEGIN READ ONLY\n; SAVEPOINT \"a\"");
    assert_eq!(told(&mut world, &["insert into t values (1)", "rollback"]), ["25006", "ROLLBACK"]);
    world.servers[1].got.clear();
    for text in ["begin read write", "begin isolation level serializable", "/* pgherd: primary */ begin"] {
        world.sends(A, [query(text)]);
        world.server_got(1, []);
        world.sends(A, [query("rollback")]);
    }
}

#[test]
fn a_cursor_binds_it_until_it_is_closed() {
    let mut world = herd();
    let texts = [BEGIN, DECLARE, "fetch 1 c", "select put(1)", "rollback"];
    assert_eq!(told(&mut world, &texts), ["BEGIN", "DECLARE CURSOR", "FETCH 1", "40001", "ROLLBACK"]);
    let mut world = herd();
    let texts = [BEGIN, DECLARE, "close c", "select note()", "fetch 1 c"];
    let tags = ["BEGIN", "DECLARE CURSOR", "CLOSE CURSOR", "SELECT 1", "34000"];
    assert_eq!(told(&mut world, &texts), tags);
    assert_eq!(world.held(A), Some(0));
    // One that was closed by going back is, too.
    let mut world = herd();
    let texts = [BEGIN, "savepoint a", DECLARE, "rollback to a", "select note()"];
    assert_eq!(told(&mut world, &texts).last().map(String::as_str), Some("SELECT 1"));
}

#[test]
fn what_gives_no_rows_binds_it_to_no_portal() {
    let once = |text| [parse("", text), bind("", "", &[]), execute_some("", 1), sync()].concat();
    for (text, is_free) in [("savepoint b", true), ("release a", true), ("select 'a'", false)] {
        let mut world = herd();
        told(&mut world, &[BEGIN, "savepoint a", "select 'a'"]);
        world.sends(A, [once(text)]);
        let said = told(&mut world, &["select note()"]);
        assert_eq!(said == ["SELECT 1"], is_free, "{text}: {said:?}");
    }
}

#[test]
fn a_cursor_over_what_is_for_the_primary_is_declared_there() {
    for text in [
        "declare c cursor for select note()",
        "declare c cursor for select put(1)",
        "declare c cursor for /* pgherd: primary */ select 'a'",
        "declare c cursor for select 'a' for update",
        "declare c cursor with hold for select 'a'",
    ] {
        let mut world = herd();
        world.sends(A, [query(BEGIN), query(text)]);
        assert_eq!(world.held(A), Some(0), "{text}");
    }
}

#[test]
fn what_is_bound_and_run_later_is_for_the_primary() {
    for batch in [
        // Bound only.
        [parse("", "savepoint a"), bind("", "", &[]), sync()].concat(),
        // Bound in vain.
        [parse("", "savepoint a"), bind("", "", &[]), run("select 'a'"), sync()].concat(),
        // Bound to a portal that has a name.
        [parse("", "savepoint a"), bind("p", "", &[]), execute_some("p", 0), sync()].concat(),
    ] {
        let mut world = herd();
        world.sends(A, [query(BEGIN), batch]);
        assert_eq!(world.held(A), Some(0));
    }
}

#[test]
fn more_than_can_be_said_anew_is_for_the_primary() {
    let mut world = herd();
    world.sends(A, [query(BEGIN)]);
    for _ in 0..256 {
        world.sends(A, [query("savepoint a")]);
    }
    assert_eq!(world.held(A), Some(1));
    world.sends(A, [query("savepoint a")]);
    assert_eq!(world.held(A), Some(0));
    world.client(A).got.clear();
    let releases: Vec<_> = std::iter::repeat_n("release a", 257).collect();
    assert!(told(&mut world, &releases).iter().all(|tag| tag == "RELEASE"));
    assert_eq!(told(&mut world, &["release a"]), ["3B001"]);
}

#[test]
fn it_stays_there_while_the_catalogue_is_read_anew() {
    let mut world = herd();
    told(&mut world, &[BEGIN, DECLARE]);
    let names = Names { number: 1, known: [("c".as_bytes().into(), Named::ANY)].into(), ..Names::default() };
    let suspects = Suspects { trust: Trust::Nothing, names: Arc::new(names), ..Suspects::default() };
    world.client(A).session.heed(&Arc::new(suspects));
    assert_eq!(
        told(&mut world, &["fetch 1 c", "savepoint c", "close c"]),
        ["FETCH 1", "SAVEPOINT", "CLOSE CURSOR"]
    );
    world.sends(A, [query("commit")]);
    assert!(world.servers[0].got.is_empty());
    assert!(!world.client(A).session.is_suspect());
}

#[test]
fn what_others_see_of_a_connection_is_not_what_it_was_set_to() {
    let mut world = herd();
    told(&mut world, &[BEGIN, "set local app.tenant = '1'", "select 'a'", "commit"]);
    assert!(!world.servers[1].state.customs.is_empty());
    world.sends(B, [query("select 'a'")]);
    let mut world = herd();
    told(&mut world, &[BEGIN, "set local app.tenant = '1'", "select note()", "commit"]);
    assert!(!world.servers[0].state.customs.is_empty());
    assert!(!world.servers[1].state.customs.is_empty());
}

#[test]
fn what_was_read_under_its_settings_is_not_for_others() {
    const DATE: &str = "select date '01/02/2003'";
    let define = || [parse("s", DATE), sync()].concat();
    let run = || [bind("", "s", &[]), execute_some("", 0), sync()].concat();
    // It leaves the standby with what that refuses, or what is for the primary.
    for (text, refusals) in [("select 'a'", &[false, true][..]), ("select note()", &[false])] {
        let mut world = transaction_mode().with_standbys(refusals);
        world.sends(A, [query("begin"), define(), query("rollback")]);
        world.sends(A, [query(BEGIN), query("set local datestyle = 'dmy'"), run()]);
        assert!(replies(&world.client(A).got).contains(&"DataRow date dmy".into()));
        world.sends(A, [query(text)]);
        assert_eq!(world.held(A), Some(0), "{text}");
        world.sends(A, [query("rollback"), query("begin")]);
        world.servers[1].got.clear();
        world.sends(B, [define(), run()]);
        let got = replies(&world.client(B).got);
        assert!(got.contains(&"DataRow date ".into()), "{text}: {got:?}");
        assert!(!world.servers[1].got.is_empty());
    }
}

#[test]
fn of_a_cursor_that_a_standby_has_refused_the_query_is_remembered() {
    let explain = "explain select 'k' from three";
    for text in [DECLARE, explain] {
        let mut world = herd();
        told(&mut world, &[BEGIN]);
        let World { statements, recent, sequences, repeated, clients, .. } = &world;
        let lookup = Lookup { statements, recent, views: &NoViews, sequences, repeated };
        clients[A].session.note_refused(&query(text), lookup);
        told(&mut world, &[DECLARE]);
        assert_eq!(world.held(A), Some(0), "{text}");
    }
}
