//! Errors name a statement as the server knows it; the client must read its own name.

use std::collections::HashMap;
use std::sync::Arc;

use super::frontend::ESCAPED_PREFIX;
use crate::prepared::{SERVER_PREFIX, Statement};
use crate::write;

/// Appends the ErrorResponse with this body to `out`, with the client's names in place of the server's. False, and
/// nothing appended, if it names none.
pub(super) fn client_names(
    body: &[u8],
    named: &HashMap<Box<[u8]>, Arc<Statement>>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(first) = memchr::memmem::find(body, SERVER_PREFIX.as_bytes()) else { return false };
    let (mut done, mut rest) = body.split_at(first);
    let mut replaced = Vec::with_capacity(body.len());
    loop {
        replaced.extend_from_slice(done);
        let Some((name, len)) = client_name(rest, named) else { return write_rest(replaced, rest, out) };
        replaced.extend_from_slice(name);
        let after = rest.get(len..).unwrap_or_default();
        let Some(next) = memchr::memmem::find(after, SERVER_PREFIX.as_bytes()) else {
            return write_rest(replaced, after, out);
        };
        (done, rest) = after.split_at(next);
    }
}

fn write_rest(mut replaced: Vec<u8>, rest: &[u8], out: &mut Vec<u8>) -> bool {
    replaced.extend_from_slice(rest);
    write::message(out, b'E', |out| out.extend_from_slice(&replaced));
    true
}

/// The client's name for the server's name at the start of `text`, and the length of the latter.
fn client_name<'a>(text: &[u8], named: &'a HashMap<Box<[u8]>, Arc<Statement>>) -> Option<(&'a [u8], usize)> {
    if text.starts_with(ESCAPED_PREFIX.as_bytes()) {
        return Some((b"", ESCAPED_PREFIX.len()));
    }
    let digits = text.get(SERVER_PREFIX.len()..)?;
    let len = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let id: u64 = std::str::from_utf8(digits.get(..len)?).ok()?.parse().ok()?;
    let (name, _) = named.iter().find(|(_, statement)| statement.id == id)?;
    Some((name, SERVER_PREFIX.len() + len))
}
