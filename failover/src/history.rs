//! The last decisions, with what was seen.

use std::collections::VecDeque;
use std::time::Instant;

use crate::StateName;

/// How many decisions are kept.
const KEPT: usize = 256;

/// One transition that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Instant,
    /// The transition's name in the table.
    pub name: &'static str,
    /// The state that was left.
    pub from: StateName,
    /// The state that was entered.
    pub to: StateName,
    /// The reason in words, with what was seen.
    pub seen: String,
    /// How often in a row the same was decided for the same reason.
    pub times: u32,
}

/// The last decisions, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Decision>);

impl History {
    pub(crate) fn note(&mut self, decision: Decision) {
        if let Some(last) = self.0.back_mut()
            && last.name == decision.name
            && last.seen == decision.seen
        {
            last.times += 1;
            last.at = decision.at;
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(decision);
    }

    /// The decisions, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.0.iter()
    }
}
