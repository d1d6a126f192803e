//! Errors name a statement as the server knows it; the client must read its own name.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::frontend::ESCAPED_PREFIX;
use super::{About, Expected};
use crate::error::ErrorFields;
use crate::prepared::{SERVER_PREFIX, Statement, write_server_name};
use crate::write;

/// The SQLSTATEs of errors that name a prepared statement: it does not exist, it exists already, or it takes another
/// number of parameters.
const NAMING: [&[u8]; 3] = [b"26000", b"42P05", b"08P01"];

/// Appends the ErrorResponse with this body to `out`, with the client's name of the statement that the failed message
/// was about in place of the server's. False, and nothing appended, if it does not name it.
pub(super) fn with_client_name(
    (body, fields): (&[u8], ErrorFields<'_>),
    failed: &Expected,
    named: &HashMap<Box<[u8]>, Arc<Statement>>,
    behind: &VecDeque<Expected>,
    out: &mut Vec<u8>,
) -> bool {
    if !NAMING.contains(&fields.sqlstate) {
        return false;
    }
    let mut there = Vec::new();
    let here = match failed.about {
        About::Prepares(id) | About::Uses(id) => {
            write_server_name(&mut there, id);
            there.pop();
            client_name(id, failed, named, behind)
        }
        About::Escaped => {
            there.extend_from_slice(ESCAPED_PREFIX.as_bytes());
            there.extend_from_slice(SERVER_PREFIX.as_bytes());
            Some(SERVER_PREFIX.as_bytes())
        }
        About::Closes(_) | About::Nothing => None,
    };
    let (Some(here), Some(start)) = (here, memchr::memmem::find(body, &there)) else { return false };
    let (Some(before), Some(after)) = (body.get(..start), body.get(start + there.len()..)) else {
        return false;
    };
    write::message(out, b'E', |out| {
        out.extend_from_slice(before);
        out.extend_from_slice(here);
        out.extend_from_slice(after);
    });
    true
}

/// What the client called the statement when it sent the message that failed: what was sent behind may have given the
/// name another meaning since.
pub(super) fn client_name<'a>(
    id: u64,
    failed: &'a Expected,
    named: &'a HashMap<Box<[u8]>, Arc<Statement>>,
    behind: &'a VecDeque<Expected>,
) -> Option<&'a [u8]> {
    let held = || named.iter().find(|(_, statement)| statement.id == id).map(|(name, _)| &**name);
    let undone = || {
        let mut undos = behind.iter().filter_map(|e| e.undo.as_deref());
        undos.find(|u| u.before.as_ref().is_some_and(|before| before.id == id)).map(|u| &*u.name)
    };
    failed.undo.as_ref().map(|undo| &*undo.name).or_else(undone).or_else(held)
}
