//! The names of a session's prepared statements. Errors name a statement as the server knows it; the client must read its
//! own name.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::frontend::ESCAPED_PREFIX;
use super::{About, Expected};
use crate::error::ErrorFields;
use crate::prepared::{SERVER_PREFIX, Statement, write_server_name};
use crate::write;

/// What the client's names of prepared statements mean; no two mean the same statement.
#[derive(Debug, Default)]
pub(super) struct Names {
    statements: HashMap<Box<[u8]>, Arc<Statement>>,
    ids: HashSet<u64>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.statements.len()
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.statements.get(name)
    }

    /// True if a name means the statement of this number.
    pub(super) fn mean(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn insert(&mut self, name: Box<[u8]>, statement: Arc<Statement>) {
        let id = statement.id;
        if let Some(before) = self.statements.insert(name, statement) {
            self.ids.remove(&before.id);
        }
        self.ids.insert(id);
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<(Box<[u8]>, Arc<Statement>)> {
        let removed = self.statements.remove_entry(name)?;
        self.ids.remove(&removed.1.id);
        Some(removed)
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&[u8]) -> bool) {
        let Self { statements, ids } = self;
        statements.retain(|name, statement| {
            let is_kept = is_kept(name);
            if !is_kept {
                ids.remove(&statement.id);
            }
            is_kept
        });
    }

    fn of(&self, id: u64) -> Option<&[u8]> {
        self.statements.iter().find(|(_, statement)| statement.id == id).map(|(name, _)| &**name)
    }
}

/// The SQLSTATEs of errors that name a prepared statement: it does not exist, it exists already, or it takes another
/// number of parameters.
const NAMING: [&[u8]; 3] = [b"26000", b"42P05", b"08P01"];

/// Appends the ErrorResponse with this body to `out`, with the client's name of the statement that the failed message
/// was about in place of the server's. False, and nothing appended, if it does not name it.
pub(super) fn with_client_name(
    (body, fields): (&[u8], ErrorFields<'_>),
    failed: &Expected,
    names: &Names,
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
            client_name(id, failed, names, behind)
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
    names: &'a Names,
    behind: &'a VecDeque<Expected>,
) -> Option<&'a [u8]> {
    let undone = || {
        let mut undos = behind.iter().filter_map(|e| e.undo.as_deref());
        undos.find(|u| u.before.as_ref().is_some_and(|before| before.id == id)).map(|u| &*u.name)
    };
    failed.undo.as_ref().map(|undo| &*undo.name).or_else(undone).or_else(|| names.of(id))
}
