//! The decision machine in a model world: seeds, stories told on purpose, and the table of transitions as a whole.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test"
)]

mod judge;
mod model;
mod plan;
mod scenarios;
mod seeds;
mod story;
mod table;
mod world;
