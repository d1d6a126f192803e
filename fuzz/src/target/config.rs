//! The configuration: a file of any text, and one key by its two ways in.

use pgherd::input;

use super::scratch::Scratch;
use crate::bytes::{Bytes, text};

/// A file, or a key and its value.
pub(crate) fn run(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let is_file = bytes.bit();
    let choice = usize::from(bytes.byte());
    let text = text(bytes.rest());
    // What it names is read.
    if ["/dev", "/proc", "/sys"].iter().any(|place| text.contains(place)) {
        return;
    }
    if is_file { file(&text) } else { one_key(choice, &text) }
}

fn file(text: &str) {
    let problems = input::problems_of_file(text);
    assert_eq!(input::problems_of_file(text), problems, "{text:?}");
    let lines = text.lines().count().max(1);
    for problem in &problems {
        let line = problem.strip_prefix("/file:").and_then(|it| it.split(':').next());
        let line = line.map_or(1, |line| line.parse().expect("a number"));
        assert!((1..=lines + 1).contains(&line), "{problem}");
        assert!(!problem.contains(|it: char| it.is_control() && it != '\n'), "{problem:?}");
    }
    // A file that is right is right with a comment above it, unless it begins with a mark of its bytes' order.
    if text.starts_with('\u{feff}') {
        return;
    }
    let commented = input::problems_of_file(&format!("# nothing\n{text}"));
    assert_eq!(commented.len(), problems.len(), "{text:?}: {problems:?} {commented:?}");
}

/// A value has the same effect from a file and from the environment.
fn one_key(choice: usize, value: &str) {
    let keys: Vec<&str> = input::keys().collect();
    let key = keys[choice % keys.len()];
    if value.is_empty() || value.contains(|it: char| it.is_control()) || takes_toml(value) || is_path(key) {
        return;
    }
    let variable = format!("PGHERD_{}", key.replace('.', "__").to_uppercase());
    let nodes = ("PGHERD_BACKENDS__NODES".to_owned(), "0:a".to_owned());
    let mut variables = vec![(variable, value.to_owned())];
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
    let mut file = String::new();
    if key != "backends.nodes" {
        variables.push(nodes);
        file.push_str("backends.nodes = \"0:a\"\n");
    }
    file = format!("{file}{section}.{name} = \"{quoted}\"\n");
    let place = Scratch::new(file.as_bytes());
    let by_file = input::in_force_by_file(place.path());
    let by_environment = input::in_force_by_environment(&variables);
    match (by_file, by_environment) {
        (Ok(by_file), Ok(by_environment)) => assert_eq!(by_file, by_environment, "{key} = {value:?}"),
        // A number is none in quotes.
        (Err(why), Ok(_)) => {
            assert!(
                why.iter().any(|why| why.contains("got `") || why.contains("a string")),
                "{key} = {value:?}: {why:?}"
            );
        }
        (Ok(_), Err(why)) => {
            panic!("{key} = {value:?} is right in a file, and not in the environment: {why:?}")
        }
        (Err(by_file), Err(by_environment)) => assert_eq!(by_file.is_empty(), by_environment.is_empty()),
    }
}

/// From the environment it would be an array.
fn takes_toml(value: &str) -> bool {
    value.trim_start().starts_with('[')
}

fn is_path(key: &str) -> bool {
    ["file", "cert", "key", "ca", "known_hosts", "handover", "unix"].iter().any(|end| key.ends_with(end))
}
