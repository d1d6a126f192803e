//! A Query that ends a failed transaction and goes on with what needs something of pgherd's own before it: a statement that the server
//! has to have, or numbers of sequences that it has to forget. The server takes that only between the two, and so the Query is sent as two.
//!
//! PostgreSQL reads all of a text before it does anything of it. So the server is asked first whether it can: in a failed transaction it
//! refuses any statement but with this error once it has read the text, and with another if it cannot.

use super::renaming::{shifted_by, write_error};
use super::{About, Expected, Held, Kind, Pass, Reply, Session, Stall};
use crate::error::ErrorFields;
use crate::frame::{Frame, HEADER_LEN};
use crate::prepared::{Lookup, ServerStatements};
use crate::statement::{Effect, Sight, exit_first};
use crate::write;

/// What stands before a text of which the server is asked whether it can read it, and is refused in its place.
const REFUSED: &[u8] = b"SELECT 1;";

/// How far a Query that is to be sent as two has come.
#[derive(Debug, Default)]
pub(super) enum Exit {
    /// The server has got nothing of it.
    #[default]
    No,
    /// It can be read.
    Readable,
    /// It cannot; the server's error.
    Unreadable(Box<[u8]>),
    /// The first statement was sent, or answered without a server. If the server is lost then, that was told, and the rest is for the
    /// next one.
    Sent,
}

impl Session {
    /// A Query that is to be sent as two, if it is one.
    pub(super) fn on_query_in_two(
        &mut self,
        frame: &Frame<'_>,
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Option<Pass> {
        let exit = std::mem::take(&mut self.exit);
        let may_be_failed = self.stays_failed() || !self.expected.is_empty();
        if matches!(exit, Exit::No) && (!may_be_failed || self.unsynced || !self.pooling.keeps_track()) {
            return None;
        }
        let text = frame.body.strip_suffix(b"\0").filter(|_| frame.is_complete())?;
        let (first, behind) = text.split_at_checked(exit_first(text)?)?;
        match exit {
            Exit::No if !first.is_ascii() || !self.needs_something_before(frame, lookup) => return None,
            Exit::No if !self.stays_failed() => {
                if !self.may_fail_unseen() {
                    return None;
                }
                // A client may go on as soon as it is told an error, before the server has said how the transaction stands.
                self.stall = Stall::Transaction;
                return Some(Pass::Wait);
            }
            Exit::No => {
                write::message(out, b'Q', |out| write::cstr(out, &[REFUSED, text].concat()));
                self.expect_hidden(Kind::Probe, About::Nothing);
                self.stall = Stall::Exit;
                return Some(Pass::Wait);
            }
            Exit::Unreadable(error) => {
                self.unnamed.held = Held::Nowhere;
                self.batch += 1;
                self.expect_answer(Kind::QueryAnswer, error.into_vec());
                return Some(Pass::Drop);
            }
            Exit::Readable => {
                write::message(out, b'Q', |out| write::cstr(out, first));
                let effect = Effect::Rollback;
                self.expected.push_back(Expected { shown: false, effect, ..Expected::new(Kind::Exit) });
            }
            Exit::Sent => {}
        }
        self.exit = Exit::Sent;
        let mut rest = Vec::with_capacity(frame.header.len);
        write::message(&mut rest, b'Q', |rest| {
            // What is behind it stays where it is, for the places that errors tell.
            rest.resize(HEADER_LEN + first.len(), b' ');
            write::cstr(rest, behind);
        });
        let pass = self.on_whole_query(&Frame::new(frame.header, &rest), (server, lookup), out);
        let sent = match pass {
            Pass::Forward => 0,
            Pass::Replaced { consumed } => consumed,
            Pass::Drop | Pass::Wait => return Some(pass),
        };
        out.extend_from_slice(rest.get(sent..).unwrap_or_default());
        Some(Pass::Replaced { consumed: frame.header.len })
    }

    fn needs_something_before(&mut self, frame: &Frame<'_>, lookup: Lookup<'_>) -> bool {
        let findings = self.scan_or_watch(frame, frame.body, lookup);
        let is_needed = (findings.names && self.has_others_names())
            || findings.sees != Sight::Nothing
            || self.is_to_forget(findings, self.batch + 1, lookup);
        is_needed && !findings.single
    }

    /// The server has refused a text that it was to read.
    pub(super) fn on_probed(&mut self, failed: Expected, body: &[u8]) -> Reply {
        self.exit = if ErrorFields::parse(body).sqlstate == b"25P02" {
            Exit::Readable
        } else {
            let mut error = Vec::new();
            write_error(body, None, &shifted_by(REFUSED.len()), &mut error);
            Exit::Unreadable(error.into_boxed_slice())
        };
        self.expected.push_front(failed);
        Reply::Drop
    }

    /// The server has ended the transaction: that is told as the first answer to the whole Query.
    pub(super) fn on_exited(&mut self, tag: &[u8]) -> Reply {
        self.answered.on_query(Effect::Rollback, tag);
        Reply::Forward
    }
}
