//! `pgherd status`: how the herd is.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::console::{self, Console, Failure, Row};
use super::herd::{plain, print};
use super::{Access, StatusArgs};

/// Exit code where no server takes writes.
const DEGRADED: u8 = 4;
/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Clears a terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Prints it, once or again and again.
///
/// # Errors
/// Standard output can't be written.
pub(super) fn run(args: &StatusArgs) -> io::Result<ExitCode> {
    if !args.watch {
        return console::run(async {
            let herd = Herd::look(&args.access).await?;
            let text = if args.json { format!("{:#}\n", herd.to_json()) } else { herd.to_text() };
            Ok(print(&text).map(|()| herd.exit_code()))
        });
    }
    console::run(async {
        loop {
            let text = match Herd::look(&args.access).await {
                Ok(herd) => herd.to_text(),
                Err(Failure::Unreachable(why) | Failure::Refused(why)) => format!("{why}\n"),
                Err(failure) => return Err(failure),
            };
            if let Err(error) = print(&format!("{CLEAR}{text}")) {
                return Ok(Err(error));
            }
            sleep(EVERY).await;
        }
    })
}

/// What the console shows of the servers and of what is decided about them.
struct Herd {
    failover: Vec<Row>,
    servers: Vec<Row>,
}

impl Herd {
    async fn look(access: &Access) -> Result<Self, Failure> {
        let console = Console::open(access).await?;
        let failover = console.ask("SHOW FAILOVER").await?;
        Ok(Self { failover, servers: console.ask("SHOW TOPOLOGY").await? })
    }

    fn items(&self, name: &str) -> impl Iterator<Item = &Row> {
        self.failover.iter().filter(move |row| row.text("item") == name)
    }

    /// One column of the one row of that name.
    fn item(&self, name: &str, column: &str) -> &str {
        self.items(name).next().map(|row| row.text(column)).unwrap_or_default()
    }

    fn primary(&self) -> Option<&Row> {
        self.servers.iter().find(|row| row.text("in_table") == "writes")
    }

    fn exit_code(&self) -> ExitCode {
        if self.primary().is_some() { ExitCode::SUCCESS } else { ExitCode::from(DEGRADED) }
    }

    fn to_text(&self) -> String {
        let mut page = String::new();
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(page, "{name:<11} {}", plain(text));
        };
        let state = self.item("state", "value");
        let since = self.item("state", "since");
        line("State", &format!("{state} since {since}: {}", self.item("state", "detail")));
        if let Some(advice) = self.items("advice").next() {
            line("What to do", advice.text("detail"));
        }
        line("Mode", self.item("mode", "value"));
        match self.primary() {
            Some(row) => {
                let name = row.value("repmgr_name").map(|name| format!(" ({name})")).unwrap_or_default();
                let (node, timeline) = (row.text("node"), row.text("timeline"));
                line("Primary", &format!("node {node}{name}, on timeline {timeline}"));
            }
            None => line("Primary", "none takes writes: they wait"),
        }
        for guard in self.items("guard").filter(|row| row.text("value") != "holds") {
            line("Guard", &format!("{}: {}", guard.text("value"), guard.text("detail")));
        }
        for warning in self.items("warning") {
            line("Warning", warning.text("detail"));
        }
        page.push('\n');
        page.push_str(&table(&self.servers));
        page
    }

    fn to_json(&self) -> Json {
        let details = |name| self.items(name).map(|row| json!(row.text("detail"))).collect::<Vec<_>>();
        let guard = |row: &Row| json!({ "holds": row.text("value"), "what": row.text("detail") });
        let server = |row: &Row| {
            json!({
                "node": number(row, "node"),
                "host": row.text("host"),
                "port": number(row, "port"),
                "role": row.text("role"),
                "state": row.text("state"),
                "used_for": row.text("in_table"),
                "why_not": row.value("why_not"),
                "lsn": row.value("lsn"),
                "lag_bytes": number(row, "lag_bytes"),
                "timeline": number(row, "timeline"),
                "repmgr_name": row.value("repmgr_name"),
                "connections": number(row, "connections"),
                "since": row.value("since"),
            })
        };
        json!({
            "state": self.item("state", "value"),
            "since": self.item("state", "since"),
            "reason": self.item("state", "detail"),
            "advice": self.items("advice").next().map(|row| row.text("detail")),
            "mode": self.item("mode", "value"),
            "writes_open": self.primary().is_some(),
            "primary": self.primary().and_then(|row| number(row, "node")),
            "guards": self.items("guard").map(guard).collect::<Vec<_>>(),
            "warnings": details("warning"),
            "servers": self.servers.iter().map(server).collect::<Vec<_>>(),
        })
    }
}

fn number(row: &Row, column: &str) -> Option<i64> {
    row.value(column)?.parse().ok()
}

/// The servers, a line each, in columns.
fn table(servers: &[Row]) -> String {
    let head = ["node", "address", "name", "role", "state", "used for", "timeline", "lag", "why not"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(servers.iter().map(|row| {
        let text = |column| plain(row.value(column).unwrap_or("-")).into_owned();
        let address = format!("{}:{}", row.text("host"), row.text("port"));
        let lag = number(row, "lag_bytes").map_or_else(|| "-".to_owned(), bytes);
        [
            text("node"),
            address,
            text("repmgr_name"),
            text("role"),
            text("state"),
            text("in_table"),
            text("timeline"),
            lag,
            plain(row.text("why_not")).into_owned(),
        ]
    }));
    let mut page = String::new();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| lines.iter().map(|line| line.get(at).map_or(0, |it| it.chars().count())).max().unwrap_or(0))
        .collect();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        page.push_str(text.trim_end());
        page.push('\n');
    }
    page
}

/// Bytes as people write them.
fn bytes(number: i64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut number, mut unit) = (number, 0);
    while number >= 10 * 1024 && unit + 1 < UNITS.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number} {}", UNITS.get(unit).unwrap_or(&"B"))
}
