//! Messages from the client.

use std::sync::Arc;

use super::{Expected, Kind, Pooling, Session, Undo};
use crate::frame::{Frame, HEADER_LEN, split_cstr};
use crate::prepared::{
    SERVER_PREFIX, ServerStatements, Statement, Statements, scan_definition, write_server_name,
};
use crate::statement::{Effect, Pin, scan};
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
    pub fn on_frontend(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        statements: &Statements,
        out: &mut Vec<u8>,
    ) -> Pass {
        match frame.header.tag {
            b'd' => return self.on_copy_data(),
            b'c' | b'f' => return self.on_copy_end(),
            b'S' => return self.on_sync(),
            b'Q' => return self.on_query(frame),
            b'F' => {
                self.expect(Kind::FunctionCall, Effect::MayCommit);
                return Pass::Forward;
            }
            _ => {}
        }
        if self.skipping {
            return Pass::Drop;
        }
        self.unsynced = true;
        match frame.header.tag {
            b'P' => self.on_parse(frame, server, statements, out),
            b'B' => self.on_bind(frame, server, out),
            b'D' => self.on_describe(frame, server, out),
            b'C' => self.on_close(frame),
            b'E' => {
                self.expect(Kind::Execute, self.bound);
                Pass::Forward
            }
            _ => Pass::Forward,
        }
    }

    pub(super) fn expect(&mut self, kind: Kind, effect: Effect) {
        self.expected.push_back(Expected { kind, shown: true, effect, prepares: None, undo: None });
    }

    fn expect_hidden(&mut self, kind: Kind, prepares: Option<u64>) {
        self.expected.push_back(Expected {
            kind,
            shown: false,
            effect: Effect::Harmless,
            prepares,
            undo: None,
        });
    }

    fn on_query(&mut self, frame: &Frame<'_>) -> Pass {
        let findings = scan(frame.body);
        self.pin = self.pin.or(findings.pin);
        // A simple Query destroys the unnamed statement, as in PostgreSQL.
        self.unnamed.defined = false;
        let effect = if frame.is_complete() { findings.effect } else { Effect::MayCommit };
        self.expect(Kind::Query, effect);
        Pass::Forward
    }

    fn on_sync(&mut self) -> Pass {
        if self.copying_in {
            // The server ignores a Sync while it reads CopyData, and so owes nothing for it.
            return Pass::Forward;
        }
        self.unsynced = false;
        self.skipping = false;
        self.expect(Kind::Sync, Effect::Harmless);
        Pass::Forward
    }

    fn on_copy_data(&self) -> Pass {
        if self.expected.is_empty() || self.skipping { Pass::Drop } else { Pass::Forward }
    }

    fn on_copy_end(&mut self) -> Pass {
        if self.expected.is_empty() || self.skipping {
            return Pass::Drop;
        }
        self.copying_in = false;
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
        let findings = scan_definition(definition);
        self.pin = self.pin.or(findings.pin);
        if !frame.is_complete() {
            // Too long to be kept: it stays where it is prepared, under the client's own name.
            self.pin = self.pin.or(Some(Pin::LongStatement));
            if name.is_empty() {
                self.unnamed.on_server = true;
                self.unnamed.defined = true;
                self.unnamed.effect = None;
            }
            return self.pass_on(Kind::Parse);
        }
        if self.pooling == Pooling::Session {
            return self.pass_on(Kind::Parse);
        }
        if name.is_empty() {
            self.unnamed.definition.clear();
            self.unnamed.definition.extend_from_slice(definition);
            self.unnamed.defined = true;
            self.unnamed.on_server = true;
            self.unnamed.effect = Some(findings.effect);
            return self.pass_on(Kind::ParseUnnamed);
        }
        if let Some(existing) = self.named.get(name).cloned() {
            // PostgreSQL refuses to prepare a name twice; let the server say so.
            self.ensure_prepared(&existing, server, out);
            existing.write_parse(out);
            self.expect(Kind::Parse, Effect::Harmless);
            return Pass::Replaced { consumed: frame.header.len };
        }
        let statement = statements.intern(self.scope, definition);
        self.define(name, statement, server, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    /// Gives `name` its meaning; prepares the statement on the server unless it is there already.
    fn define(
        &mut self,
        name: &[u8],
        statement: Arc<Statement>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) {
        let undo = Some(Box::new(Undo { name: name.into(), before: None }));
        // In a failed transaction the server refuses to parse anything but its end.
        let refused = self.transaction == Transaction::Failed && !statement.scan.ends_transaction();
        let is_there = server.touch(statement.id);
        let (kind, prepares) = if is_there && !refused {
            (Kind::Local(b'1'), None)
        } else {
            statement.write_parse(out);
            if !is_there {
                server.insert(statement.id);
            }
            (Kind::Parse, (!is_there).then_some(statement.id))
        };
        self.expected.push_back(Expected { kind, shown: true, effect: Effect::Harmless, prepares, undo });
        self.named.insert(name.into(), statement);
        self.evict(server, out);
    }

    fn on_bind(&mut self, frame: &Frame<'_>, server: &mut ServerStatements, out: &mut Vec<u8>) -> Pass {
        let start = out.len();
        let Some((portal, rest)) = split_cstr(frame.body) else { return self.pass_on(Kind::Bind) };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Bind) };
        let Some(id) = self.resolve(name, server, out) else {
            self.expect(Kind::Bind, Effect::Harmless);
            return behind(out, start);
        };
        let consumed = HEADER_LEN + portal.len() + 1 + name.len() + 1;
        self.rename(frame, b'B', portal, id.name(name), consumed, out);
        self.expect(Kind::Bind, Effect::Harmless);
        Pass::Replaced { consumed }
    }

    fn on_describe(&mut self, frame: &Frame<'_>, server: &mut ServerStatements, out: &mut Vec<u8>) -> Pass {
        let start = out.len();
        let (Some((b'S', rest)), true) = (frame.body.split_first(), frame.is_complete()) else {
            return self.pass_on(Kind::Describe);
        };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Describe) };
        let bound = self.bound;
        let target = self.resolve(name, server, out);
        self.bound = bound;
        self.expect(Kind::Describe, Effect::Harmless);
        let Some(id) = target else { return behind(out, start) };
        write::message(out, b'D', |out| {
            out.push(b'S');
            id.name(name).write(out);
        });
        Pass::Replaced { consumed: frame.header.len }
    }

    fn on_close(&mut self, frame: &Frame<'_>) -> Pass {
        let (Some((b'S', rest)), true, Pooling::Transaction) =
            (frame.body.split_first(), frame.is_complete(), self.pooling)
        else {
            return self.pass_on(Kind::Close);
        };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Close) };
        let mut undo = None;
        if name.is_empty() {
            if self.unnamed.on_server {
                self.unnamed.defined = false;
                return self.pass_on(Kind::Close);
            }
            self.unnamed.defined = false;
        } else if let Some((name, before)) = self.named.remove_entry(name) {
            // Others may use it: on the server it stays until it is the one used longest ago.
            undo = Some(Box::new(Undo { name, before: Some(before) }));
        } else if self.pin == Some(Pin::LongStatement) {
            return self.pass_on(Kind::Close);
        }
        let kind = Kind::Local(b'3');
        self.expected.push_back(Expected {
            kind,
            shown: true,
            effect: Effect::Harmless,
            prepares: None,
            undo,
        });
        Pass::Drop
    }

    fn pass_on(&mut self, kind: Kind) -> Pass {
        if kind == Kind::Bind {
            self.bound = Effect::MayCommit;
        }
        self.expect(kind, Effect::Harmless);
        Pass::Forward
    }

    /// Finds what a statement's name means and sees to it that the server has it. `None` where the message goes on as it
    /// is (behind what was appended to `out`).
    fn resolve(&mut self, name: &[u8], server: &mut ServerStatements, out: &mut Vec<u8>) -> Option<Target> {
        if self.pooling == Pooling::Session {
            self.bound = Effect::MayCommit;
            return None;
        }
        if name.is_empty() {
            self.ensure_unnamed(out);
            self.bound = self.unnamed.effect.unwrap_or(Effect::MayCommit);
            return None;
        }
        if let Some(statement) = self.named.get(name).cloned() {
            self.bound = statement.scan.effect;
            self.ensure_prepared(&statement, server, out);
            return Some(Target::Prepared(statement.id));
        }
        self.bound = Effect::MayCommit;
        name.starts_with(SERVER_PREFIX.as_bytes()).then_some(Target::Escaped)
    }

    /// Makes the server's unnamed statement this session's, or none if the session has none.
    fn ensure_unnamed(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.unnamed.on_server, true) {
            return;
        }
        if self.unnamed.defined {
            write::message(out, b'P', |out| {
                out.push(0);
                out.extend_from_slice(&self.unnamed.definition);
            });
            self.expect_hidden(Kind::Parse, None);
        } else {
            write::message(out, b'C', |out| out.extend_from_slice(b"S\0"));
            self.expect_hidden(Kind::Close, None);
        }
    }

    fn ensure_prepared(&mut self, statement: &Statement, server: &mut ServerStatements, out: &mut Vec<u8>) {
        if server.touch(statement.id) {
            return;
        }
        statement.write_parse(out);
        server.insert(statement.id);
        self.expect_hidden(Kind::Parse, Some(statement.id));
        self.evict(server, out);
    }

    fn evict(&mut self, server: &mut ServerStatements, out: &mut Vec<u8>) {
        while let Some(id) = server.evict(self.lease_start) {
            write::message(out, b'C', |out| {
                out.push(b'S');
                write_server_name(out, id);
            });
            self.expect_hidden(Kind::Close, None);
        }
    }

    /// Appends the start of `frame` up to and with the statement's name, which is replaced.
    fn rename(
        &self,
        frame: &Frame<'_>,
        tag: u8,
        before: &[u8],
        name: Name<'_>,
        consumed: usize,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&[tag, 0, 0, 0, 0]);
        write::cstr(out, before);
        name.write(out);
        let len = (frame.header.len - consumed) + (out.len() - start) - 1;
        if let Some(word) = out.get_mut(start + 1..start + HEADER_LEN) {
            word.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// The message goes on as it is, behind what was appended to `out` since `start`.
const fn behind(out: &[u8], start: usize) -> Pass {
    if out.len() == start { Pass::Forward } else { Pass::Replaced { consumed: 0 } }
}

/// What stands on the server for a client's statement name.
enum Target {
    Prepared(u64),
    Escaped,
}

enum Name<'a> {
    Server(u64),
    Escaped(&'a [u8]),
}

impl Target {
    const fn name<'a>(&self, client: &'a [u8]) -> Name<'a> {
        match self {
            Self::Prepared(id) => Name::Server(*id),
            Self::Escaped => Name::Escaped(client),
        }
    }
}

impl Name<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Server(id) => write_server_name(out, *id),
            Self::Escaped(client) => {
                out.extend_from_slice(ESCAPED_PREFIX.as_bytes());
                write::cstr(out, client);
            }
        }
    }
}
