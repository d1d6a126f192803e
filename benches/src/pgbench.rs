//! One run of pgbench, after a warm-up, with CPU time taken at both ends of the measured part.
//!
//! The measured part lies between two of pgbench's progress lines, so that logging in (and starting server processes) is
//! no part of it. The first line comes a second after the start, or when all clients have logged in, if that is later; the
//! second begins the measured part, and what is between them is the warm-up.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::postgres::{Login, USER};
use crate::procfs::Snapshot;
use crate::server::{Account, command};
use crate::statistics::percentile;
use crate::workload::{Mode, Workload};

/// The share of transactions whose latency is logged, for the percentiles.
const SAMPLING_RATE: &str = "0.1";
/// The script of large rows.
const ROWS: &str = "SELECT repeat('x', 100000);\n";

/// What the measured part of a run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Seconds that were measured.
    pub seconds: f64,
    /// Transactions in them.
    pub transactions: f64,
    /// Average latency, milliseconds.
    pub latency_ms: f64,
    /// Median latency of the logged transactions, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the logged transactions, milliseconds.
    pub p99_ms: Option<f64>,
    /// CPU time of each of the trees that were watched, nanoseconds.
    pub cpu_nanoseconds: Vec<u64>,
}

/// A line of `--progress`: what happened since the line before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Progress {
    /// Seconds since the epoch.
    time: f64,
    tps: f64,
    latency_ms: f64,
}

impl Progress {
    fn parse(line: &str) -> Option<Self> {
        let (time, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
        let (tps, rest) = rest.split_once(" tps, lat ")?;
        let (latency, _) = rest.split_once(" ms")?;
        let (time, tps) = (time.parse().ok()?, tps.parse().ok()?);
        // No transaction, no latency.
        let latency_ms = latency.parse::<f64>().ok().filter(|latency| latency.is_finite()).unwrap_or(0.0);
        Some(Self { time, tps, latency_ms })
    }
}

/// Runs pgbench for `seconds` of measurement; `trees` are the processes whose CPU time is taken.
///
/// # Errors
/// When pgbench fails, a transaction fails, or the measured part does not come to its end.
pub async fn run(
    bindir: &Path,
    login: &Login,
    workload: Workload,
    seconds: u32,
    scratch: &Path,
    trees: &[u32],
) -> Result<Measured> {
    let log = tempfile::Builder::new().prefix("latencies-").tempdir_in(scratch)?;
    // Logging in counts towards pgbench's own time. It is ended when the measured part is over.
    let limit = seconds + 60;
    let mut child = start(bindir, login, workload, limit, log.path())?;
    let limit = Duration::from_secs(u64::from(limit) + 10);
    let watched = timeout(limit, watch(&mut child, seconds, trees)).await;
    let window = watched.context("pgbench did not end")??;
    let mut latencies = Vec::new();
    for file in fs::read_dir(log.path())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            continue;
        }
        let text = fs::read_to_string(path)?;
        latencies.extend(text.lines().filter_map(parse_logged).filter(|logged| window.contains(logged.0)));
    }
    let mut sorted: Vec<u64> = latencies.into_iter().map(|(_, latency)| latency).collect();
    sorted.sort_unstable();
    let milliseconds = |percent| percentile(&sorted, percent).map(|latency| latency as f64 / 1e3);
    Ok(Measured { p50_ms: milliseconds(50), p99_ms: milliseconds(99), ..window.measured()? })
}

/// Runs so many select-only transactions of one client.
///
/// # Errors
/// When pgbench or a transaction fails.
pub async fn run_transactions(bindir: &Path, login: &Login, mode: Mode, transactions: u32) -> Result<()> {
    let mut pgbench = client(bindir, login, "disable");
    pgbench.args(["--builtin=select-only", "--no-vacuum", "--username", USER, "--host", &login.host]);
    pgbench.args(["--port", &login.port.to_string(), "--protocol", &mode.to_string()]);
    pgbench.args(["--transactions", &transactions.to_string(), &login.database]);
    let mut pgbench = tokio::process::Command::from(pgbench);
    let ended = pgbench.kill_on_drop(true).output().await.context("start pgbench")?;
    let (summary, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    ensure!(ended.status.success(), "pgbench ended with {}:\n{said}", ended.status);
    ensure!(failed_transactions(&summary) == Some(0), "transactions failed:\n{summary}{said}");
    Ok(())
}

fn client(bindir: &Path, login: &Login, tls: &str) -> std::process::Command {
    let mut pgbench = command(Account::Own, "TERM", bindir.join("pgbench"));
    pgbench.env("PGPASSWORD", &login.password).env("PGSSLMODE", tls).env("PGGSSENCMODE", "disable");
    pgbench
}

fn start(bindir: &Path, login: &Login, workload: Workload, seconds: u32, log: &Path) -> Result<Child> {
    let tls = if workload.subject.has_tls() { "require" } else { "disable" };
    let mut pgbench = client(bindir, login, tls);
    let rows = log.join("rows.sql");
    fs::write(&rows, ROWS)?;
    let script = workload.subject.script(&rows.to_string_lossy());
    let cores = std::thread::available_parallelism()?.get();
    let threads = cores.min(workload.clients as usize);
    pgbench.args(script.with_context(|| format!("pgbench has no {}", workload.subject))?);
    pgbench.args(["--no-vacuum", "--username", USER, "--host", &login.host]);
    pgbench.args(["--port", &login.port.to_string(), "--protocol", &workload.mode.to_string()]);
    pgbench.args(["--client", &workload.clients.to_string(), "--jobs", &threads.to_string()]);
    pgbench.args(["--time", &seconds.to_string(), "--progress", "1", "--progress-timestamp"]);
    pgbench.args(["--log", "--sampling-rate", SAMPLING_RATE, "--log-prefix"]).arg(log.join("pgbench"));
    pgbench.arg(&login.database).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut pgbench = tokio::process::Command::from(pgbench);
    pgbench.kill_on_drop(true).spawn().context("start pgbench")
}

/// The measured part: from the second progress line to the first that is `seconds` later.
#[derive(Debug, Default)]
struct Window {
    lines: Vec<Progress>,
    cpu: Option<Vec<u64>>,
}

impl Window {
    /// Whether a moment, in microseconds since the epoch, lies in it.
    fn contains(&self, microseconds: u64) -> bool {
        let [Some(first), Some(last)] = [self.lines.first(), self.lines.last()] else { return false };
        let time = microseconds as f64 / 1e6;
        first.time <= time && time <= last.time
    }

    fn measured(&self) -> Result<Measured> {
        let (Some(first), Some(last)) = (self.lines.first(), self.lines.last()) else {
            bail!("pgbench showed no progress");
        };
        let cpu_nanoseconds = self.cpu.clone().context("pgbench ended before the measured part did")?;
        let (mut transactions, mut waited) = (0.0, 0.0);
        for (before, line) in self.lines.iter().zip(self.lines.iter().skip(1)) {
            let count = line.tps * (line.time - before.time);
            transactions += count;
            waited += count * line.latency_ms;
        }
        ensure!(transactions >= 1.0, "no transaction was completed in the measured part");
        let (seconds, latency_ms) = (last.time - first.time, waited / transactions);
        Ok(Measured { seconds, transactions, latency_ms, p50_ms: None, p99_ms: None, cpu_nanoseconds })
    }
}

/// Reads pgbench's output to its end, and takes the CPU time where the measured part begins and ends.
async fn watch(child: &mut Child, seconds: u32, trees: &[u32]) -> Result<Window> {
    let mut stdout = child.stdout.take().context("pgbench's output")?;
    let mut lines = BufReader::new(child.stderr.take().context("pgbench's error output")?).lines();
    let (mut window, mut before, mut said) = (Window::default(), Vec::new(), String::new());
    let mut warm = false;
    while let Some(line) = lines.next_line().await? {
        let Some(progress) = Progress::parse(&line) else {
            said.push_str(&line);
            said.push('\n');
            continue;
        };
        if !std::mem::replace(&mut warm, true) || window.cpu.is_some() {
            continue;
        }
        // The clock of the line is rounded to milliseconds, and a line may be late by some.
        let complete =
            window.lines.first().is_some_and(|first| progress.time - first.time > f64::from(seconds) - 0.1);
        if window.lines.is_empty() {
            before = Snapshot::of_trees(trees);
        } else if complete {
            let after = Snapshot::of_trees(trees);
            let pairs = after.iter().zip(&before);
            window.cpu = Some(pairs.map(|(after, before)| after.nanoseconds_since(before)).collect());
            end(child)?;
        }
        window.lines.push(progress);
    }
    let mut summary = String::new();
    stdout.read_to_string(&mut summary).await?;
    let status = child.wait().await?;
    ensure!(status.success(), "pgbench ended with {status}:\n{said}");
    ensure!(failed_transactions(&summary) == Some(0), "transactions failed:\n{summary}{said}");
    Ok(window)
}

/// Ends a run as the end of its time does: transactions are completed, the log and the summary written.
fn end(child: &Child) -> Result<()> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("pgbench ended early")?;
    kill_process(pid, Signal::ALARM).context("end pgbench")
}

/// The number of failed transactions that pgbench's summary tells.
fn failed_transactions(summary: &str) -> Option<u64> {
    let line = summary.lines().find_map(|line| line.strip_prefix("number of failed transactions: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A line of pgbench's log: when a transaction ended (microseconds since the epoch), and its latency (microseconds).
fn parse_logged(line: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((number(4)? * 1_000_000 + number(5)?, number(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_line_of_pgbench_15_is_read() {
        let line = "progress: 1763946315.123 s, 12345.6 tps, lat 0.081 ms stddev 0.015, 0 failed";
        let expected = Progress { time: 1_763_946_315.123, tps: 12345.6, latency_ms: 0.081 };
        assert_eq!(Progress::parse(line), Some(expected));
    }

    #[test]
    fn a_second_without_a_transaction_has_no_latency() {
        let line = "progress: 5.0 s, 0.0 tps, lat -nan ms stddev -nan, 0 failed";
        assert_eq!(Progress::parse(line), Some(Progress { time: 5.0, tps: 0.0, latency_ms: 0.0 }));
    }

    #[test]
    fn what_else_pgbench_says_is_no_progress() {
        assert_eq!(Progress::parse("pgbench (15.14 (Debian 15.14-0+deb12u1))"), None);
        assert_eq!(Progress::parse("progress: soon"), None);
    }

    #[test]
    fn the_measured_part_leaves_the_warm_up_out() {
        let line = |time, tps, latency_ms| Progress { time, tps, latency_ms };
        let lines = vec![line(10.0, 9e9, 9e9), line(11.0, 100.0, 2.0), line(12.5, 200.0, 1.0)];
        let window = Window { lines, cpu: Some(vec![7]) };
        let measured = window.measured().unwrap();
        assert_eq!((measured.seconds, measured.transactions, measured.latency_ms), (2.5, 400.0, 1.25));
        assert_eq!((window.contains(9_999_999), window.contains(12_000_000)), (false, true));
    }

    #[test]
    fn a_run_that_ends_early_is_an_error() {
        let lines = vec![Progress { time: 1.0, tps: 1.0, latency_ms: 1.0 }];
        assert!(Window { lines, cpu: None }.measured().is_err());
        assert!(Window::default().measured().is_err());
    }

    #[test]
    fn the_summary_tells_what_failed() {
        let summary =
            "number of transactions actually processed: 100\nnumber of failed transactions: 3 (3.000%)\n";
        assert_eq!(failed_transactions(summary), Some(3));
        assert_eq!(failed_transactions("nothing"), None);
    }

    #[test]
    fn a_logged_transaction_is_its_end_and_its_latency() {
        assert_eq!(parse_logged("0 199 2241 0 1175850568 995598"), Some((1_175_850_568_995_598, 2241)));
        assert_eq!(parse_logged("0 199 failed 0 1175850568 995598"), None);
    }
}
