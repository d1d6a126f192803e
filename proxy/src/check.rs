//! `pgherd check`: says what is wrong with a configuration, and what is in force.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Map, Value as Json, json};

use crate::cli::CheckArgs;
use crate::config::{self, Loaded, Origin, Problem, Rejected};

/// Exit code for errors in the configuration.
pub(crate) const CONFIGURATION_ERROR: u8 = 1;

/// Reads the configuration and prints what it says. Fails only if that can't be printed.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn run(args: &CheckArgs) -> io::Result<ExitCode> {
    let outcome = config::load(args.config.as_deref());
    match show(&mut io::stdout().lock(), args.json, &outcome) {
        // `pgherd check | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        shown => shown?,
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(CONFIGURATION_ERROR) })
}

fn show(out: &mut impl Write, json: bool, outcome: &Result<Loaded, Rejected>) -> io::Result<()> {
    if json {
        writeln!(out, "{:#}", to_json(outcome))?;
    } else {
        print(out, outcome)?;
    }
    out.flush()
}

/// Prints the problems of a configuration, one a line.
///
/// # Errors
/// `out` can't be written.
pub(crate) fn print_problems(
    out: &mut impl Write,
    errors: &[Problem],
    warnings: &[Problem],
) -> io::Result<()> {
    errors.iter().try_for_each(|error| writeln!(out, "error: {error}"))?;
    warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

fn print(out: &mut impl Write, outcome: &Result<Loaded, Rejected>) -> io::Result<()> {
    let Loaded { config, origins, file, warnings, .. } = match outcome {
        Ok(loaded) => loaded,
        Err(rejected) => {
            print_problems(out, &rejected.errors, &rejected.warnings)?;
            let count = rejected.errors.len();
            return writeln!(
                out,
                "{count} error{}: pgherd would not start",
                if count == 1 { "" } else { "s" }
            );
        }
    };
    print_problems(out, &[], warnings)?;
    match file {
        Some(file) => writeln!(out, "The configuration is valid. In force, with {}:", file.display())?,
        None => writeln!(out, "The configuration is valid. In force, without a file:")?,
    }
    let rows: Vec<_> = config.describe();
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    for (key, value) in rows {
        let value = value.as_deref().unwrap_or("-");
        match origins.get(key) {
            None | Some(Origin::Default) => writeln!(out, "{key:width$}  {value}")?,
            Some(origin) => writeln!(out, "{key:width$}  {value}  ({origin})")?,
        }
    }
    Ok(())
}

fn to_json(outcome: &Result<Loaded, Rejected>) -> Json {
    let list = |problems: &[Problem]| problems.iter().map(Problem::to_json).collect::<Vec<_>>();
    match outcome {
        Ok(loaded) => {
            let settings: Map<String, Json> =
                loaded.config.describe().into_iter().map(|row| setting(loaded, row)).collect();
            json!({
                "valid": true,
                "file": loaded.file.as_ref().map(|file| file.display().to_string()),
                "errors": [],
                "warnings": list(&loaded.warnings),
                "settings": settings,
            })
        }
        Err(rejected) => json!({
            "valid": false,
            "file": rejected.file.as_ref().map(|file| file.display().to_string()),
            "errors": list(&rejected.errors),
            "warnings": list(&rejected.warnings),
        }),
    }
}

fn setting(loaded: &Loaded, (key, value): (&'static str, Option<String>)) -> (String, Json) {
    let source = loaded.origins.get(key).unwrap_or(&Origin::Default).to_string();
    (key.to_owned(), json!({ "value": value, "source": source }))
}
