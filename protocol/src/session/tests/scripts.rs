//! Random scripts: what a client sends, in an order that need not make sense.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use proptest::sample::select;

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
    Plain(&'static str, Role),
}

use Text::Plain;

/// Longer than a small buffer.
const WIDE: usize = 400;

const BEGIN: Text = Plain("begin", Role::Other);
const COMMIT: Text = Plain("commit", Role::Commit);
const ROLLBACK: Text = Plain("rollback", Role::Rollback);

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
    /// How long a value in a result may be.
    pub(super) long: usize,
    /// The last number that was written by others.
    pub(super) last_number: u32,
    /// A name that was given a meaning, or lost it, is used in the same batch or after the answer, not between.
    pub(super) is_patient: bool,
}

const NAMES: [&str; 4] = ["s1", "s2", "pgherd_1", "pgherd_!s1"];

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 4 => Just("s1"), 3 => Just("s2"), 1 => Just("pgherd_1"), 1 => Just("pgherd_!s1")]
}

fn portal() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just("p1"), 1 => Just("p2")]
}

/// Statements whose meaning is the same whenever they are executed.
fn repeatable() -> impl Strategy<Value = Text> {
    prop_oneof![
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
        1 => Just(Plain("release a", Role::Other)),
        1 => Just(Text::Deferred),
        2 => Just(Text::Fail),
        1 => Just(Text::Syntax),
        1 => Just(Plain("", Role::Other)),
    ]
}

fn simple(profile: Profile) -> impl Strategy<Value = Text> {
    prop_oneof![
        3 => select(vec!['a', 'b']).prop_map(Text::Select),
        4 => Just(Text::Insert),
        1 => Just(Text::Put),
        1 => Just(Text::Wide),
        1 => Just(Text::Call),
        1 => Just(Text::Immediate),
        1 => Just(Plain("copy u to stdout", Role::Other)),
        1 => Just(Plain("show a.b", Role::Other)),
        1 => (1..=profile.long).prop_map(Text::Long),
        6 => control(),
    ]
}

fn action(profile: Profile) -> impl Strategy<Value = Action> {
    let session = select(vec!["set a.b = '1'", "set a.b = '2'", "deallocate all", "discard all"]);
    let end = select(vec![CopyEnd::Done, CopyEnd::Done, CopyEnd::Fail, CopyEnd::Bad, CopyEnd::Broken]);
    prop_oneof![
        8 => simple(profile).prop_map(|text| Action::Query(vec![text])),
        2 => prop::collection::vec(simple(profile), 2..4).prop_map(Action::Query),
        6 => (name(), repeatable()).prop_map(|(name, text)| Action::Parse(name, text)),
        8 => (portal(), name()).prop_map(|(portal, name)| Action::Bind(portal, name)),
        2 => name().prop_map(Action::DescribeStatement),
        1 => portal().prop_map(Action::DescribePortal),
        8 => (portal(), 0..3_u32).prop_map(|(portal, limit)| Action::Execute(portal, limit)),
        2 => name().prop_map(Action::CloseStatement),
        1 => portal().prop_map(Action::ClosePortal),
        1 => select(&NAMES[..]).prop_map(Action::Deallocate),
        8 => Just(Action::Sync),
        1 => Just(Action::Flush),
        1 => Just(Action::FunctionCall),
        12 => (name(), repeatable()).prop_map(|(name, text)| Action::Run(name, text)),
        6 => (name(), repeatable()).prop_map(|(name, text)| Action::Ask(name, text)),
        1 => Just(Action::Run("", Text::Immediate)),
        2 => (any::<bool>(), any::<bool>(), 0..4_u8, end).prop_map(move |(is_extended, sync, rows, end)| {
            Action::Copy { is_extended, early_sync: sync && is_extended, rows, end }
        }),
        1 => session.prop_map(move |text| match profile.sessions {
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

/// Writes actions down as messages; every number is written by one message only.
#[derive(Debug, Default)]
struct Scribe {
    script: Script,
    phase: Vec<Sent>,
    last_number: u32,
    /// How many values a statement takes.
    values: HashMap<&'static str, usize>,
    is_patient: bool,
    batch: usize,
    /// The batches in which names were given a meaning, or lost it, without an answer so far.
    unsure: HashMap<&'static str, usize>,
    unnamed_may_be_skipped: bool,
    /// Names that were deallocated, without an answer so far, and not defined since.
    forgotten: HashSet<&'static str>,
}

impl Scribe {
    fn new(Profile { is_patient, last_number, .. }: Profile) -> Self {
        Self { is_patient, last_number, ..Self::default() }
    }

    fn number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    fn send(&mut self, kind: Kind, bytes: Vec<u8>) {
        self.phase.push(Sent { bytes, kind });
    }

    fn wait(&mut self) {
        self.script.push(std::mem::take(&mut self.phase));
        // Whether a Parse was skipped is not known even now.
        let stays = self.unnamed_may_be_skipped;
        self.unsure.retain(|name, _| name.is_empty() && stays);
        self.forgotten.clear();
    }

    /// Before a use of a name.
    fn uses(&mut self, name: &'static str) {
        let is_sure = self.unsure.get(name).is_none_or(|batch| *batch == self.batch);
        if !self.is_patient || is_sure && !self.forgotten.contains(name) {
            return;
        }
        if name.is_empty() {
            self.write(&Action::Sync);
            self.wait();
            self.unnamed_may_be_skipped = false;
            self.write(&Action::Parse("", Text::Select('u')));
        } else {
            self.wait();
        }
    }

    /// A name is given a meaning, or loses it.
    fn changes(&mut self, name: &'static str) {
        if name.is_empty() {
            self.unnamed_may_be_skipped |= !self.phase.is_empty();
        }
        self.unsure.insert(name, self.batch);
    }

    /// Whatever has happened, the client can end its batch and its transaction and be served.
    fn finish(mut self) -> Script {
        self.wait();
        self.write(&Action::Sync);
        self.wait();
        for text in [ROLLBACK, Text::Select('z')] {
            self.write(&Action::Query(vec![text]));
            self.wait();
        }
        self.script
    }

    fn write(&mut self, action: &Action) {
        match *action {
            Action::Query(ref texts) => {
                let statements: Vec<_> = texts.iter().map(|text| self.statement(*text)).collect();
                let text = statements.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join("; ");
                if self.is_patient && text == "deallocate all" {
                    // Else it might be skipped, refused, or carried out and told to have failed.
                    self.write(&Action::Sync);
                    self.write(&Action::Query(vec![ROLLBACK]));
                }
                self.values.remove("");
                self.changes("");
                self.batch += 1;
                self.send(Kind::Query(statements), wire::query(&text));
                match text.as_str() {
                    "deallocate all" => self.forgotten.extend(NAMES),
                    // It may be refused.
                    "discard all" if self.is_patient => self.wait(),
                    // What is too long to be seen may deallocate.
                    text if self.is_patient && text.len() > WIDE => self.wait(),
                    _ => {}
                }
            }
            Action::Parse(name, text) => {
                self.forgotten.remove(name);
                if !name.is_empty() {
                    self.uses(name);
                }
                self.changes(name);
                let statement = self.statement(text);
                self.values.insert(name, statement.text.matches('$').count());
                let bytes = wire::parse(name, &statement.text);
                self.send(Kind::Parse { name: name.into(), statement }, bytes);
            }
            Action::Bind(portal, name) => {
                self.uses(name);
                let number = self.number();
                let value = number.to_string();
                let values =
                    if self.values.get(name) == Some(&1) { vec![value.as_str()] } else { Vec::new() };
                let bytes = wire::bind(portal, name, &values);
                self.send(Kind::Bind { portal: portal.into(), name: name.into(), number }, bytes);
            }
            Action::DescribeStatement(name) => {
                self.uses(name);
                self.send(Kind::Describe, wire::describe_statement(name));
            }
            Action::DescribePortal(name) => self.send(Kind::Describe, wire::describe_portal(name)),
            Action::Execute(portal, limit) => {
                let bytes = wire::execute_some(portal, limit);
                self.send(Kind::Execute { portal: portal.into() }, bytes);
            }
            Action::CloseStatement(name) => {
                if !name.is_empty() {
                    self.uses(name);
                }
                self.changes(name);
                self.values.remove(name);
                self.send(Kind::Close, wire::close_statement(name));
            }
            Action::Deallocate(name) => {
                if self.is_patient {
                    // Else it might be carried out and told to have failed.
                    self.write(&Action::Sync);
                }
                self.uses(name);
                self.changes(name);
                self.changes("");
                self.values.remove(name);
                let text = format!("deallocate \"{name}\"");
                let statement = Statement { text: text.clone(), role: Role::Other, numbers: Vec::new() };
                self.send(Kind::Query(vec![statement]), wire::query(&text));
                self.batch += 1;
            }
            Action::ClosePortal(name) => self.send(Kind::Close, wire::close_portal(name)),
            Action::Sync => {
                self.batch += 1;
                self.send(Kind::Sync, wire::sync());
            }
            Action::Flush => self.send(Kind::Unanswered, wire::flush()),
            Action::FunctionCall => {
                let number = self.number();
                self.batch += 1;
                self.send(Kind::FunctionCall(number), wire::function_call(number));
            }
            Action::Run(name, text) => {
                self.write(&Action::Parse(name, text));
                self.write(&Action::Bind("", name));
                self.write(&Action::DescribePortal(""));
                self.write(&Action::Execute("", 0));
            }
            Action::Ask(name, text) => {
                self.write(&Action::Parse(name, text));
                self.write(&Action::DescribeStatement(name));
                self.write(&Action::Sync);
                self.wait();
                self.write(&Action::Bind("", name));
                self.write(&Action::Execute("", 0));
                self.write(&Action::Sync);
            }
            Action::Copy { is_extended, early_sync, rows, end } => {
                self.copy(is_extended, early_sync, rows, end);
            }
            Action::Wait => self.wait(),
        }
    }

    fn copy(&mut self, is_extended: bool, early_sync: bool, rows: u8, end: CopyEnd) {
        let numbers: Vec<_> = (0..rows).map(|_| self.number()).collect();
        let text =
            if let CopyEnd::Broken = end { "copy b from stdin" } else { "copy t from stdin" }.to_owned();
        let statement = Statement { text: text.clone(), role: Role::CopyIn, numbers: numbers.clone() };
        self.values.insert("", 0);
        self.changes("");
        if is_extended {
            let bytes = wire::parse("", &text);
            self.send(Kind::Parse { name: String::new(), statement }, bytes);
            self.write(&Action::Bind("", ""));
            self.write(&Action::Execute("", 0));
        } else {
            self.values.remove("");
            self.batch += 1;
            self.send(Kind::Query(vec![statement]), wire::query(&text));
        }
        if early_sync {
            self.write(&Action::Sync);
        }
        for number in numbers {
            self.send(Kind::Unanswered, wire::copy_data(&format!("{number}\n")));
        }
        if let CopyEnd::Bad = end {
            self.send(Kind::Unanswered, wire::copy_data("bad\n"));
        }
        let last = if let CopyEnd::Fail = end { wire::copy_fail("no more") } else { wire::copy_done() };
        self.send(Kind::Unanswered, last);
        if is_extended {
            self.write(&Action::Sync);
            // Nobody is to execute it again without having rows for it.
            self.write(&Action::CloseStatement(""));
        }
    }

    fn statement(&mut self, text: Text) -> Statement {
        let plain = |text: &str| Statement { text: text.into(), role: Role::Other, numbers: Vec::new() };
        let number = match text {
            Text::Insert | Text::Put | Text::Call | Text::Immediate => self.number(),
            _ => 0,
        };
        let writing = |text: String, role| Statement { text, role, numbers: vec![number] };
        match text {
            Text::Select(letter) => plain(&format!("select '{letter}'")),
            Text::SelectValue(letter) => plain(&format!("select '{letter}' || $1")),
            Text::Wide => plain(&format!("select '{}'", "w".repeat(WIDE))),
            Text::Three => plain("select 'c' from three"),
            Text::Long(len) => plain(&format!("select repeat('x', {len})")),
            Text::Insert => writing(format!("insert into t values ({number})"), Role::Other),
            Text::Put => writing(format!("select put({number})"), Role::Other),
            Text::Call => writing(format!("call p({number})"), Role::Commits),
            Text::Immediate => writing(format!("create database d{number}"), Role::Commits),
            Text::InsertValue => plain("insert into t values ($1)"),
            Text::PutValue => plain("select put($1)"),
            Text::CallValue => Statement { role: Role::Commits, ..plain("call p($1)") },
            Text::Deferred => plain("insert into d values (1)"),
            Text::Fail => plain("select fail()"),
            Text::Syntax => plain("selec"),
            Text::Note => plain("select note()"),
            Plain(text, role) => Statement { role, ..plain(text) },
        }
    }
}
