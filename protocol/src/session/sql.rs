//! PREPARE, EXECUTE and DEALLOCATE in SQL. Their names are the same as those of the protocol, and mean the same statements; a
//! text goes to the server with the server's names in place of the client's.

use std::sync::Arc;

use super::describing::{NOWHERE, Readiness};
use super::renaming::{Renaming, Shifts, characters, escaped_name, server_name, write_query};
use super::{About, Expected, Kind, Pass, Session, Stall, Undo};
use crate::frame::{Frame, split_cstr};
use crate::prepared::{Lookup, ServerStatements, Statement, Statements};
use crate::statement::{Mention, Pin, Resets, Scan, Verb, executed_first, mentions, scan};
use crate::write;

/// What is kept of a session that names statements in SQL.
#[derive(Debug, Default)]
pub(super) struct SqlNames {
    /// What portals do to names that were bound to such a statement.
    bound: Vec<(Box<[u8]>, Change, Shifts)>,
    /// Why a statement could not be prepared for the Query that is to be answered next.
    pub(super) refusal: Option<Box<[u8]>>,
}

/// What a statement does to names when it is executed.
#[derive(Debug)]
pub(super) enum Change {
    Prepares {
        name: Box<[u8]>,
        statement: Arc<Statement>,
        /// Its text, if its parameters' types have to be asked for.
        typed: Option<Box<[u8]>>,
    },
    /// The name is taken: the server says so.
    PreparesAgain {
        name: Box<[u8]>,
        statement: Arc<Statement>,
    },
    /// On the server, under the client's own name.
    PreparesOwn {
        name: Box<[u8]>,
    },
    /// Where others may use the statement, a stand-in is dropped.
    Deallocates {
        name: Box<[u8]>,
        stand_in: Option<u64>,
    },
    Executes(u64),
    /// It names nothing that the session knows.
    Escaped,
    /// What it names is not to be had.
    Denied,
}

/// A statement that is named by another.
struct Placed {
    /// Its name on the server, if it is not the client's.
    name: Option<Vec<u8>>,
    change: Change,
    /// What is executed.
    executes: Option<Scan>,
}

/// A statement that names another, as it is to be prepared to be bound now.
pub(super) struct Rendered {
    pub(super) definition: Vec<u8>,
    pub(super) executes: Option<Scan>,
    change: Change,
    shifts: Shifts,
}

/// The statements that a text names.
struct Named {
    found: Vec<Mention>,
    /// It forgets all that were prepared before.
    forgets: bool,
    /// These are all.
    is_understood: bool,
}

/// What a change that was sent is expected to do.
pub(super) struct Sent {
    pub(super) about: About,
    pub(super) undo: Option<Box<Undo>>,
    pub(super) shifts: Shifts,
    pub(super) ask: Option<Ask>,
}

/// A statement that the server is to be asked about, with its text if the types of its parameters are not known.
pub(super) struct Ask {
    statement: Arc<Statement>,
    typed: Option<Box<[u8]>>,
}

impl Session {
    /// A Query that may name prepared statements. `in_batch`: messages before it have had no Sync.
    pub(super) fn on_naming_query(
        &mut self,
        (frame, in_batch): (&Frame<'_>, bool),
        (mut findings, mut resets): (Scan, Resets),
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Pass {
        let text = text_of(frame);
        let Some(Named { found, forgets, is_understood }) = named(frame, text) else {
            // The names that it gives are the server's own from now on.
            self.keep(Some(Pin::SqlPrepare));
            if let Some(refused) = self.see_numbers_of_query(findings, in_batch, (server, lookup), out) {
                return refused;
            }
            return self.send_query(frame, findings, resets, out);
        };
        let all = self.and_executed(findings, &found);
        if let Some(refused) = self.see_numbers_of_query(all, in_batch, (server, lookup), out) {
            return refused;
        }
        if self.lacks_in_batch(&found, in_batch, server) {
            return self.refuse(None, out);
        }
        findings.forgets &= forgets;
        let begun = out.len();
        let (mut renaming, mut sent) = (Renaming::new(text), Vec::new());
        for (place, mention) in found.iter().enumerate() {
            let defines = |earlier: &Mention| earlier.forgotten && earlier.name == mention.name;
            let is_known = !mention.forgotten || found.iter().take(place).any(defines);
            let known = self.names.get(&mention.name).filter(|_| is_known).cloned();
            // What is not sure was waited for.
            let Some(placed) = self.place((mention, known), text, (server, lookup.statements), out) else {
                continue;
            };
            if let Some(executes) = placed.executes {
                self.see(executes);
                findings = findings.worse(executes);
            }
            if placed.name.is_none() && !matches!(placed.change, Change::PreparesOwn { .. }) {
                continue;
            }
            placed.name.iter().for_each(|name| renaming.rename(mention, name));
            let mut change = self.send_change(placed.change, server);
            // Behind what forgets it, or in the middle of a COPY, there is nobody to ask.
            if (forgets && !mention.forgotten) || findings.copies {
                self.do_not_ask(&mut change, server);
            }
            sent.push((mention.statement, change));
        }
        resets = resets.max(std::mem::take(&mut self.resets));
        if renaming.is_needless() && sent.is_empty() {
            return self.send_query(frame, findings, resets, out);
        }
        if !is_understood {
            findings.whole = false;
        }
        if !frame.is_complete() || findings.copies {
            // Nothing can be sent behind it now: what it resets is told by its tags.
            resets = Resets::Nothing;
            findings.whole = false;
        }
        if out.len() > begun && !in_batch {
            // What goes wrong with it must not have the server skip the Query.
            write::empty(out, b'S');
            self.expect_hidden(Kind::Sync, About::Nothing);
        }
        let asks = self.expect_parts(sent);
        let (text, shifts) = renaming.finish();
        self.expect_run(Kind::Query, findings);
        if let Some(query) = self.expected.back_mut() {
            query.shifts = shifts;
        }
        let consumed = write_query(frame, &text, out);
        self.restore(resets, out);
        self.ask_behind(asks, out);
        Pass::Replaced { consumed }
    }

    /// What a Query amounts to with what it executes.
    pub(super) fn with_executed(&self, findings: Scan, frame: &Frame<'_>) -> Scan {
        named(frame, text_of(frame)).map_or(findings, |named| self.and_executed(findings, &named.found))
    }

    fn and_executed(&self, findings: Scan, named: &[Mention]) -> Scan {
        let executed = named.iter().filter(|it| it.verb == Verb::Execute);
        let executed = executed.filter_map(|it| self.names.get(&it.name));
        executed.fold(findings, |all, statement| all.worse(statement.scan))
    }

    /// True if what a text names cannot be had: in a failed transaction nothing can be prepared, and within a batch without its Sync the
    /// server would skip the Query with what it refuses.
    fn lacks_in_batch(&self, named: &[Mention], in_batch: bool, server: &mut ServerStatements) -> bool {
        self.stays_failed() && self.is_in_batch(in_batch) && self.lacks(named, server)
    }

    /// True if something would be prepared for a text that names these.
    fn lacks(&self, named: &[Mention], server: &mut ServerStatements) -> bool {
        let known = named.iter().filter(|it| !it.forgotten);
        let mut known = known.filter_map(|it| Some((it, self.names.get(&it.name)?)));
        known.any(|(it, statement)| match it.verb {
            Verb::Deallocate => is_movable(statement),
            Verb::Prepare { .. } | Verb::Execute => {
                statement.is_kept() && !self.find_prepared(statement.id, &it.name, server)
            }
        })
    }

    /// Expects the answers to those statements of a text that name others.
    fn expect_parts(&mut self, sent: Vec<(usize, Sent)>) -> Vec<Ask> {
        let (mut before, mut all) = (0, Vec::new());
        for (statement, Sent { about, undo, ask, .. }) in sent {
            let left = statement + 1 - before;
            before = statement + 1;
            self.expected.push_back(Expected { about, undo, ..Expected::new(Kind::Part(left)) });
            all.extend(ask);
        }
        all
    }

    /// What the name of a known statement stands for on the server, which is seen to have it. `None` while it is not known
    /// whether that is what it was.
    fn place(
        &mut self,
        (mention, known): (&Mention, Option<Arc<Statement>>),
        text: &[u8],
        (server, statements): (&mut ServerStatements, &Statements),
        out: &mut Vec<u8>,
    ) -> Option<Placed> {
        let name = &mention.name;
        let prepares = matches!(mention.verb, Verb::Prepare { .. });
        if self.has_own_names() && (known.is_none() || (prepares && self.is_unsure(name))) {
            let change = if prepares { Change::PreparesOwn { name: name.clone() } } else { Change::Escaped };
            return Some(Placed { name: None, change, executes: None });
        }
        let (id, change, executes) = match (&mention.verb, known) {
            (Verb::Execute, Some(statement)) => match self.ensure_prepared(&statement, name, server, out) {
                Readiness::Ready => {
                    (statement.id, Change::Executes(statement.id), Some(statement.judge(&self.suspects)))
                }
                Readiness::Unsure => return None,
                Readiness::Denied(_) => (NOWHERE, Change::Denied, Some(statement.scan)),
            },
            (Verb::Prepare { .. }, Some(statement)) if !self.is_unsure(name) => {
                self.ensure_taken(&statement, name, server, out);
                (statement.id, Change::PreparesAgain { name: name.clone(), statement }, None)
            }
            (Verb::Prepare { body, typed }, _) => {
                let (statement, text) = new_statement((text, mention), body.clone(), *typed, statements);
                let id = statement.id;
                (id, Change::Prepares { name: name.clone(), statement, typed: text }, None)
            }
            (Verb::Deallocate, Some(statement)) => {
                let stand_in = is_movable(&statement).then(|| {
                    let nothing = statements.unshared(&[0, 0, 0]);
                    let _ = self.ensure_prepared(&nothing, b"", server, out);
                    nothing.id
                });
                let change = Change::Deallocates { name: name.clone(), stand_in };
                (stand_in.unwrap_or(statement.id), change, None)
            }
            (Verb::Execute | Verb::Deallocate, None) => {
                return Some(Placed { name: escaped_name(name), change: Change::Escaped, executes: None });
            }
        };
        Some(Placed { name: Some(server_name(id)), change, executes })
    }

    /// A change is sent to the server: from now on the names mean what they do behind it.
    fn send_change(&mut self, change: Change, server: &mut ServerStatements) -> Sent {
        let undo = |name, before| Some(Box::new(Undo { name, before }));
        let (about, undo, ask) = match change {
            Change::Prepares { name, statement, typed } => {
                let before = self.names.get(&name).cloned();
                server.insert(statement.id);
                self.preparing += 1;
                self.names.insert(name.clone(), Arc::clone(&statement));
                let about = About::Prepares(statement.id);
                (about, undo(name, before), Some(Ask { statement, typed }))
            }
            Change::PreparesOwn { name } => (About::Nothing, self.take_over(&name), None),
            Change::PreparesAgain { name, statement } => {
                // It means nothing any more if the first time was undone.
                let before = self.names.get(&name).cloned();
                (About::Uses(statement.id), undo(name, before), None)
            }
            Change::Deallocates { name, stand_in } => {
                let before = self.names.remove(&name).map(|(_, before)| before);
                (stand_in.map_or(About::Nothing, About::Drops), undo(name, before), None)
            }
            Change::Executes(id) => (About::Uses(id), None, None),
            Change::Escaped => (About::Escaped, None, None),
            Change::Denied => (About::Denied, None, None),
        };
        Sent { about, undo, shifts: None, ask }
    }

    /// The text of a statement that names another, as it is to be prepared to be bound now.
    pub(super) fn render(
        &mut self,
        mention: &Mention,
        definition: &[u8],
        (server, statements): (&mut ServerStatements, &Statements),
        out: &mut Vec<u8>,
    ) -> Option<Rendered> {
        let (text, types) = split_cstr(definition).unwrap_or_default();
        let known = self.names.get(&mention.name).cloned();
        let placed = self.place((mention, known), text, (server, statements), out)?;
        let Placed { name, change, executes } = placed;
        let mut renaming = Renaming::new(text);
        if let Some(name) = &name {
            renaming.rename(mention, name);
        }
        let (mut definition, shifts) = renaming.finish();
        definition.push(0);
        definition.extend_from_slice(types);
        Some(Rendered { definition, executes, change, shifts })
    }

    /// A portal was bound; to a statement that names others if `rendered` is there.
    pub(super) fn bind_names(&mut self, portal: &[u8], rendered: Option<Rendered>) {
        if self.sql.is_none() && rendered.is_none() {
            return;
        }
        let bound = &mut self.sql.get_or_insert_default().bound;
        bound.retain(|(name, ..)| **name != *portal);
        bound.extend(rendered.map(|Rendered { change, shifts, .. }| (portal.into(), change, shifts)));
    }

    /// A portal is executed: what it does if it was bound to a statement that names others.
    pub(super) fn execute_names(&mut self, portal: &[u8], server: &mut ServerStatements) -> Option<Sent> {
        let bound = &mut self.sql.as_mut()?.bound;
        let (_, change, shifts) = bound.iter_mut().find(|(name, ..)| **name == *portal)?;
        // To execute it once more is refused, or goes on with its rows.
        let again = match change {
            Change::Executes(id) => Change::Executes(*id),
            Change::Denied => Change::Denied,
            _ => Change::Escaped,
        };
        let (change, shifts) = (std::mem::replace(change, again), shifts.clone());
        Some(Sent { shifts, ..self.send_change(change, server) })
    }

    /// All portals are gone.
    pub(super) fn forget_bound(&mut self) {
        if let Some(sql) = &mut self.sql {
            sql.bound.clear();
        }
    }
}

/// What the server is asked about statements that PREPARE makes.
impl Session {
    /// Asks about statements that a Query makes which was sent just before.
    fn ask_behind(&mut self, asks: Vec<Ask>, out: &mut Vec<u8>) {
        if !asks.is_empty() {
            asks.into_iter().for_each(|ask| self.ask_about(ask, out));
            write::empty(out, b'S');
            self.expect_hidden(Kind::Sync, About::Nothing);
        }
    }

    /// Asks about a statement that was sent just before.
    pub(super) fn ask_about(&mut self, Ask { statement, typed }: Ask, out: &mut Vec<u8>) {
        match typed {
            Some(text) => self.ask_types(&statement, text, out),
            None => self.ask_what_it_is(&statement, out),
        }
    }

    /// The server is not asked after all: most likely the same text drops the statement, and the question would be an error. One
    /// that cannot be prepared elsewhere then is not among those that may have to make place for others.
    fn do_not_ask(&mut self, sent: &mut Sent, server: &mut ServerStatements) {
        if let Some(Ask { statement, typed: Some(_) }) = sent.ask.take() {
            self.keep(Some(Pin::SqlPrepare));
            self.preparing -= 1;
            server.remove(statement.id);
            sent.about = About::Uses(statement.id);
        }
    }

    /// Has a Query wait until it is known whether the statements that it names are what they were.
    pub(super) fn await_named(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> Option<Pass> {
        let Named { found, .. } = named(frame, text_of(frame))?;
        if self.is_in_batch(self.unsynced) && self.may_fail_unseen() && self.lacks(&found, server) {
            self.stall = Stall::Transaction;
            return Some(Pass::Wait);
        }
        if self.lacks_in_batch(&found, self.unsynced, server) {
            return None;
        }
        if !self.is_unsure_of(&found, server, out) {
            return None;
        }
        // Without a batch before it, what goes wrong must not have the server skip the Query.
        Some(if self.unsynced { self.await_descriptions(out) } else { self.await_descriptions_alone(out) })
    }
}

/// The text of a Query, or its start.
fn text_of<'a>(frame: &Frame<'a>) -> &'a [u8] {
    frame.body.strip_suffix(b"\0").unwrap_or(frame.body)
}

/// The statements that a Query names, if that can be told.
fn named(frame: &Frame<'_>, text: &[u8]) -> Option<Named> {
    let understood = frame.is_complete().then(|| mentions(text)).flatten();
    let understood = understood.map(|(found, forgets)| Named { found, forgets, is_understood: true });
    // The name of an EXECUTE stands before all that may not be understood.
    let first =
        || executed_first(text).map(|it| Named { found: vec![it], forgets: true, is_understood: false });
    understood.or_else(first)
}

/// True if it can be prepared elsewhere: then it is not dropped.
fn is_movable(statement: &Statement) -> bool {
    statement.is_kept() || statement.source.is_some()
}

/// What PREPARE prepares; with its text if the types of its parameters have to be asked for.
fn new_statement(
    (text, mention): (&[u8], &Mention),
    body: std::ops::Range<usize>,
    typed: bool,
    statements: &Statements,
) -> (Arc<Statement>, Option<Box<[u8]>>) {
    // Errors in it are told with places in the whole text.
    let indent = characters(text.get(..body.start).unwrap_or_default());
    let source = source(text, mention, body.end);
    let mut definition = vec![b' '; indent];
    definition.extend_from_slice(text.get(body).unwrap_or_default());
    definition.push(0);
    if typed {
        return (statements.made_by(source, Err(scan(&definition))), Some(definition.into()));
    }
    definition.extend_from_slice(&[0, 0]);
    (statements.made_by(source, Ok(&definition)), None)
}

/// The PREPARE of which the body ends there, alone: with all that stands around it if there is no other statement.
fn source<'a>(text: &'a [u8], mention: &Mention, end: usize) -> &'a [u8] {
    const VERB: &[u8] = b"prepare";
    if scan(text).single {
        return text;
    }
    let before = text.get(..mention.span.start).unwrap_or_default();
    let verb = before.windows(VERB.len()).rposition(|word| word.eq_ignore_ascii_case(VERB));
    let start = verb.filter(|_| mention.statement > 0).unwrap_or(0);
    text.get(start..end).unwrap_or_default()
}
