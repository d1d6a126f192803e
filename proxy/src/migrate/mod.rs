//! `pgherd migrate`: makes a configuration of pgpool's or PgBouncer's, in which what has no equal is explained where somebody would look
//! for it.
//!
//! The files are read into settings ([`conf`], [`ini`]); [`pgpool`] and [`pgbouncer`] make a [`Draft`] of them, by the tables with
//! which the variables and keys of both are read anyway; [`render`] writes it.

mod conf;
mod draft;
mod ini;
mod listen;
mod output;
mod pgbouncer;
mod pgpool;
mod render;
mod report;
mod servers;
mod source;
mod toml_value;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{MigrateArgs, Peer, print};
use crate::config;

use draft::Draft;
use output::Output;
use report::Report;
use source::{Fault, Files};

/// Reads a peer's configuration and writes one for pgherd.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn run(args: &MigrateArgs) -> io::Result<ExitCode> {
    match migrate(args) {
        Ok(Made { out, summary, is_accepted }) => {
            print(&out)?;
            // Where nobody reads it, the exit code says it still.
            let _ = io::stderr().write_all(summary.as_bytes());
            Ok(if is_accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(fault) => {
            let _ = writeln!(io::stderr(), "error: {fault}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is told of it.
struct Made {
    /// For standard output.
    out: String,
    /// For standard error.
    summary: String,
    /// `pgherd check` would take it.
    is_accepted: bool,
}

fn migrate(args: &MigrateArgs) -> Result<Made, Fault> {
    let file = args.file.as_path();
    let peer = match args.from {
        Some(peer) => peer,
        None => detect(file)?,
    };
    if let Some(hba) = &args.hba {
        Files::default().read(hba)?;
    }
    let output = Output::new(args.output.as_deref(), args.force)?;
    let mut draft = Draft::default();
    draft.beside = output.beside();
    let mut files = Files::default();
    let name = match peer {
        Peer::Pgpool => {
            pgpool::migrate(file, conf::read(file, &mut files)?, args.hba.as_deref(), &mut draft);
            "pgpool-II"
        }
        Peer::Pgbouncer => {
            pgbouncer::migrate(file, ini::read(file, &mut files)?, args.hba.as_deref(), &mut draft)?;
            "PgBouncer"
        }
    };
    let text = render::render(&draft, &file.display().to_string(), name);
    let written = output.write(&text, &draft.passwords)?;
    let (errors, warnings) = config::check_text(&text, output.path().unwrap_or(Path::new("-")));
    let report = Report {
        peer: name,
        from: file,
        draft: &draft,
        written: &written,
        errors: &errors,
        warnings: &warnings,
    };
    let is_printed = output.path().is_none();
    let (out, summary) = if args.json {
        (format!("{:#}\n", report.to_json(is_printed.then_some(&text))), String::new())
    } else {
        (if is_printed { text } else { String::new() }, report.summary())
    };
    Ok(Made { out, summary, is_accepted: errors.is_empty() })
}

/// What a file becomes on standard output, and what is wrong with that.
///
/// # Errors
/// Why nothing becomes of it.
pub(crate) fn page_of(file: &Path) -> Result<(String, Vec<String>), String> {
    let file = file.to_owned();
    let args = MigrateArgs { file, from: None, hba: None, output: None, force: false, json: false };
    let made = migrate(&args).map_err(|fault| fault.to_string())?;
    let (errors, _) = config::check_text(&made.out, Path::new("-"));
    Ok((made.out, errors.into_iter().map(|error| error.message).collect()))
}

/// Whose file it is: PgBouncer's has sections, and comments that pgpool's has not.
fn detect(file: &Path) -> Result<Peer, Fault> {
    let text = Files::default().read(file)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.next() {
        Some(line) if line.starts_with(['[', ';', '%']) => Ok(Peer::Pgbouncer),
        Some(_) => Ok(Peer::Pgpool),
        None => Err(Fault::of(
            file,
            "says nothing by which it could be told whose file it is: say --from pgpool or --from pgbouncer",
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a file becomes, and what is wrong with that.
    fn made(text: &str) -> Option<(String, Vec<String>)> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("source");
        std::fs::write(&file, text).unwrap();
        page_of(&file).ok()
    }

    const OF_PGPOOL: [&str; 16] = [
        "listen_addresses",
        "port",
        "socket_dir",
        "backend_hostname0",
        "backend_port0",
        "backend_weight0",
        "backend_data_directory0",
        "backend_flag0",
        "num_init_children",
        "client_idle_limit",
        "load_balance_mode",
        "write_function_list",
        "database_redirect_preference_list",
        "sr_check_user",
        "delay_threshold",
        "log_min_messages",
    ];
    const OF_PGBOUNCER: [&str; 16] = [
        "a",
        "b",
        "listen_addr",
        "listen_port",
        "pool_mode",
        "default_pool_size",
        "query_timeout",
        "server_lifetime",
        "min_pool_size",
        "tcp_keepalive",
        "tcp_user_timeout",
        "admin_users",
        "auth_type",
        "verbose",
        "unix_socket_mode",
        "nothing",
    ];

    fn pgbouncer_line(index: usize, name: &str, value: &str) -> String {
        let value = value.trim().replace('\'', "");
        match index {
            0 => format!("{name} = host='x{value}' pool_size='1{value}' user='u{value}'\n"),
            1 => {
                let whole = value.replace('"', "");
                format!("\"{name}{whole}\" = dbname='d{value}' pool_mode='s{value}'\n[pgbouncer]\n")
            }
            _ => format!("{name} = {value}\n"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_the_files_say_what_is_written_is_valid(
            values in proptest::collection::vec("[a-z0-9:,./*()^$ \"\u{e9}\u{1b}=-]{0,12}", 16),
        ) {
            let lines = OF_PGPOOL.iter().zip(&values);
            let pgpool: String = lines.map(|(name, value)| format!("{name} = '{value}'\n")).collect();
            let lines = OF_PGBOUNCER.iter().zip(&values).enumerate();
            let pgbouncer: String = lines.map(|(index, (name, value))| pgbouncer_line(index, name, value)).collect();
            for text in [pgpool, format!("[databases]\n{pgbouncer}")] {
                let Some((page, errors)) = made(&text) else { panic!("{text}") };
                prop_assert!(errors.is_empty(), "{errors:?}\n{text}\n{page}");
            }
        }

        #[test]
        fn no_file_makes_it_panic(
            any in "\\PC*",
            near in "([a-z_]{1,5} ?=? ?['a-z0-9]{0,5}\n|\\[(pgbouncer|users)\\]\n){0,5}",
        ) {
            let _ = (made(&any), made(&near));
        }
    }
}
