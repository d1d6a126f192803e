//! One connection to a server.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_protocol::error::ErrorFields;
use pgherd_protocol::frame::{Frame, backend_header};
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::prepared::shape;
use pgherd_protocol::server::ServerState;
use pgherd_protocol::session::OwnRequest;
use pgherd_protocol::write;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use crate::buffer::{Buffer, Buffers};
use crate::cancel::CancelPoint;
use crate::server::quota::Slot;
use crate::stream::Stream;
use crate::worker::WorkerId;

/// How long pgherd waits for the answer to its own statements.
const OWN_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// More bytes of notifications than this are not kept with an answer.
const MOST_NOTIFIED: usize = 1024 * 1024;

/// A logged-in connection.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    /// The socket, registered with the worker `home`.
    pub(crate) stream: Stream,
    /// The worker whose event loop watches the socket.
    pub(crate) home: WorkerId,
    /// What is prepared and set there.
    pub(crate) state: ServerState,
    /// How it is cancelled.
    pub(crate) cancel: Arc<CancelPoint>,
    /// Lets others cut it while a session owns it.
    pub(crate) cutter: Arc<Cutter>,
    /// The startup packet's parameters that are in force there, if that is known.
    pub(crate) applied: Option<Arc<Parameters>>,
    /// When it was opened.
    pub(crate) opened_at: Instant,
    /// From when its age counts: a little before it was opened, each by another time, so that not all end at once.
    pub(crate) ages_from: Instant,
    /// It counts with those of its database and its user as long as it is there.
    pub(crate) slot: Option<Slot>,
    /// When it was given back last.
    pub(crate) idle_since: Instant,
}

/// A second handle on a connection's socket.
#[derive(Debug)]
pub(crate) struct Cutter(OwnedFd);

impl Cutter {
    /// # Errors
    /// When no file descriptor is left.
    pub(crate) fn new(stream: &Stream) -> io::Result<Self> {
        Ok(Self(stream.as_fd().try_clone_to_owned()?))
    }

    /// Ends the connection at once, whoever owns it: its owner reads the end of the stream.
    pub(crate) fn cut(&self) {
        // It fails only where the connection has ended by itself.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

impl ServerConnection {
    /// True if exactly these parameters are in force there.
    pub(crate) fn has(&self, parameters: &Arc<Parameters>) -> bool {
        self.applied
            .as_ref()
            .is_some_and(|applied| Arc::ptr_eq(applied, parameters) || applied.are_in_force_with(parameters))
    }

    /// True if a session with these parameters finds no custom ones there that it has not set itself, but for pgherd's.
    #[inline]
    pub(crate) fn fits(&self, parameters: &Parameters) -> bool {
        self.state.customs.may_be_met_by(parameters.customs())
    }

    /// True if the server has said nothing since the connection was given back: neither an end nor a change of
    /// settings that this connection's state would lack.
    pub(crate) fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Moves the socket to another worker's event loop; must be called on that worker.
    ///
    /// # Errors
    /// When the event loop refuses it.
    pub(crate) fn move_to(&mut self, worker: WorkerId) -> io::Result<()> {
        if self.home != worker {
            self.stream.move_here()?;
            self.home = worker;
        }
        Ok(())
    }

    /// Runs statements of pgherd's own, all sent at once, each in a message of its own; the server's error for each that it
    /// refused.
    ///
    /// # Errors
    /// The loss of the connection.
    pub(crate) async fn run_all<const N: usize>(
        &mut self,
        statements: [&str; N],
        buffers: &Buffers,
    ) -> Result<[Outcome; N], io::Error> {
        let mut buffer = buffers.take();
        let (outcomes, _) = self.run_and_hear(statements, &mut buffer).await?;
        buffers.give(buffer);
        Ok(outcomes)
    }

    /// As [`ServerConnection::run_all`], on a connection that a session listens on: also gives the notifications that came with the answers. What
    /// the server has said behind them is left in `buffer`.
    ///
    /// # Errors
    /// The loss of the connection.
    pub(crate) async fn run_and_hear<const N: usize>(
        &mut self,
        statements: [&str; N],
        buffer: &mut Buffer,
    ) -> Result<([Outcome; N], Vec<u8>), io::Error> {
        let mut request = Vec::new();
        statements.iter().for_each(|sql| write::query(&mut request, sql));
        let answers = async {
            self.stream.write_all(&request).await?;
            let (mut outcomes, mut heard) = ([const { Ok(()) }; N], Vec::new());
            for outcome in &mut outcomes {
                let seen = self.seen(buffer, 0).await?;
                heard.extend(seen.notifications);
                *outcome = seen.body.map_or(Ok(()), Err);
            }
            Ok((outcomes, heard))
        };
        tokio::time::timeout(OWN_STATEMENT_TIMEOUT, answers).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Asks for rows, `most` of them at the most, each shorter than a buffer. What the server has said behind its answer is left
    /// in `buffer`, which may hold what it said before.
    ///
    /// # Errors
    /// The loss of the connection.
    pub(crate) async fn ask(&mut self, sql: &str, most: usize, buffer: &mut Buffer) -> io::Result<Answer> {
        let mut request = Vec::new();
        write::query(&mut request, sql);
        let answer = async {
            self.stream.write_all(&request).await?;
            self.seen(buffer, most).await
        };
        let seen =
            tokio::time::timeout(OWN_STATEMENT_TIMEOUT, answer).await.unwrap_or_else(|_| Err(no_answer()))?;
        let Seen { body, rows, notifications, too_much, .. } = seen;
        Ok(Answer { rows: (body.is_none() && !too_much).then_some(rows), notifications })
    }

    /// As [`ServerConnection::ask`], of a server that has nothing else to say. None if the connection is not to be used any more: it is lost,
    /// or something has come behind the answer.
    pub(crate) async fn ask_alone(&mut self, sql: &str, most: usize, buffers: &Buffers) -> Option<Answer> {
        let mut buffer = buffers.take();
        let answer = self.ask(sql, most, &mut buffer).await;
        let is_over = buffer.filled().is_empty();
        buffers.give(buffer);
        answer.ok().filter(|_| is_over)
    }

    /// Sends requests of pgherd's own, all at once; of each whether the server refused it, or a statement gives something else than it is to
    /// give, and the notifications that came with the answers, as they came. What it has said behind them is left in `buffer`.
    ///
    /// # Errors
    /// The loss of the connection.
    pub(crate) async fn request(
        &mut self,
        requests: &[OwnRequest],
        buffer: &mut Buffer,
    ) -> io::Result<(Vec<bool>, Vec<u8>)> {
        let messages: Vec<u8> = requests.iter().flat_map(|request| &request.messages).copied().collect();
        let answers = async {
            self.stream.write_all(&messages).await?;
            let (mut refused, mut notifications) = (Vec::new(), Vec::new());
            for request in requests {
                let seen = self.seen(buffer, 0).await?;
                let is_other = request.gives.is_some() && request.gives != seen.gives;
                refused.push(seen.body.is_some() || is_other);
                notifications.extend(seen.notifications);
            }
            Ok((refused, notifications))
        };
        tokio::time::timeout(OWN_STATEMENT_TIMEOUT, answers).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Reads what is left of an answer, of which some is in `buffer`, and drops it.
    ///
    /// # Errors
    /// The loss of the connection, or that there is more behind the answer.
    pub(crate) async fn drain(&mut self, buffer: Option<Buffer>, buffers: &Buffers) -> io::Result<()> {
        let mut buffer = buffer.unwrap_or_else(|| buffers.take());
        let rest = tokio::time::timeout(OWN_STATEMENT_TIMEOUT, self.seen(&mut buffer, 0));
        rest.await.unwrap_or_else(|_| Err(no_answer()))?;
        let is_over = buffer.filled().is_empty();
        buffers.give(buffer);
        if is_over { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    async fn seen(&mut self, buffer: &mut Buffer, most: usize) -> io::Result<Seen> {
        let mut seen = Seen { most, ..Seen::default() };
        let mut skip = 0;
        loop {
            if buffer.filled().is_empty() || !self.take_frame(buffer, &mut skip, &mut seen)? {
                if poll_fn(|_| buffer.poll_fill(&mut self.stream)).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            } else if seen.ready && skip == 0 {
                return Ok(seen);
            }
        }
    }

    /// Takes one message off the buffer; false if it is not whole yet.
    fn take_frame(&mut self, buffer: &mut Buffer, skip: &mut usize, seen: &mut Seen) -> io::Result<bool> {
        if *skip > 0 {
            let here = (*skip).min(buffer.filled().len());
            buffer.consume(here);
            *skip -= here;
            return Ok(*skip == 0);
        }
        let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let Some(header) = backend_header(buffer.filled()).map_err(bad)? else { return Ok(false) };
        let frame = Frame::new(header, buffer.filled());
        if !frame.is_complete() && !buffer.is_full() {
            return Ok(false);
        }
        match header.tag {
            b'S' => self.state.on_parameter_status(frame.body),
            b'E' if ErrorFields::parse(frame.body).ends_session() => {
                return Err(io::Error::other("the server ended the connection"));
            }
            b'E' => seen.body = Some(frame.body.into()),
            b'Z' => seen.ready = true,
            b'T' | b'n' => seen.gives = Some(shape(&frame)),
            b'D' if frame.is_complete() && seen.rows.len() < seen.most => seen.rows.push(frame.body.into()),
            b'D' => seen.too_much = true,
            b'A' if frame.is_complete() && seen.notifications.len() < MOST_NOTIFIED => {
                write::message(&mut seen.notifications, b'A', |out| out.extend_from_slice(frame.body));
            }
            _ => {}
        }
        let here = header.len.min(buffer.filled().len());
        *skip = header.len - here;
        buffer.consume(here);
        Ok(true)
    }
}

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The bodies of the DataRow messages; none if the server refused, or said more than was to be kept.
    pub(crate) rows: Option<Vec<Box<[u8]>>>,
    /// The notifications that came with them, as they came.
    pub(crate) notifications: Vec<u8>,
}

/// What the server has answered so far.
#[derive(Default)]
struct Seen {
    body: Option<Box<[u8]>>,
    rows: Vec<Box<[u8]>>,
    most: usize,
    notifications: Vec<u8>,
    /// There were more rows, or longer ones, than are kept.
    too_much: bool,
    /// The columns of what was described, or asked, last.
    gives: Option<u64>,
    ready: bool,
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer to pgherd's own statement")
}

/// How a statement of pgherd's own ended: the body of the server's ErrorResponse if it was refused.
pub(crate) type Outcome = Result<(), Box<[u8]>>;
