//! One end of a conversation: a client that is connected to PostgreSQL or to pgherd, and what it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::{Buf, BufMut, BytesMut};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use super::message::Message;
use super::texts::USER;
use crate::client::{Frame, RawClient};

/// What a client was told, of which two can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Every message but notifications, which come at any time.
    pub(super) messages: Vec<String>,
    /// Whether each change of a parameter counts: not where RESET goes back to the startup packet's.
    pub(super) strict: bool,
    /// The parameters that it was told last.
    pub(super) parameters: BTreeMap<String, String>,
    /// The notifications, in their order.
    pub(super) notifications: Vec<String>,
    /// Whether the server closed the connection.
    pub(super) closed: bool,
}

/// A client that is connected.
#[derive(Debug)]
pub(super) struct End {
    client: RawClient,
    address: SocketAddr,
    key: BytesMut,
    has_begun: bool,
    pub(super) told: Told,
    owed: Owed,
}

/// What is still to come, as far as that can be known from what was sent.
#[derive(Debug, Default)]
struct Owed {
    /// Messages that end in ReadyForQuery.
    ready: usize,
    /// Answers within a batch that has not come to its Sync.
    parts: usize,
    /// The server waits for the data of a COPY.
    copying: bool,
}

/// What came of a wait for the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Message,
    Closed,
    Nothing,
}

impl End {
    /// Logs in as [`USER`].
    pub(super) async fn login(
        address: SocketAddr,
        database: &str,
        password: &str,
        startup: &[(&'static str, &'static str)],
    ) -> Result<Self> {
        let mut client = RawClient::connect(address).await?;
        let parameters = [("user", USER), ("database", database)].into_iter().chain(startup.iter().copied());
        let mut packet = BytesMut::new();
        frontend::startup_message(parameters, &mut packet)?;
        client.send(&packet).await?;
        let frames = client.authenticate(USER, password).await?;
        let key = frames.iter().find(|frame| frame.tag == b'K').map(|frame| frame.payload.clone());
        let key = BytesMut::from(key.unwrap_or_default());
        // RESET goes back to the startup packet's: pgherd has the server say what it goes back to, and then sets those.
        let strict = startup.is_empty();
        let mut end = Self {
            client,
            address,
            key,
            has_begun: false,
            told: Told { strict, ..Told::default() },
            owed: Owed::default(),
        };
        frames.iter().for_each(|frame| end.take(frame));
        end.owed = Owed::default();
        Ok(end)
    }

    /// Sends messages, in two parts where `cut` says so. That the server has gone is seen by what comes.
    pub(super) async fn send(&mut self, messages: &[Message], cut: usize) {
        let mut bytes = BytesMut::new();
        for message in messages {
            message.encode(&mut bytes);
            self.owed.add(message);
        }
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        for part in [first, second] {
            if !part.is_empty() && self.client.send(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether the server waits for the data of a COPY.
    pub(super) const fn is_copying(&self) -> bool {
        self.owed.copying
    }

    /// Says that it leaves, and sends nothing more.
    pub(super) async fn terminate(&mut self) {
        if self.client.send(b"X\0\0\0\x04").await.is_ok() {
            // The server may be quicker.
            let _ = self.client.finish().await;
        }
    }

    /// Asks the server to cancel what runs.
    pub(super) async fn cancel(&self) -> Result<()> {
        let mut request = BytesMut::new();
        request.put_u32(u32::try_from(self.key.len() + 8)?);
        request.put_u32(80_877_102);
        request.extend_from_slice(&self.key);
        let mut client = RawClient::connect(self.address).await?;
        client.send(&request).await?;
        client.read_bytes_to_end().await?;
        Ok(())
    }

    /// Whether all has come that was to come.
    pub(super) const fn is_settled(&self) -> bool {
        self.told.closed || (self.owed.ready == 0 && self.owed.parts == 0)
    }

    /// Reads until all has come, or nothing comes any more.
    pub(super) async fn settle(&mut self) {
        while !self.is_settled() {
            let within = if self.owed.copying { 15 } else { 400 };
            if self.hear(Duration::from_millis(within)).await == Heard::Nothing {
                if !self.owed.copying {
                    self.owed = Owed::default();
                }
                return;
            }
        }
    }

    /// Reads until the server closes the connection.
    pub(super) async fn hear_the_end(&mut self, within: Duration) {
        while !self.told.closed && self.hear(within).await != Heard::Nothing {}
    }

    /// Waits for the next message.
    pub(super) async fn hear(&mut self, within: Duration) -> Heard {
        match timeout(within, self.client.read_frame()).await {
            Err(_) => Heard::Nothing,
            Ok(Ok(Some(frame))) => {
                self.take(&frame);
                Heard::Message
            }
            // A reset ends it as well.
            Ok(Ok(None) | Err(_)) => {
                self.told.closed = true;
                Heard::Closed
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        let shown = shown(frame, &self.key);
        if frame.tag == b'A' {
            self.told.notifications.push(shown);
            return;
        }
        self.owed.hear(frame.tag);
        if frame.tag == b'S' {
            let (name, value) = shown.split_once("\\x00").unwrap_or_default();
            self.told.parameters.insert(name.to_owned(), value.to_owned());
        }
        // At the login they have no order.
        if frame.tag != b'S' || (self.told.strict && self.has_begun) {
            self.told.messages.push(shown);
        }
        self.has_begun |= frame.tag == b'Z';
    }
}

impl Owed {
    fn add(&mut self, message: &Message) {
        if message.ends_in_ready() {
            self.ready += 1;
            self.parts = 0;
        } else if message.is_answered() {
            self.parts += 1;
        }
        if matches!(message, Message::CopyDone | Message::CopyFail(_) | Message::Query(_)) {
            self.copying = false;
        }
    }

    const fn hear(&mut self, tag: u8) {
        match tag {
            b'Z' => self.ready = self.ready.saturating_sub(1),
            // Behind an error nothing more is told of a batch.
            b'E' => {
                self.copying = false;
                if self.ready == 0 {
                    self.parts = 0;
                }
            }
            b'G' => self.copying = true,
            b'1' | b'2' | b'3' | b'C' | b'I' | b'T' | b'n' | b's' if self.ready == 0 => {
                self.parts = self.parts.saturating_sub(1);
            }
            _ => {}
        }
    }
}

/// A message as text, without what is another one by nature: the keys and salts of a login, process ids, and the numbers of
/// tables and of types of one's own.
fn shown(frame: &Frame, key: &[u8]) -> String {
    let mut payload = BytesMut::from(&*frame.payload);
    match frame.tag {
        b'K' => payload.fill(0),
        b'R' => payload.truncate(4),
        b'A' => {
            let own = payload.get(..4) == key.get(..4);
            payload.advance(4.min(payload.len()));
            let whose = if own { "own" } else { "another's" };
            return format!("A {whose} {}", payload.escape_ascii());
        }
        b'T' => forget_numbers(&mut payload),
        _ => {}
    }
    format!("{} {}", char::from(frame.tag), payload.escape_ascii())
}

/// Of each column's description: the table's number, and that of a type that does not come with PostgreSQL.
fn forget_numbers(payload: &mut BytesMut) {
    const FIRST_OF_ONES_OWN: u32 = 16_384;
    let mut at = 2;
    while let Some(end) = payload.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
        let numbers = at + end + 1;
        if let Some(table) = payload.get_mut(numbers..numbers + 4) {
            table.fill(0);
        }
        if let Some(kind) = payload.get_mut(numbers + 6..numbers + 10)
            && let Ok(bytes) = <[u8; 4]>::try_from(&*kind)
            && u32::from_be_bytes(bytes) >= FIRST_OF_ONES_OWN
        {
            kind.fill(0);
        }
        at = numbers + 18;
    }
}
