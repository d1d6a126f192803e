//! Cuts a stream of bytes into messages and says which of them go on, without copying those that go on as they are.

use std::ops::Range;

use crate::frame::{Frame, FrameError, Header, backend_header, frontend_header};
use crate::prepared::{Lookup, Statements};
use crate::server::ServerState;
use crate::session::{Admission, Detached, Pass, Progress, Refusal, Reply, Session, Verdict};

/// Bytes of the proxy's buffers: the longest message, or batch of them, that is looked at as a whole, and the most of what a client has sent
/// that is kept to be sent again. Were less kept, what a standby refuses of the rest would reach the client.
pub const BUFFER_LEN: usize = 32 * 1024;

/// Rows and CopyData above this size are passed on before they are whole.
const STREAM_ABOVE: usize = 2048;

/// Where one direction of a connection is within a message that is passed on in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    remaining: usize,
    dropping: bool,
}

/// Bytes to pass on: first those of the caller's vector, then this range of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the input that are done with; the range lies within them.
    pub consumed: usize,
    /// What goes on as it came.
    pub pass: Range<usize>,
    /// Why it stopped, when it is not for want of bytes.
    pub stop: Option<Stop>,
}

/// Why a stream was not cut further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The client said Terminate.
    Terminate,
    /// The session is at rest: the server connection can go back.
    AtRest,
    /// The server ends the connection with the error that stands at this place of the input.
    ServerEnds {
        /// Where the error's body begins.
        body: usize,
    },
    /// A standby will not do what the client has asked for, or what stands for its unnamed statement does not fit any more. The client was told
    /// nothing, and nothing was taken in: the same can be sent again.
    Refused(Refusal),
    /// What comes next is for the primary, and the session is in a transaction block on a standby: nothing of it was taken in.
    Leaves,
    /// The server said what nothing asked for.
    OutOfStep,
    /// The client was told why its session ends.
    SentAway,
    /// The client sent what is no message. It stands behind what was consumed.
    Violation(FrameError),
}

/// What an idle client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Bytes of the input that asked for nothing, such as what is left of a COPY that failed.
    pub consumed: usize,
    /// What stands behind them.
    pub next: Next,
}

/// See [`Idle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet, or not yet all of it.
    NeedMore,
    /// A message that a server must answer.
    Request,
    /// Terminate.
    Terminate,
}

impl Flow {
    /// The rest of a message of which the receiver is gone is dropped.
    pub const fn drop_rest(&mut self) {
        self.dropping = true;
    }

    /// Finds the first message of an idle client that a server must answer.
    ///
    /// # Errors
    /// Bytes that cannot be a message.
    pub fn next_request(&mut self, (input, full): (&[u8], bool)) -> Result<Idle, FrameError> {
        let mut cut = Cut::default();
        let next = loop {
            self.advance(input, &mut cut, &mut Vec::new());
            let rest = input.get(cut.consumed..).unwrap_or_default();
            let Some(header) = client_header(rest)? else { break Next::NeedMore };
            if Session::is_stray(header.tag) {
                self.begin(header, Pass::Drop, &mut cut);
                continue;
            }
            break match header.tag {
                b'X' => Next::Terminate,
                _ if is_judged(&Frame::new(header, rest), full, &cut) => Next::Request,
                _ => Next::NeedMore,
            };
        };
        Ok(Idle { consumed: cut.consumed, next })
    }

    /// True in the middle of a message that is passed on in parts.
    #[must_use]
    pub const fn is_inside_message(&self) -> bool {
        self.remaining > 0
    }

    /// Cuts what a client sent. `full` says that the input cannot grow: then a message at its start is judged by what is
    /// there.
    ///
    /// What pgherd answers itself is drained by [`Session::drain_local`], or by [`Flow::cut_backend`] with the server's
    /// next reply.
    pub fn cut_frontend(
        &mut self,
        session: &mut Session,
        server: &mut ServerState,
        lookup: Lookup<'_>,
        (input, full): (&[u8], bool),
        out: &mut Vec<u8>,
    ) -> Cut {
        let mut cut = Cut::default();
        loop {
            let begun = cut.consumed;
            self.advance(input, &mut cut, out);
            session.sends_inside = self.is_inside_message() && !self.dropping;
            let piece = input.get(begun..cut.consumed).unwrap_or_default();
            if session.on_piece(piece) {
                flush(input, &mut cut, out);
                spoil(out, piece.len());
            }
            if session.is_stalled() {
                break;
            }
            let rest = input.get(cut.consumed..).unwrap_or_default();
            let header = match client_header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => {
                    cut.stop = Some(Stop::Violation(error));
                    break;
                }
            };
            if header.tag == b'X' {
                cut.stop = Some(Stop::Terminate);
                break;
            }
            if session.is_in_standby_block() && !session.awaits_client() {
                match session.admit((rest, full && cut.consumed == 0), server, lookup) {
                    Admission::Stays => {}
                    Admission::Open => break,
                    Admission::Leaves => {
                        cut.stop = Some(Stop::Leaves);
                        break;
                    }
                }
            }
            let frame = Frame::new(header, rest);
            if !(is_judged(&frame, full, &cut) || (header.tag == b'd' && header.len > STREAM_ABOVE)) {
                break;
            }
            let mark = out.len();
            let pass = session.on_frontend(&frame, &mut server.statements, lookup, out);
            if out.len() != mark {
                order(out, mark, input, &mut cut);
            }
            if pass == Pass::Wait {
                break;
            }
            self.begin(header, pass, &mut cut);
        }
        session.keep_request(input.get(..cut.consumed).unwrap_or_default(), server);
        cut
    }

    /// Cuts what a server sent, up to the message after which the session is at rest.
    ///
    /// # Errors
    /// Bytes that cannot be a message.
    pub fn cut_backend(
        &mut self,
        session: &mut Session,
        server: &mut ServerState,
        (input, full): (&[u8], bool),
        out: &mut Vec<u8>,
    ) -> Result<Cut, FrameError> {
        let mut cut = Cut::default();
        loop {
            self.advance(input, &mut cut, out);
            session.gets_inside = self.is_inside_message();
            if session.finds_misfit(input.get(cut.consumed..).unwrap_or_default()) {
                cut.stop = Some(Stop::Refused(Refusal::ForNow));
                break;
            }
            if session.has_local() {
                flush(input, &mut cut, out);
                session.drain_local(out);
            }
            let rest = input.get(cut.consumed..).unwrap_or_default();
            match session.settle_reading(rest, full && cut.consumed == 0) {
                Verdict::Told => {}
                // What pgherd has to say first is told now, too.
                Verdict::Answers => continue,
                Verdict::Open => break,
                Verdict::Refuses(refusal) => {
                    cut.stop = Some(Stop::Refused(refusal));
                    break;
                }
            }
            let rows = session.awaits_rows().map_or(0, |with_description| rows_len(rest, with_description));
            if rows > 0 {
                self.remaining = rows;
                self.dropping = false;
                continue;
            }
            // What was cut before it is lost.
            let header = backend_header(rest).inspect_err(|_| session.note_told())?;
            let Some(header) = header else { break };
            let frame = Frame::new(header, rest);
            let streams = matches!(header.tag, b'd' | b'D') && header.len > STREAM_ABOVE;
            if !(is_judged(&frame, full, &cut) || streams) {
                break;
            }
            if header.tag == b'S' {
                server.on_parameter_status(frame.body);
            }
            let mark = out.len();
            let reply = session.on_backend(&frame, server, out);
            if out.len() != mark {
                order(out, mark, input, &mut cut);
            }
            let pass = match becomes(reply, header, cut.consumed) {
                Ok(pass) => pass,
                Err(stop) => {
                    cut.stop = Some(stop);
                    break;
                }
            };
            self.begin(header, pass, &mut cut);
            self.advance(input, &mut cut, out);
            if header.tag == b'Z' && session.is_at_rest() {
                cut.stop = Some(Stop::AtRest);
                break;
            }
        }
        if !cut.pass.is_empty() || !out.is_empty() {
            session.note_told();
        }
        Ok(cut)
    }

    /// Answers what a client sent while it has no server, until it is at rest outside a transaction.
    ///
    /// # Errors
    /// Bytes that cannot be a message.
    pub fn cut_detached(
        &mut self,
        detached: &mut Detached,
        session: &mut Session,
        statements: &Statements,
        (input, full): (&[u8], bool),
        out: &mut Vec<u8>,
    ) -> Result<Cut, FrameError> {
        let mut cut = Cut::default();
        loop {
            self.advance(input, &mut cut, out);
            let rest = input.get(cut.consumed..).unwrap_or_default();
            let Some(header) = client_header(rest)? else { break };
            if header.tag == b'X' {
                cut.stop = Some(Stop::Terminate);
                break;
            }
            let frame = Frame::new(header, rest);
            if !is_judged(&frame, full, &cut) {
                break;
            }
            let progress = detached.on_frontend(&frame, session, statements, out);
            if progress != Progress::Begun {
                self.begin(header, Pass::Drop, &mut cut);
                self.advance(input, &mut cut, out);
            }
            if progress != Progress::Detached {
                cut.stop = Some(Stop::AtRest);
                break;
            }
        }
        Ok(cut)
    }

    fn begin(&mut self, header: Header, pass: Pass, cut: &mut Cut) {
        let done = match pass {
            Pass::Replaced { consumed } => consumed,
            Pass::Forward | Pass::Drop | Pass::Wait => 0,
        };
        cut.consumed += done;
        self.remaining = header.len - done;
        self.dropping = pass == Pass::Drop;
    }

    /// Takes as much as there is of the message that has begun.
    fn advance(&mut self, input: &[u8], cut: &mut Cut, out: &mut Vec<u8>) {
        let here = self.remaining.min(input.len() - cut.consumed);
        if here == 0 {
            return;
        }
        if !self.dropping {
            if cut.pass.end != cut.consumed {
                flush(input, cut, out);
                cut.pass = cut.consumed..cut.consumed;
            }
            cut.pass.end = cut.consumed + here;
        }
        cut.consumed += here;
        self.remaining -= here;
    }
}

/// What becomes of a server's message at this place of the input.
const fn becomes(reply: Reply, header: Header, at: usize) -> Result<Pass, Stop> {
    match reply {
        Reply::Forward => Ok(Pass::Forward),
        Reply::Replaced => Ok(Pass::Replaced { consumed: header.len }),
        Reply::Drop => Ok(Pass::Drop),
        Reply::SentAway => Err(Stop::SentAway),
        Reply::ServerEnds => Err(Stop::ServerEnds { body: at + crate::frame::HEADER_LEN }),
        Reply::OutOfStep => Err(Stop::OutOfStep),
    }
}

/// True if nothing more of the message will be seen at once: it is whole, or longer than the whole buffer. One that is
/// cut off because others stand before it is not: there is room when those are gone.
fn is_judged(frame: &Frame<'_>, full: bool, cut: &Cut) -> bool {
    frame.is_complete() || (full && cut.consumed == 0)
}

/// How much of what a server sent is whole rows, one behind the other: most of what it sends, and nothing in it needs a look.
fn rows_len(bytes: &[u8], with_description: bool) -> usize {
    let mut len = 0;
    while let Some(rest) = bytes.get(len..)
        && let Ok(Some(header)) = backend_header(rest)
        && (header.tag == b'D' || (with_description && header.tag == b'T'))
        && header.len <= rest.len()
    {
        len += header.len;
    }
    len
}

/// As [`frontend_header`], without the answers of a login: after it they mean nothing.
fn client_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    match bytes.first() {
        Some(b'p') => Err(FrameError::UnknownTag(b'p')),
        _ => frontend_header(bytes),
    }
}

/// Puts a zero into what was appended last, a piece of a message of so many bytes, but not only where the message may end with one: no
/// server takes a text behind which there is more.
fn spoil(out: &mut [u8], len: usize) {
    let start = out.len().saturating_sub(len.min(2));
    out.get_mut(start..).unwrap_or_default().fill(0);
}

/// Moves what was to be passed on behind what stands before it.
fn flush(input: &[u8], cut: &mut Cut, out: &mut Vec<u8>) {
    out.extend_from_slice(input.get(cut.pass.clone()).unwrap_or_default());
    cut.pass = cut.consumed..cut.consumed;
}

/// Puts the range that waits to be passed on before what was appended behind `mark`.
fn order(out: &mut Vec<u8>, mark: usize, input: &[u8], cut: &mut Cut) {
    if cut.pass.is_empty() {
        return;
    }
    let waiting = cut.pass.len();
    flush(input, cut, out);
    if let Some(tail) = out.get_mut(mark..) {
        tail.rotate_right(waiting);
    }
}
