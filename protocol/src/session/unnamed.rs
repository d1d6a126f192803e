//! The unnamed statement of a session.

use std::sync::Arc;

use super::Placed;
use crate::prepared::Statement;
use crate::statement::{Mention, Scan};

/// The unnamed statement, kept so that it can be parsed again where it is missing.
#[derive(Debug)]
pub(super) struct Unnamed {
    pub(super) held: Held,
    /// Body of the Parse message behind the name. The allocation is reused.
    pub(super) definition: Vec<u8>,
    pub(super) placed: Placed,
    pub(super) scan: Scan,
    /// The statement that it names, if it is PREPARE, EXECUTE or DEALLOCATE.
    pub(super) mention: Option<Box<Mention>>,
    /// Tells it from those before it.
    pub(super) number: u64,
    /// What the client was told that it gives: see [`shape`](crate::prepared::shape).
    pub(super) gives: Option<u64>,
    /// What stands for it where the server is asked whether it gives the same still.
    pub(super) again: Option<Arc<Statement>>,
}

impl Unnamed {
    pub(super) const NONE: Self = Self {
        held: Held::Nowhere,
        definition: Vec::new(),
        placed: Placed::No,
        scan: Scan::UNSEEN,
        mention: None,
        number: 0,
        gives: None,
        again: None,
    };
}

/// Where the unnamed statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// There is none.
    Nowhere,
    /// Its definition is at hand.
    Here,
    /// It was too long to be kept: only the server has it.
    OnlyThere,
}
