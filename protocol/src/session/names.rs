//! The names of a session's prepared statements. Errors name a statement as the server knows it; the client must read its
//! own name.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::frontend::ESCAPED_PREFIX;
use super::renaming::{Shifts, named_statement, write_error};
use super::{About, Expected};
use crate::error::ErrorFields;
use crate::prepared::{SERVER_PREFIX, Statement};

/// What the client's names of prepared statements mean; no two mean the same statement. A session that gives none needs no memory for it.
#[derive(Debug, Default)]
pub(super) struct Names(Option<Box<Meanings>>);

#[derive(Debug, Default)]
struct Meanings {
    statements: HashMap<Box<[u8]>, Named>,
    ids: FxHashSet<u64>,
    /// How many meanings were given.
    given: u64,
}

#[derive(Debug)]
struct Named {
    statement: Arc<Statement>,
    /// Which of all meanings that were given this was.
    order: u64,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |all| all.statements.len())
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        Some(&self.0.as_ref()?.statements.get(name)?.statement)
    }

    /// All of them, in the order in which they got their meanings.
    pub(super) fn in_order(&self) -> Vec<(&[u8], &Arc<Statement>)> {
        let mut all: Vec<_> = self.0.iter().flat_map(|all| &all.statements).collect();
        all.sort_unstable_by_key(|(_, named)| named.order);
        all.into_iter().map(|(name, named)| (&**name, &named.statement)).collect()
    }

    /// True if a name means the statement of this number.
    pub(super) fn mean(&self, id: u64) -> bool {
        self.0.as_ref().is_some_and(|all| all.ids.contains(&id))
    }

    pub(super) fn insert(&mut self, name: Box<[u8]>, statement: Arc<Statement>) {
        let id = statement.id;
        let Meanings { statements, ids, given } = &mut **self.0.get_or_insert_default();
        *given += 1;
        let again = statements.get(&name).filter(|named| named.statement.id == id);
        let order = again.map_or(*given, |named| named.order);
        if let Some(before) = statements.insert(name, Named { statement, order }) {
            ids.remove(&before.statement.id);
        }
        ids.insert(id);
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<(Box<[u8]>, Arc<Statement>)> {
        let Meanings { statements, ids, .. } = &mut **self.0.as_mut()?;
        let (name, Named { statement, .. }) = statements.remove_entry(name)?;
        ids.remove(&statement.id);
        Some((name, statement))
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&[u8]) -> bool) {
        let Some(Meanings { statements, ids, .. }) = self.0.as_deref_mut() else { return };
        statements.retain(|name, Named { statement, .. }| {
            let is_kept = is_kept(name);
            if !is_kept {
                ids.remove(&statement.id);
            }
            is_kept
        });
    }

    pub(super) fn of(&self, id: u64) -> Option<&[u8]> {
        let mut all = self.0.iter().flat_map(|all| &all.statements);
        all.find(|(_, named)| named.statement.id == id).map(|(name, _)| &**name)
    }
}

/// The SQLSTATEs of errors that name a prepared statement: it does not exist, it exists already, or it takes another
/// number of parameters, by Bind or by EXECUTE.
const NAMING: [&[u8]; 4] = [b"26000", b"42P05", b"08P01", b"42601"];

/// Appends the ErrorResponse with this body to `out`, with the client's name of a statement in place of the server's, and with
/// places in the text as the client counts them. False, and nothing appended, if it is the same for both.
pub(super) fn with_client_names(
    body: &[u8],
    (failed, shifts): (&Expected, &Shifts),
    names: &Names,
    behind: &VecDeque<Expected>,
    out: &mut Vec<u8>,
) -> bool {
    let fields = ErrorFields::parse(body);
    let message = if NAMING.contains(&fields.sqlstate) {
        client_message(fields.message, failed, names, behind)
    } else {
        None
    };
    let is_other = message.is_some() || shifts.is_some();
    if is_other {
        write_error(body, message.as_deref(), shifts, out);
    }
    is_other
}

fn client_message(
    message: &[u8],
    failed: &Expected,
    names: &Names,
    behind: &VecDeque<Expected>,
) -> Option<Vec<u8>> {
    let escaped = [ESCAPED_PREFIX, SERVER_PREFIX].concat();
    let (place, name) = match memchr::memmem::find(message, escaped.as_bytes()) {
        Some(start) => (start..start + escaped.len(), SERVER_PREFIX.as_bytes()),
        None => {
            let (place, id) = named_statement(message)?;
            let is_about_it =
                matches!(failed.about, About::Prepares(about) | About::Uses(about) if about == id);
            // What stands for the unnamed statement.
            let unnamed = || is_about_it.then_some(&b""[..]);
            (place, client_name(id, failed, names, behind).or_else(unnamed)?)
        }
    };
    Some([message.get(..place.start)?, name, message.get(place.end..)?].concat())
}

/// What the client called the statement when it sent the message that failed: what was sent behind may have given the
/// name another meaning since.
pub(super) fn client_name<'a>(
    id: u64,
    failed: &'a Expected,
    names: &'a Names,
    behind: &'a VecDeque<Expected>,
) -> Option<&'a [u8]> {
    let is_about_it = matches!(failed.about, About::Prepares(about) | About::Uses(about) if about == id);
    let own = failed.undo.as_ref().filter(|_| is_about_it).map(|undo| &*undo.name);
    let undone = || {
        let mut undos = behind.iter().filter_map(|e| e.undo.as_deref());
        undos.find(|u| u.before.as_ref().is_some_and(|before| before.id == id)).map(|u| &*u.name)
    };
    own.or_else(undone).or_else(|| names.of(id))
}
