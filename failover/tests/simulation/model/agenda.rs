//! What will happen, in the order of its time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Time since the beginning of the story.
pub(crate) type Time = Duration;

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    number: u64,
    what: T,
}

/// A queue of what is to come; what is for the same instant happens in the order in which it was arranged.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }

    pub(crate) fn arrange(&mut self, at: Time, what: T) {
        self.next += 1;
        self.heap.push(Entry { at, number: self.next, what });
    }

    /// The next thing to happen, unless it is later than `until`.
    pub(crate) fn next_until(&mut self, until: Time) -> Option<(Time, T)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}
