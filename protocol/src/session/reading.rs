//! Reads that a standby answers: what may go there, and what goes to the primary after all.
//!
//! A standby refuses what writes, and does not know yet what has been created since. Of a batch that is all the client has under way,
//! and of which it has been told nothing, it needs not know: the same is sent to the primary. So nothing is told before the standby
//! has said something by which it is sure that it can answer: a row, or the end of a statement.

use super::batch::{Class, query_in};
use super::block::Block;
use super::expected::About;
use super::{Altered, Session, Stall, Transaction};
use crate::error::ErrorFields;
use crate::frame::{Frame, backend_header, bound, frontend_frames, parsed};
use crate::prepared::Lookup;
use crate::statement::{Effect, InBlock, Place, Scan};

/// How far a lease on a standby has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reading {
    /// The lease is on the primary.
    #[default]
    No,
    /// The standby has said nothing yet by which it would be sure that it can answer. The number is that of the batch.
    Open(u64),
    /// It can, or the client was told that it cannot.
    Settled(u64),
}

/// What is known of a standby's answer before any of it is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It needs not be known: what comes next is taken in.
    Told,
    /// Nothing yet.
    Open,
    /// It can answer, or says what the primary would say.
    Answers,
    /// What it says is true of a standby only, or cannot be held back until it is known whether it is.
    Refuses(Refusal),
}

/// Why what a client has sent, which was told nothing of the answer, is not for the standby that has got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The standby does not have what it asks for yet, or replay goes before it; or what stands for an unnamed statement does not fit any more.
    ForNow,
    /// It will say the same again.
    ForGood,
    /// It is several statements, and their answer is too long to be held back until the last is answered.
    TooLong,
}

impl Session {
    /// True if any server may answer what an idle client has sent: a whole batch, and each statement in it only reads. Nothing is
    /// taken in.
    #[must_use]
    pub fn may_read_anywhere(&mut self, input: &[u8], lookup: Lookup<'_>) -> bool {
        let is_free = self.pooling.keeps_track()
            && self.transaction == Transaction::Idle
            && self.altered == Altered::No
            && self.pin().is_none()
            && self.leaves_nothing_at_home()
            && self.owes_nothing()
            && !self.has_outdated();
        if !is_free {
            return false;
        }
        let mut batch = self.look_ahead(input, lookup);
        self.block = Block::opened_by(&mut batch);
        self.reads_several = batch.is_several;
        batch.is_read() && batch.first != Some(Class::Ends)
    }

    /// A statement with these findings is run.
    pub(super) fn note_writes(&mut self, findings: Scan) {
        let is_read = findings.place == Place::Standby
            || match findings.in_block {
                InBlock::Remarks | InBlock::Reads => self.reading != Reading::No,
                InBlock::Opens => self.reads_by_default,
                InBlock::Other => false,
            };
        let wrote = match findings.effect {
            Effect::Begin => {
                // One that is begun within another says nothing of what that has done before.
                self.only_reads = is_read
                    && self.transaction == Transaction::Idle
                    && !self.expected.iter().any(|e| e.kind.runs());
                return;
            }
            Effect::Empty | Effect::Harmless | Effect::Rollback => false,
            Effect::Commit => !self.only_reads,
            Effect::Write | Effect::MayCommit => !is_read && !findings.only_sets,
        };
        self.only_reads &= !wrote;
        self.wrote |= wrote && self.reading == Reading::No;
    }

    /// True if something was run that may have written since this was asked last, or the session was notified of what others have.
    #[must_use]
    pub fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// The lease that has begun is on a standby.
    pub fn read_on_standby(&mut self) {
        self.reading = Reading::Open(self.batch);
        if self.has_home() {
            self.rerun.begin(true);
        }
    }

    /// True on a standby that has got the batch for which it was taken: the next may be for another server. In a transaction block it waits only
    /// until it is known how that stands.
    pub(super) fn keeps_next_batch(&self) -> bool {
        match self.reading {
            Reading::No => false,
            Reading::Open(begun) | Reading::Settled(begun) => {
                let goes_on = self.is_in_standby_block() && self.expected.is_empty();
                begun != self.batch && !self.unsynced && !goes_on
            }
        }
    }

    /// True while nothing of the answer is told.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.reading, Reading::Open(_)) && self.rerun.can_be_sent()
    }

    /// Looks at what a standby has said so far. `full` says that there will not be more before some of it is taken in.
    #[inline]
    pub(crate) fn settle_reading(&mut self, input: &[u8], full: bool) -> Verdict {
        if self.is_silent() { self.settle_silence(input, full) } else { Verdict::Told }
    }

    fn settle_silence(&mut self, input: &[u8], full: bool) -> Verdict {
        // What pgherd has asked for itself the client is not told: it is taken in, and may be waited for.
        let is_hidden = self.expected.front().is_some_and(|e| !e.shown);
        // It has to be told for what stands behind it.
        let is_awaited = self.stall != Stall::No && !input.is_empty();
        // It would give something else on this server, which may not have replayed what it was changed by.
        let is_denied = self.expected.iter().any(|e| e.about == About::Denied);
        let verdict = match verdict(input, (is_hidden, self.reads_several), is_denied) {
            Verdict::Open if self.reads_several && (full || is_awaited) => Verdict::Refuses(Refusal::TooLong),
            // What stands behind it may be refused yet; unless it is one message that is longer than what can be held back.
            Verdict::Open if !is_hidden && (is_awaited || (full && begins_with_whole(input))) => {
                Verdict::Refuses(Refusal::ForNow)
            }
            Verdict::Open if full || is_awaited => Verdict::Answers,
            verdict => verdict,
        };
        match verdict {
            Verdict::Answers if is_hidden => Verdict::Told,
            Verdict::Answers => {
                self.tell_what_it_says();
                Verdict::Answers
            }
            other => other,
        }
    }

    /// The client is told what the server says, whatever that is.
    pub const fn tell_what_it_says(&mut self) {
        match self.reading {
            Reading::Open(begun) => self.reading = Reading::Settled(begun),
            Reading::No => self.rerun.give_up(),
            Reading::Settled(_) => {}
        }
    }

    /// What was sent in this lease is for the primary, as far as it can be told for good: a standby has refused it. Its shapes are
    /// remembered.
    pub fn note_refused(&self, request: &[u8], lookup: Lookup<'_>) {
        if self.reads_several {
            // Which of them it was is not known.
            return self.note_long(request, lookup);
        }
        // A FETCH is refused for what its cursor is.
        let is_of_block =
            |findings: Scan| findings.effect == Effect::Begin || findings.in_block != InBlock::Other;
        let refuse = |text: &[u8]| {
            let said = text.strip_suffix(b"\0").unwrap_or(text);
            let text = query_in(said).unwrap_or(text);
            if !is_of_block(lookup.recent.judge(text, &self.suspects)) {
                lookup.recent.refuse(text);
            }
        };
        for frame in frontend_frames(request) {
            let statement = || self.names.get(bound(frame.body)?);
            match frame.header.tag {
                b'Q' => refuse(frame.body),
                b'P' => parsed(frame.body).into_iter().for_each(|(_, text)| refuse(text)),
                b'B' => statement()
                    .filter(|statement| !is_of_block(statement.scan))
                    .into_iter()
                    .for_each(|statement| statement.refuse()),
                _ => {}
            }
        }
    }
}

/// True for what a standby says of statements that it will never run: they write, or ask for what only a primary has.
fn is_for_good(sqlstate: &[u8]) -> bool {
    matches!(sqlstate, b"25006" | b"0A000" | b"55000")
}

/// True for errors that the primary may not give: the statement writes or needs what a standby has not (25006, 0A000, 55000), replay
/// goes before it (40001, 40P01), or what it names has not been replayed (42P01, 42703, 42704, 42883, 3F000, 42501; 22P02 for a value of an
/// enum).
fn is_of_standby(sqlstate: &[u8]) -> bool {
    is_for_good(sqlstate)
        || matches!(
            sqlstate,
            b"40001" | b"40P01" | b"42P01" | b"42703" | b"42704" | b"42883" | b"3F000" | b"42501" | b"22P02"
        )
}

/// `first_only`: of the first message alone. `whole`: several statements are to be answered, of which each may be refused. `denied`: one was
/// sent for a statement that is none.
fn verdict(input: &[u8], (first_only, whole): (bool, bool), denied: bool) -> Verdict {
    let mut rest = input;
    while let Ok(Some(header)) = backend_header(rest) {
        let frame = Frame::new(header, rest);
        match header.tag {
            b'E' if !frame.is_complete() => return Verdict::Open,
            b'E' => {
                let error = ErrorFields::parse(frame.body);
                let ends = matches!(error.severity, b"FATAL" | b"PANIC");
                return match error.sqlstate {
                    b"26000" if denied && !ends => Verdict::Refuses(Refusal::ForNow),
                    sqlstate if ends || !is_of_standby(sqlstate) => Verdict::Answers,
                    sqlstate if is_for_good(sqlstate) => Verdict::Refuses(Refusal::ForGood),
                    _ => Verdict::Refuses(Refusal::ForNow),
                };
            }
            _ if first_only => return Verdict::Answers,
            tag if whole && tag != b'Z' => {}
            b'C' if !frame.is_complete() => return Verdict::Open,
            b'C' if is_quiet(frame.body) => {}
            // Of these, errors may follow.
            b'1' | b'2' | b'3' | b't' | b'T' | b'n' | b'N' | b'S' | b'A' => {}
            _ => return Verdict::Answers,
        }
        let Some(behind) = rest.get(header.len..) else { return Verdict::Open };
        rest = behind;
    }
    Verdict::Open
}

/// True if the first message is all there.
fn begins_with_whole(input: &[u8]) -> bool {
    backend_header(input).ok().flatten().is_some_and(|header| header.len <= input.len())
}

/// True for what a standby carries out as the primary does, whatever follows.
fn is_quiet(tag: &[u8]) -> bool {
    matches!(
        tag,
        b"BEGIN\0" | b"START TRANSACTION\0" | b"SAVEPOINT\0" | b"RELEASE\0" | b"ROLLBACK\0" | b"SET\0"
    )
}
