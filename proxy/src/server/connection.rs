//! One connection to a server.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use pgherd_protocol::error::ErrorFields;
use pgherd_protocol::frame::{Frame, backend_header};
use pgherd_protocol::server::ServerState;
use pgherd_protocol::write;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::buffer::{Buffer, Buffers};
use crate::cancel::CancelPoint;
use crate::client::parameters::StartupParameters;
use crate::worker::WorkerId;

/// How long pgherd waits for the answer to its own statements.
const OWN_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A logged-in connection.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    /// The socket, registered with the worker `home`.
    pub(crate) stream: TcpStream,
    /// The worker whose event loop watches the socket.
    pub(crate) home: WorkerId,
    /// What is prepared and set there.
    pub(crate) state: ServerState,
    /// How it is cancelled.
    pub(crate) cancel: Arc<CancelPoint>,
    /// Lets others cut it while a session owns it.
    pub(crate) cutter: Arc<Cutter>,
    /// The client's parameters that are in force there.
    pub(crate) applied: Arc<StartupParameters>,
    /// When it was opened.
    pub(crate) opened_at: Instant,
    /// When it was given back last.
    pub(crate) idle_since: Instant,
}

/// A second handle on a connection's socket.
#[derive(Debug)]
pub(crate) struct Cutter(OwnedFd);

impl Cutter {
    /// # Errors
    /// When no file descriptor is left.
    pub(crate) fn new(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(stream.as_fd().try_clone_to_owned()?))
    }

    /// Ends the connection at once, whoever owns it: its owner reads the end of the stream.
    pub(crate) fn cut(&self) {
        // It fails only where the connection has ended by itself.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

impl ServerConnection {
    /// True if the server has said nothing since the connection was given back: neither an end nor a change of
    /// settings that this connection's state would lack.
    pub(crate) fn is_quiet(&self) -> bool {
        self.stream.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Moves the socket to another worker's event loop; must be called on that worker.
    ///
    /// # Errors
    /// When the event loop refuses it; the connection is lost then.
    pub(crate) fn move_to(mut self: Box<Self>, worker: WorkerId) -> io::Result<Box<Self>> {
        if self.home == worker {
            return Ok(self);
        }
        let Self { stream, state, cancel, cutter, applied, opened_at, idle_since, .. } = *self;
        let stream = TcpStream::from_std(stream.into_std()?)?;
        self = Box::new(Self { stream, home: worker, state, cancel, cutter, applied, opened_at, idle_since });
        Ok(self)
    }

    /// Runs a statement of pgherd's own and waits until the server is idle again.
    ///
    /// # Errors
    /// The server's error (it stays usable), or the loss of the connection.
    pub(crate) async fn run(&mut self, sql: &str, buffers: &Buffers) -> Result<(), OwnError> {
        let mut request = Vec::new();
        write::query(&mut request, sql);
        let answer = async {
            self.stream.write_all(&request).await?;
            self.answer(buffers).await
        };
        tokio::time::timeout(OWN_STATEMENT_TIMEOUT, answer).await.unwrap_or_else(|_| {
            Err(OwnError::Lost(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer to pgherd's own statement",
            )))
        })
    }

    async fn answer(&mut self, buffers: &Buffers) -> Result<(), OwnError> {
        let mut buffer = buffers.take();
        let mut error = None;
        let mut skip = 0;
        let outcome = loop {
            if buffer.filled().is_empty() || !self.take_frame(&mut buffer, &mut skip, &mut error)? {
                match poll_fn(|cx| buffer.poll_fill(&mut self.stream, cx)).await {
                    Ok(0) => break Err(OwnError::Lost(io::ErrorKind::UnexpectedEof.into())),
                    Ok(_) => {}
                    Err(error) => break Err(OwnError::Lost(error)),
                }
            } else if let Some(ready) = error.take_if(|error| error.ready) {
                break ready.body.map_or(Ok(()), |body| Err(OwnError::Refused(body)));
            }
        };
        buffers.give(buffer);
        outcome
    }

    /// Takes one message off the buffer; false if it is not whole yet.
    fn take_frame(
        &mut self,
        buffer: &mut Buffer,
        skip: &mut usize,
        seen: &mut Option<Seen>,
    ) -> Result<bool, OwnError> {
        if *skip > 0 {
            let here = (*skip).min(buffer.filled().len());
            buffer.consume(here);
            *skip -= here;
            return Ok(*skip == 0);
        }
        let bad = |error| OwnError::Lost(io::Error::new(io::ErrorKind::InvalidData, error));
        let Some(header) = backend_header(buffer.filled()).map_err(bad)? else { return Ok(false) };
        let frame = Frame::new(header, buffer.filled());
        if !frame.is_complete() && !buffer.is_full() {
            return Ok(false);
        }
        let so_far = seen.get_or_insert_default();
        match header.tag {
            b'S' => self.state.on_parameter_status(frame.body),
            b'E' if ErrorFields::parse(frame.body).ends_session() => {
                return Err(OwnError::Lost(io::Error::other("the server ended the connection")));
            }
            b'E' => so_far.body = Some(frame.body.into()),
            b'Z' => so_far.ready = true,
            _ => {}
        }
        let here = header.len.min(buffer.filled().len());
        *skip = header.len - here;
        buffer.consume(here);
        Ok(true)
    }
}

/// What the server has answered so far.
#[derive(Default)]
struct Seen {
    body: Option<Box<[u8]>>,
    ready: bool,
}

/// Why a statement of pgherd's own failed.
#[derive(Debug)]
pub(crate) enum OwnError {
    /// The server refused it; the body of its ErrorResponse.
    Refused(Box<[u8]>),
    /// The connection is of no more use.
    Lost(io::Error),
}

impl From<io::Error> for OwnError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}
