//! Are the simulation's judges awake? Each mutant takes one safeguard out of the decision machine, by hand as it were; the
//! simulation, with the seeds that CI tells, must notice.
//!
//! `make mutants` tries them all, in copies of what is pure of the workspace, and prints what noticed. `PGHERD_MUTANT=text`
//! tries those that have the text in their description, `PGHERD_MUTANT='one|other'` those that have one of the texts.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod copy;
mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use copy::{Copy, Verdict};
use list::{Mutant, mutants};

/// A mutant that goes in a circle is noticed, too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Tried whenever the tests run: one that a story told on purpose notices, one that a seed does, and one of what the servers are known by.
const A_FEW: [&str; 3] = [
    "a candidate has not failed to promote before",
    "a write was committed before the swap",
    "WAL past the switch point is not on the lineage",
];

#[test]
fn every_mutant_applies_to_the_present_code() {
    let mut described = BTreeSet::new();
    for mutant in mutants() {
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for edit in mutant.edits() {
            let path = workspace().join(edit.file);
            let text = texts
                .entry(edit.file)
                .or_insert_with(|| fs::read_to_string(path).expect("the file is there"));
            let times = text.matches(edit.find).count();
            assert_eq!(times, 1, "without {:?}: stands {times} times in {}", mutant.without, edit.file);
            assert_ne!(edit.find, edit.replace, "without {:?}: changes nothing", mutant.without);
            *text = text.replacen(edit.find, edit.replace, 1);
        }
        assert!(described.insert(mutant.without), "{:?} is there twice", mutant.without);
    }
}

#[test]
fn the_simulation_notices_a_few_mutants() {
    let a_few: Vec<&Mutant> = mutants().filter(|mutant| A_FEW.contains(&mutant.without)).collect();
    assert_eq!(a_few.len(), A_FEW.len(), "they are in the list");
    assert_noticed(&try_out(&a_few, 1, |core| Copy::of_workspace(&format!("a-few-{core}"), false)));
}

#[test]
#[ignore = "builds the simulation once a mutant; make mutants"]
fn the_simulation_notices_every_mutant() {
    let copy = |core| Copy::of_workspace(&format!("mutants-{core}"), true);
    assert_eq!(copy(0).simulate(PATIENCE), Verdict::Passed, "as it is, the simulation passes");
    let texts = std::env::var("PGHERD_MUTANT").unwrap_or_default();
    let wanted = |mutant: &&Mutant| texts.split('|').any(|text| mutant.without.contains(text));
    let all: Vec<&Mutant> = mutants().filter(wanted).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let tried = try_out(&all, cores, copy);
    eprintln!("\n| without | noticed by |\n|---|---|");
    for (mutant, verdict) in &tried {
        eprintln!("| {} | {verdict} |", mutant.without);
    }
    assert_noticed(&tried);
}

/// Tries these, in as many copies at a time; what came of each, in their order.
fn try_out<'a>(
    mutants: &[&'a Mutant],
    copies: usize,
    copy: impl Fn(usize) -> Copy + Sync,
) -> Vec<(&'a Mutant, Verdict)> {
    let waiting = Mutex::new(mutants.iter().enumerate());
    let tried = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for number in 0..copies.min(mutants.len()) {
            let (waiting, tried, copy) = (&waiting, &tried, &copy);
            scope.spawn(move || {
                let copy = copy(number);
                let next = || waiting.lock().expect("nobody has panicked").next();
                while let Some((at, mutant)) = next() {
                    let began = Instant::now();
                    let verdict = copy.with(mutant, |copy| copy.simulate(PATIENCE));
                    eprintln!("{:>4} s  without {}: {verdict}", began.elapsed().as_secs(), mutant.without);
                    tried.lock().expect("nobody has panicked").insert(at, (*mutant, verdict));
                }
            });
        }
    });
    tried.into_inner().expect("nobody has panicked").into_values().collect()
}

fn assert_noticed(tried: &[(&Mutant, Verdict)]) {
    let noticed = |verdict: &Verdict| matches!(verdict, Verdict::Noticed(_));
    let unnoticed: Vec<String> = tried
        .iter()
        .filter(|(_, verdict)| !noticed(verdict))
        .map(|(mutant, verdict)| format!("{}: {verdict}", mutant.without))
        .collect();
    assert!(unnoticed.is_empty(), "of {} not noticed: {unnoticed:#?}", tried.len());
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}
