//! Conversations as both sides see them.

mod blocks;
mod equivalence;
mod losses;
mod migrations;
mod oracle;
mod pipe;
mod play;
mod postgres;
mod reads;
mod remarks;
mod reruns;
mod scenario;
mod scribe;
mod scripts;
mod sequences;
mod server;
mod simple;
mod splits;
mod sql;
mod stand_ins;
mod step;
mod wire;
mod world;

const A: usize = 0;
const B: usize = 1;
