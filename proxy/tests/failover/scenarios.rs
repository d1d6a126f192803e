//! Each scenario of docs/failover.md has tests, and they are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pgherd_testkit::{Context, Result, ensure};

/// The names of all tests of this directory.
fn tests() -> Result<BTreeSet<String>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failover");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let text = fs::read_to_string(entry?.path())?;
        let functions = text.split("#[tokio::test]").skip(1).filter_map(|rest| rest.split_once("async fn "));
        names.extend(functions.filter_map(|(_, rest)| Some(rest.split_once('(')?.0.to_owned())));
    }
    Ok(names)
}

#[test]
fn every_scenario_of_the_handbook_has_tests_of_the_names_that_it_gives() -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/failover.md");
    let page = fs::read_to_string(page)?;
    let tests = tests()?;
    ensure!(tests.len() > 40, "the tests were found: {tests:?}");
    for number in 1..=25 {
        let start = format!("| S{number} |");
        let row = page.lines().find(|line| line.starts_with(&start)).context(start)?;
        let cells: Vec<&str> = row.split('|').collect();
        let named = cells.get(4).context("no cell with tests")?;
        let named: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        ensure!(!named.is_empty(), "no test is named: {row}");
        for name in named {
            ensure!(tests.contains(name), "S{number}: there is no test {name}");
        }
    }
    Ok(())
}
