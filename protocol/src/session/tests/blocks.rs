//! Transaction blocks that only read are begun on a standby, and nobody notices.

use proptest::prelude::*;
use proptest::sample::select;

use super::equivalence::as_alone;
use super::play::{cases, play, starts, turns};
use super::scribe::Scribe;
use super::scripts::{Action, Profile, ROLLBACK, Role, Script, Text};
use super::wire::{bind, execute_some, flush, parse, query, replies, sync};
use super::world::{CAPACITY, World, transaction_mode};
use super::{A, B};

const PROFILE: Profile =
    Profile { sessions: false, resets: false, long: 60, is_patient: true, asks: false, last_number: 0 };

fn herd(refusals: &[bool]) -> World {
    transaction_mode().with_standbys(refusals)
}

fn run(text: &str) -> Vec<u8> {
    [parse("", text), bind("", "", &[]), execute_some("", 0)].concat()
}

#[test]
fn a_block_that_only_reads_stays_on_its_standby_to_its_end() {
    let mut world = herd(&[false]);
    world.sends(A, [query("begin read only")]);
    world.gets(A, ["CommandComplete BEGIN", "ReadyForQuery T"]);
    world.sends(A, [query("select 'a'"), query("select 'b'")]);
    world.sends(A, [run("select 'c'"), sync()]);
    world.sends(A, [query("commit")]);
    world.server_got(
        1,
        [
            "Query begin read only",
            "Query select 'a'",
            "Query select 'b'",
            "Parse \"\" select 'c'",
            "Bind \"\" to \"\"",
            "Execute \"\"",
            "Sync",
            "Query commit",
        ],
    );
    assert!(world.servers[0].got.is_empty());
    assert!(!world.client(A).session.take_wrote());
    assert_eq!(world.held(A), None);
    world.sends(A, [query("insert into t values (1)")]);
    world.server_got(0, ["Query insert into t values (1)"]);
    assert!(world.client(A).session.take_wrote());
}

#[test]
fn so_does_one_whose_begin_comes_with_its_first_statement() {
    let mut world = herd(&[false, true]);
    let batch = [run("begin read only"), run("select 'a'"), sync()].concat();
    let answer = [
        "ParseComplete",
        "BindComplete",
        "CommandComplete BEGIN",
        "ParseComplete",
        "BindComplete",
        "DataRow a",
        "CommandComplete SELECT 1",
        "ReadyForQuery T",
    ];
    world.sends(A, [batch.clone()]);
    world.gets(A, answer);
    world.sends(A, [query("rollback")]);
    assert!(world.servers[0].got.is_empty());
    // Where that is refused, all of it is for the primary.
    world.sends(B, [batch]);
    world.gets(B, answer);
    assert_eq!(world.held(B), Some(0));
}

#[test]
fn what_is_for_the_primary_takes_the_block_there() {
    for text in ["select put(1)", "insert into t values (1)", "alter table s add c int"] {
        let mut world = herd(&[false]);
        world.sends(A, [query("begin isolation level read committed read only"), query("select 'a'")]);
        world.sends(A, [query(text)]);
        let begin = "Query BEGIN ISOLATION LEVEL read committed, READ ONLY";
        world.server_got(0, [&format!("Query {text}")]);
        world.server_got(1, ["Query begin isolation level read committed read only", "Query select 'a'"]);
        assert_eq!(world.client(A).session.begin_anew(), begin.trim_start_matches("Query "));
        world.sends(A, [query("rollback")]);
        world.sends(A, [query("select 'b'")]);
        world.server_got(0, ["Query rollback"]);
        world.server_got(1, ["Query select 'b'"]);
    }
}

#[test]
fn so_does_what_is_run_before_its_end_though_the_end_is_bound_first() {
    let begin = "begin isolation level repeatable read read only";
    let mut world = herd(&[false]);
    world.sends(A, [query(begin), query("select 'a'")]);
    world.client(A).got.clear();
    let end = [parse("", "commit"), bind("end", "", &[])].concat();
    let run = [parse("", "select put(1)"), bind("", "", &[]), execute_some("", 0)].concat();
    world.sends(A, [end, run, execute_some("end", 0), sync()]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    assert!(got.iter().any(|said| said.starts_with("ErrorResponse 40001")), "{got:?}");
}

#[test]
fn a_snapshot_binds_it_to_the_standby() {
    let begin = "begin isolation level repeatable read read only";
    let mut world = herd(&[false]);
    // Nothing was seen.
    world.sends(A, [query(begin), query("select put(1)"), query("rollback")]);
    world.server_got(0, ["Query select put(1)", "Query rollback"]);
    world.client(A).got.clear();
    world.sends(A, [query(begin), query("select 'a'"), query("select put(1)"), query("select 'b'")]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    let errors: Vec<_> =
        got.iter().filter_map(|said| said.strip_prefix("ErrorResponse ")?.get(..5)).collect();
    assert_eq!(errors, ["40001", "25P02"], "{got:?}");
    world.sends(A, [query("rollback"), query("select 'c'")]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    assert_eq!(got.first().map(String::as_str), Some("CommandComplete ROLLBACK"), "{got:?}");
    // Its end goes with it, and what is done then.
    world.client(A).got.clear();
    world.sends(A, [query(begin), query("select 'a'"), query("commit; insert into t values (1)")]);
    world.server_got(0, ["Query commit; insert into t values (1)"]);
    assert_eq!(world.client(A).session.transaction().byte(), b'I');
}

#[test]
fn a_failed_block_is_failed_on_the_primary_too() {
    let mut world = herd(&[false]);
    world.sends(A, [query("begin read only"), query("select 'a'"), query("selec")]);
    world.client(A).got.clear();
    world.sends(A, [query("select put(1)")]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    assert!(got[0].starts_with("ErrorResponse 25P02"), "{got:?}");
    world.sends(A, [query("rollback; insert into t values (1)")]);
    world.gets(A, ["CommandComplete ROLLBACK", "CommandComplete INSERT 0 1", "ReadyForQuery I"]);
}

#[test]
fn what_a_standby_refuses_in_a_block_takes_the_block_to_the_primary() {
    let mut world = herd(&[false, true]);
    world.sends(A, [query("begin isolation level read committed read only"), query("select 'a'")]);
    world.client(A).got.clear();
    world.sends(A, [query("select 'b'")]);
    world.gets(A, ["RowDescription", "DataRow b", "CommandComplete SELECT 1", "ReadyForQuery T"]);
    assert_eq!(world.held(A), Some(0));
    // Unless it has a snapshot: then its client is told.
    let mut world = herd(&[false, true]);
    world.sends(A, [query("begin isolation level repeatable read read only"), query("select 'a'")]);
    world.client(A).got.clear();
    world.sends(A, [query("select 'b'")]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    assert!(got[1].starts_with("ErrorResponse 42P01") && got[2] == "ReadyForQuery E", "{got:?}");
}

#[test]
fn several_statements_stay_if_the_standby_answers_all_of_them() {
    let mut world = herd(&[false]);
    world.sends(A, [query("begin isolation level read committed read only")]);
    world.sends(A, [query("select 'a'; select 'b'"), run("select 'c'"), run("select 'd'"), sync()]);
    assert_eq!(world.held(A), Some(1));
    let mut world = herd(&[false, true]);
    world.sends(A, [query("begin isolation level read committed read only")]);
    world.client(A).got.clear();
    world.sends(A, [query("select 'a'; select 'b'")]);
    let got = replies(&world.client(A).got);
    assert!(got.contains(&"DataRow a".into()) && got.contains(&"DataRow b".into()), "{got:?}");
    assert_eq!(world.held(A), Some(0));
}

#[test]
fn whose_end_is_not_there_waits_or_is_for_the_primary() {
    let mut world = herd(&[false]);
    world.sends(A, [query("begin read only")]);
    world.sends(A, [run("select 'a'")]);
    world.server_got(1, ["Query begin read only"]);
    world.sends(A, [sync()]);
    assert_eq!(world.held(A), Some(1));
    world.client(A).got.clear();
    world.sends(A, [run("select 'a'"), flush()]);
    world.gets(A, ["ParseComplete", "BindComplete", "DataRow a", "CommandComplete SELECT 1"]);
    assert_eq!(world.held(A), Some(0));
}

/// Read otherwise under settings of a block's own.
const DATE: Text = Text::Plain("select date '01/02/2003'", Role::Other);
const DMY: Text = Text::Plain("set local datestyle = 'dmy'", Role::Other);

/// A block that has statements of before it prepared under settings of its own.
fn setting() -> impl Strategy<Value = Vec<Action>> {
    let begin = |text| Action::Query(vec![Text::Plain(text, Role::Other)]);
    let date = vec![Action::Bind("", "s1"), Action::Execute("", 0), Action::Sync];
    let read = select(vec![Text::Select('a'), Text::Three, Text::Note]);
    let read = read.prop_map(|text| vec![Action::Query(vec![text])]);
    let said = prop::collection::vec(prop_oneof![Just(date.clone()), read], 0..4);
    said.prop_map(move |said| {
        let end = Action::Query(vec![ROLLBACK]);
        let before = vec![Action::Sync, begin("begin"), Action::Parse("s1", DATE), Action::Sync];
        let begun = vec![end.clone(), Action::Wait, begin("begin read only"), Action::Query(vec![DMY])];
        [before, begun, date.clone(), said.concat(), vec![end, Action::Wait]].concat()
    })
}

/// What a block says of itself: savepoints, and what it sets for itself alone.
fn remark() -> impl Strategy<Value = Text> {
    prop_oneof![
        3 => select(vec!["savepoint a", "savepoint b"]),
        2 => select(vec!["rollback to a", "rollback to b"]),
        1 => select(vec!["release a", "release b"]),
        1 => select(vec!["set local statement_timeout = '1'", "set local statement_timeout = '2'"]),
        2 => Just("show statement_timeout"),
    ]
    .prop_map(|text| Text::Plain(text, Role::Other))
}

/// A cursor, and what stands between its DECLARE and its CLOSE: nothing that is for the primary, which would be refused.
fn cursor() -> impl Strategy<Value = Vec<Action>> {
    let plain = |text| Text::Plain(text, Role::Other);
    let say = |text| {
        let run = vec![Action::Run("", text), Action::Sync];
        select(vec![vec![Action::Query(vec![text])], run])
    };
    let between = prop_oneof![
        4 => select(vec![plain("fetch 1 c"), plain("fetch 2 c"), Text::Select('a')]).prop_flat_map(say),
        1 => say(plain("set local statement_timeout = '3'")),
        1 => say(plain("savepoint k")),
        1 => select(vec!["rollback to k", "release k"]).prop_flat_map(move |end| {
            (say(plain("savepoint k")), say(plain("fetch 1 c")), say(plain(end)))
                .prop_map(|(a, b, c)| [a, b, c].concat())
        }),
    ];
    let whole = (
        say(plain("declare c cursor for select 'k' from three")),
        prop::collection::vec(between, 0..4),
        say(plain("close c")),
    );
    whole
        .prop_map(|(declare, between, close)| [vec![Action::Sync], declare, between.concat(), close].concat())
}

/// A block that says much of itself, and may come to the primary at any time.
fn talk() -> impl Strategy<Value = Vec<Action>> {
    let said = prop_oneof![
        6 => remark(),
        2 => select(vec![Text::Select('a'), Text::Three]),
        1 => select(vec![Text::Note, Text::Note, Text::Fail, Text::Plain("commit and chain", Role::Commit)]),
    ];
    let said = said.prop_flat_map(|text| {
        let run = vec![Action::Run("", text), Action::Sync];
        select(vec![vec![Action::Query(vec![text])], run, vec![Action::Run("", text)]])
    });
    prop::collection::vec(said, 3..12).prop_map(|said| {
        let begin = Text::Plain("begin read only", Role::Other);
        let end = vec![Action::Sync, Action::Query(vec![ROLLBACK])];
        [vec![Action::Sync, Action::Query(vec![begin])], said.concat(), end].concat()
    })
}

/// A client whose blocks only read, or most of them.
fn script(last_number: u32) -> impl Strategy<Value = Script> {
    let begin = || Text::Plain("begin read only", Role::Other);
    let commit = || Text::Plain("commit", Role::Commit);
    let chain = || select(vec!["commit and chain", "rollback and chain"]);
    let chain = move || chain().prop_map(|text| Text::Plain(text, Role::Commit));
    let empty = Text::Plain("", Role::Other);
    let name = || select(vec!["", "", "s1", "s2"]);
    let reads = || select(vec![Text::Select('a'), Text::Select('b'), Text::Three, empty]);
    let bound = move || {
        prop_oneof![
            8 => select(vec![Text::Select('a'), Text::SelectValue('b'), Text::Three]),
            1 => select(vec![Text::InsertValue, Text::PutValue, Text::Fail, Text::Note, Text::Syntax]),
            2 => Just(begin()),
            2 => Just(commit()),
            1 => Just(ROLLBACK),
            4 => remark(),
            1 => chain(),
        ]
    };
    let odd = select(vec![Text::Insert, Text::Put, Text::Fail, Text::Syntax, Text::Deferred]);
    let simple = move || {
        prop_oneof![
            8 => reads(),
            5 => Just(begin()),
            3 => Just(commit()),
            2 => Just(ROLLBACK),
            2 => odd.clone(),
            5 => remark(),
            1 => chain(),
        ]
    };
    let action = prop_oneof![
        10 => simple().prop_map(|text| Action::Query(vec![text])),
        1 => Just(Action::Query(vec![Text::Wide])),
        2 => prop::collection::vec(simple(), 2..4).prop_map(Action::Query),
        4 => (name(), bound()).prop_map(|(name, text)| Action::Run(name, text)),
        3 => (name(), bound()).prop_map(|(name, text)| Action::Ask(name, text)),
        3 => Just(Action::Sync),
        1 => Just(Action::Flush),
        4 => Just(Action::Wait),
    ];
    let piece = prop_oneof![12 => action.prop_map(|action| vec![action]), 1 => cursor(), 2 => talk()];
    prop::collection::vec(piece, 1..25).prop_map(move |pieces| written(last_number, &pieces.concat()))
}

fn written(last_number: u32, actions: &[Action]) -> Script {
    let mut scribe = Scribe::new(Profile { last_number, ..PROFILE });
    for action in actions {
        // Who waits without a Sync may have got no answer.
        if let Action::Wait = action {
            scribe.write(&Action::Sync);
        }
        scribe.write(action);
    }
    scribe.finish()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn clients_whose_blocks_only_read_are_answered_as_if_each_had_a_server_of_its_own(
        scripts in (script(0), script(1000)).prop_map(|(a, b)| vec![a, b]),
        turns in turns(2, 3),
        starts in starts(2),
        limit in 0..4_usize,
        capacity in select(vec![200_usize, 600, CAPACITY]),
        refusals in prop::collection::vec(any::<bool>(), 1..6),
    ) {
        let world = transaction_mode().with_prepared_limit(limit).with_capacity(capacity);
        let mut world = world.with_strict_servers().with_standbys(&refusals);
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[])?;
    }

    #[test]
    fn what_is_read_under_the_settings_of_a_block_is_told_to_nobody_else(
        setting in prop::collection::vec(setting(), 1..4),
        others in prop::collection::vec(select(vec![DATE, DATE, Text::Select('a'), Text::Note]), 1..8),
        turns in turns(2, 3),
        starts in starts(2),
        limit in 1..4_usize,
        refusals in select(vec![vec![false, true], vec![false, false, true], vec![true, false, false, true]]),
    ) {
        let others: Vec<_> = others.into_iter().flat_map(|text| [Action::Run("s1", text), Action::Sync, Action::Wait]).collect();
        let scripts = [written(0, &setting.concat()), written(1000, &others)];
        let mut world = transaction_mode().with_prepared_limit(limit).with_standbys(&refusals);
        world = world.with_strict_servers();
        play(&mut world, &scripts, &turns, &starts);
        as_alone(&world, &scripts, &[])?;
        prop_assert!(!replies(&world.clients[B].got).contains(&"DataRow date dmy".into()), "{scripts:#?}");
    }
}
