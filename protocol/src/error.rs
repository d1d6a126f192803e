//! ErrorResponse and NoticeResponse, read and written.

use std::borrow::Cow;

use crate::frame::split_cstr;
use crate::write;

/// How grave an error is, and so what the client may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Nothing has failed.
    Notice,
}

/// An error that pgherd itself reports to a client, with the SQLSTATE that PostgreSQL would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// The SQLSTATE.
    pub sqlstate: Cow<'static, str>,
    /// The primary message.
    pub message: String,
    /// More about what happened, if there is more.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// The number of the character of the statement where it went wrong, from 1.
    pub position: Option<usize>,
}

impl ClientError {
    /// An error with a message only.
    #[must_use]
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate: sqlstate.into(), message: message.into(), detail: None, hint: None, position: None }
    }

    /// What a server said in the ErrorResponse with this body.
    #[must_use]
    pub fn from_server(body: &[u8]) -> Self {
        let fields = ErrorFields::parse(body);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| text(bytes));
        // Drivers take it for five letters and digits without a look.
        let is_plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let is_sqlstate = fields.sqlstate.len() == 5 && fields.sqlstate.iter().all(is_plain);
        let sqlstate = some(fields.sqlstate).filter(|_| is_sqlstate);
        Self {
            sqlstate: sqlstate.map_or(Cow::Borrowed("XX000"), Cow::Owned),
            message: text(fields.message),
            detail: some(fields.detail),
            hint: some(fields.hint).map(Cow::Owned),
            position: None,
        }
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a place in the statement.
    #[must_use]
    pub const fn position(mut self, position: Option<usize>) -> Self {
        self.position = position;
        self
    }

    /// The whole ErrorResponse of what ends a session, or keeps it from its begin.
    #[must_use]
    pub fn last_words(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, Severity::Fatal);
        out
    }

    /// Appends it as an ErrorResponse or NoticeResponse.
    pub fn write(&self, out: &mut Vec<u8>, severity: Severity) {
        let (tag, severity) = match severity {
            Severity::Error => (b'E', "ERROR"),
            Severity::Fatal => (b'E', "FATAL"),
            Severity::Notice => (b'N', "NOTICE"),
        };
        write::message(out, tag, |out| {
            let mut field = |code: u8, text: &str| {
                out.push(code);
                write::cstr(out, text.as_bytes());
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', &self.sqlstate);
            field(b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            if let Some(position) = &self.position {
                field(b'P', &position.to_string());
            }
            out.push(0);
        });
    }
}

/// Appends an error as protocol 2 and older have it: one line of text and no length.
pub fn write_old_style(out: &mut Vec<u8>, message: &str) {
    out.extend_from_slice(b"EFATAL:  ");
    out.extend_from_slice(message.as_bytes());
    out.extend_from_slice(b"\n\0");
}

/// The fields of a server's ErrorResponse or NoticeResponse that pgherd looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// `V`: the severity, never translated; `S` where an old server sends none.
    pub severity: &'a [u8],
    /// `C`: the SQLSTATE.
    pub sqlstate: &'a [u8],
    /// `M`: the primary message.
    pub message: &'a [u8],
    /// `D`: the detail.
    pub detail: &'a [u8],
    /// `H`: the hint.
    pub hint: &'a [u8],
    /// `R`: the function of the server's that raised it.
    pub routine: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Reads the body of an ErrorResponse; fields that are cut off are left empty.
    #[must_use]
    pub fn parse(mut body: &'a [u8]) -> Self {
        let mut fields = Self::default();
        while let Some((&code, rest)) = body.split_first().filter(|(code, _)| **code != 0) {
            let Some((text, rest)) = split_cstr(rest) else { break };
            body = rest;
            match code {
                b'V' => fields.severity = text,
                b'S' if fields.severity.is_empty() => fields.severity = text,
                b'C' => fields.sqlstate = text,
                b'M' => fields.message = text,
                b'D' => fields.detail = text,
                b'H' => fields.hint = text,
                b'R' => fields.routine = text,
                _ => {}
            }
        }
        fields
    }

    /// True if the server ends the connection with it.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        matches!(self.severity, b"FATAL" | b"PANIC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, backend_header};

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Vec::new();
        ClientError::new("53300", "too many").detail("d").hint("h").write(&mut out, Severity::Fatal);
        let frame = Frame::new(backend_header(&out).unwrap().unwrap(), &out);
        let fields = ErrorFields::parse(frame.body);
        assert!(frame.is_complete() && fields.ends_session());
        assert_eq!((fields.sqlstate, fields.message), (&b"53300"[..], &b"too many"[..]));
    }

    #[test]
    fn what_is_no_sqlstate_is_not_passed_on_as_one() {
        for (said, told) in [
            ("57P03", "57P03"),
            ("401", "XX000"),
            ("", "XX000"),
            ("57P0300", "XX000"),
            ("5\u{1b}P03", "XX000"),
        ] {
            let body = [b"SFATAL\0C".as_slice(), said.as_bytes(), b"\0Mno\0\0"].concat();
            let mut out = Vec::new();
            ClientError::from_server(&body).write(&mut out, Severity::Fatal);
            let frame = Frame::new(backend_header(&out).unwrap().unwrap(), &out);
            assert_eq!(ErrorFields::parse(frame.body).sqlstate, told.as_bytes(), "{said}");
        }
    }
}
