//! A small PostgreSQL: one server process as a client sees it, with the protocol's rules of version 15, for the
//! statements in [`sql`]. It was checked against a real server with random conversations.

mod extended;
mod query;
mod sql;
mod transaction;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use sql::Sql;
use transaction::Block;

use crate::error::{ClientError, Severity};
use crate::frame::{Frame, frontend_header};
use crate::write;

/// What all processes of a server share.
#[derive(Debug, Default)]
pub(super) struct Database {
    /// The numbers that were written and committed.
    pub(super) committed: BTreeSet<u32>,
    /// How often the type of `select * from s` has changed.
    altered: u32,
}

/// One server process.
#[derive(Debug)]
pub(super) struct Backend {
    database: Rc<RefCell<Database>>,
    unread: Vec<u8>,
    said: Vec<u8>,
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    block: Block,
    /// The transaction only reads.
    is_read_only: bool,
    /// What was written last, whatever has become of it, as if each row got its number from a sequence.
    last_value: Option<u32>,
    /// What the transaction has written so far.
    written: Vec<u32>,
    savepoints: Vec<Savepoint>,
    /// What was set for the transaction alone.
    locals: HashMap<String, String>,
    /// It will be refused at commit.
    deferred: bool,
    /// A statement of the implicit transaction has been executed.
    pipelining: bool,
    skipping: bool,
    copy: Option<Copying>,
    /// What is left of a simple Query.
    query: VecDeque<Sql>,
    /// It has several statements.
    several: bool,
    pub(super) settings: HashMap<String, String>,
    /// What RESET goes back to.
    pub(super) defaults: HashMap<String, String>,
    pub(super) ended: bool,
    /// In a failed transaction it describes nothing but what ends it.
    pub(super) is_strict: bool,
    /// It is a standby: whether it refuses to read, one time after the other.
    refusals: Option<std::iter::Cycle<std::vec::IntoIter<bool>>>,
}

#[derive(Clone, Debug)]
struct Prepared {
    /// `None`: the empty statement.
    sql: Option<Sql>,
    altered: u32,
}

#[derive(Clone, Debug)]
struct Portal {
    sql: Option<Sql>,
    values: Vec<String>,
    /// Rows given so far; `None` when it was run to its end.
    given: Option<usize>,
    /// Its transaction has failed.
    is_failed: bool,
    /// The savepoints that there were when it was made.
    level: usize,
    is_cursor: bool,
}

impl Portal {
    const fn new(sql: Option<Sql>, values: Vec<String>, level: usize) -> Self {
        Self { sql, values, given: Some(0), is_failed: false, level, is_cursor: false }
    }
}

#[derive(Debug)]
struct Savepoint {
    name: String,
    /// How much was written at that time.
    written: usize,
    /// What was set.
    locals: HashMap<String, String>,
}

#[derive(Debug)]
struct Copying {
    is_extended: bool,
    rows: Vec<u32>,
}

/// An error that does not end the process.
#[derive(Debug)]
struct Failure(&'static str, String);

impl Failure {
    fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self(sqlstate, message.into())
    }
}

impl Backend {
    pub(super) fn new(database: &Rc<RefCell<Database>>) -> Self {
        Self {
            database: Rc::clone(database),
            unread: Vec::new(),
            said: Vec::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            block: Block::None,
            is_read_only: false,
            last_value: None,
            written: Vec::new(),
            savepoints: Vec::new(),
            locals: HashMap::new(),
            deferred: false,
            pipelining: false,
            skipping: false,
            copy: None,
            query: VecDeque::new(),
            several: false,
            settings: HashMap::new(),
            defaults: HashMap::new(),
            ended: false,
            is_strict: false,
            refusals: None,
        }
    }

    pub(super) fn become_standby(&mut self, refusals: Vec<bool>) {
        self.refusals = Some(refusals.into_iter().cycle());
    }

    /// Reads these bytes; whole messages are carried out.
    pub(super) fn reads(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while !self.ended
            && let Some(header) = frontend_header(&self.unread).unwrap()
            && self.unread.len() >= header.len
        {
            let rest = self.unread.split_off(header.len);
            let message = std::mem::replace(&mut self.unread, rest);
            let frame = Frame::new(header, &message);
            self.on_message(header.tag, frame.body);
        }
    }

    /// What it has said since it was last asked.
    pub(super) fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    fn on_message(&mut self, tag: u8, body: &[u8]) {
        if self.copy.is_some() {
            return self.on_copy_message(tag, body);
        }
        match tag {
            b'S' => {
                self.skipping = false;
                self.on_sync();
            }
            b'X' => self.ended = true,
            _ if self.skipping => {}
            b'Q' => self.on_query(body),
            b'F' => self.on_function_call(body),
            b'H' | b'd' | b'c' | b'f' => {}
            _ => {
                if let Err(failure) = self.on_extended(tag, body) {
                    self.fail(&failure);
                    self.skipping = true;
                }
            }
        }
    }

    fn on_sync(&mut self) {
        if let Err(failure) = self.end_implicit() {
            self.fail(&failure);
        }
        self.ready();
    }

    fn on_function_call(&mut self, body: &[u8]) {
        let number = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        let outcome = self.admit(false).and_then(|()| {
            self.written.push(number);
            write::message(&mut self.said, b'V', |out| out.extend_from_slice(&[0; 4]));
            self.end_implicit()
        });
        if let Err(failure) = outcome {
            self.fail(&failure);
        }
        self.ready();
    }

    fn ready(&mut self) {
        write::ready_for_query(&mut self.said, self.block.byte());
    }

    fn fail(&mut self, failure: &Failure) {
        ClientError::new(failure.0, failure.1.as_str()).write(&mut self.said, Severity::Error);
        self.copy = None;
        self.query.clear();
        self.several = false;
        self.abort();
    }

    fn die(&mut self, sqlstate: &'static str, message: &str) {
        ClientError::new(sqlstate, message).write(&mut self.said, Severity::Fatal);
        self.ended = true;
    }

    /// A statement is carried out in a failed transaction only if it may end it.
    fn admit(&self, is_exit: bool) -> Result<(), Failure> {
        if self.block != Block::Failed || is_exit {
            return Ok(());
        }
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        Err(Failure::new("25P02", message))
    }

    fn on_copy_message(&mut self, tag: u8, body: &[u8]) {
        let Some(copy) = &mut self.copy else { return };
        match tag {
            b'd' => match std::str::from_utf8(body).ok().and_then(|text| text.trim().parse().ok()) {
                Some(row) => copy.rows.push(row),
                None => {
                    let text = String::from_utf8_lossy(body).trim().to_owned();
                    let message = format!("invalid input syntax for type integer: \"{text}\"");
                    self.fail_copy(&Failure::new("22P02", message));
                }
            },
            b'c' => {
                let rows = std::mem::take(&mut copy.rows);
                let is_extended = copy.is_extended;
                self.copy = None;
                self.last_value = rows.last().copied().or(self.last_value);
                self.written.extend_from_slice(&rows);
                self.pipelining |= is_extended;
                let ended = match is_extended {
                    false if self.query.is_empty() => self.end_implicit(),
                    _ => Ok(()),
                };
                match ended {
                    Ok(()) => write::command_complete(&mut self.said, &format!("COPY {}", rows.len())),
                    Err(failure) => self.fail(&failure),
                }
                if !is_extended {
                    self.portals.remove("");
                    self.go_on_with_query();
                }
            }
            b'f' => {
                let why = String::from_utf8_lossy(body.split_last().unwrap().1).into_owned();
                self.fail_copy(&Failure::new("57014", format!("COPY from stdin failed: {why}")));
            }
            b'S' | b'H' => {}
            _ => self.die("08P01", "terminating connection because protocol synchronization was lost"),
        }
    }

    fn fail_copy(&mut self, failure: &Failure) {
        let is_extended = self.copy.as_ref().is_some_and(|copy| copy.is_extended);
        self.fail(failure);
        if is_extended {
            self.skipping = true;
        } else {
            self.ready();
        }
    }
}

/// The answer of a statement that was carried out.
#[derive(Debug)]
enum Outcome {
    Complete(String),
    Suspended,
    Empty,
    CopyIn,
}
