//! What is thrown at pgherd: each target takes any bytes and asserts what must hold whatever they are. `fuzz/campaign` runs them with libFuzzer;
//! CI runs the corpora, and each for a moment with random bytes (`fuzz/tests/thrown/`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target fails by a panic"
)]

pub mod bytes;
pub mod random;
mod target;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// The longest input that is worth trying.
    pub longest: usize,
}

/// All of them, as far as they are built.
pub fn targets() -> impl Iterator<Item = Target> {
    [target::PROTOCOL, target::HERD, target::MANAGER, target::PROXY].into_iter().flatten().copied()
}

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    targets().find(|target| target.name == name)
}
