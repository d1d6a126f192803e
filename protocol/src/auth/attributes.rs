//! The `a=value,b=value` syntax of SCRAM messages, read as strictly and with the same complaints as PostgreSQL does.

use super::{AuthError, MAX_SASL_MESSAGE};

/// What is left of a client's message.
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Takes a whole message after checking its size and that no zero byte hides a part of it.
    pub(super) fn new(message: &'a [u8]) -> Result<Self, AuthError> {
        if message.is_empty() {
            return Err(AuthError::malformed("The message is empty."));
        }
        if message.len() > MAX_SASL_MESSAGE {
            return Err(AuthError::violation("invalid message length"));
        }
        if message.contains(&0) {
            return Err(AuthError::malformed("Message length does not match input length."));
        }
        Ok(Self { rest: message })
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte; zero at the end, as in a C string.
    pub(super) fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or(0)
    }

    pub(super) fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Reads the attribute `name`, which must come next.
    pub(super) fn value(&mut self, name: u8) -> Result<&'a [u8], AuthError> {
        let found = self.peek();
        if found != name {
            return Err(AuthError::malformed(format!(
                "Expected attribute \"{}\" but found \"{}\".",
                char::from(name),
                printable(found)
            )));
        }
        self.any().map(|(_, value)| value)
    }

    /// Reads whatever attribute comes next: its name and its value.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), AuthError> {
        let name = self.peek();
        if name == 0 {
            return Err(AuthError::malformed("Attribute expected, but found end of string."));
        }
        if !name.is_ascii_alphabetic() {
            return Err(AuthError::malformed(format!(
                "Attribute expected, but found invalid character \"{}\".",
                printable(name)
            )));
        }
        self.skip();
        if self.peek() != b'=' {
            return Err(AuthError::malformed(format!(
                "Expected character \"=\" for attribute \"{}\".",
                char::from(name)
            )));
        }
        self.skip();
        let end = self.rest.iter().position(|&byte| byte == b',');
        let (value, rest) = match end {
            Some(end) => (self.rest.get(..end), self.rest.get(end + 1..)),
            None => (Some(self.rest), None),
        };
        self.rest = rest.unwrap_or_default();
        Ok((name, value.unwrap_or_default()))
    }
}

/// A byte of the peer for a message to people: never anything but printable ASCII.
pub(super) fn printable(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("'{}'", char::from(byte)) } else { format!("0x{byte:02x}") }
}

/// A text of the peer for a message to people, as PostgreSQL's `sanitize_str()` shows it.
pub(super) fn sanitized(text: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    text.iter().take(30).map(shown).collect()
}

/// Whether this can be a nonce: printable ASCII without the comma (RFC 5802, section 7).
pub(super) fn is_nonce(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte.is_ascii_graphic() && byte != b',')
}
