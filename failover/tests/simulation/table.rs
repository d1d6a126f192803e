//! The table of transitions as a whole.

use std::collections::BTreeSet;
use std::path::Path;

use pgherd_failover::{On, RESTS, StateName, explain, transitions};

use crate::scenarios;

/// What goes on beside the states has no rows: it is seen, not decided.
const BESIDE: [StateName; 2] = [StateName::Repoint, StateName::Rejoin];

#[test]
fn names_are_unique_and_every_word_is_there() {
    let names: BTreeSet<&str> = transitions().map(|row| row.name).collect();
    assert_eq!(names.len(), transitions().count());
    for row in transitions() {
        for words in [row.name, row.guard, row.commands, row.reason] {
            assert!(!words.trim().is_empty(), "{row}");
        }
    }
}

#[test]
fn every_state_has_a_way_in_and_a_way_out() {
    for state in StateName::ALL.into_iter().filter(|state| !BESIDE.contains(state)) {
        let leaves = transitions().any(|row| row.from == state && row.to != state);
        let enters = transitions().any(|row| row.to == state && row.from != state);
        assert!(leaves, "{state} has no way out");
        assert!(enters, "{state} has no way in");
    }
    assert!(transitions().all(|row| !BESIDE.contains(&row.from) && !BESIDE.contains(&row.to)));
}

#[test]
fn every_state_is_left_for_steady_in_some_way() {
    let mut reach = BTreeSet::from([StateName::Steady]);
    while let Some(row) = transitions().find(|row| reach.contains(&row.to) && !reach.contains(&row.from)) {
        reach.insert(row.from);
    }
    let all: BTreeSet<StateName> = StateName::ALL.into_iter().filter(|it| !BESIDE.contains(it)).collect();
    assert_eq!(reach, all);
}

#[test]
fn every_event_in_every_state_is_taken_or_there_is_a_reason_to_rest() {
    let rests: BTreeSet<StateName> = RESTS.iter().map(|(state, _)| *state).collect();
    assert_eq!(rests.len(), RESTS.len(), "one reason a state");
    for state in StateName::ALL {
        for event in [On::Look, On::Ended, On::Order] {
            let taken = transitions().any(|row| row.from == state && [On::Any, event].contains(&row.on));
            assert!(taken || rests.contains(&state), "{state} on {event:?}");
        }
    }
}

#[test]
fn every_row_is_taken_in_some_story() {
    let taken = scenarios::tell_all();
    let idle: Vec<String> =
        transitions().filter(|row| !taken.contains(row.name)).map(ToString::to_string).collect();
    eprintln!("{} of {} rows are taken", taken.len(), transitions().count());
    assert!(idle.is_empty(), "rows that no story takes:\n{}", idle.join("\n"));
}

#[test]
fn the_printed_table_is_the_one_in_force() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/failover-table.md");
    let printed = explain();
    if std::env::var_os("PGHERD_PRINT_TABLE").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == printed,
        "print it again: PGHERD_PRINT_TABLE=1 cargo test -p pgherd-failover --test simulation"
    );
}
