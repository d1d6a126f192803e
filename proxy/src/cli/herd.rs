//! Orders from the command line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use super::Order;
use super::console::{self, Console, Failure};

/// Prints the table of decisions.
///
/// # Errors
/// Standard output can't be written.
pub(super) fn explain() -> io::Result<ExitCode> {
    print(&pgherd_failover::explain())?;
    Ok(ExitCode::SUCCESS)
}

/// Gives an order to the running pgherd, and says what it did.
///
/// # Errors
/// Standard output can't be written.
pub(super) fn run(order: Order) -> io::Result<ExitCode> {
    let (access, text, dry_run) = match order {
        Order::Switchover(it) => {
            let to = it.to.as_deref().map(|to| format!(" {}", quote(to))).unwrap_or_default();
            (it.access, format!("SWITCHOVER{to}"), it.dry_run)
        }
        Order::Failover(it) => {
            let mut text = "FAILOVER".to_owned();
            if let Some(to) = &it.to {
                let _ = write!(text, " TO {}", quote(to));
            }
            if it.allow_data_loss {
                text.push_str(" ALLOW DATA LOSS");
            }
            if let Some(timeline) = it.accept_timeline {
                let _ = write!(text, " ACCEPT TIMELINE {timeline}");
            }
            (it.access, text, it.dry_run)
        }
        Order::Rejoin(it) => {
            let loss = if it.allow_data_loss { " ALLOW DATA LOSS" } else { "" };
            let reclone = if it.reclone { " RECLONE" } else { "" };
            (it.access, format!("REJOIN {}{loss}{reclone}", quote(&it.server)), it.dry_run)
        }
        Order::Attach(it) => (it.access, format!("ATTACH {}", quote(&it.server)), false),
        Order::Detach(it) => (it.access, format!("DETACH {}", quote(&it.server)), false),
        Order::Pause(access) => (access, "PAUSE FAILOVER".to_owned(), false),
        Order::Resume(access) => (access, "RESUME FAILOVER".to_owned(), false),
    };
    console::run(async {
        let console = Console::open(&access).await?;
        if dry_run { rehearse(&console, &text).await } else { give(&console, &text).await }
    })
}

async fn give(console: &Console, order: &str) -> Result<io::Result<ExitCode>, Failure> {
    let rows = console.ask(order).await?;
    let done: String = rows.iter().map(|row| format!("{}\n", plain(row.text("done")))).collect();
    Ok(print(&done).map(|()| ExitCode::SUCCESS))
}

/// What it would do; an order that would be refused ends as the order itself would.
async fn rehearse(console: &Console, order: &str) -> Result<io::Result<ExitCode>, Failure> {
    let rows = console.ask(&format!("EXPLAIN {order}")).await?;
    let mut page = String::new();
    for row in &rows {
        let (item, value, detail) = (row.text("item"), row.text("value"), row.text("detail"));
        let _ = writeln!(page, "{item} {value}: {}", plain(detail));
    }
    let refused = rows.iter().any(|row| row.text("value") == "would be refused");
    let code = if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    Ok(print(&page).map(|()| code))
}

/// Prints to standard output; whoever has seen enough of it may have gone.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// What servers say, or whoever writes into repmgr's tables, as one line in which a terminal finds nothing to obey.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let shown = |it: char| if it.is_control() { it.escape_default().to_string() } else { it.to_string() };
    text.chars().map(shown).collect()
}

fn quote(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_finds_nothing_to_obey() {
        assert_eq!(plain("node 1 (pg-\u{e9}1) \"a\\b\""), "node 1 (pg-\u{e9}1) \"a\\b\"");
        assert_eq!(plain("pg01\n\u{1b}[2J\u{9b}1m\t"), "pg01\\n\\u{1b}[2J\\u{9b}1m\\t");
    }
}
