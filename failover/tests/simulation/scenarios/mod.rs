//! Stories told on purpose, each named for what the user sees.

mod cascade;
mod discovery;
mod guards;
mod hangs;
mod herd;
mod holds;
mod known;
mod lease;
mod losses;
mod operators;
mod orders;
mod promotions;
mod recall;
mod safeguards;
mod slots;
mod surprises;
mod switchover;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The rows that the stories of this process have taken.
static TAKEN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn note_taken(rows: &BTreeSet<&'static str>) {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
}

/// Tells every story; the rows of the table that they take.
pub(crate) fn tell_all() -> BTreeSet<&'static str> {
    let all = [
        guards::ALL,
        hangs::ALL,
        holds::ALL,
        known::ALL,
        losses::ALL,
        operators::ALL,
        orders::ALL,
        promotions::ALL,
        recall::ALL,
        safeguards::ALL,
        surprises::ALL,
        switchover::ALL,
    ];
    all.iter().copied().flatten().for_each(|story| story());
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Makes each function a test, and all of them a list.
macro_rules! stories {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {
        $(
            $(#[$meta])*
            #[test]
            fn $name() $body
        )*

        pub(crate) const ALL: &[fn()] = &[$($name),*];
    };
}
use stories;
