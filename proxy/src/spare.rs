//! What a worker keeps for the next one that needs it.

use std::cell::{Cell, RefCell};

/// At most so many are kept.
const KEPT: usize = 256;
/// Room for so many is never given up.
const KEPT_AT_LEAST: usize = 16;

/// Things that are lent again and again.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    things: RefCell<Vec<T>>,
    /// The fewest that were spare at once since they were trimmed.
    unneeded: Cell<usize>,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self { things: RefCell::default(), unneeded: Cell::new(0) }
    }
}

impl<T> Spare<T> {
    /// The one used last, since its memory is warm.
    pub(crate) fn take(&self) -> Option<T> {
        let mut things = self.things.borrow_mut();
        let thing = things.pop();
        self.unneeded.set(self.unneeded.get().min(things.len()));
        thing
    }

    /// Takes one back; what is too many is dropped.
    pub(crate) fn give(&self, thing: T) {
        let mut things = self.things.borrow_mut();
        if things.len() < KEPT {
            things.push(thing);
        }
    }

    /// Frees half of those that were not needed since this was done last: what a burst has left goes away little by little.
    pub(crate) fn trim(&self) {
        let mut things = self.things.borrow_mut();
        let unneeded = self.unneeded.get().div_ceil(2).min(things.len());
        things.drain(..unneeded);
        things.shrink_to(KEPT_AT_LEAST);
        self.unneeded.set(things.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_has_left_goes_away_and_what_is_in_use_stays() {
        let spare = Spare::default();
        (0..100).for_each(|number| spare.give(number));
        let taken: Vec<_> = (0..100).filter_map(|_| spare.take()).collect();
        taken.into_iter().for_each(|number| spare.give(number));
        spare.trim();
        assert_eq!(spare.things.borrow().len(), 100, "all were in use");
        for _ in 0..10 {
            let used = [spare.take(), spare.take()];
            used.into_iter().flatten().for_each(|number| spare.give(number));
            spare.trim();
        }
        assert_eq!(spare.things.borrow().len(), 2);
    }
}
