//! Errors of the server, and what is taken back by them.

use std::collections::VecDeque;

use super::describing::{is_denied, write_changed};
use super::names::with_client_names;
use super::{About, Expected, Held, Kind, OwnWords, Pass, Placed, Reply, Session, Transaction};
use crate::error::{ClientError, ErrorFields, Severity};
use crate::frame::Frame;
use crate::prepared::ServerStatements;
use crate::write;

impl Session {
    pub(super) fn on_error(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> Reply {
        let fields = ErrorFields::parse(frame.body);
        if fields.ends_session() {
            return Reply::ServerEnds;
        }
        let Some(mut failed) = self.expected.pop_front() else { return Reply::OutOfStep };
        if !failed.shown && failed.kind.is_extended() && self.fails_alone() {
            if self.fails_to_forget(&failed) {
                return self.on_unforgotten(failed, server);
            }
            return self.on_hidden_error((failed, frame.body), server);
        }
        if failed.kind == Kind::Probe {
            return self.on_probed(failed, frame.body);
        }
        if failed.kind == Kind::Exit {
            // A cancel request has met it. What stands behind it is refused, with what the transaction has failed for.
            self.expected.push_front(failed);
            return Reply::Drop;
        }
        if failed.kind == Kind::Query && !failed.shown {
            self.expected.push_front(failed);
            return match self.answered.transaction() {
                // It is tried again before the session's next message: statement_timeout or a late cancel request ended it.
                Transaction::Idle => {
                    self.restore_due = true;
                    Reply::Drop
                }
                // Nothing was taken back.
                Transaction::Failed => Reply::Drop,
                // The client would have to be told that its transaction has failed, and of what.
                Transaction::Open => Reply::OutOfStep,
            };
        }
        self.copying_in = false;
        self.answered.on_error();
        match (fields.sqlstate, failed.about) {
            // "prepared statement does not exist", "cached plan must not change result type"
            (b"26000" | b"0A000", About::Uses(id)) if !self.prepares(id) => {
                server.distrust(id);
                self.on_misfit(id, frame.body);
            }
            // "prepared statement already exists"
            (b"42P05", About::Prepares(id)) if matches!(failed.kind, Kind::Parse | Kind::ParseUnnamed) => {
                self.preparing -= 1;
                failed.about = About::Uses(id);
            }
            _ => {}
        }
        if failed.forgets && !failed.unseen {
            // It may have been carried out and then failed to commit.
            let Self { expected, .. } = self;
            server.make_all_stale(|id| expected.iter().any(|e| e.about == About::Prepares(id)));
        }
        let overdue = self.says_overdue(frame, fields, out);
        if overdue == Some(Reply::SentAway) {
            self.expected.push_front(failed);
            return Reply::SentAway;
        }
        let replaced = overdue.is_some() || self.tell_error(&failed, frame, out);
        if failed.kind.is_extended() {
            self.expected.push_front(failed);
            self.skip_to_sync(server);
        } else {
            self.keep_done(&mut failed, fields.sqlstate, server);
            self.skip_parts(failed, server);
        }
        if replaced { Reply::Replaced } else { Reply::Forward }
    }

    /// PREPARE and DEALLOCATE are no part of their transaction. As the last statement of a text they have been carried out where it is the
    /// commit that fails, though the server does not tell. Constraints, conflicts and triggers fail at a commit, and not in them; but for
    /// a deadlock, for a PREPARE takes locks.
    fn keep_done(&mut self, failed: &mut Expected, sqlstate: &[u8], server: &mut ServerStatements) {
        let fails_to_commit = matches!(sqlstate.first_chunk(), Some(b"23" | b"40" | b"P0"));
        if failed.kind != Kind::Part(1) || !fails_to_commit {
            return;
        }
        match failed.about {
            About::Drops(id) => server.remove(id),
            About::Prepares(_) if sqlstate != b"40P01" => self.preparing -= 1,
            About::Nothing if failed.undo.as_ref().is_some_and(|undo| undo.before.is_some()) => {}
            _ => return,
        }
        failed.about = About::Nothing;
        failed.undo = None;
    }

    /// The server ignores everything up to the next Sync: so nothing before it is owed, and nothing before it was done.
    pub(super) fn skip_to_sync(&mut self, server: &mut ServerStatements) {
        let sync = self.expected.iter().position(|e| e.kind == Kind::Sync);
        self.skipping = sync.is_none();
        let behind = self.expected.split_off(sync.unwrap_or(self.expected.len()));
        let skipped = std::mem::replace(&mut self.expected, behind);
        self.abandon(skipped, server);
        if self.unnamed.held != Held::OnlyThere {
            self.unnamed.placed = Placed::No;
        }
    }

    /// Takes back what is not carried out any more.
    fn abandon(&mut self, skipped: VecDeque<Expected>, server: &mut ServerStatements) {
        for skipped in &skipped {
            if let About::Prepares(id) = skipped.about {
                self.preparing -= 1;
                if !self.prepares(id) {
                    server.remove(id);
                }
            }
        }
        for skipped in &skipped {
            match skipped.about {
                About::Closes(id) if !self.prepares(id) => server.make_stale(id),
                _ => {}
            }
        }
        let forgets = skipped.iter().any(|e| e.about == About::Numbers);
        let untold = skipped.iter().filter(|e| e.kind == Kind::Describe && !e.shown).count();
        self.undo(skipped);
        if forgets {
            self.on_forgotten(false);
        }
        (0..untold).for_each(|_| self.on_no_description(server));
    }

    /// Of a Query of which a part has failed, the others are not carried out; its end is still to come.
    fn skip_parts(&mut self, failed: Expected, server: &mut ServerStatements) {
        self.expected.push_front(failed);
        let end = self.expected.iter().position(|e| !matches!(e.kind, Kind::Part(_)));
        let behind = self.expected.split_off(end.unwrap_or(self.expected.len()));
        let parts = std::mem::replace(&mut self.expected, behind);
        self.abandon(parts, server);
    }

    /// True if a Parse of this statement is on its way.
    pub(super) fn prepares(&self, id: u64) -> bool {
        self.preparing > 0 && self.expected.iter().any(|e| e.about == About::Prepares(id))
    }

    /// Gives names the meaning that they had before these messages, none of which was carried out.
    pub(super) fn undo(&mut self, skipped: VecDeque<Expected>) {
        for skipped in skipped.into_iter().rev() {
            if skipped.parses_unnamed() && !self.expected.iter().any(Expected::parses_unnamed) {
                self.unnamed.held = Held::Nowhere;
            }
            let Some(undo) = skipped.undo else { continue };
            // A later message has given the name a new meaning already.
            let later =
                self.expected.iter_mut().filter_map(|e| e.undo.as_mut()).find(|u| u.name == undo.name);
            match (later, undo.before) {
                (Some(later), before) => later.before = before,
                (None, Some(before)) => {
                    self.names.insert(undo.name, before);
                }
                (None, None) => {
                    self.names.remove(&undo.name);
                }
            }
        }
    }
}

/// Errors of what pgherd sends for itself around a Query.
impl Session {
    /// True if the server skips nothing of the client's: pgherd has sent a Sync of its own.
    pub(super) fn fails_alone(&self) -> bool {
        let sync = self.expected.iter().position(|e| e.kind == Kind::Sync);
        sync.is_some_and(|sync| self.expected.iter().take(sync + 1).all(|e| !e.shown))
    }

    /// The client is not told now. If a statement could not be prepared for a Query, that is refused with the same words.
    pub(super) fn on_hidden_error(
        &mut self,
        (failed, body): (Expected, &[u8]),
        server: &mut ServerStatements,
    ) -> Reply {
        self.answered.on_hidden_error();
        if failed.kind == Kind::Parse {
            self.sql.get_or_insert_default().refusal.get_or_insert_with(|| body.into());
        }
        self.expected.push_front(failed);
        self.skip_to_sync(server);
        Reply::Drop
    }

    /// Appends what the client is told in place of the server's error; false, and nothing appended, if it is told that.
    pub(super) fn tell_error(&mut self, failed: &Expected, frame: &Frame<'_>, out: &mut Vec<u8>) -> bool {
        let refusal = if failed.kind.is_extended() { None } else { self.take_refusal() };
        if let Some(OwnWords(words)) = failed.answer.as_deref() {
            out.extend_from_slice(words);
            return true;
        }
        let begun = out.len();
        let fields = ErrorFields::parse(frame.body);
        self.tell_types(failed, &fields, out);
        if refusal.is_none() && is_denied(failed, &fields) {
            write_changed(frame.body, out);
            return true;
        }
        if let Some(body) = refusal {
            if !with_client_names(&body, (failed, &None), &self.names, &self.expected, out) {
                write::message(out, b'E', |out| out.extend_from_slice(&body));
            }
            return true;
        }
        let shifts = match failed.kind {
            Kind::Part(_) => self.expected.iter().find(|e| e.kind == Kind::Query).map(|query| &query.shifts),
            _ => Some(&failed.shifts),
        };
        let names = (&self.names, &self.expected);
        let is_other = frame.is_complete()
            && with_client_names(frame.body, (failed, shifts.unwrap_or(&None)), names.0, names.1, out);
        if !is_other && out.len() > begun {
            write::message(out, b'E', |out| out.extend_from_slice(frame.body));
        }
        out.len() > begun
    }

    /// Why a statement could not be prepared for the Query that is answered now.
    pub(super) fn take_refusal(&mut self) -> Option<Box<[u8]>> {
        self.sql.as_mut()?.refusal.take()
    }
}

/// Refusing what the server cannot be asked in a failed transaction.
impl Session {
    /// A Query is refused, as PostgreSQL refuses most in a failed transaction.
    pub(super) fn refuse(&mut self, hint: Option<&'static str>, out: &mut Vec<u8>) -> Pass {
        if !self.expected.is_empty() {
            // The server may keep to itself what is to be said before that.
            write::empty(out, b'H');
        }
        self.expect_answer(Kind::QueryAnswer, refusal(hint));
        Pass::Drop
    }
}

/// What PostgreSQL says of most in a failed transaction.
pub(super) fn refusal(hint: Option<&'static str>) -> Vec<u8> {
    let error = ClientError::new(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    );
    let mut refusal = Vec::new();
    hint.into_iter().fold(error, ClientError::hint).write(&mut refusal, Severity::Error);
    refusal
}
