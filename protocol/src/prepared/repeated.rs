//! Unnamed statements that clients parse again and again: on servers a named one stands for them, which has been parsed already.

use std::cell::RefCell;
use std::sync::Arc;

use super::{SharedBy, Statement, Statements};
use crate::frame::split_cstr;
use crate::statement::{Reusable, reusable};

/// Definitions that are remembered.
const SLOTS: usize = 128;
/// A longer one is parsed each time.
const LONGEST: usize = 2048;

/// How PostgreSQL plans what stands for unnamed statements; see `plan_cache_mode` in its documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plans {
    /// For the values of the parameters, each time, as it plans unnamed statements.
    Custom,
    /// As it plans prepared statements: after five executions it may take one plan for all values.
    Auto,
}

/// The definitions that one thread's sessions parse again and again. It takes at most 128 of 2 KiB.
#[derive(Debug)]
pub struct Repeated(RefCell<Vec<Slot>>);

#[derive(Clone, Debug, Default)]
struct Slot {
    definition: Vec<u8>,
    shared_by: Option<SharedBy>,
    known: Known,
}

#[derive(Clone, Debug, Default)]
enum Known {
    /// It was seen once.
    #[default]
    Seen,
    /// It is parsed each time.
    Unfit,
    Stands(Arc<Statement>, Reusable),
}

/// What stands for an unnamed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    /// Its number.
    pub(crate) id: u64,
    /// What is to be known of its text.
    pub(crate) text: Reusable,
    /// How often the schema was known to have changed before it was made.
    pub(crate) generation: u64,
}

impl Default for Repeated {
    fn default() -> Self {
        Self(RefCell::new(vec![Slot::default(); SLOTS]))
    }
}

impl Repeated {
    /// What stands for the statement of this definition, text and types of parameters, in a session of this scope: none when it is seen
    /// for the first time, or where none can.
    pub(crate) fn find(&self, scope: u64, definition: &[u8], statements: &Statements) -> Option<StandIn> {
        let mut slots = self.0.borrow_mut();
        let slot = slots.get_mut(place(scope, definition)).filter(|_| definition.len() <= LONGEST)?;
        let shared_by = SharedBy { scope, generation: statements.generation(), is_stand_in: true };
        if slot.shared_by != Some(shared_by) || slot.definition != definition {
            slot.definition.clear();
            slot.definition.extend_from_slice(definition);
            slot.shared_by = Some(shared_by);
            slot.known = Known::Seen;
            return None;
        }
        if let Known::Seen = slot.known {
            let text = split_cstr(definition).and_then(|(text, _)| reusable(text));
            slot.known = text.map_or(Known::Unfit, |text| {
                Known::Stands(statements.intern_by(shared_by, definition), text)
            });
        }
        match &slot.known {
            Known::Stands(statement, text) => {
                Some(StandIn { id: statement.id, text: *text, generation: statement.generation })
            }
            Known::Seen | Known::Unfit => None,
        }
    }

    /// What stood for this definition turned out not to fit: it is parsed each time from now on, as long as it is remembered.
    pub(crate) fn reject(&self, scope: u64, definition: &[u8]) {
        let mut slots = self.0.borrow_mut();
        if let Some(slot) =
            slots.get_mut(place(scope, definition)).filter(|slot| slot.definition == definition)
        {
            slot.known = Known::Unfit;
        }
    }

    /// The statement that was found for this definition.
    pub(crate) fn statement(&self, scope: u64, definition: &[u8], id: u64) -> Option<Arc<Statement>> {
        let slots = self.0.borrow();
        match &slots.get(place(scope, definition))?.known {
            Known::Stands(statement, _) if statement.id == id => Some(Arc::clone(statement)),
            _ => None,
        }
    }
}

/// By the scope, the length, and by what stands at the beginning, in the middle and at the end.
fn place(scope: u64, definition: &[u8]) -> usize {
    let word = |at: usize| {
        let bytes = definition.get(at..).and_then(<[u8]>::first_chunk);
        bytes.copied().map_or(0, u64::from_ne_bytes)
    };
    let len = definition.len();
    let mut hash = scope ^ len as u64;
    for at in [len / 4, len / 2, len / 4 * 3, len.saturating_sub(12)] {
        hash = (hash ^ word(at)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    usize::try_from(hash >> 32).unwrap_or_default() % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_stands_for_what_is_parsed_again_and_nothing_else() {
        let (repeated, statements) = (Repeated::default(), Statements::default());
        let find = |scope, definition: &[u8]| repeated.find(scope, definition, &statements);
        let definition = b"select a from t where b = $1\0\0\0";
        assert_eq!(find(1, definition), None, "it may not come again");
        let found = find(1, definition).unwrap();
        assert!(found.text.has_plans && find(1, definition) == Some(found));
        let statement = repeated.statement(1, definition, found.id).unwrap();
        assert!(statement.definition() == definition && statement.scope == Some(1));
        // Who prepares the same under a name has another one: of that is known what it gives.
        assert_ne!(statements.intern(1, definition).id, found.id);
        // With other settings, other types, or after a migration it is another.
        assert_eq!(find(2, definition), None);
        assert_eq!(find(2, b"select a from t where b = $1\0\0\x01\0\0\0\x17"), None);
        assert_eq!(find(1, definition), Some(found), "those have places of their own");
        statements.renew();
        assert_eq!(find(1, definition), None);
        assert_ne!(find(1, definition).unwrap().id, found.id);
        for unfit in [&b"begin\0\0\0"[..], &[b'x'; LONGEST + 1]] {
            assert!((0..3).all(|_| find(1, unfit).is_none()));
        }
    }

    #[test]
    fn another_thread_finds_the_same() {
        let (here, there, statements) = (Repeated::default(), Repeated::default(), Statements::default());
        let definition = b"values ($1)\0\0\0";
        let find = |repeated: &Repeated| {
            repeated.find(7, definition, &statements);
            repeated.find(7, definition, &statements).unwrap()
        };
        assert_eq!(find(&here), find(&there));
    }
}
