use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use crate::command::succeeded;

/// A run of pgbench to be.
#[derive(Clone, Debug)]
pub struct Pgbench {
    connection_string: String,
    arguments: Vec<String>,
}

/// A client of pgbench that gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// pgbench's number of the client, from 0.
    pub client: u32,
    /// The SQLSTATE, where the error's text has it in brackets: pgbench itself prints none.
    pub sqlstate: Option<String>,
    /// What pgbench wrote.
    pub message: String,
}

/// What pgbench printed.
#[derive(Clone, Debug, Default)]
pub struct PgbenchReport {
    /// Transactions a second, without the time of connecting.
    pub tps: f64,
    /// Transactions that ended.
    pub transactions: u64,
    /// Transactions that failed for good with a serialization failure or a deadlock.
    pub failed_transactions: u64,
    /// Transactions that were tried again.
    pub retried_transactions: u64,
    /// Milliseconds.
    pub latency_average: f64,
    /// Clients that lost their connection or met an error that pgbench does not try again.
    pub aborts: Vec<Abort>,
    /// Whether the exit status was 0.
    pub succeeded: bool,
    /// The standard output.
    pub output: String,
    /// The standard error.
    pub errors: String,
}

/// pgbench while it runs; killed when dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Pgbench {
    /// pgbench's own workload (TPC-B-like) with one client, against a database in libpq's form of connection string.
    pub fn new(connection_string: impl Into<String>) -> Self {
        Self { connection_string: connection_string.into(), arguments: Vec::new() }
    }

    /// Makes pgbench's tables.
    pub async fn initialize(connection_string: &str, scale: u32) -> Result<()> {
        let run =
            Self::new(connection_string).arg("--initialize").arg("--quiet").arg(format!("--scale={scale}"));
        let output = run.command().output().await.context("cannot run pgbench")?;
        succeeded("pgbench --initialize", &output).map(drop)
    }

    /// Concurrent clients.
    pub fn clients(self, count: u32) -> Self {
        self.arg(format!("--client={count}"))
    }

    /// How long it runs.
    pub fn seconds(self, seconds: u32) -> Self {
        self.arg(format!("--time={seconds}"))
    }

    /// Any other argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it.
    pub fn spawn(&self) -> Result<Running> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(Running(command.spawn().context("cannot run pgbench")?))
    }

    /// Runs it to its end.
    pub async fn run(&self) -> Result<PgbenchReport> {
        self.spawn()?.wait().await
    }

    fn command(&self) -> Command {
        let mut command = Command::new("pgbench");
        // With -n: no vacuum of pgbench's tables before, which a custom script does not have.
        let vacuum =
            (!self.arguments.iter().any(|argument| argument == "--initialize")).then_some("--no-vacuum");
        command.args(vacuum).args(&self.arguments).arg(&self.connection_string).stdin(Stdio::null());
        command
    }
}

impl Running {
    /// Waits for its end.
    pub async fn wait(self) -> Result<PgbenchReport> {
        let output = self.0.wait_with_output().await.context("pgbench")?;
        let mut report =
            parse(&String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr));
        report.succeeded = output.status.success();
        Ok(report)
    }
}

fn parse(output: &str, errors: &str) -> PgbenchReport {
    let value = |prefix: &str| {
        let rest = output.lines().find_map(|line| line.strip_prefix(prefix))?;
        rest.trim_start().split([' ', '/', '(']).next()
    };
    PgbenchReport {
        tps: value("tps = ").and_then(|text| text.parse().ok()).unwrap_or(0.0),
        transactions: whole(value("number of transactions actually processed:")),
        failed_transactions: whole(value("number of failed transactions:")),
        retried_transactions: whole(value("number of transactions retried:")),
        latency_average: value("latency average = ").and_then(|text| text.parse().ok()).unwrap_or(0.0),
        aborts: aborts(errors),
        succeeded: false,
        output: output.to_owned(),
        errors: errors.to_owned(),
    }
}

fn whole(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn aborts(errors: &str) -> Vec<Abort> {
    let mut aborts = Vec::new();
    let mut lines = errors.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((_, rest)) = line.split_once("error: client ") else { continue };
        let Some((client, _)) = rest.split_once(' ') else { continue };
        let Ok(client) = client.parse() else { continue };
        if !rest.contains("aborted") && !rest.contains("abort") {
            continue;
        }
        let mut message = rest.to_owned();
        while let Some(more) = lines.next_if(|next| !next.starts_with("pgbench:")) {
            message = message + "\n" + more;
        }
        aborts.push(Abort { client, sqlstate: sqlstate(&message), message });
    }
    aborts
}

/// The first word of five capitals or digits in brackets.
fn sqlstate(message: &str) -> Option<String> {
    let is_code = |word: &str| {
        word.len() == 5 && word.chars().all(|letter| letter.is_ascii_digit() || letter.is_ascii_uppercase())
    };
    message.split(['(', ')', '[', ']']).find(|word| is_code(word)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_pgbench_15_is_read() {
        let output = "transaction type: <builtin: select only>\nnumber of clients: 4\n\
            number of transactions actually processed: 1234\nnumber of failed transactions: 2 (0.100%)\n\
            number of transactions retried: 7 (0.5%)\nlatency average = 1.250 ms\n\
            initial connection time = 3.0 ms\ntps = 3200.5 (without initial connection time)\n";
        let errors = "pgbench: error: client 3 script 0 aborted in command 5 query 0: ERROR:  unknown outcome (08007)\n\
            DETAIL:  more\npgbench: error: client 0 aborted while establishing connection\npgbench: fatal: Run was aborted\n";
        let report = parse(output, errors);
        assert_eq!(
            (report.transactions, report.failed_transactions, report.retried_transactions),
            (1234, 2, 7)
        );
        assert!((report.tps - 3200.5).abs() < 1e-9 && (report.latency_average - 1.25).abs() < 1e-9);
        let clients: Vec<_> =
            report.aborts.iter().map(|abort| (abort.client, abort.sqlstate.as_deref())).collect();
        assert_eq!(clients, [(3, Some("08007")), (0, None)]);
        assert!(report.aborts[0].message.ends_with("DETAIL:  more"));
    }
}
