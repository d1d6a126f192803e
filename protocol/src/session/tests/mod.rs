//! Conversations as both sides see them.

mod equivalence;
mod losses;
mod oracle;
mod play;
mod postgres;
mod scripts;
mod simple;
mod splits;
mod wire;
mod world;

const A: usize = 0;
const B: usize = 1;
