use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, ToSocketAddrs, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long an answer may take before a read fails. Longer than pgherd lets a write wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that sends the bytes it is given and reads frames as they come.
#[derive(Debug)]
pub struct RawClient {
    stream: Box<dyn Connection>,
    received: BytesMut,
}

/// What a [`RawClient`] speaks over.
pub trait Connection: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {
    /// The socket below.
    fn socket(&self) -> BorrowedFd<'_>;
}

impl Connection for TcpStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Connection for UnixStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl<T: Connection> Connection for TlsStream<T> {
    fn socket(&self) -> BorrowedFd<'_> {
        self.get_ref().0.socket()
    }
}

impl Connection for Box<dyn Connection> {
    fn socket(&self) -> BorrowedFd<'_> {
        (**self).socket()
    }
}

/// One message of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// The length as sent, which counts itself but not the tag.
    pub length: u32,
    /// What follows the length.
    pub payload: Bytes,
}

/// The fields of an ErrorResponse or NoticeResponse, each with its type byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields(Vec<(u8, String)>);

/// What one cycle up to ReadyForQuery answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// All frames, ReadyForQuery last.
    pub frames: Vec<Frame>,
}

impl RawClient {
    /// Opens the connection and sends nothing.
    pub async fn connect(address: impl ToSocketAddrs) -> Result<Self> {
        let stream =
            timeout(PATIENCE, TcpStream::connect(address)).await.context("connect")?.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Opens the connection to a Unix socket and sends nothing.
    pub async fn connect_unix(path: impl AsRef<Path>) -> Result<Self> {
        let stream =
            timeout(PATIENCE, UnixStream::connect(path)).await.context("connect")?.context("connect")?;
        Ok(Self::over(stream))
    }

    /// Speaks over a connection that there is.
    pub fn over(stream: impl Connection + 'static) -> Self {
        Self { stream: Box::new(stream), received: BytesMut::new() }
    }

    /// Shakes hands for TLS, at once: where the server is asked first, that has been done. `config` says whom to trust.
    pub async fn secure(self, config: ClientConfig, server: &str) -> Result<Self> {
        ensure!(self.received.is_empty(), "unencrypted bytes before TLS: {:?}", self.received);
        let name = ServerName::try_from(server.to_owned())?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, self.stream);
        Ok(Self::over(timeout(PATIENCE, shaken).await.context("TLS handshake")?.context("TLS handshake")?))
    }

    /// Ends the client's half of the connection; what the server sends can still be read.
    pub async fn finish(&mut self) -> Result<()> {
        self.stream.shutdown().await.context("shut down")
    }

    /// Opens the connection from this address of loopback, and sends nothing.
    pub async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream =
            timeout(PATIENCE, socket.connect(address)).await.context("connect")?.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Connects and logs in.
    pub async fn login(
        address: impl ToSocketAddrs,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<Self> {
        let mut client = Self::connect(address).await?;
        client.start(user, database, password).await?;
        Ok(client)
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("send")?;
        self.stream.flush().await.context("send")
    }

    /// Cuts the connection with a reset, whatever has not been read.
    pub fn reset(self) -> Result<()> {
        // SO_LINGER with no time: what close() sends is a reset.
        rustix::net::sockopt::set_socket_linger(self.stream.socket(), Some(Duration::ZERO))
            .context("SO_LINGER")
    }

    /// Sends bytes one by one, each in a segment of its own.
    pub async fn send_bytewise(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            self.send(&[*byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// One byte, as the answer to SSLRequest is; nothing when the server closed the connection.
    pub async fn read_byte(&mut self) -> Result<Option<u8>> {
        while self.received.is_empty() {
            if self.receive().await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(self.received.get_u8()))
    }

    /// The next message; nothing when the server closed the connection between two.
    pub async fn read_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            if self.receive().await? == 0 {
                ensure!(self.received.is_empty(), "closed in the middle of a message: {:?}", self.received);
                return Ok(None);
            }
        }
    }

    /// The next message; a closed connection is an error.
    pub async fn expect_frame(&mut self) -> Result<Frame> {
        self.read_frame().await?.ok_or_else(|| anyhow!("the server closed the connection"))
    }

    /// All messages up to and with ReadyForQuery. A connection that closes before is an error that shows what came, and from
    /// which the [`ErrorFields`] of the last ErrorResponse can be downcast.
    pub async fn read_answer(&mut self) -> Result<Answer> {
        let mut frames = Vec::new();
        loop {
            match self.read_frame().await {
                Ok(Some(frame)) => {
                    let last = frame.tag == b'Z';
                    frames.push(frame);
                    if last {
                        return Ok(Answer { frames });
                    }
                }
                Ok(None) => {
                    return Err(last_error(&frames)
                        .context(format!("the server closed the connection after {frames:?}")));
                }
                Err(error) => return Err(last_error(&frames).context(format!("{error:#} after {frames:?}"))),
            }
        }
    }

    /// All messages until the server closes the connection; a reset, as for bytes that it did not read, closes it too.
    pub async fn read_to_end(&mut self) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        loop {
            match self.read_frame().await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return Ok(frames),
                Err(error) if is_reset(&error) => return Ok(frames),
                Err(error) => return Err(error),
            }
        }
    }

    /// All bytes until the server closes or resets the connection, whatever they are.
    pub async fn read_bytes_to_end(&mut self) -> Result<Bytes> {
        loop {
            match self.receive().await {
                Ok(1..) => {}
                Ok(0) => return Ok(self.received.split().freeze()),
                Err(error) if is_reset(&error) => return Ok(self.received.split().freeze()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a simple query and reads its answer.
    pub async fn query(&mut self, sql: &str) -> Result<Answer> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message)?;
        self.send(&message).await?;
        self.read_answer().await
    }

    /// Sends the startup packet, answers what is asked, and reads up to ReadyForQuery; gives every frame. From the error of a
    /// refusal its [`ErrorFields`] can be downcast.
    pub async fn start(&mut self, user: &str, database: &str, password: &str) -> Result<Vec<Frame>> {
        self.send(&startup_packet(user, database)?).await?;
        self.authenticate(user, password).await
    }

    /// Answers authentication requests and reads up to ReadyForQuery, after a startup packet was sent.
    pub async fn authenticate(&mut self, user: &str, password: &str) -> Result<Vec<Frame>> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut frames = Vec::new();
        loop {
            let frame = self.expect_frame().await?;
            if let Some(fields) = frame.error_fields().filter(|_| frame.tag == b'E') {
                return Err(anyhow::Error::from(fields).context("login refused"));
            }
            if frame.tag == b'R' {
                self.answer_authentication(&frame, user, password, &mut scram).await?;
            }
            let last = frame.tag == b'Z';
            frames.push(frame);
            if last {
                return Ok(frames);
            }
        }
    }

    async fn answer_authentication(
        &mut self,
        request: &Frame,
        user: &str,
        password: &str,
        scram: &mut ScramSha256,
    ) -> Result<()> {
        let mut payload = request.payload.clone();
        let kind = payload.try_get_u32()?;
        let mut message = BytesMut::new();
        match kind {
            0 => return Ok(()),
            3 => frontend::password_message(password.as_bytes(), &mut message)?,
            5 => {
                let salt = payload.get(..4).and_then(|salt| salt.try_into().ok()).context("md5 salt")?;
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                frontend::password_message(hash.as_bytes(), &mut message)?;
            }
            10 => frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)?,
            11 => {
                scram.update(&payload)?;
                frontend::sasl_response(scram.message(), &mut message)?;
            }
            12 => return scram.finish(&payload).context("the server's signature"),
            other => bail!("authentication request {other} is not known"),
        }
        self.send(&message).await
    }

    fn take_frame(&mut self) -> Result<Option<Frame>> {
        let Some((head, _)) = self.received.split_first_chunk::<5>() else { return Ok(None) };
        let [tag, length @ ..] = *head;
        let length = u32::from_be_bytes(length);
        ensure!((4..=1 << 30).contains(&length), "a frame {:?} of length {length}", char::from(tag));
        let total = usize::try_from(length)? + 1;
        if self.received.len() < total {
            return Ok(None);
        }
        let mut frame = self.received.split_to(total);
        frame.advance(5);
        Ok(Some(Frame { tag, length, payload: frame.freeze() }))
    }

    async fn receive(&mut self) -> Result<usize> {
        let read = self.stream.read_buf(&mut self.received);
        timeout(PATIENCE, read)
            .await
            .map_err(|_| anyhow!("no answer within {PATIENCE:?}"))?
            .context("receive")
    }
}

impl Frame {
    /// The fields of an ErrorResponse or NoticeResponse; nothing for other messages.
    pub fn error_fields(&self) -> Option<ErrorFields> {
        if !matches!(self.tag, b'E' | b'N') {
            return None;
        }
        let fields = self.payload.split(|byte| *byte == 0).filter_map(|field| {
            let (kind, value) = field.split_first()?;
            Some((*kind, String::from_utf8_lossy(value).into_owned()))
        });
        Some(ErrorFields(fields.collect()))
    }

    /// The text up to the first zero byte: the tag of a CommandComplete.
    pub fn text(&self) -> String {
        let text = self.payload.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}({} {:?})", char::from(self.tag), self.length, self.payload)
    }
}

impl ErrorFields {
    /// A field by its type byte.
    pub fn field(&self, kind: u8) -> Option<&str> {
        self.0.iter().find(|(present, _)| *present == kind).map(|(_, value)| value.as_str())
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.field(b'C').unwrap_or_default()
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.field(b'M').unwrap_or_default()
    }

    /// The severity, not localized: `ERROR`, `FATAL`, ...
    pub fn severity(&self) -> &str {
        self.field(b'V').or_else(|| self.field(b'S')).unwrap_or_default()
    }
}

impl fmt::Display for ErrorFields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.severity(), self.code(), self.message())
    }
}

impl std::error::Error for ErrorFields {}

impl Answer {
    /// The first error, if there is one.
    pub fn error(&self) -> Option<ErrorFields> {
        self.frames.iter().find(|frame| frame.tag == b'E').and_then(Frame::error_fields)
    }

    /// The first notice or warning, if there is one.
    pub fn notice(&self) -> Option<ErrorFields> {
        self.frames.iter().find(|frame| frame.tag == b'N').and_then(Frame::error_fields)
    }

    /// The tag of the last CommandComplete.
    pub fn command(&self) -> Option<String> {
        self.frames.iter().rev().find(|frame| frame.tag == b'C').map(Frame::text)
    }

    /// The transaction state of ReadyForQuery: `I`, `T` or `E`.
    pub fn transaction_state(&self) -> Option<char> {
        self.frames.last().and_then(|frame| frame.payload.first()).map(|state| char::from(*state))
    }

    /// The first value of the first row, as text; nothing if there is none, or it is null.
    pub fn value(&self) -> Option<String> {
        let value = self.rows().into_iter().next()?.into_iter().next()??;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// The values of all rows, as sent; nothing stands for null.
    pub fn rows(&self) -> Vec<Vec<Option<Bytes>>> {
        self.frames
            .iter()
            .filter(|frame| frame.tag == b'D')
            .map(|frame| columns(frame.payload.clone()))
            .collect()
    }
}

fn is_reset(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::ConnectionReset)
}

/// What the server said before it closed the connection; [`ErrorFields`] can be downcast from it.
fn last_error(frames: &[Frame]) -> anyhow::Error {
    let fields = frames.iter().rev().filter(|frame| frame.tag == b'E').find_map(Frame::error_fields);
    fields.map_or_else(|| anyhow!("it gave no error"), anyhow::Error::from)
}

fn columns(mut payload: Bytes) -> Vec<Option<Bytes>> {
    let count = payload.try_get_u16().unwrap_or(0);
    let column = |_| {
        let length = payload.try_get_i32().ok()?;
        let length = usize::try_from(length).ok()?;
        (length <= payload.len()).then(|| payload.split_to(length))
    };
    (0..count).map(column).collect()
}

/// A startup packet of protocol 3.0.
pub fn startup_packet(user: &str, database: &str) -> Result<Bytes> {
    let mut message = BytesMut::new();
    frontend::startup_message([("user", user), ("database", database)], &mut message)?;
    Ok(message.freeze())
}
