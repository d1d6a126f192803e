//! What a campaign has found worth keeping still holds, and what is near it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod record;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgherd_fuzz::random::Random;
use pgherd_fuzz::{Target, find, targets};

/// What chance begins with, where nothing else is said: a test that fails by the day would be no test.
const SEED: u64 = 20_788;
/// How long each target is given random inputs; `FUZZ_MILLISECONDS` says otherwise.
const MOMENT: Duration = Duration::from_millis(700);
/// What is kept is to be small.
const MOST_BYTES: usize = 1_100_000;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target, with their names.
fn corpus(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpora().join(target.name)).unwrap();
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

fn moment() -> Duration {
    let asked = std::env::var("FUZZ_MILLISECONDS").ok().and_then(|text| text.parse().ok());
    asked.map_or(MOMENT, Duration::from_millis)
}

/// The corpus, and then inputs that are made of it, from a seed that `FUZZ_SEED` says: whatever fails is told with it.
fn throw(name: &str) {
    let target = find(name).unwrap();
    let inputs = corpus(target);
    assert!(inputs.len() > 5, "{name} has a corpus of {}", inputs.len());
    for (path, input) in &inputs {
        assert!(catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok(), "{}", path.display());
    }
    let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|(_, input)| input).collect();
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    let mut random = Random::new(seed);
    let (begun, mut tried) = (Instant::now(), 0_usize);
    while begun.elapsed() < moment() {
        let input = random.input(&inputs, target.longest);
        let holds = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_ok();
        assert!(holds, "{name}, seed {seed}, input {tried}: {}", input.escape_ascii());
        tried += 1;
    }
    println!("{name}: {} inputs of its corpus, {tried} random ones", inputs.len());
    assert!(tried > 0);
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                throw(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_thrown_at() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(targets().map(|target| target.name).collect::<Vec<_>>(), tested);
        }
    };
}

targets! {
    frontend backend startup session scram_client scram_server md5 statement topology failover http hba config migrate nodes console
}

#[test]
fn the_corpora_are_small_and_each_is_a_targets() {
    let mut bytes = 0;
    for directory in fs::read_dir(corpora()).unwrap() {
        let directory = directory.unwrap();
        let name = directory.file_name().into_string().unwrap();
        let target = find(&name).unwrap_or_else(|| panic!("{name} is no target"));
        bytes += corpus(target).iter().map(|(_, input)| input.len()).sum::<usize>();
    }
    assert!(bytes < MOST_BYTES, "{bytes}");
}
