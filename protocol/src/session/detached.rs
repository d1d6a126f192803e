//! A session that is answered by pgherd itself: no server has its transaction any more, or none could be had.

use super::{Held, Placed, Session, Transaction};
use crate::error::{ClientError, Severity};
use crate::frame::{Frame, split_cstr};
use crate::prepared::{Statements, scan_definition};
use crate::statement::{Effect, Scan, scan};
use crate::write;

/// Answers a client as PostgreSQL does in a failed transaction, or refuses one batch of messages.
#[derive(Debug)]
pub struct Detached {
    transaction: Transaction,
    /// Everything up to Sync is ignored.
    skipping: bool,
    /// What the next statement is told, before 25P02.
    error: Option<ClientError>,
    /// The portal bound last ends the transaction.
    exit_bound: bool,
}

/// Whether the session is still answered by pgherd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More messages of the client are needed.
    Detached,
    /// The client is at rest, outside a transaction.
    AtRest,
}

impl Detached {
    pub(super) const fn after_loss(
        transaction: Transaction,
        skipping: bool,
        error: Option<ClientError>,
    ) -> Self {
        Self { transaction, skipping, error, exit_bound: false }
    }

    /// Refuses what an idle client asks for next: one Query, or all messages up to Sync.
    #[must_use]
    pub const fn refusing(error: ClientError) -> Self {
        Self { transaction: Transaction::Idle, skipping: false, error: Some(error), exit_bound: false }
    }

    /// Takes in a client's message and appends the answer to `out`.
    pub fn on_frontend(
        &mut self,
        frame: &Frame<'_>,
        session: &mut Session,
        statements: &Statements,
        out: &mut Vec<u8>,
    ) -> Progress {
        match frame.header.tag {
            b'S' => {
                self.skipping = false;
                return self.ready(session, out);
            }
            _ if self.skipping => {}
            b'Q' | b'F' => {
                let findings =
                    if frame.header.tag == b'Q' { whole_scan(frame, frame.body) } else { Scan::UNKNOWN };
                if frame.header.tag == b'Q' {
                    session.unnamed.held = Held::Nowhere;
                }
                self.execute(findings, out);
                return self.ready(session, out);
            }
            b'P' => self.on_parse(frame, session, statements, out),
            b'B' => self.on_bind(frame, session, out),
            b'D' => self.on_describe(frame, session, out),
            b'E' => {
                let findings = if self.exit_bound { EXIT } else { Scan::UNKNOWN };
                self.skipping = !self.execute(findings, out);
            }
            b'C' => {
                if let Some((b'S', rest)) = frame.body.split_first() {
                    match split_cstr(rest).map_or(rest, |(name, _)| name) {
                        b"" => session.unnamed.held = Held::Nowhere,
                        name => drop(session.named.remove(name)),
                    }
                }
                write::empty(out, b'3');
            }
            _ => {}
        }
        Progress::Detached
    }

    fn ready(&self, session: &mut Session, out: &mut Vec<u8>) -> Progress {
        write::ready_for_query(out, self.transaction.byte());
        session.on_transaction(self.transaction);
        if self.transaction == Transaction::Idle { Progress::AtRest } else { Progress::Detached }
    }

    fn refuse(&mut self, out: &mut Vec<u8>) {
        let aborted = || {
            ClientError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )
        };
        self.error.take().unwrap_or_else(aborted).write(out, Severity::Error);
    }

    /// True if the statement was carried out: there was none, or it ended the transaction that is lost anyway.
    fn execute(&mut self, findings: Scan, out: &mut Vec<u8>) -> bool {
        if self.transaction == Transaction::Failed && findings.effect == Effect::Empty {
            write::empty(out, b'I');
            return true;
        }
        if self.transaction == Transaction::Failed && findings.ends_transaction() {
            write::command_complete(out, "ROLLBACK");
            self.transaction = Transaction::Idle;
            self.error = None;
            return true;
        }
        self.refuse(out);
        false
    }

    /// True if it goes on; else the client is told why not.
    fn admit(&mut self, is_allowed: bool, out: &mut Vec<u8>) -> bool {
        let admitted = self.transaction == Transaction::Failed && is_allowed;
        if !admitted {
            self.refuse(out);
            self.skipping = true;
        }
        admitted
    }

    fn on_parse(
        &mut self,
        frame: &Frame<'_>,
        session: &mut Session,
        statements: &Statements,
        out: &mut Vec<u8>,
    ) {
        let Some((name, definition)) = split_cstr(frame.body) else {
            self.admit(false, out);
            return;
        };
        let findings = if frame.is_complete() { scan_definition(definition) } else { Scan::UNKNOWN };
        if !self.admit(findings.is_parsed_when_aborted(), out) {
            return;
        }
        if name.is_empty() {
            session.unnamed.definition = definition.to_vec();
            session.unnamed.held = Held::Here;
            session.unnamed.placed = Placed::No;
            session.unnamed.scan = findings;
        } else {
            session.named.insert(name.into(), statements.intern(session.scope, definition));
        }
        write::empty(out, b'1');
    }

    fn on_bind(&mut self, frame: &Frame<'_>, session: &Session, out: &mut Vec<u8>) {
        let name = split_cstr(frame.body).and_then(|(_, rest)| split_cstr(rest)).map(|(name, _)| name);
        self.exit_bound = self.admit(find(name, session).ends_transaction(), out);
        if self.exit_bound {
            write::empty(out, b'2');
        }
    }

    fn on_describe(&mut self, frame: &Frame<'_>, session: &Session, out: &mut Vec<u8>) {
        let statement = frame.body.split_first().filter(|(what, _)| **what == b'S');
        let findings = match statement {
            Some((_, rest)) => find(split_cstr(rest).map(|(name, _)| name), session),
            None if self.exit_bound => EXIT,
            None => Scan::UNKNOWN,
        };
        if !self.admit(findings.ends_transaction(), out) {
            return;
        }
        if statement.is_some() {
            write::message(out, b't', |out| out.extend_from_slice(&[0, 0]));
        }
        write::empty(out, b'n');
    }
}

/// What the statement of this name says.
fn find(name: Option<&[u8]>, session: &Session) -> Scan {
    match name {
        Some(b"") if session.unnamed.held == Held::Here => session.unnamed.scan,
        Some(name) => session.named.get(name).map_or(Scan::UNKNOWN, |statement| statement.scan),
        None => Scan::UNKNOWN,
    }
}

/// What a portal that ends the transaction says.
const EXIT: Scan = Scan { effect: Effect::Rollback, ..Scan::UNKNOWN };

fn whole_scan(frame: &Frame<'_>, text: &[u8]) -> Scan {
    if frame.is_complete() { scan(text) } else { Scan::UNKNOWN }
}
