//! A server in its right mind, as far as the order of its answers goes.

use pgherd_protocol::frame::{Frame, HEADER_LEN, frontend_header, split_cstr};
use pgherd_protocol::write;

/// A server.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Has reached it.
    inbox: Vec<u8>,
    status: Status,
    is_skipping: bool,
    is_copying: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Idle,
    Open,
    Failed,
}

impl Status {
    const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

impl Peer {
    pub(super) fn gets(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// Its answers to so many messages.
    pub(super) fn answers(&mut self, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..most {
            let Ok(Some(header)) = frontend_header(&self.inbox) else { break };
            if self.inbox.len() < header.len {
                break;
            }
            let message: Vec<u8> = self.inbox.drain(..header.len).collect();
            self.answer(&Frame::new(header, &message), &mut out);
        }
        out
    }

    fn answer(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let tag = frame.header.tag;
        if self.is_copying {
            if matches!(tag, b'c' | b'f') {
                self.is_copying = false;
                write::command_complete(out, "COPY 0");
                write::ready_for_query(out, self.status.byte());
            }
            return;
        }
        if self.is_skipping && tag != b'S' {
            return;
        }
        match tag {
            b'S' => {
                self.is_skipping = false;
                write::ready_for_query(out, self.status.byte());
            }
            b'Q' => self.query(frame.body, out),
            b'P' if !is_readable(frame.body) => self.fail(out),
            b'P' => write::empty(out, b'1'),
            b'B' => write::empty(out, b'2'),
            b'C' => write::empty(out, b'3'),
            b'D' if frame.body.first() == Some(&b'S') => {
                write::message(out, b't', |out| out.extend_from_slice(&[0, 0]));
                write::empty(out, b'n');
            }
            b'D' => write::empty(out, b'n'),
            b'E' => write::command_complete(out, "SELECT 0"),
            b'F' => write::message(out, b'V', |out| out.extend_from_slice(&[0xff; 4])),
            _ => {}
        }
        if tag == b'F' {
            write::ready_for_query(out, self.status.byte());
        }
    }

    fn query(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let text = split_cstr(body).map_or(body, |(text, _)| text).to_ascii_lowercase();
        for statement in text.split(|byte| *byte == b';') {
            let statement = statement.trim_ascii();
            let begins = |word: &[u8]| statement.starts_with(word);
            if begins(b"copy") {
                self.is_copying = true;
                return write::message(out, b'G', |out| out.extend_from_slice(&[0, 0, 0]));
            }
            if self.status == Status::Failed && !begins(b"rollback") && !begins(b"commit") {
                self.fail(out);
                break;
            }
            if begins(b"begin") {
                self.status = Status::Open;
            } else if begins(b"commit") || begins(b"rollback") {
                self.status = Status::Idle;
            }
            let words = String::from_utf8_lossy(statement).to_uppercase();
            match words.split(' ').next().filter(|word| !word.is_empty()) {
                Some(word) => write::command_complete(out, word),
                None => write::empty(out, b'I'),
            }
        }
        self.is_skipping = false;
        write::ready_for_query(out, self.status.byte());
    }

    fn fail(&mut self, out: &mut Vec<u8>) {
        self.is_skipping = true;
        if self.status == Status::Open {
            self.status = Status::Failed;
        }
        write::message(out, b'E', |out| out.extend_from_slice(b"SERROR\0VERROR\0C42601\0Mno\0\0"));
    }
}

/// True for a whole Parse message.
fn is_readable(body: &[u8]) -> bool {
    split_cstr(body).and_then(|(_, rest)| split_cstr(rest)).is_some() && body.len() > HEADER_LEN
}
