//! Speaks with a server of which no notification may be missed: what stands behind an answer is kept.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use pgherd_protocol::error::ErrorFields;
use pgherd_protocol::frame::{Frame, backend_header, split_cstr};
use pgherd_protocol::rows::one_column;
use pgherd_protocol::write;
use tokio::io::AsyncWriteExt;

use super::{Channel, write_command};
use crate::buffer::Buffer;
use crate::server::connection::ServerConnection;

/// A session has no more channels than this that are handed over.
const MOST_CHANNELS: usize = 10_000;

const LISTENING: &[u8] = b"SELECT pg_catalog.pg_listening_channels()";

/// A server connection of which the one who speaks is the only owner.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    connection: &'a mut ServerConnection,
    buffer: Buffer,
}

/// One message of the server.
enum Heard {
    Row,
    Refused,
    Ready,
    Notification,
    Other,
}

impl<'a> Conversation<'a> {
    pub(super) const fn new(connection: &'a mut ServerConnection, buffer: Buffer) -> Self {
        Self { connection, buffer }
    }

    /// The buffer, with what has come and was not looked at.
    pub(super) fn end(self) -> Buffer {
        self.buffer
    }

    /// The channels that the session listens to; none if there are too many to hand over.
    pub(super) async fn channels(
        &mut self,
        mut notified: impl FnMut(&[u8], &[u8]),
    ) -> io::Result<Option<Vec<Channel>>> {
        let mut channels = Vec::new();
        let mut see = |frame: &Frame<'_>| channels.extend(one_column(frame.body).map(Channel::from));
        let is_done = self.ask(LISTENING, &mut notified, &mut see).await?;
        Ok((is_done && channels.len() <= MOST_CHANNELS).then_some(channels))
    }

    /// Runs commands; false if the server refused them.
    pub(super) async fn run(
        &mut self,
        sql: &[u8],
        mut notified: impl FnMut(&[u8], &[u8]),
    ) -> io::Result<bool> {
        self.ask(sql, &mut notified, &mut |_| ()).await
    }

    /// Listens to the mark, sends it, and reads up to it; `notified` is told of each notification whether it stands behind the
    /// mark. False if the server refused.
    pub(super) async fn pass_mark(
        &mut self,
        mark: &[u8],
        mut notified: impl FnMut(bool, &[u8]),
    ) -> io::Result<bool> {
        let mut has_passed = false;
        for command in ["LISTEN", "NOTIFY"] {
            let mut sql = Vec::new();
            write_command(&mut sql, command, mark);
            let see = |message: &[u8], channel: &[u8]| {
                if channel == mark {
                    has_passed = true;
                } else {
                    notified(has_passed, message);
                }
            };
            if !self.run(&sql, see).await? {
                return Ok(false);
            }
        }
        // A session that listens is told of its own before ReadyForQuery (`PostgresMain()` in PostgreSQL's `postgres.c`).
        Ok(has_passed)
    }

    /// Ready when something has come that was looked at.
    pub(super) fn poll_notified(&mut self, mut notified: impl FnMut(&[u8], &[u8])) -> Poll<io::Result<()>> {
        self.poll_heard(&mut notified, &mut |_| ()).map_ok(|_| ())
    }

    async fn ask(
        &mut self,
        sql: &[u8],
        notified: &mut impl FnMut(&[u8], &[u8]),
        row: &mut impl FnMut(&Frame<'_>),
    ) -> io::Result<bool> {
        let mut request = Vec::new();
        write::message(&mut request, b'Q', |out| write::cstr(out, sql));
        self.connection.stream.write_all(&request).await?;
        let mut is_done = true;
        loop {
            match poll_fn(|_| self.poll_heard(notified, row)).await? {
                Heard::Ready => return Ok(is_done),
                Heard::Refused => is_done = false,
                Heard::Row | Heard::Notification | Heard::Other => {}
            }
        }
    }

    /// Takes one message.
    fn poll_heard(
        &mut self,
        notified: &mut impl FnMut(&[u8], &[u8]),
        row: &mut impl FnMut(&Frame<'_>),
    ) -> Poll<io::Result<Heard>> {
        let bad = |what: &str| Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned())));
        loop {
            let header = match backend_header(self.buffer.filled()) {
                Ok(header) => header,
                Err(error) => return bad(&error.to_string()),
            };
            if let Some(header) = header {
                let frame = Frame::new(header, self.buffer.filled());
                if frame.is_complete() {
                    let heard = match header.tag {
                        b'A' => {
                            let named = frame.body.get(4..).and_then(split_cstr);
                            let Some((channel, _)) = named else {
                                return bad("a notification without a channel");
                            };
                            let message = self.buffer.filled().get(..header.len).unwrap_or_default();
                            notified(message, channel);
                            Heard::Notification
                        }
                        b'E' if ErrorFields::parse(frame.body).ends_session() => {
                            let message = String::from_utf8_lossy(ErrorFields::parse(frame.body).message);
                            return bad(&format!("the server said: {message}"));
                        }
                        b'E' => Heard::Refused,
                        b'D' => {
                            row(&frame);
                            Heard::Row
                        }
                        b'Z' => Heard::Ready,
                        b'S' => {
                            self.connection.state.on_parameter_status(frame.body);
                            Heard::Other
                        }
                        _ => Heard::Other,
                    };
                    self.buffer.consume(header.len);
                    return Poll::Ready(Ok(heard));
                }
                if self.buffer.is_full() {
                    return bad("a message too long");
                }
            }
            if ready!(self.buffer.poll_fill(&mut self.connection.stream))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
