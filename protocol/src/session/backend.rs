//! Messages from the server.

use super::names::client_names;
use super::{Expected, Kind, Pooling, Session, Transaction};
use crate::error::ErrorFields;
use crate::frame::Frame;
use crate::prepared::ServerStatements;
use crate::statement::Pin;
use crate::write;

/// What becomes of a server's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The client gets it as it is.
    Forward,
    /// The client gets what was appended to the output in its place.
    Replaced,
    /// The client does not get it.
    Drop,
    /// The server ends the connection: its last error is not for the client.
    ServerEnds,
    /// The server said something that nothing asked for: its connection cannot be trusted any more.
    OutOfStep,
}

impl Session {
    /// Takes in a message from the server. `frame` holds the whole message if it is one that is looked at.
    pub fn on_backend(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> Reply {
        match frame.header.tag {
            b'D' | b'd' | b'N' | b'A' | b'S' | b'H' | b't' | b'V' | b'W' => Reply::Forward,
            b'C' => self.on_command_complete(frame, server),
            b'Z' => self.on_ready(frame),
            b'T' | b'n' => self.on_described(),
            b'2' => self.on_done(Kind::Bind),
            b'1' => self.on_done(Kind::Parse),
            b'3' => self.on_done(Kind::Close),
            b'I' | b's' => self.on_executed(),
            b'E' => self.on_error(frame, server, out),
            b'G' => self.on_copy_in(),
            b'c' => Reply::Forward,
            _ => Reply::OutOfStep,
        }
    }

    /// Appends the replies that pgherd gives itself and whose turn has come.
    pub fn drain_local(&mut self, out: &mut Vec<u8>) {
        loop {
            match self.expected.front().map(|e| e.kind) {
                Some(Kind::Local(tag)) => write::empty(out, tag),
                Some(Kind::CopyEnd) => {}
                _ => return,
            }
            self.expected.pop_front();
        }
    }

    /// True if [`Session::drain_local`] has something to say.
    #[must_use]
    pub fn has_local(&self) -> bool {
        matches!(self.expected.front(), Some(Expected { kind: Kind::Local(_) | Kind::CopyEnd, .. }))
    }

    fn front(&self) -> Option<Kind> {
        self.expected.front().map(|e| e.kind)
    }

    fn on_done(&mut self, kind: Kind) -> Reply {
        match self.expected.pop_front() {
            Some(e) if e.kind == kind || (kind == Kind::Parse && e.kind == Kind::ParseUnnamed) => {
                if e.shown {
                    Reply::Forward
                } else {
                    Reply::Drop
                }
            }
            _ => Reply::OutOfStep,
        }
    }

    fn on_described(&mut self) -> Reply {
        if self.front() == Some(Kind::Describe) {
            self.expected.pop_front();
        }
        Reply::Forward
    }

    fn on_executed(&mut self) -> Reply {
        if self.front() == Some(Kind::Execute) {
            self.expected.pop_front();
        }
        Reply::Forward
    }

    fn on_command_complete(&mut self, frame: &Frame<'_>, server: &mut ServerStatements) -> Reply {
        match frame.body {
            b"DISCARD ALL\0" => {
                self.forget_statements(server);
                if self.pooling == Pooling::Transaction {
                    self.pin = None;
                }
            }
            b"DEALLOCATE ALL\0" => self.forget_statements(server),
            b"SET\0" | b"RESET\0" | b"LISTEN\0" | b"PREPARE\0" | b"DECLARE CURSOR\0" | b"LOAD\0"
            | b"CREATE TABLE\0" => {
                self.pin_if_unseen(frame.body);
            }
            _ => {}
        }
        self.copying_in = false;
        self.on_executed()
    }

    fn forget_statements(&mut self, server: &mut ServerStatements) {
        server.clear();
        self.named.clear();
        self.unnamed.defined = false;
    }

    /// Of a statement too long to be looked at only the command tag tells what it did.
    fn pin_if_unseen(&mut self, tag: &[u8]) {
        use crate::statement::Effect;
        let unseen = self.expected.front().is_none_or(|e| e.effect == Effect::MayCommit);
        if unseen && self.pin.is_none() {
            self.pin = Some(match tag {
                b"LISTEN\0" => Pin::Listen,
                b"PREPARE\0" => Pin::SqlPrepare,
                b"DECLARE CURSOR\0" => Pin::HoldCursor,
                b"LOAD\0" => Pin::Load,
                b"CREATE TABLE\0" => Pin::Temporary,
                _ => Pin::Parameter,
            });
        }
    }

    fn on_ready(&mut self, frame: &Frame<'_>) -> Reply {
        let transaction = frame.body.first().and_then(|&b| Transaction::from_byte(b));
        let (Some(transaction), Some(front)) = (transaction, self.expected.pop_front()) else {
            return Reply::OutOfStep;
        };
        if !matches!(front.kind, Kind::Query | Kind::Sync | Kind::FunctionCall) {
            return Reply::OutOfStep;
        }
        self.transaction = transaction;
        Reply::Forward
    }

    fn on_copy_in(&mut self) -> Reply {
        self.copying_in = true;
        // The server reads the Syncs that are on their way as part of the COPY, and ignores them.
        while self.expected.get(1).is_some_and(|e| e.kind == Kind::Sync) {
            self.expected.remove(1);
            self.unsynced = true;
        }
        if self.expected.get(1).is_some_and(|e| e.kind == Kind::CopyEnd) {
            self.copying_in = false;
        }
        if self.front() == Some(Kind::Query) {
            self.unsynced = false;
        }
        Reply::Forward
    }

    fn on_error(&mut self, frame: &Frame<'_>, server: &mut ServerStatements, out: &mut Vec<u8>) -> Reply {
        if ErrorFields::parse(frame.body).ends_session() {
            return Reply::ServerEnds;
        }
        self.copying_in = false;
        match self.front() {
            None => return Reply::OutOfStep,
            Some(kind) if kind.is_extended() => self.skip_to_sync(server),
            Some(_) => {}
        }
        if client_names(frame.body, &self.named, out) { Reply::Replaced } else { Reply::Forward }
    }

    /// The server ignores everything up to the next Sync: so nothing before it is owed, and nothing before it was done.
    pub(super) fn skip_to_sync(&mut self, server: &mut ServerStatements) {
        let sync = self.expected.iter().position(|e| !e.kind.is_extended());
        self.skipping = sync.is_none();
        for skipped in self.expected.drain(..sync.unwrap_or(self.expected.len())).rev() {
            if let Some(id) = skipped.prepares {
                server.remove(id);
            }
            if skipped.kind == Kind::ParseUnnamed {
                self.unnamed.defined = false;
            }
            let Some(undo) = skipped.undo else { continue };
            match undo.before {
                Some(before) => self.named.insert(undo.name, before),
                None => self.named.remove(&undo.name),
            };
        }
        self.unnamed.on_server = false;
    }
}
