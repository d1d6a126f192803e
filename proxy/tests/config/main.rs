//! What `pgherd check` says of a configuration, and `pgherd run` of one that it cannot serve.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::io::Write as _;
use std::process::{Command, Output};

use serde_json::Value as Json;

mod auth;
mod migrate;
mod monitoring;
mod packaging;
mod sources;
mod values;

const NODES: (&str, &str) = ("PG_BACKEND_NODE_LIST", "0:pg01,1:pg02:5433");

/// Runs `pgherd check` on a file with this text, with these variables and no others.
fn run(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (Output, String) {
    let mut toml = tempfile::Builder::new().prefix("pgherd").suffix(".toml").tempfile().unwrap();
    toml.write_all(file.as_bytes()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .args(["check", "--config"])
        .arg(toml.path())
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (output, toml.path().display().to_string())
}

/// The same as JSON, with the exit code.
fn check(file: &str, variables: &[(&str, &str)]) -> (Json, i32) {
    let (output, _) = run(file, variables, &["--json"]);
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
}

/// The value of a key in a configuration that is valid.
fn value(file: &str, variables: &[(&str, &str)], key: &str) -> String {
    let (json, code) = check(file, variables);
    assert_eq!(code, 0, "{json:#}");
    json["settings"][key]["value"].as_str().unwrap_or("-").to_owned()
}

/// The errors or warnings as `key or variable: message`.
fn lines(json: &Json, list: &str) -> Vec<String> {
    let line = |it: &Json| {
        let place = it["key"].as_str().or(it["variable"].as_str()).unwrap_or("-");
        format!("{place}: {}", it["message"].as_str().unwrap())
    };
    json[list].as_array().unwrap().iter().map(line).collect()
}

/// The errors of a configuration that is not valid.
fn errors(file: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let (json, code) = check(file, variables);
    assert_eq!(code, 1, "{json:#}");
    lines(&json, "errors")
}

/// The only error of a configuration.
fn error(file: &str, variables: &[(&str, &str)]) -> String {
    let errors = errors(file, variables);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].clone()
}

/// The warnings of a valid configuration about the variable.
fn warnings_about(variables: &[(&str, &str)], name: &str) -> Vec<String> {
    let (json, code) = check("", variables);
    assert_eq!(code, 0, "{json:#}");
    lines(&json, "warnings").into_iter().filter(|line| line.starts_with(name)).collect()
}

#[test]
fn the_table_of_decisions_is_explained_without_a_configuration() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .env_clear()
        .args(["failover", "--explain"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == include_bytes!("../../../docs/failover-table.md"));
}

#[test]
fn an_address_that_is_taken_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .env_clear()
        .envs([NODES, ("PGHERD_LISTEN__ADDRESS", address.as_str()), ("PGHERD_CONFIG", "/dev/null")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("listen.address: cannot listen on {address}: ")), "{said}");
}
