//! `pgherd events`: what has happened.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::EventsArgs;
use super::console::{self, Console, Row};
use super::herd::{plain, print};

/// Prints what has happened since pgherd began, as far as it is kept.
///
/// # Errors
/// Standard output can't be written.
pub(super) fn run(args: &EventsArgs) -> io::Result<ExitCode> {
    console::run(async {
        let events = Console::open(&args.access).await?.ask("SHOW EVENTS").await?;
        let text = if args.json {
            format!("{:#}\n", events.iter().map(to_json).collect::<Json>())
        } else {
            events.iter().map(line).collect()
        };
        Ok(print(&text).map(|()| ExitCode::SUCCESS))
    })
}

fn line(row: &Row) -> String {
    let mut line = format!("{}  {:<18} node {}", row.text("time"), row.text("event"), row.text("node"));
    if let Some(name) = row.value("repmgr_name") {
        let _ = write!(line, " ({})", plain(name));
    }
    let how = if row.text("successful") == "t" { "" } else { "FAILED: " };
    let _ = writeln!(line, "  {how}{}", plain(row.text("details")));
    line
}

fn to_json(row: &Row) -> Json {
    json!({
        "time": row.text("time"),
        "event": row.text("event"),
        "node": row.text("node").parse::<i64>().ok(),
        "repmgr_name": row.value("repmgr_name"),
        "successful": row.text("successful") == "t",
        "details": row.text("details"),
    })
}
