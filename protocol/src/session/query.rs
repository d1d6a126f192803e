//! Query and FunctionCall messages, and what the texts of a client say.

use super::{Held, Kind, Pass, Session, in_band_answer};
use crate::frame::Frame;
use crate::prepared::{Lookup, ServerStatements};
use crate::statement::{Effect, Pin, Resets, Scan, SetsCustom, scan_start, wanted_database};
use crate::write;

/// The OIDs of `lo_open()` and its like, for which libpq has function calls. They change nothing of the session.
const LARGE_OBJECT_FUNCTIONS: [u32; 13] =
    [715, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172];

/// Messages.
impl Session {
    pub(super) fn on_query(
        &mut self,
        frame: &Frame<'_>,
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Pass {
        match self.on_query_in_two(frame, (server, lookup), out) {
            Some(pass) => pass,
            None => self.on_whole_query(frame, (server, lookup), out),
        }
    }

    /// A Query, or what is left of it.
    pub(super) fn on_whole_query(
        &mut self,
        frame: &Frame<'_>,
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Pass {
        let findings = self.scan_or_watch(frame, frame.body, lookup);
        let findings = self.as_here(findings);
        if let Some(wait) = self.await_privacy(findings, self.unsynced, server) {
            return wait;
        }
        let names = findings.names && self.has_others_names();
        let all = if names { self.with_executed(findings, frame) } else { findings };
        if let Some(wait) = self.await_transaction((all, self.unsynced), self.batch + 1, lookup) {
            return wait;
        }
        if names && let Some(wait) = self.await_named(frame, server, out) {
            return wait;
        }
        let view = findings.view.filter(|_| self.takes_in_band());
        self.note_customs(findings, frame.body);
        self.see(findings);
        let resets = std::mem::take(&mut self.resets);
        // A simple Query destroys the unnamed statement, as in PostgreSQL, and ends a batch as Sync does.
        self.unnamed.held = Held::Nowhere;
        self.rerun.replace_unnamed();
        let in_batch = std::mem::take(&mut self.unsynced);
        self.batch += 1;
        self.forgets_unnamed_in_band();
        if let Some(view) = view {
            self.expect_answer(Kind::QueryAnswer, in_band_answer(view, lookup.views));
            return Pass::Drop;
        }
        if names {
            return self.on_naming_query((frame, in_batch), (findings, resets), (server, lookup), out);
        }
        if let Some(refused) = self.see_numbers_of_query(findings, in_batch, (server, lookup), out) {
            return refused;
        }
        self.send_query(frame, findings, resets, out)
    }

    /// Sends a Query as it is.
    pub(super) fn send_query(
        &mut self,
        frame: &Frame<'_>,
        mut findings: Scan,
        mut resets: Resets,
        out: &mut Vec<u8>,
    ) -> Pass {
        if resets != Resets::Nothing && findings.copies {
            // What is sent behind it would be taken for a part of the COPY.
            resets = Resets::Nothing;
            findings.whole = false;
        }
        self.expect_run(Kind::Query, findings);
        if resets == Resets::Nothing || !frame.is_complete() {
            return Pass::Forward;
        }
        write::message(out, b'Q', |out| out.extend_from_slice(frame.body));
        self.restore(resets, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    pub(super) fn on_function_call(
        &mut self,
        frame: &Frame<'_>,
        server: (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Pass {
        let function = frame.body.first_chunk().map(|oid| u32::from_be_bytes(*oid));
        let is_known = function.is_some_and(|function| LARGE_OBJECT_FUNCTIONS.contains(&function));
        let findings = Scan { asks: Self::calls_asking(function), single: true, ..Scan::UNSEEN };
        if !is_known
            && let Some(wait) = self.await_transaction((findings, self.unsynced), self.batch + 1, server.1)
        {
            return wait;
        }
        let in_batch = std::mem::take(&mut self.unsynced);
        self.batch += 1;
        if !is_known {
            self.see(Scan { pin: Some(Pin::SessionFunction), ..Scan::UNSEEN });
            // Where it is refused it takes none; and what would stand before it would be, too, and have it skipped.
            if !self.stays_failed() {
                self.see_numbers(findings, in_batch, server, out);
            }
        }
        self.expect_run(Kind::FunctionCall, Scan::UNSEEN);
        Pass::Forward
    }
}

/// Texts.
impl Session {
    /// What a text says; of one that is not all there, what its start says, and the rest will be looked at as it passes.
    pub(super) fn scan_or_watch(&mut self, frame: &Frame<'_>, text: &[u8], lookup: Lookup<'_>) -> Scan {
        if frame.is_complete() {
            let findings = lookup.recent.judge(text, &self.suspects);
            self.note_wanted_database(findings, text);
            self.note_unread(findings, text);
            return findings;
        }
        let (findings, rest) = scan_start(text);
        self.rest = Some(Box::new(rest));
        self.note_too_long_to_keep();
        self.suspects.judge_unseen(findings)
    }

    fn note_wanted_database(&mut self, findings: Scan, text: &[u8]) {
        if findings.effect == Effect::MayCommit && findings.single {
            self.wants = wanted_database(text).map(Box::from);
        }
    }

    /// Takes in what a text says that is about to be run.
    pub(super) fn see(&mut self, findings: Scan) {
        self.note_leftovers(findings);
        if !self.see_customs(findings.sets_custom) && findings.suspect {
            // Set for the session, the values would be lost with the connection.
            self.keep(Some(Pin::Parameter));
        }
        self.alters |= findings.alters;
        if findings.sets {
            self.alter();
        }
        self.resets = self.resets.max(findings.resets);
    }

    /// Takes in a part of a message that passes in pieces. True if it is to be spoiled: no server must be able to read the message.
    pub(crate) fn on_piece(&mut self, piece: &[u8]) -> bool {
        let mut is_spoiled = false;
        if let Some(rest) = &mut self.rest {
            let pin = rest.see(piece);
            let asks = rest.asks();
            self.keep(pin);
            if asks {
                is_spoiled = self.note_late();
            }
            if pin == Some(Pin::Parameter) {
                self.see_customs(SetsCustom::Hidden);
            }
        }
        if !self.sends_inside {
            self.rest = None;
            self.numbers.end_text();
        }
        is_spoiled
    }
}
