//! Simple queries.

use std::sync::Arc;

use super::wire::{bind, execute_some, parse, query, sync};
use super::world::transaction_mode;
use super::{A, B};
use crate::statement::{Suspects, Trust};

#[test]
fn a_query_and_its_answer_are_passed_on_as_they_are() {
    let mut world = transaction_mode();
    world.sends(A, [query("select 'a'")]);
    world.server_got(0, ["Query select 'a'"]);
    world.gets(A, ["RowDescription", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    assert_eq!(world.held(A), None);
}

#[test]
fn clients_share_a_connection_between_transactions_but_not_within_one() {
    let mut world = transaction_mode();
    world.sends(A, [query("begin")]);
    world.gets(A, ["CommandComplete BEGIN", "ReadyForQuery T"]);
    world.sends(B, [query("insert into t values (1)")]);
    world.server_got(0, ["Query begin"]);
    world.server_got(1, ["Query insert into t values (1)"]);
    world.sends(A, [query("commit")]);
    world.gets(A, ["CommandComplete COMMIT", "ReadyForQuery I"]);
    world.sends(B, [query("insert into t values (2)")]);
    world.server_got(0, ["Query commit", "Query insert into t values (2)"]);
}

#[test]
fn before_a_catalogue_was_read_what_reads_a_table_is_asked_after() {
    let unread = Arc::new(Suspects { trust: Trust::Nothing, ..Suspects::default() });
    let run = |text: &str| [parse("", text), bind("", "", &[]), execute_some("", 0), sync()].concat();
    for (text, may_leave) in [("select 'c' from three", true), ("select 'a'", false)] {
        for sent in [query(text), run(text)] {
            let mut world = transaction_mode();
            world.client(A).session.heed(&unread);
            world.sends(A, [sent]);
            assert_eq!(world.clients[A].session.is_suspect(), may_leave, "{text}");
        }
    }
}

#[test]
fn a_pinned_session_remembers_no_more_than_it_has_statements() {
    let mut world = transaction_mode().with_prepared_limit(0);
    for name in ["s1", "s2"] {
        world.sends(A, [parse(name, &format!("select '{name}'")), sync()]);
    }
    world.sends(A, [query("set a.b = '1'")]);
    for _ in 0..100 {
        world.sends(A, [bind("", "s1", &[]), execute_some("", 0), sync()]);
        world.sends(A, [bind("", "s2", &[]), execute_some("", 0), sync()]);
    }
    assert!(world.clients[A].session.misread.len() <= 2, "{}", world.clients[A].session.misread.len());
}
