//! Messages as they stand in a buffer: a tag, a length, a body that may not have arrived whole.

/// The tag byte and the length word.
pub const HEADER_LEN: usize = 5;

/// Where a message begins and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message's type byte.
    pub tag: u8,
    /// Bytes of the whole message, tag and length word included.
    pub len: usize,
}

/// Bytes that cannot be a message. The stream is out of step: the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The type byte is none of the protocol's.
    #[error("invalid frontend message type {0}")]
    UnknownTag(u8),
    /// The length word is smaller than itself or larger than such a message may be.
    #[error("invalid message length {len} of message type {tag:?}", tag = char::from(*tag))]
    BadLength {
        /// The message's type byte.
        tag: u8,
        /// The length word.
        len: u32,
    },
}

/// PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT`: `MaxAllocSize - 1`.
const LARGE: u32 = 0x3FFF_FFFE;
/// PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`.
const SMALL: u32 = 10_000;

/// Reads the header of a message from a client; `None` while it is incomplete.
///
/// # Errors
/// The limits are those of `SocketBackend()` in PostgreSQL's `tcop/postgres.c`.
pub fn frontend_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&tag) = bytes.first() else { return Ok(None) };
    let limit = match tag {
        b'Q' | b'F' | b'B' | b'P' | b'd' | b'p' => LARGE,
        b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => SMALL,
        _ => return Err(FrameError::UnknownTag(tag)),
    };
    header(bytes, limit)
}

/// Reads the header of a message from a server; `None` while it is incomplete.
///
/// # Errors
/// [`FrameError::BadLength`] when the length word is impossible.
pub fn backend_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    header(bytes, i32::MAX.unsigned_abs())
}

fn header(bytes: &[u8], limit: u32) -> Result<Option<Header>, FrameError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let len = u32::from_be_bytes([a, b, c, d]);
    if !(4..=limit).contains(&len) {
        return Err(FrameError::BadLength { tag, len });
    }
    Ok(Some(Header { tag, len: len as usize + 1 }))
}

/// A message of which at least the header has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its tag and length.
    pub header: Header,
    /// As much of its body as has arrived.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The message at the start of `bytes`, whose header has been read.
    #[must_use]
    pub fn new(header: Header, bytes: &'a [u8]) -> Self {
        let body = bytes.get(HEADER_LEN..header.len.min(bytes.len())).unwrap_or_default();
        Self { header, body }
    }

    /// True if the whole body is here.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.body.len() + HEADER_LEN == self.header.len
    }
}

/// The messages that a client has sent, up to one whose header is not there or is none; of the last perhaps a part.
pub(crate) fn frontend_frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let header = frontend_header(bytes).ok().flatten()?;
        let frame = Frame::new(header, bytes);
        bytes = bytes.get(header.len..).unwrap_or_default();
        Some(frame)
    })
}

/// Splits a zero-terminated string off the front; `None` if there is no terminator.
#[must_use]
pub fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// The name and the text in the body of a Parse message; `None` if they are not there.
pub(crate) fn parsed(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, definition) = split_cstr(body)?;
    Some((name, split_cstr(definition)?.0))
}

/// The statement's name in the body of a Bind message; `None` if it is not there.
pub(crate) fn bound(body: &[u8]) -> Option<&[u8]> {
    let (_portal, rest) = split_cstr(body)?;
    Some(split_cstr(rest)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(frontend_header(b""), Ok(None));
        assert_eq!(frontend_header(b"Q\0\0\0"), Ok(None));
        assert_eq!(frontend_header(b"Q\0\0\0\x05\0"), Ok(Some(Header { tag: b'Q', len: 6 })));
    }

    #[test]
    fn impossible_types_and_lengths_are_refused_before_anything_is_allocated() {
        assert_eq!(frontend_header(b"\0"), Err(FrameError::UnknownTag(0)));
        assert_eq!(frontend_header(b"Q\0\0\0\x03"), Err(FrameError::BadLength { tag: b'Q', len: 3 }));
        assert_eq!(
            frontend_header(b"Q\xff\xff\xff\xff"),
            Err(FrameError::BadLength { tag: b'Q', len: u32::MAX })
        );
        assert_eq!(frontend_header(b"S\0\0\x27\x11"), Err(FrameError::BadLength { tag: b'S', len: 10_001 }));
        assert!(backend_header(b"D\xff\xff\xff\xff").is_err());
    }
}
