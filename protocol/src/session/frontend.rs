//! Messages from the client.

use std::sync::Arc;

use super::{About, Expected, Held, Kind, Placed, Pooling, Session, Undo};
use crate::frame::{Frame, HEADER_LEN, split_cstr};
use crate::prepared::{
    SERVER_PREFIX, ServerStatements, Statement, Statements, scan_definition, write_server_name,
};
use crate::statement::{Effect, Pin, Scan, scan};
use crate::{session::Transaction, write};

/// What becomes of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It goes to the server as it is.
    Forward,
    /// What was appended to the output goes to the server in place of its first `consumed` bytes.
    Replaced {
        /// Bytes of the message, from its tag, that the output stands for.
        consumed: usize,
    },
    /// The server does not get it.
    Drop,
}

/// What names of the client that would be taken for pgherd's begin with on the server.
pub(super) const ESCAPED_PREFIX: &str = "pgherd_!";

impl Session {
    /// Takes in a message for the server. `frame` holds the whole message unless it is longer than the
    /// caller's buffer. What must be sent before or instead of it is appended to `out`.
    ///
    /// Afterwards the caller has [`Session::drain_local`] answer what no server is asked.
    pub fn on_frontend(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        statements: &Statements,
        out: &mut Vec<u8>,
    ) -> Pass {
        match frame.header.tag {
            b'S' => return self.on_sync(),
            // Even a Query is ignored by a server that waits for Sync, and gets no reply.
            _ if self.skipping => return Pass::Drop,
            b'd' => return self.on_copy_data(),
            b'c' | b'f' => return self.on_copy_end(),
            b'Q' => return self.on_query(frame),
            b'F' => {
                self.unsynced = false;
                self.batch += 1;
                self.expect(Kind::FunctionCall, Effect::MayCommit);
                return Pass::Forward;
            }
            b'H' => return Pass::Forward,
            _ => {}
        }
        self.unsynced = true;
        match frame.header.tag {
            b'P' => self.on_parse(frame, server, statements, out),
            b'B' => self.on_bind(frame, server, out),
            b'D' => self.on_describe(frame, server, out),
            b'C' => self.on_close(frame, out),
            b'E' => self.on_execute(frame),
            _ => Pass::Forward,
        }
    }

    pub(super) fn expect(&mut self, kind: Kind, effect: Effect) {
        self.push(kind, effect, About::Nothing);
    }

    fn push(&mut self, kind: Kind, effect: Effect, about: About) {
        self.expected.push_back(Expected { kind, shown: true, effect, about, undo: None });
    }

    fn expect_hidden(&mut self, kind: Kind, about: About) {
        let effect = Effect::Harmless;
        self.expected.push_back(Expected { kind, shown: false, effect, about, undo: None });
    }

    fn on_query(&mut self, frame: &Frame<'_>) -> Pass {
        let findings = if frame.is_complete() {
            scan(frame.body)
        } else {
            Scan { pin: scan(frame.body).pin, ..Scan::UNKNOWN }
        };
        self.pin = self.pin.or(findings.pin);
        self.forgetting |= findings.forgets;
        // A simple Query destroys the unnamed statement, as in PostgreSQL, and ends a batch as Sync does.
        self.unnamed.held = Held::Nowhere;
        self.unsynced = false;
        self.batch += 1;
        self.expect(Kind::Query, findings.effect);
        Pass::Forward
    }

    fn on_execute(&mut self, frame: &Frame<'_>) -> Pass {
        let bound = match split_cstr(frame.body) {
            Some((b"", _)) => self.bound,
            _ => self.bound_by_name.unwrap_or(Scan::UNKNOWN),
        };
        self.forgetting |= bound.forgets;
        self.expect(Kind::Execute, bound.effect);
        Pass::Forward
    }

    fn on_sync(&mut self) -> Pass {
        if self.copying_in && !self.has_ended_copy() {
            // The server ignores a Sync while it reads CopyData, and so owes nothing for it.
            self.copy_syncs += 1;
            return Pass::Forward;
        }
        self.unsynced = false;
        self.skipping = false;
        self.batch += 1;
        self.expect(Kind::Sync, Effect::Harmless);
        Pass::Forward
    }

    fn on_copy_data(&self) -> Pass {
        if self.expected.is_empty() { Pass::Drop } else { Pass::Forward }
    }

    fn on_copy_end(&mut self) -> Pass {
        if self.expected.is_empty() {
            return Pass::Drop;
        }
        self.expect(Kind::CopyEnd, Effect::Harmless);
        Pass::Forward
    }

    fn on_parse(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        statements: &Statements,
        out: &mut Vec<u8>,
    ) -> Pass {
        let Some((name, definition)) = split_cstr(frame.body) else { return self.pass_on(Kind::Parse) };
        let findings = if frame.is_complete() { scan_definition(definition) } else { Scan::UNKNOWN };
        self.pin = self.pin.or(findings.pin);
        if self.pooling == Pooling::Session {
            return self.pass_on(Kind::Parse);
        }
        if name.is_empty() {
            self.unnamed.definition.clear();
            self.unnamed.held = Held::OnlyThere;
            if frame.is_complete() {
                self.unnamed.definition.extend_from_slice(definition);
                self.unnamed.held = Held::Here;
            } else {
                self.pin = self.pin.or(Some(Pin::LongStatement));
            }
            self.unnamed.placed = Placed::InBatch(self.batch);
            self.unnamed.scan = findings;
            return self.pass_on(Kind::ParseUnnamed);
        }
        let existing = self.named.get(name).cloned();
        if let Some(existing) = existing.as_ref().filter(|_| !self.forgetting) {
            return self.on_parse_again(name, existing, server, out);
        }
        if !frame.is_complete() {
            return self.on_long_parse(frame, name, out);
        }
        let statement = if self.forgetting {
            statements.fresh(self.scope, definition)
        } else {
            statements.intern(self.scope, definition)
        };
        self.define(name, existing, statement, server, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    /// PostgreSQL refuses to prepare a name twice; lets the server say so.
    fn on_parse_again(
        &mut self,
        name: &[u8],
        existing: &Arc<Statement>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> Pass {
        self.ensure_prepared(existing, server, out);
        existing.write_parse(out);
        self.expected.push_back(Expected {
            kind: Kind::Parse,
            shown: true,
            effect: Effect::Harmless,
            about: About::Uses(existing.id),
            undo: Some(Box::new(Undo { name: name.into(), before: Some(Arc::clone(existing)) })),
        });
        Pass::Drop
    }

    /// Too long to be kept: it stays where it is prepared, under the client's own name.
    fn on_long_parse(&mut self, frame: &Frame<'_>, name: &[u8], out: &mut Vec<u8>) -> Pass {
        self.pin = self.pin.or(Some(Pin::LongStatement));
        self.expect(Kind::Parse, Effect::Harmless);
        if !name.starts_with(SERVER_PREFIX.as_bytes()) {
            return Pass::Forward;
        }
        let consumed = HEADER_LEN + name.len() + 1;
        rename(frame, None, Name::Escaped(name), consumed, out);
        Pass::Replaced { consumed }
    }

    /// Gives `name` its meaning; prepares the statement on the server unless it is there already.
    fn define(
        &mut self,
        name: &[u8],
        before: Option<Arc<Statement>>,
        statement: Arc<Statement>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) {
        let undo = Some(Box::new(Undo { name: name.into(), before }));
        let is_there = self.find_prepared(statement.id, server);
        let (kind, about) = if is_there && !self.refuses(&statement.scan) {
            (Kind::Local(b'1'), About::Uses(statement.id))
        } else if is_there {
            statement.write_parse(out);
            (Kind::Parse, About::Uses(statement.id))
        } else {
            self.close_stale(statement.id, server, out);
            statement.write_parse(out);
            server.insert(statement.id);
            self.preparing += 1;
            (Kind::Parse, About::Prepares(statement.id))
        };
        self.expected.push_back(Expected { kind, shown: true, effect: Effect::Harmless, about, undo });
        self.named.insert(name.into(), statement);
        self.evict(server, out);
    }

    /// True if the server is sure to refuse to parse it: in a failed transaction it takes nothing but what ends it.
    fn refuses(&self, findings: &Scan) -> bool {
        self.transaction == Transaction::Failed
            && !findings.ends_transaction()
            && !self.expected.iter().any(|e| e.kind.runs() && e.effect != Effect::Harmless)
    }

    fn on_bind(&mut self, frame: &Frame<'_>, server: &mut ServerStatements, out: &mut Vec<u8>) -> Pass {
        let start = out.len();
        let names = split_cstr(frame.body)
            .and_then(|(portal, rest)| split_cstr(rest).map(|(statement, _)| (portal, statement)));
        let Some((portal, name)) = names else {
            self.bound = Scan::UNKNOWN;
            return self.pass_on(Kind::Bind);
        };
        let (target, findings) = self.resolve(name, server, out);
        self.pin = self.pin.or(findings.pin);
        if portal.is_empty() {
            self.bound = findings;
        } else {
            self.bound_by_name = Some(self.bound_by_name.map_or(findings, |bound| bound.worse(findings)));
        }
        self.push(Kind::Bind, Effect::Harmless, target.about());
        let Some(server_name) = target.name(name) else { return behind(out, start) };
        let consumed = HEADER_LEN + portal.len() + 1 + name.len() + 1;
        rename(frame, Some(portal), server_name, consumed, out);
        Pass::Replaced { consumed }
    }

    fn on_describe(&mut self, frame: &Frame<'_>, server: &mut ServerStatements, out: &mut Vec<u8>) -> Pass {
        let start = out.len();
        let (Some((b'S', rest)), true) = (frame.body.split_first(), frame.is_complete()) else {
            return self.pass_on(Kind::Describe);
        };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Describe) };
        let (target, _) = self.resolve(name, server, out);
        self.push(Kind::Describe, Effect::Harmless, target.about());
        let Some(server_name) = target.name(name) else { return behind(out, start) };
        write_statement_message(b'D', server_name, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    fn on_close(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Pass {
        let (Some((b'S', rest)), true, Pooling::Transaction) =
            (frame.body.split_first(), frame.is_complete(), self.pooling)
        else {
            return self.pass_on(Kind::Close);
        };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Close) };
        if name.is_empty() {
            self.unnamed.held = Held::Nowhere;
            self.unnamed.placed = Placed::InBatch(self.batch);
            return self.pass_on(Kind::Close);
        }
        let Some((name, before)) = self.named.remove_entry(name) else {
            self.expect(Kind::Close, Effect::Harmless);
            if !name.starts_with(SERVER_PREFIX.as_bytes()) {
                return Pass::Forward;
            }
            write_statement_message(b'C', Name::Escaped(name), out);
            return Pass::Replaced { consumed: frame.header.len };
        };
        // Others may use it: on the server it stays until it is the one used longest ago.
        self.expected.push_back(Expected {
            kind: Kind::Local(b'3'),
            shown: true,
            effect: Effect::Harmless,
            about: About::Nothing,
            undo: Some(Box::new(Undo { name, before: Some(before) })),
        });
        Pass::Drop
    }

    fn pass_on(&mut self, kind: Kind) -> Pass {
        self.expect(kind, Effect::Harmless);
        Pass::Forward
    }

    /// Finds what a statement's name means and sees to it that the server has it.
    fn resolve(&mut self, name: &[u8], server: &mut ServerStatements, out: &mut Vec<u8>) -> (Target, Scan) {
        if self.pooling == Pooling::Session {
            return (Target::AsItIs, Scan::UNKNOWN);
        }
        if name.is_empty() {
            self.ensure_unnamed(out);
            return (Target::AsItIs, self.unnamed.scan);
        }
        if let Some(statement) = self.named.get(name).cloned() {
            self.ensure_prepared(&statement, server, out);
            return (Target::Prepared(statement.id), statement.scan);
        }
        let escaped = name.starts_with(SERVER_PREFIX.as_bytes());
        (if escaped { Target::Escaped } else { Target::AsItIs }, Scan::UNKNOWN)
    }

    /// Makes the server's unnamed statement this session's, or none if the session has none.
    fn ensure_unnamed(&mut self, out: &mut Vec<u8>) {
        let here = Placed::InBatch(self.batch);
        if self.unnamed.placed == Placed::Surely || self.unnamed.placed == here {
            return;
        }
        if self.unnamed.held == Held::OnlyThere && self.unnamed.placed != Placed::No {
            return;
        }
        self.unnamed.placed = here;
        if self.unnamed.held == Held::Here {
            write::message(out, b'P', |out| {
                out.push(0);
                out.extend_from_slice(&self.unnamed.definition);
            });
            self.expect_hidden(Kind::Parse, About::Nothing);
        } else {
            write_statement_message(b'C', Name::Unnamed, out);
            self.expect_hidden(Kind::Close, About::Nothing);
        }
    }

    fn ensure_prepared(&mut self, statement: &Statement, server: &mut ServerStatements, out: &mut Vec<u8>) {
        if self.find_prepared(statement.id, server) {
            return;
        }
        self.close_stale(statement.id, server, out);
        statement.write_parse(out);
        server.insert(statement.id);
        self.preparing += 1;
        self.expect_hidden(Kind::Parse, About::Prepares(statement.id));
        self.evict(server, out);
    }

    /// True if the server has the statement when it comes to what is sent now. One whose Parse belongs to an earlier
    /// batch that may still fail is made stale.
    fn find_prepared(&self, id: u64, server: &mut ServerStatements) -> bool {
        if !server.touch(id) {
            return false;
        }
        if self.preparing == 0 {
            return true;
        }
        let since = self.expected.iter().rev().take_while(|e| e.about != About::Prepares(id));
        let count = since.clone().count();
        let is_unsure = count < self.expected.len() && since.clone().any(|e| e.kind.ends_batch());
        if is_unsure {
            server.make_stale(id);
        }
        !is_unsure
    }

    fn close_stale(&mut self, id: u64, server: &mut ServerStatements, out: &mut Vec<u8>) {
        if server.take_stale(id) {
            write_statement_message(b'C', Name::Server(id), out);
            self.expect_hidden(Kind::Close, About::Closes(id));
        }
    }

    fn evict(&mut self, server: &mut ServerStatements, out: &mut Vec<u8>) {
        while let Some(id) = server.evict(self.lease_start) {
            write_statement_message(b'C', Name::Server(id), out);
            self.expect_hidden(Kind::Close, About::Closes(id));
        }
    }
}

/// Appends the start of `frame` up to and with the statement's name, which is replaced. `portal` stands before it in a
/// Bind.
fn rename(frame: &Frame<'_>, portal: Option<&[u8]>, name: Name<'_>, consumed: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[frame.header.tag, 0, 0, 0, 0]);
    if let Some(portal) = portal {
        write::cstr(out, portal);
    }
    name.write(out);
    let len = (frame.header.len - consumed) + (out.len() - start) - 1;
    if let Some(word) = out.get_mut(start + 1..start + HEADER_LEN) {
        word.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// Appends a Describe or Close of a statement.
fn write_statement_message(tag: u8, name: Name<'_>, out: &mut Vec<u8>) {
    write::message(out, tag, |out| {
        out.push(b'S');
        name.write(out);
    });
}

/// The message goes on as it is, behind what was appended to `out` since `start`.
const fn behind(out: &[u8], start: usize) -> Pass {
    if out.len() == start { Pass::Forward } else { Pass::Replaced { consumed: 0 } }
}

/// What stands on the server for a client's statement name.
enum Target {
    AsItIs,
    Prepared(u64),
    Escaped,
}

enum Name<'a> {
    Unnamed,
    Server(u64),
    Escaped(&'a [u8]),
}

impl Target {
    const fn name<'a>(&self, client: &'a [u8]) -> Option<Name<'a>> {
        match self {
            Self::AsItIs => None,
            Self::Prepared(id) => Some(Name::Server(*id)),
            Self::Escaped => Some(Name::Escaped(client)),
        }
    }

    const fn about(&self) -> About {
        match self {
            Self::Prepared(id) => About::Uses(*id),
            Self::AsItIs | Self::Escaped => About::Nothing,
        }
    }
}

impl Name<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unnamed => out.push(0),
            Self::Server(id) => write_server_name(out, *id),
            Self::Escaped(client) => {
                out.extend_from_slice(ESCAPED_PREFIX.as_bytes());
                write::cstr(out, client);
            }
        }
    }
}
