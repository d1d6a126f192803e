//! Opening a connection to a server: TCP, TLS, startup, login.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::Node;
use pgherd_protocol::auth::{Credential, Login, LoginError, LoginStep};
use pgherd_protocol::error::ErrorFields;
use pgherd_protocol::frame::{Frame, backend_header};
use pgherd_protocol::prepared::Plans;
use pgherd_protocol::server::ServerState;
use pgherd_protocol::startup::CancelKey;
use pgherd_protocol::write;
use pgherd_tls::{Attempt, Attempts, Failure, ServerTls, is_refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{Cutter, ServerConnection};
use super::secure::{self, Handshake, NotSecure, complaint};
use crate::cancel::CancelPoint;
use crate::config::Tcp;
use crate::descriptors::Bounds;
use crate::reactor::Socket;
use crate::stream::Stream;
use crate::worker::WorkerId;

/// The longest message that a server may send during login.
const MAX_LOGIN_MESSAGE: usize = 64 * 1024;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The server could not be reached, or went away: it may be dead.
    #[error("{0}")]
    Unreachable(io::Error),
    /// The server answered with an error; this is the body of its ErrorResponse.
    #[error("the server refused the connection: {}", String::from_utf8_lossy(ErrorFields::parse(.0).message))]
    Refused(Box<[u8]>),
    /// The login failed on this side.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// pgherd's own machine has no means for one more connection.
    #[error("pgherd has too many files open")]
    NoDescriptors,
    /// TLS is not to be had as `backends.tls` wants it.
    #[error("{0}")]
    Tls(String),
    /// The server does not speak the protocol.
    #[error("the server broke the protocol during login")]
    Protocol,
}

impl ConnectError {
    /// True if it may mean that the server is dead: worth a probe, and worth waiting for another server.
    pub(crate) fn is_about_the_server(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Protocol => true,
            // 57P01 to 57P03: shutting down, crashed, starting up.
            Self::Refused(body) => ErrorFields::parse(body).sqlstate.starts_with(b"57P"),
            Self::Login(_) | Self::Tls(_) | Self::NoDescriptors => false,
        }
    }

    /// True if one more connection is too many, and there will be room when another one ends.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::NoDescriptors => true,
            Self::Refused(body) => ErrorFields::parse(body).sqlstate == b"53300",
            _ => false,
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        if let Some(reason) = complaint(&error) {
            return Self::Tls(reason);
        }
        if pgherd_health::is_exhausted(&error) { Self::NoDescriptors } else { Self::Unreachable(error) }
    }
}

/// An attempt that failed, and whether another one, with TLS or without, may go better.
struct Failed {
    why: ConnectError,
    kind: Option<Failure>,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self { why: error.into(), kind: None }
    }
}

impl From<ConnectError> for Failed {
    fn from(why: ConnectError) -> Self {
        let refused =
            matches!(&why, ConnectError::Refused(body) if is_refusal(ErrorFields::parse(body).sqlstate));
        Self { why, kind: refused.then_some(Failure::Login) }
    }
}

impl From<NotSecure> for Failed {
    fn from(error: NotSecure) -> Self {
        let text = error.to_string();
        match error {
            NotSecure::NoTls => Self { why: ConnectError::Tls(text), kind: Some(Failure::NoTls) },
            NotSecure::Refused => Self { why: ConnectError::Tls(text), kind: None },
            NotSecure::Handshake(_) => Self { why: ConnectError::Tls(text), kind: Some(Failure::Handshake) },
            NotSecure::Lost(error) => Self { why: error.into(), kind: None },
            NotSecure::LostInHandshake(error) => Self { why: error.into(), kind: Some(Failure::Handshake) },
        }
    }
}

/// Whom to log in as, and where.
#[derive(Debug)]
pub(crate) struct ConnectRequest<'a> {
    pub(crate) node: &'a Node,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
    /// Others of the startup packet.
    pub(crate) parameters: &'a [(&'a str, &'a str)],
    pub(crate) credential: Credential,
    pub(crate) tls: &'a ServerTls,
    pub(crate) timeout: Duration,
    pub(crate) tcp: &'a Tcp,
    /// How long the connection may live.
    pub(crate) lifetime: Option<Duration>,
    /// How long a cancel request may take.
    pub(crate) cancel_timeout: Duration,
    pub(crate) max_prepared_statements: usize,
    /// How what stands for unnamed statements is planned, if anything does.
    pub(crate) unnamed: Option<Plans>,
    pub(crate) worker: WorkerId,
    pub(crate) descriptors: &'a Bounds,
}

impl ConnectRequest<'_> {
    /// Opens the connection on the worker that runs this.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub(crate) async fn open(self) -> Result<Box<ServerConnection>, ConnectError> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.connect()).await.map_err(|_| ConnectError::TimedOut(timeout))?
    }

    /// Tries with TLS and without, as the mode says.
    async fn connect(self) -> Result<Box<ServerConnection>, ConnectError> {
        let mut socket = Socket::connect_to(&self.node.host, self.node.port).await?;
        let address = socket.peer_addr()?;
        let mut attempts = Attempts::new(self.tls);
        loop {
            let Failed { why, kind } = match self.attempt(socket, address, attempts.now()).await {
                Ok(connection) => return Ok(connection),
                Err(failed) => failed,
            };
            let server = format!("{}:{}", self.node.host, self.node.port);
            if let Some(why) = attempts.go_on(why, kind, &server)? {
                tracing::warn!(server, failure = %why, "goes on without TLS, as backends.tls.mode = prefer allows");
            }
            socket = Socket::connect(address).await?;
        }
    }

    async fn attempt(
        &self,
        socket: Socket,
        address: SocketAddr,
        attempt: Attempt,
    ) -> Result<Box<ServerConnection>, Failed> {
        if !self.descriptors.has_room_for_server(&socket) {
            return Err(ConnectError::NoDescriptors.into());
        }
        socket.set_options(self.tcp)?;
        let mut stream = Stream::new(socket);
        let cutter = Arc::new(Cutter::new(&stream)?);
        let secured = match attempt {
            Attempt::Plain => None,
            Attempt::Tls => {
                let handshake = Handshake::with(self.tls, &self.node.host, address.ip())?;
                match handshake.take_place(&mut stream).await {
                    Err(NotSecure::NoTls) if self.tls.mode().goes_on_without() => None,
                    shaken => Some(shaken?),
                }
            }
        };
        let (state, key) = self.log_in(&mut stream).await?;
        let now = Instant::now();
        Ok(Box::new(ServerConnection {
            stream,
            home: self.worker,
            state,
            cancel: Arc::new(CancelPoint::new((address, secured), key, self.cancel_timeout)),
            cutter,
            applied: Some(Arc::default()),
            opened_at: now,
            ages_from: self
                .lifetime
                .and_then(|lifetime| now.checked_sub(head_start(lifetime)))
                .unwrap_or(now),
            slot: None,
            idle_since: now,
        }))
    }

    /// Everything from the startup packet to the first ReadyForQuery.
    async fn log_in(&self, stream: &mut Stream) -> Result<(ServerState, CancelKey), ConnectError> {
        let mut out = Vec::new();
        let parameters = [("user", self.user), ("database", self.database)].into_iter();
        write::startup(&mut out, parameters.chain(self.parameters.iter().copied()));
        stream.write_all(&out).await?;
        let mut login =
            Login::new(self.credential.clone(), rand::random()).over(secure::binding(self.tls, stream));
        let mut state = ServerState::new(self.max_prepared_statements, self.unnamed);
        let mut key = CancelKey::default();
        let mut accepted = false;
        loop {
            let (tag, body) = read_message(stream).await?;
            match tag {
                b'R' if !accepted => match login.on_authentication(&body)? {
                    LoginStep::Send(payload) => {
                        out.clear();
                        write::password(&mut out, &payload);
                        stream.write_all(&out).await?;
                    }
                    LoginStep::Wait => {}
                    LoginStep::Accepted => accepted = true,
                },
                b'S' if accepted => state.on_parameter_status(&body),
                b'K' if accepted => key = CancelKey::parse(&body).ok_or(ConnectError::Protocol)?,
                b'Z' if accepted => break,
                b'N' | b'v' => {}
                b'E' => return Err(ConnectError::Refused(body.into())),
                _ => return Err(ConnectError::Protocol),
            }
        }
        state.pid = key.pid;
        Ok((state, key))
    }
}

/// By how much a connection is taken to be older than it is: up to a tenth of its life.
fn head_start(lifetime: Duration) -> Duration {
    lifetime.mul_f64(rand::random::<f64>() / 10.0)
}

/// Between two looks at a server that has let a connection in and ended it without a word.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a server meets a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It lets it begin its login.
    Serves,
    /// It stops, has crashed, or starts; or it says what cannot be understood.
    Rejects,
    /// Nobody is there, or nobody answers.
    Gone,
}

/// Looks within `limit` how a server meets a connection. Nobody logs in for that.
pub(crate) async fn look_at(node: &Node, (user, database): (&str, &str), limit: Duration) -> Presence {
    let mut was_lost = false;
    let look = async {
        loop {
            let stream = match Socket::connect_to(&node.host, node.port).await.map_err(ConnectError::from) {
                Ok(socket) => Stream::new(socket),
                Err(ConnectError::Unreachable(_)) => return Presence::Gone,
                Err(_) => return Presence::Rejects,
            };
            match first_word(stream, (user, database)).await {
                // 57P01 to 57P03
                Ok((b'E', body)) if ErrorFields::parse(&body).sqlstate.starts_with(b"57P") => break,
                Ok((b'E' | b'R', _)) => return Presence::Serves,
                Ok(_) | Err(ConnectError::Protocol) => break,
                // It may end all its processes because one has crashed, or be about to go itself.
                Err(_) => was_lost = true,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Presence::Rejects
    };
    let seen = tokio::time::timeout(limit, look).await;
    seen.unwrap_or(if was_lost { Presence::Rejects } else { Presence::Gone })
}

/// What a server says first to who wants to log in.
async fn first_word(
    mut stream: Stream,
    (user, database): (&str, &str),
) -> Result<(u8, Vec<u8>), ConnectError> {
    let mut out = Vec::new();
    write::startup(&mut out, [("user", user), ("database", database)]);
    stream.write_all(&out).await?;
    read_message(&mut stream).await
}

/// Reads one message exactly, so that nothing behind it is taken from the stream.
async fn read_message(stream: &mut Stream) -> Result<(u8, Vec<u8>), ConnectError> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let header = backend_header(&head).ok().flatten().ok_or(ConnectError::Protocol)?;
    if header.len > MAX_LOGIN_MESSAGE {
        return Err(ConnectError::Protocol);
    }
    let mut message = head.to_vec();
    message.resize(header.len, 0);
    stream.read_exact(message.get_mut(head.len()..).unwrap_or_default()).await?;
    Ok((header.tag, Frame::new(header, &message).body.to_vec()))
}
