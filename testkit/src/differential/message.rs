//! What a client may say, well formed or not, and how it is shown to whoever reads of a difference.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query(String),
    Parse {
        statement: &'static str,
        text: String,
        types: Vec<u32>,
    },
    Bind {
        portal: &'static str,
        statement: &'static str,
        formats: Vec<i16>,
        values: Vec<Value>,
        results: Vec<i16>,
    },
    Describe(u8, &'static str),
    Execute(&'static str, i32),
    Close(u8, &'static str),
    Flush,
    Sync,
    CopyData(Vec<u8>),
    CopyDone,
    CopyFail(&'static str),
    Call {
        function: u32,
        arguments: Vec<Value>,
        result: i16,
    },
    /// Bytes that are no message, or one of a wrong length.
    Raw(Vec<u8>),
}

/// A parameter as it is sent; nothing for null.
pub(super) type Value = Option<Vec<u8>>;

impl Message {
    /// Whether PostgreSQL answers it with ReadyForQuery when all is in order.
    pub(super) const fn ends_in_ready(&self) -> bool {
        matches!(self, Self::Query(_) | Self::Sync | Self::Call { .. })
    }

    /// Whether it has an answer of its own within a batch, which Flush makes PostgreSQL tell.
    pub(super) const fn is_answered(&self) -> bool {
        matches!(
            self,
            Self::Parse { .. } | Self::Bind { .. } | Self::Describe(..) | Self::Execute(..) | Self::Close(..)
        )
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Query(text) => framed(b'Q', out, |out| put_text(text, out)),
            Self::Parse { statement, text, types } => framed(b'P', out, |out| {
                put_text(statement, out);
                put_text(text, out);
                put_count(types.len(), out);
                types.iter().for_each(|number| out.put_u32(*number));
            }),
            Self::Bind { portal, statement, formats, values, results } => framed(b'B', out, |out| {
                put_text(portal, out);
                put_text(statement, out);
                put_formats(formats, out);
                put_values(values, out);
                put_formats(results, out);
            }),
            Self::Describe(kind, name) | Self::Close(kind, name) => {
                let tag = if matches!(self, Self::Describe(..)) { b'D' } else { b'C' };
                framed(tag, out, |out| {
                    out.put_u8(*kind);
                    put_text(name, out);
                });
            }
            Self::Execute(portal, rows) => framed(b'E', out, |out| {
                put_text(portal, out);
                out.put_i32(*rows);
            }),
            Self::Flush => framed(b'H', out, |_| ()),
            Self::Sync => framed(b'S', out, |_| ()),
            Self::CopyData(data) => framed(b'd', out, |out| out.extend_from_slice(data)),
            Self::CopyDone => framed(b'c', out, |_| ()),
            Self::CopyFail(reason) => framed(b'f', out, |out| put_text(reason, out)),
            Self::Call { function, arguments, result } => framed(b'F', out, |out| {
                out.put_u32(*function);
                put_formats(&[1], out);
                put_values(arguments, out);
                out.put_i16(*result);
            }),
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(text) => write!(f, "Query {}", shortened(text)),
            Self::Parse { statement, text, types } => {
                write!(f, "Parse {statement:?} {} {types:?}", shortened(text))
            }
            Self::Bind { portal, statement, formats, values, results } => {
                write!(f, "Bind {portal:?} to {statement:?} {formats:?} (")?;
                for value in values {
                    match value {
                        Some(value) => write!(f, " '{}'", value.escape_ascii())?,
                        None => write!(f, " null")?,
                    }
                }
                write!(f, " ) {results:?}")
            }
            Self::Describe(kind, name) => write!(f, "Describe {} {name:?}", char::from(*kind)),
            Self::Execute(portal, rows) => write!(f, "Execute {portal:?} {rows}"),
            Self::Close(kind, name) => write!(f, "Close {} {name:?}", char::from(*kind)),
            Self::CopyData(data) => write!(f, "CopyData {}", shortened(&data.escape_ascii().to_string())),
            Self::CopyFail(reason) => write!(f, "CopyFail {reason:?}"),
            Self::Call { function, arguments, result } => {
                write!(f, "FunctionCall {function} {arguments:?} {result}")
            }
            Self::Raw(bytes) => write!(f, "bytes {}", bytes.escape_ascii()),
            Self::Flush | Self::Sync | Self::CopyDone => write!(f, "{self:?}"),
        }
    }
}

/// A long text is known by its ends.
pub(super) fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= 400 {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(150).collect();
    let end: String = text.chars().skip(count - 150).collect();
    format!("{start:?} ... {end:?} ({count} characters)")
}

fn framed(tag: u8, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let mut payload = BytesMut::new();
    body(&mut payload);
    out.put_u8(tag);
    out.put_u32(u32::try_from(payload.len() + 4).unwrap_or(u32::MAX));
    out.extend_from_slice(&payload);
}

fn put_text(text: &str, out: &mut BytesMut) {
    out.extend_from_slice(text.as_bytes());
    out.put_u8(0);
}

fn put_count(count: usize, out: &mut BytesMut) {
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
}

fn put_formats(formats: &[i16], out: &mut BytesMut) {
    put_count(formats.len(), out);
    formats.iter().for_each(|format| out.put_i16(*format));
}

fn put_values(values: &[Value], out: &mut BytesMut) {
    put_count(values.len(), out);
    for value in values {
        match value {
            Some(value) => {
                out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.extend_from_slice(value);
            }
            None => out.put_i32(-1),
        }
    }
}
