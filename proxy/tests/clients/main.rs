//! What clients see of pgherd, beside what they see of PostgreSQL itself.

#![allow(clippy::print_stderr, reason = "what was measured is part of a test's output")]

mod cancel;
mod cancel_late;
mod copy;
mod drain;
mod front;
mod leaving;
mod login;
mod pool;
mod prepared;
mod startup;
mod violations;
