//! The decision machine in a model world: seeds, and stories told on purpose.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test"
)]

mod judge;
mod model;
mod plan;
mod scenarios;
mod seeds;
mod story;
mod world;

#[test]
fn seeds() {
    let from: u64 = std::env::var("FROM").map_or(0, |t| t.parse().unwrap());
    let n: u64 = std::env::var("N").map_or(20, |t| t.parse().unwrap());
    let t = std::time::Instant::now();
    let mut bad = 0;
    for seed in from..from + n {
        let ending = seeds::tell(seed, false);
        if let Some(v) = &ending.violation {
            bad += 1;
            eprintln!("seed {seed}: {v} (at {:?})", ending.lasted);
        }
    }
    eprintln!("{bad} of {n} in {:?}", t.elapsed());
    if let Ok(seed) = std::env::var("SEED") {
        let ending = seeds::tell(seed.parse().unwrap(), true);
        eprintln!("{}{:?}", ending.story, ending.violation);
    }
}
