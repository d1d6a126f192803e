//! What only reads, and of which nothing was told, is sent again when its server is lost: the client notices nothing.

use proptest::prelude::*;
use proptest::sample::select;

use super::play::{Turn, cases, play, starts, turns};
use super::scribe::Scribe;
use super::scripts::{Action, Profile, Role, Script, Text};
use super::server::Lifetime;
use super::step::Step;
use super::wire::{
    bind, close_statement, describe_statement, execute_some, flush, parse, query, replies, sync,
};
use super::world::{World, session_mode, transaction_mode};
use super::{A, B};

const PROFILE: Profile =
    Profile { sessions: false, resets: false, long: 60, is_patient: true, asks: false, last_number: 0 };

/// A client's messages have reached the server, which is lost before anything of the answer has come.
fn loses<const N: usize>(world: &mut World, messages: [Vec<u8>; N]) {
    world.client(A).sent.extend(messages.concat());
    while world.step(A, Step::Read(usize::MAX)) | world.step(A, Step::Forward(usize::MAX)) {}
    let server = world.held(A).expect("a server connection");
    world.lose(A, server);
    world.settle();
}

#[test]
fn a_read_whose_server_is_lost_is_answered_by_the_next() {
    let mut world = transaction_mode();
    loses(&mut world, [query("select 'a'")]);
    world.server_got(0, ["Query select 'a'"]);
    world.server_got(1, ["Query select 'a'"]);
    world.gets(A, ["RowDescription", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    assert_eq!(world.held(A), None);
}

#[test]
fn so_is_a_batch_with_a_statement_that_is_prepared_in_it_or_was_before() {
    let mut world = transaction_mode();
    let answer = ["BindComplete", "DataRow a1", "CommandComplete SELECT 1", "ReadyForQuery I"];
    let run = |name: &str| [bind("", name, &["1"]), execute_some("", 0), sync()].concat();
    loses(&mut world, [parse("", "select 'a' || $1"), run("")]);
    world.gets(A, ["ParseComplete", answer[0], answer[1], answer[2], answer[3]]);
    loses(&mut world, [parse("s1", "select 'a' || $1"), describe_statement("s1"), sync()]);
    world.gets(A, ["ParseComplete", "ParameterDescription 1", "RowDescription", "ReadyForQuery I"]);
    loses(&mut world, [run("s1")]);
    world.gets(A, answer);
    loses(&mut world, [parse("s2", "insert into t values ($1)"), sync()]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
}

#[test]
fn so_is_what_the_client_has_not_ended_yet_and_what_it_sends_behind_stays_behind() {
    let mut world = transaction_mode();
    loses(&mut world, [parse("", "select 'a'"), bind("", "", &[]), flush()]);
    world.gets(A, ["ParseComplete", "BindComplete"]);
    world.sends(A, [execute_some("", 0), sync(), query("insert into t values (1)")]);
    world.gets(
        A,
        [
            "DataRow a",
            "CommandComplete SELECT 1",
            "ReadyForQuery I",
            "CommandComplete INSERT 0 1",
            "ReadyForQuery I",
        ],
    );
    loses(&mut world, [query("select 'a'"), query("select 'b'")]);
    let answer =
        |value| [format!("DataRow {value}"), "CommandComplete SELECT 1".into(), "ReadyForQuery I".into()];
    let got = replies(&world.client(A).got);
    let rows: Vec<_> = got.into_iter().filter(|said| said != "RowDescription").collect();
    assert_eq!(rows, [answer("a"), answer("b")].concat());
}

#[test]
fn a_transaction_that_has_only_begun_begins_elsewhere() {
    let mut world = transaction_mode();
    loses(&mut world, [query("begin")]);
    world.gets(A, ["CommandComplete BEGIN", "ReadyForQuery T"]);
    world.sends(A, [query("commit")]);
    world.gets(A, ["CommandComplete COMMIT", "ReadyForQuery I"]);
}

#[test]
fn what_may_write_or_was_told_in_part_is_not_sent_again() {
    for text in
        ["insert into t values (1)", "select put(1)", "select 'a'; insert into t values (1)", "commit"]
    {
        let mut world = transaction_mode();
        loses(&mut world, [query(text)]);
        assert_eq!(world.servers.len(), 1, "{text}");
    }
    // A statement that writes stands behind one that reads.
    let mut world = transaction_mode();
    loses(&mut world, [query("select 'a'"), query("insert into t values (1)")]);
    assert_eq!(world.servers.len(), 1);
    // pgherd has said itself that the statement is closed; and has not yet.
    for (asks, is_told) in [(flush(), true), (Vec::new(), false)] {
        let mut world = transaction_mode();
        world.sends(A, [parse("s1", "select 'a'"), sync()]);
        world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
        loses(&mut world, [close_statement("s1"), asks, parse("s1", "select 'b'"), sync()]);
        let got = replies(&world.client(A).got);
        let behind = if is_told { "ErrorResponse 40001" } else { "ParseComplete" };
        assert!(got[0] == "CloseComplete" && got[1].starts_with(behind), "{got:?}");
    }
    // In a transaction.
    let mut world = transaction_mode();
    world.sends(A, [query("begin")]);
    world.gets(A, ["CommandComplete BEGIN", "ReadyForQuery T"]);
    loses(&mut world, [query("select 'a'")]);
    assert_eq!(world.servers.len(), 1);
}

#[test]
fn what_needs_something_that_is_gone_is_not_sent_again() {
    // The unnamed statement that there was.
    let mut world = transaction_mode();
    world.sends(A, [parse("", "select 'a'"), sync()]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
    let used = [bind("", "", &[]), execute_some("", 0)].concat();
    loses(&mut world, [used.clone(), parse("", "select 'b'"), sync()]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    assert!(got[0].starts_with("ErrorResponse 40001"), "{got:?}");
    // Where it was only used it is there again.
    world.sends(A, [parse("", "select 'a'"), sync()]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
    loses(&mut world, [used, sync()]);
    world.gets(A, ["BindComplete", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    // Bytes that are too many to be kept.
    let mut world = transaction_mode();
    let long = "v".repeat(17_000);
    let run = || [bind("", "s1", &[&long]), execute_some("", 0), sync()].concat();
    world.sends(A, [parse("s1", "select 'a' || $1"), sync()]);
    world.gets(A, ["ParseComplete", "ReadyForQuery I"]);
    loses(&mut world, [run(), run()]);
    assert!(replies(&world.client(A).got)[0].starts_with("ErrorResponse 40001"));
    // A session's own server process.
    let mut world = session_mode();
    loses(&mut world, [query("select 'a'")]);
    assert!(world.is_gone(A));
}

#[test]
fn nothing_is_sent_again_more_than_three_times() {
    let lost = Lifetime { requests: usize::MAX, replies: 3, farewell: false };
    let mut world = transaction_mode().with_lifetimes(&[lost; 5]);
    world.sends(A, [query("select 'a'")]);
    let got = replies(&std::mem::take(&mut world.client(A).got));
    assert!(got[0].starts_with("ErrorResponse 40001"), "{got:?}");
    assert_eq!(world.servers.len(), 4);
    world.sends(A, [query("select 'a'")]);
    world.gets(A, ["RowDescription", "DataRow a", "CommandComplete SELECT 1", "ReadyForQuery I"]);
    world.sends(B, [query("select 'b'")]);
    world.gets(B, ["RowDescription", "DataRow b", "CommandComplete SELECT 1", "ReadyForQuery I"]);
}

/// A client that does nothing but read. `plainly`: it uses no statement, and no portal, of which it cannot know that it is there.
fn script(plainly: bool) -> impl Strategy<Value = Script> {
    let name = || select(vec!["", "", "s1", "s2"]);
    let kept = select(if plainly { vec!["s1", "s2"] } else { vec!["", "s1", "s2"] });
    let bound = || select(vec![Text::Select('a'), Text::SelectValue('b'), Text::Three]);
    let show = Text::Plain("show work_mem", Role::Other);
    let empty = Text::Plain("", Role::Other);
    let simple = select(vec![Text::Select('a'), Text::Three, Text::Wide, show, empty]);
    let odd = prop_oneof![
        name().prop_map(|name| Action::Bind("", name)),
        name().prop_map(Action::DescribeStatement),
        name().prop_map(Action::CloseStatement),
        (0..3_u32).prop_map(|limit| Action::Execute("", limit)),
    ];
    let odd = odd.prop_map(move |action| if plainly { Action::Wait } else { action });
    let action = prop_oneof![
        3 => prop::collection::vec(simple, 1..3).prop_map(Action::Query),
        2 => (name(), bound()).prop_map(|(name, text)| Action::Parse(name, text)),
        3 => (name(), bound()).prop_map(|(name, text)| Action::Run(name, text)),
        3 => (kept, bound()).prop_map(|(name, text)| Action::Ask(name, text)),
        6 => odd,
        1 => Just(Action::Flush),
        4 => Just(Action::Sync),
        3 => Just(Action::Wait),
    ];
    prop::collection::vec(action, 1..25).prop_map(|actions| {
        let mut scribe = Scribe::new(PROFILE);
        actions.iter().for_each(|action| scribe.write(action));
        let mut script = scribe.finish();
        // It ends with a ROLLBACK and a SELECT.
        script.remove(script.len() - 2);
        script
    })
}

/// What the client was told, and what it is told where no server is lost.
fn answers(script: &Script, lifetimes: &[Lifetime], turns: &[Turn], starts: &[usize]) -> [Vec<String>; 2] {
    [lifetimes, &[]].map(|lifetimes| {
        let mut world = transaction_mode().with_lifetimes(lifetimes);
        play(&mut world, std::slice::from_ref(script), turns, starts);
        let mut got = replies(&world.clients[A].got);
        got.extend(world.is_gone(A).then(|| "ErrorResponse 57P01".to_owned()));
        got
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn who_reads_notices_nothing_of_servers_that_are_lost_before_they_answer(
        script in script(true),
        lost in prop::collection::vec((0..1500_usize, 1..5_usize), 1..4),
        turns in turns(1, 1),
        starts in starts(1),
    ) {
        // Less than a message comes of what they say.
        let lifetimes = lost.into_iter().map(|(requests, replies)| Lifetime { requests, replies, farewell: false });
        let [got, expected] = answers(&script, &lifetimes.collect::<Vec<_>>(), &turns, &starts);
        prop_assert_eq!(got, expected, "{:#?}", script);
    }

    #[test]
    fn who_reads_is_answered_as_if_no_server_were_lost_or_is_told(
        script in script(false),
        lost in prop::collection::vec((0..1500_usize, 1..200_usize, any::<bool>()), 1..4),
        turns in turns(1, 1),
        starts in starts(1),
    ) {
        let lifetimes = lost.into_iter().map(|(requests, replies, farewell)| {
            Lifetime { requests, replies, farewell }
        });
        let [got, expected] = answers(&script, &lifetimes.collect::<Vec<_>>(), &turns, &starts);
        let same = got.iter().zip(&expected).take_while(|(got, expected)| got == expected).count();
        // From there on it may go on otherwise.
        let is_told = got.get(same).is_some_and(|said| {
            ["ErrorResponse 40001", "ErrorResponse 08007", "ErrorResponse 57P01"].iter().any(|told| said.starts_with(told))
        });
        prop_assert!(got == expected || is_told, "{got:#?}\nis not {expected:#?}\n{script:#?}");
    }
}
