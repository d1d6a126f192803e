//! Writes down what a client does as the messages that it sends.

use std::collections::{HashMap, HashSet};

use super::scripts::Text::Plain;
use super::scripts::{
    Action, CopyEnd, Kind, NAMES, Profile, ROLLBACK, Role, Script, Sent, Statement, Text, WIDE,
};
use super::wire;

/// Writes actions down as messages; every number is written by one message only.
#[derive(Debug, Default)]
pub(super) struct Scribe {
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
    pub(super) fn new(Profile { is_patient, last_number, .. }: Profile) -> Self {
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
        // Before its Sync a batch may be answered by nothing.
        self.unsure.retain(|name, batch| *batch == self.batch || (name.is_empty() && stays));
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
    pub(super) fn finish(mut self) -> Script {
        self.wait();
        self.write(&Action::Sync);
        self.wait();
        for text in [ROLLBACK, Text::Select('z')] {
            self.write(&Action::Query(vec![text]));
            self.wait();
        }
        self.script
    }

    pub(super) fn write(&mut self, action: &Action) {
        match *action {
            Action::Query(ref texts) => self.query(texts),
            Action::Parse(name, text) => self.parse(name, text),
            Action::Bind(portal, name) => self.bind(portal, name),
            Action::DescribeStatement(name) => {
                self.uses(name);
                self.send(Kind::Describe, wire::describe_statement(name));
            }
            Action::DescribePortal(name) => self.send(Kind::Describe, wire::describe_portal(name)),
            Action::Execute(portal, limit) => {
                let bytes = wire::execute_some(portal, limit);
                self.send(Kind::Execute { portal: portal.into() }, bytes);
            }
            Action::CloseStatement(name) => self.close(name),
            Action::Deallocate(name) => self.query(&[Text::SqlDeallocate(name)]),
            Action::Sql(text) => self.sql("", text),
            Action::SqlNamed(name, text) => self.sql(name, text),
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
                self.parse(name, text);
                self.bind("", name);
                self.write(&Action::DescribePortal(""));
                self.write(&Action::Execute("", 0));
            }
            Action::Ask(name, text) => {
                self.parse(name, text);
                self.write(&Action::DescribeStatement(name));
                self.write(&Action::Sync);
                self.wait();
                self.bind("", name);
                self.write(&Action::Execute("", 0));
                self.write(&Action::Sync);
            }
            Action::Reset => {
                self.write(&Action::Ask("", Plain("reset all", Role::Other)));
                self.close("");
                // What pgherd sends destroys the portal.
                self.write(&Action::ClosePortal(""));
            }
            Action::Copy { is_extended, early_sync, rows, end } => {
                self.copy(is_extended, early_sync, rows, end);
            }
            Action::Wait => self.wait(),
        }
    }

    fn query(&mut self, texts: &[Text]) {
        // In a text that is too long to be seen, names are the server's own; and what is refused at commit may have been
        // carried out.
        let is_odd = texts.iter().any(|text| matches!(text, Text::Wide | Text::Deferred));
        // What stands behind more than a plain end of a failed transaction may be refused, as the documentation says.
        let goes_on = ["commit and chain", "rollback and chain", "rollback to a"];
        let is_odd = is_odd || matches!(texts, [Plain(first, _), ..] if goes_on.contains(first));
        let is_seen = |text: &&Text| !is_odd || mentioned(text).is_none();
        let texts = &texts.iter().copied().filter(|text| is_seen(&text)).collect::<Vec<_>>();
        let statements: Vec<_> = texts.iter().map(|text| self.statement(*text)).collect();
        let text = statements.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join("; ");
        if self.is_patient && text == "deallocate all" {
            // Else it might be skipped, refused, or carried out and told to have failed.
            self.write(&Action::Sync);
            self.query(&[ROLLBACK]);
        }
        if self.is_patient && texts.iter().any(|text| mentioned(text).is_some()) {
            // Else it might be carried out and told to have failed.
            self.write(&Action::Sync);
        }
        // What is waited for before one of them must not make sure of what another will change.
        texts.iter().filter_map(mentioned).for_each(|name| self.uses(name));
        texts.iter().for_each(|text| self.mentions(text));
        self.values.remove("");
        self.changes("");
        self.send(Kind::Query(statements), wire::query(&text));
        self.batch += 1;
        match text.as_str() {
            "deallocate all" => self.forgotten.extend(NAMES),
            // It may be refused.
            "discard all" if self.is_patient => self.wait(),
            // What is too long to be seen may deallocate.
            text if self.is_patient && text.len() > WIDE => self.wait(),
            _ => {}
        }
    }

    fn parse(&mut self, name: &'static str, text: Text) {
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

    fn bind(&mut self, portal: &'static str, name: &'static str) {
        self.uses(name);
        let number = self.number();
        let value = number.to_string();
        let values = if self.values.get(name) == Some(&1) { vec![value.as_str()] } else { Vec::new() };
        let bytes = wire::bind(portal, name, &values);
        self.send(Kind::Bind { portal: portal.into(), name: name.into(), number }, bytes);
    }

    fn close(&mut self, name: &'static str) {
        if !name.is_empty() {
            self.uses(name);
        }
        self.changes(name);
        self.values.remove(name);
        self.send(Kind::Close, wire::close_statement(name));
    }

    /// A text uses, defines or forgets the statement that it names.
    fn mentions(&mut self, text: &Text) {
        let Some(name) = mentioned(text) else { return };
        self.uses(name);
        match *text {
            Text::SqlPrepare(_, typed) => {
                self.forgotten.remove(name);
                self.changes(name);
                self.values.insert(name, usize::from(typed));
            }
            Text::SqlDeallocate(_) => {
                self.changes(name);
                self.values.remove(name);
            }
            _ => {}
        }
    }

    /// In a statement of the protocol, which nobody is to use when its names may mean something else.
    fn sql(&mut self, name: &'static str, text: Text) {
        self.mentions(&text);
        self.parse(name, text);
        self.bind("", name);
        self.write(&Action::DescribePortal(""));
        self.write(&Action::Execute("", 0));
        self.close(name);
        self.write(&Action::ClosePortal(""));
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
            Text::Last => plain("select lastval()"),
            Text::SqlPrepare(name, false) => plain(&format!("prepare \"{name}\" as select 'p'")),
            Text::SqlPrepare(name, true) => plain(&format!("prepare \"{name}\" (text) as select 'p' || $1")),
            Text::SqlExecute(name, false) => plain(&format!("execute \"{name}\"")),
            Text::SqlExecute(name, true) => plain(&format!("execute \"{name}\" ('v')")),
            Text::SqlDeallocate(name) => plain(&format!("deallocate \"{name}\"")),
            Plain(text, role) => Statement { role, ..plain(text) },
        }
    }
}

/// The prepared statement that a text names.
const fn mentioned(text: &Text) -> Option<&'static str> {
    match *text {
        Text::SqlPrepare(name, _) | Text::SqlExecute(name, _) | Text::SqlDeallocate(name) => Some(name),
        _ => None,
    }
}
