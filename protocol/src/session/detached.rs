//! A session that is answered by pgherd itself: no server has its transaction any more, or none could be had.

use super::exit::Exit;
use super::{Held, Placed, Session, Transaction};
use crate::error::{ClientError, Severity};
use crate::frame::{Frame, split_cstr};
use crate::prepared::{Statements, scan_definition};
use crate::statement::{Effect, Scan, exit_first, scan};
use crate::write;

/// Answers a client as PostgreSQL does in a failed transaction, or refuses one batch of messages.
#[derive(Debug)]
pub struct Detached {
    transaction: Transaction,
    /// Everything up to Sync is ignored.
    skipping: bool,
    /// What the next statement is told, before 25P02.
    error: Option<ClientError>,
    /// A Sync is told it, too: it would have committed something.
    at_sync: bool,
    /// What is said of work that was not begun.
    lost: ClientError,
    /// Portals that end the transaction, and how.
    exits: Vec<(Box<[u8]>, Effect)>,
}

/// Whether the session is still answered by pgherd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More messages of the client are needed.
    Detached,
    /// The client is at rest, outside a transaction.
    AtRest,
    /// Of this message the first statement was answered, which has ended the transaction. The rest is for a server.
    Begun,
}

impl Detached {
    pub(super) const fn after_loss(
        transaction: Transaction,
        skipping: bool,
        lost: ClientError,
        error: Option<ClientError>,
        at_sync: bool,
    ) -> Self {
        Self { transaction, skipping, error, at_sync, lost, exits: Vec::new() }
    }

    /// Refuses what an idle client asks for next: one Query, or all messages up to Sync.
    #[must_use]
    pub fn refusing(error: ClientError) -> Self {
        Self::after_loss(Transaction::Idle, false, error.clone(), Some(error), false)
    }

    /// Takes in a client's message and appends the answer to `out`.
    pub fn on_frontend(
        &mut self,
        frame: &Frame<'_>,
        session: &mut Session,
        statements: &Statements,
        out: &mut Vec<u8>,
    ) -> Progress {
        session.exit = Exit::No;
        match frame.header.tag {
            b'S' => {
                if self.at_sync && !self.skipping {
                    self.refuse(out);
                }
                self.at_sync = false;
                self.skipping = false;
                return self.ready(session, out);
            }
            _ if self.skipping => {}
            b'Q' | b'F' => {
                let findings =
                    if frame.header.tag == b'Q' { whole_scan(frame, frame.body) } else { Scan::UNKNOWN };
                if frame.header.tag == b'Q' {
                    session.unnamed.held = Held::Nowhere;
                    if let Some(first) = self.first_exit(frame).filter(|_| !findings.ends_transaction()) {
                        if !self.execute(first, out) {
                            return self.ready(session, out);
                        }
                        session.on_transaction(self.transaction);
                        session.exit = Exit::Sent;
                        return Progress::Begun;
                    }
                }
                self.execute(findings, out);
                return self.ready(session, out);
            }
            b'P' => self.on_parse(frame, session, statements, out),
            b'B' => self.on_bind(frame, session, out),
            b'D' => self.on_describe(frame, session, out),
            b'E' => {
                let findings = self.portal(split_cstr(frame.body));
                self.skipping = !self.execute(findings, out);
            }
            b'C' => {
                if let Some((b'S', rest)) = frame.body.split_first() {
                    match split_cstr(rest).map_or(rest, |(name, _)| name) {
                        b"" => session.unnamed.held = Held::Nowhere,
                        name => drop(session.names.remove(name)),
                    }
                }
                write::empty(out, b'3');
            }
            _ => {}
        }
        Progress::Detached
    }

    /// The first statement of a Query that ends the failed transaction and goes on.
    fn first_exit(&self, frame: &Frame<'_>) -> Option<Scan> {
        let text = frame.body.strip_suffix(b"\0").filter(|_| frame.is_complete())?;
        let first = scan(text.get(..exit_first(text)?)?);
        (self.transaction == Transaction::Failed && first.ends_transaction()).then_some(first)
    }

    fn ready(&self, session: &mut Session, out: &mut Vec<u8>) -> Progress {
        write::ready_for_query(out, self.transaction.byte());
        session.on_transaction(self.transaction);
        if self.transaction == Transaction::Idle { Progress::AtRest } else { Progress::Detached }
    }

    fn refuse(&mut self, out: &mut Vec<u8>) {
        let error = match (self.error.take(), self.transaction) {
            (Some(error), _) => error,
            // The transaction has been ended, but without a server nothing else can be begun before Sync.
            (None, Transaction::Idle) => self.lost.clone(),
            (None, _) => ClientError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ),
        };
        error.write(out, Severity::Error);
    }

    /// True if the statement was carried out: there was none, or it ended the transaction that is lost anyway. A COMMIT of one that the client
    /// does not know to have failed ends it with an error, as in PostgreSQL.
    fn execute(&mut self, findings: Scan, out: &mut Vec<u8>) -> bool {
        if self.transaction == Transaction::Failed && findings.effect == Effect::Empty {
            write::empty(out, b'I');
            return true;
        }
        if self.transaction == Transaction::Failed && findings.ends_transaction() {
            self.transaction = Transaction::Idle;
            self.exits.clear();
            // Who commits would take for done what is lost: few look at the command tag.
            if let Some(untold) = self.error.take().filter(|_| findings.effect == Effect::Commit) {
                untold.write(out, Severity::Error);
                return false;
            }
            write::command_complete(out, "ROLLBACK");
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
        let findings = scan_definition(definition);
        if !self.admit(frame.is_complete() && findings.is_parsed_when_aborted(), out) {
            return;
        }
        if name.is_empty() {
            session.unnamed.definition = definition.to_vec();
            session.unnamed.held = Held::Here;
            session.unnamed.placed = Placed::No;
            session.unnamed.become_another();
            let text = split_cstr(definition).map_or(definition, |(text, _)| text);
            session.unnamed.scan = session.suspects.judge_text(findings, text);
        } else if session.names.get(name).is_some() {
            let name = String::from_utf8_lossy(name);
            ClientError::new("42P05", format!("prepared statement \"{name}\" already exists"))
                .write(out, Severity::Error);
            self.skipping = true;
            return;
        } else {
            let statement = session.intern(definition, statements);
            session.names.insert(name.into(), statement);
        }
        write::empty(out, b'1');
    }

    fn on_bind(&mut self, frame: &Frame<'_>, session: &Session, out: &mut Vec<u8>) {
        let names = split_cstr(frame.body).and_then(|(portal, rest)| Some((portal, split_cstr(rest)?.0)));
        let findings = find(names.map(|(_, statement)| statement), session);
        if self.admit(findings.ends_transaction(), out) {
            self.exits.extend(names.map(|(portal, _)| (portal.into(), findings.effect)));
            write::empty(out, b'2');
        }
    }

    fn on_describe(&mut self, frame: &Frame<'_>, session: &Session, out: &mut Vec<u8>) {
        let (is_statement, findings) = match frame.body.split_first() {
            Some((b'S', rest)) => (true, find(split_cstr(rest).map(|(name, _)| name), session)),
            Some((_, rest)) => (false, self.portal(split_cstr(rest))),
            None => (false, Scan::UNKNOWN),
        };
        if !self.admit(findings.ends_transaction(), out) {
            return;
        }
        if is_statement {
            write::message(out, b't', |out| out.extend_from_slice(&[0, 0]));
        }
        write::empty(out, b'n');
    }

    /// What the portal says whose name was split off.
    fn portal(&self, name: Option<(&[u8], &[u8])>) -> Scan {
        let bound = name.and_then(|(name, _)| self.exits.iter().rfind(|(portal, _)| **portal == *name));
        bound.map_or(Scan::UNKNOWN, |(_, effect)| Scan { effect: *effect, ..Scan::UNKNOWN })
    }
}

/// What the statement of this name says.
fn find(name: Option<&[u8]>, session: &Session) -> Scan {
    match name {
        Some(b"") if session.unnamed.held == Held::Here => session.unnamed.scan,
        Some(name) => session.names.get(name).map_or(Scan::UNKNOWN, |statement| statement.scan),
        None => Scan::UNKNOWN,
    }
}

fn whole_scan(frame: &Frame<'_>, text: &[u8]) -> Scan {
    if frame.is_complete() { scan(text) } else { Scan::UNKNOWN }
}
