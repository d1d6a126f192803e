//! Random scripts: what a client sends, in an order that need not make sense.

use proptest::prelude::*;
use proptest::sample::select;

use super::scribe::Scribe;
use super::wire;

/// A message, and what the client has to remember of it to understand the answer.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Kind,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", wire::requests(&self.bytes).concat())
    }
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Query(Vec<Statement>),
    Parse {
        name: String,
        statement: Statement,
    },
    Bind {
        portal: String,
        name: String,
        number: u32,
    },
    Describe,
    Execute {
        portal: String,
    },
    Close,
    Sync,
    FunctionCall(u32),
    /// Flush, CopyData, CopyDone, CopyFail: none has an answer of its own.
    Unanswered,
}

/// A statement as its client understands it.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) role: Role,
    /// What it writes if its text says so.
    pub(super) numbers: Vec<u32>,
}

/// What a statement does to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Other,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    /// It commits by itself.
    Commits,
    CopyIn,
}

/// The texts of statements.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text {
    Select(char),
    SelectValue(char),
    Three,
    /// Too long for a small buffer.
    Wide,
    Long(usize),
    Insert,
    InsertValue,
    Put,
    PutValue,
    Call,
    CallValue,
    Immediate,
    Deferred,
    Fail,
    Syntax,
    Note,
    /// `select lastval()`
    Last,
    /// PREPARE in SQL of what takes a value, of a type that is given, or none.
    SqlPrepare(&'static str, bool),
    /// EXECUTE in SQL, with a value or none.
    SqlExecute(&'static str, bool),
    /// DEALLOCATE in SQL.
    SqlDeallocate(&'static str),
    Plain(&'static str, Role),
}

use Text::Plain;

/// Longer than a small buffer.
pub(super) const WIDE: usize = 400;

const BEGIN: Text = Plain("begin", Role::Other);
const COMMIT: Text = Plain("commit", Role::Commit);
pub(super) const ROLLBACK: Text = Plain("rollback", Role::Rollback);

/// What a client does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Query(Vec<Text>),
    Parse(&'static str, Text),
    Bind(&'static str, &'static str),
    DescribeStatement(&'static str),
    DescribePortal(&'static str),
    Execute(&'static str, u32),
    CloseStatement(&'static str),
    ClosePortal(&'static str),
    Sync,
    Flush,
    FunctionCall,
    /// Parse, Bind, Describe and Execute.
    Run(&'static str, Text),
    /// Parse and Describe in one batch, Bind and Execute in another, as drivers do that must know the parameters' types.
    Ask(&'static str, Text),
    /// In a batch of its own, by the extended protocol: what stands behind it in the same batch sees the server's defaults.
    Reset,
    /// PREPARE, EXECUTE and DEALLOCATE in SQL, by the extended protocol.
    Sql(Text),
    /// EXECUTE in SQL, prepared by the protocol under this name.
    SqlNamed(&'static str, Text),
    /// In SQL.
    Deallocate(&'static str),
    /// A COPY, its rows and its end.
    Copy {
        is_extended: bool,
        early_sync: bool,
        rows: u8,
        end: CopyEnd,
    },
    /// Reads all answers before it goes on.
    Wait,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum CopyEnd {
    Done,
    Fail,
    /// With a row that the server refuses.
    Bad,
    /// The server refuses it before it reads a row.
    Broken,
}

/// What a test lets clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    /// SET, DISCARD ALL and the like.
    pub(super) sessions: bool,
    /// RESET and DISCARD ALL, but nothing that pins.
    pub(super) resets: bool,
    /// How long a value in a result may be.
    pub(super) long: usize,
    /// The last number that was written by others.
    pub(super) last_number: u32,
    /// A name that was given a meaning, or lost it, is used in the same batch or after the answer, not between.
    pub(super) is_patient: bool,
    /// `lastval()` is asked for.
    pub(super) asks: bool,
}

pub(super) const NAMES: [&str; 4] = ["s1", "s2", "pgherd_1", "pgherd_!s1"];

/// Of statements that name others. Nobody else uses them: where an error has kept one from being closed, what it names may mean something
/// else by then.
const NAMING: [&str; 2] = ["n", "pgherd_!n"];

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 4 => Just("s1"), 3 => Just("s2"), 1 => Just("pgherd_1"), 1 => Just("pgherd_!s1")]
}

fn portal() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just("p1"), 1 => Just("p2")]
}

/// What names prepared statements.
fn naming() -> impl Strategy<Value = Text> {
    let name = || select(&NAMES[..]);
    prop_oneof![
        (name(), any::<bool>()).prop_map(|(name, typed)| Text::SqlPrepare(name, typed)),
        (name(), any::<bool>()).prop_map(|(name, value)| Text::SqlExecute(name, value)),
        name().prop_map(Text::SqlDeallocate),
    ]
}

/// Statements whose meaning is the same whenever they are executed.
fn repeatable(Profile { asks, .. }: Profile) -> impl Strategy<Value = Text> {
    prop_oneof![
        if asks { 8 } else { 1 } => Just(if asks { Text::Last } else { Text::Select('a') }),
        4 => select(vec!['a', 'b']).prop_map(Text::Select),
        4 => select(vec!['a', 'b']).prop_map(Text::SelectValue),
        1 => Just(Text::Three),
        1 => Just(Text::Wide),
        1 => Just(Text::Note),
        6 => Just(Text::InsertValue),
        2 => Just(Text::PutValue),
        1 => Just(Text::CallValue),
        16 => control(),
    ]
}

fn control() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => Just(BEGIN),
        3 => Just(COMMIT),
        3 => Just(ROLLBACK),
        1 => Just(Plain("commit and chain", Role::Commit)),
        1 => Just(Plain("rollback and chain", Role::Rollback)),
        1 => Just(Plain("savepoint a", Role::Savepoint)),
        1 => Just(Plain("rollback to a", Role::RollbackTo)),
        1 => Just(Plain("release a", Role::Release)),
        1 => Just(Text::Deferred),
        2 => Just(Text::Fail),
        1 => Just(Text::Syntax),
        1 => Just(Plain("", Role::Other)),
    ]
}

fn simple(profile: Profile) -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => naming(),
        if profile.asks { 6 } else { 1 } => Just(if profile.asks { Text::Last } else { Text::Select('a') }),
        3 => select(vec!['a', 'b']).prop_map(Text::Select),
        4 => Just(Text::Insert),
        1 => Just(Text::Put),
        1 => Just(Text::Wide),
        1 => Just(Text::Call),
        1 => Just(Text::Immediate),
        1 => Just(Plain("copy u to stdout", Role::Other)),
        1 => Just(Plain("show work_mem", Role::Other)),
        1 => (1..=profile.long).prop_map(Text::Long),
        6 => control(),
    ]
}

fn action(profile: Profile) -> impl Strategy<Value = Action> {
    let session = select(match profile.resets {
        true => vec!["reset all", "reset all", "show work_mem", "set work_mem = '3'", "discard all"],
        false => vec![
            "set work_mem = '1'",
            "set work_mem = '2'",
            "set a.b = '1'",
            "reset all",
            "deallocate all",
            "discard all",
            "discard sequences",
        ],
    });
    let weight = if profile.resets { 4 } else { 1 };
    let reset = if profile.resets { Action::Reset } else { Action::Wait };
    let end = select(vec![CopyEnd::Done, CopyEnd::Done, CopyEnd::Fail, CopyEnd::Bad, CopyEnd::Broken]);
    prop_oneof![
        8 => simple(profile).prop_map(|text| Action::Query(vec![text])),
        2 => prop::collection::vec(simple(profile), 2..4).prop_map(Action::Query),
        6 => (name(), repeatable(profile)).prop_map(|(name, text)| Action::Parse(name, text)),
        8 => (portal(), name()).prop_map(|(portal, name)| Action::Bind(portal, name)),
        2 => name().prop_map(Action::DescribeStatement),
        1 => portal().prop_map(Action::DescribePortal),
        8 => (portal(), 0..3_u32).prop_map(|(portal, limit)| Action::Execute(portal, limit)),
        2 => name().prop_map(Action::CloseStatement),
        1 => portal().prop_map(Action::ClosePortal),
        1 => select(&NAMES[..]).prop_map(Action::Deallocate),
        2 => naming().prop_map(Action::Sql),
        1 => (select(&NAMING[..]), select(&NAMES[..]), any::<bool>())
            .prop_map(|(name, other, value)| Action::SqlNamed(name, Text::SqlExecute(other, value))),
        8 => Just(Action::Sync),
        1 => Just(Action::Flush),
        1 => Just(Action::FunctionCall),
        12 => (name(), repeatable(profile)).prop_map(|(name, text)| Action::Run(name, text)),
        6 => (name(), repeatable(profile)).prop_map(|(name, text)| Action::Ask(name, text)),
        1 => Just(Action::Run("", Text::Immediate)),
        2 => (any::<bool>(), any::<bool>(), 0..4_u8, end).prop_map(move |(is_extended, sync, rows, end)| {
            Action::Copy { is_extended, early_sync: sync && is_extended, rows, end }
        }),
        weight => Just(reset),
        weight => session.prop_map(move |text| match profile.sessions {
            true => Action::Query(vec![Plain(text, Role::Other)]),
            false => Action::Wait,
        }),
        6 => Just(Action::Wait),
    ]
}

/// Phases of messages; before each the client has read the answers to the one before.
pub(super) type Script = Vec<Vec<Sent>>;

pub(super) fn script(profile: Profile, actions: std::ops::Range<usize>) -> impl Strategy<Value = Script> {
    prop::collection::vec(action(profile), actions).prop_map(move |actions| {
        let mut scribe = Scribe::new(profile);
        actions.iter().for_each(|action| scribe.write(action));
        scribe.finish()
    })
}
