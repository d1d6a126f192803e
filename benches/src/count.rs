//! Instructions and allocations per transaction, counted by valgrind: figures that do not depend on what else the machine does.
//!
//! pgherd runs with one worker under callgrind, which keeps the threads apart. Between two dumps of its counters pgbench runs some
//! transactions, and then more: what the second run took more, divided by the number that it had more, is what one costs; the login is
//! in both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::environment::{Environment, find_program};
use crate::options::{Arguments, Plan};
use crate::peers::{Peer, Place, Running};
use crate::pgbench;
use crate::postgres::{Postgres, is_ready};
use crate::workload::Mode;

/// Transactions before anything is counted, and in the two runs that are compared.
const TRANSACTIONS: [u32; 3] = [50, 100, 500];
/// The longest that a start under valgrind takes.
const START: Duration = Duration::from_secs(120);
/// So much more than recorded is too much: what the machine's other threads have to do is in it.
const TOLERANCE: f64 = 1.03;
/// Fewer than this are not a transaction's: something is allocated ten times a second, say, and valgrind is slow.
const RARE: f64 = 0.5;

/// What a transaction costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Instructions of the thread that serves it.
    pub instructions: f64,
    /// Calls of `malloc` and its like by that thread.
    pub allocations: f64,
}

/// Counts for each protocol, prints it, and compares it with what was recorded in `recorded`, if it is not to be recorded there.
///
/// # Errors
/// When something does not run, a transaction allocates, or takes more instructions than recorded.
pub async fn run(arguments: &Arguments, recorded: Option<&Path>, record: bool) -> Result<()> {
    let plan = Plan::new(arguments)?;
    // Before minutes of counting.
    let before = match recorded.filter(|_| !record) {
        Some(file) => Some((file, read(file)?)),
        None => None,
    };
    let costs = count(&plan).await?;
    for (mode, Cost { instructions, allocations }) in &costs {
        println!("{mode}: {instructions:.0} instructions, {allocations:.2} allocations a transaction");
    }
    let allocating: Vec<&String> =
        costs.iter().filter(|(_, cost)| cost.allocations > RARE).map(|(mode, _)| mode).collect();
    ensure!(allocating.is_empty(), "transactions allocate: {allocating:?}");
    if let Some(file) = recorded.filter(|_| record) {
        let text = serde_json::to_string_pretty(&costs)?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    let Some((file, before)) = before else { return Ok(()) };
    for (mode, cost) in &costs {
        let before = before.get(mode).with_context(|| format!("{} has no {mode}", file.display()))?;
        let ratio = cost.instructions / before.instructions;
        println!("{mode}: {ratio:.3} of what was recorded");
        ensure!(
            ratio <= TOLERANCE,
            "{mode}: more instructions than the {:.0} of {}",
            before.instructions,
            file.display()
        );
    }
    Ok(())
}

fn read(file: &Path) -> Result<BTreeMap<String, Cost>> {
    let text = fs::read(file).with_context(|| format!("read {}: record it first", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

async fn count(plan: &Plan) -> Result<BTreeMap<String, Cost>> {
    ensure!(plan.pgherd.is_file(), "{} does not exist", plan.pgherd.display());
    for program in ["valgrind", "callgrind_control"] {
        find_program(program)
            .with_context(|| format!("{program} is not installed: apt-get install valgrind"))?;
    }
    let environment = Environment::new(plan.pg_bindir.as_deref())?;
    let postgres = Postgres::start(&environment, 60, 1).await?;
    let place = Place {
        plan,
        environment: &environment,
        postgres: &postgres,
        has_tls: false,
        users: 1,
        is_counted: true,
    };
    let mut running = Peer::Pgherd.launch(place, Mode::Simple, 8)?;
    let (config, begun) = (running.login.config(), Instant::now());
    while !is_ready(&config).await {
        running.check()?;
        ensure!(begun.elapsed() < START, "pgherd does not serve under valgrind");
        sleep(Duration::from_millis(200)).await;
    }
    let mut costs = BTreeMap::new();
    for mode in Mode::ALL {
        let counted = Counted { environment: &environment, running: &running, mode };
        costs.insert(mode.to_string(), counted.cost().await?);
    }
    Ok(costs)
}

struct Counted<'a> {
    environment: &'a Environment,
    running: &'a Running,
    mode: Mode,
}

impl Counted<'_> {
    async fn cost(&self) -> Result<Cost> {
        let [warm_up, few, many] = TRANSACTIONS;
        self.threads(warm_up).await?;
        let (few_threads, many_threads) = (self.threads(few).await?, self.threads(many).await?);
        let of = |thread: u32| few_threads.get(&thread).copied().unwrap_or_default();
        let more = many_threads.iter().map(|(&thread, counts)| {
            let before = of(thread);
            [
                counts.instructions.saturating_sub(before.instructions),
                counts.allocations.saturating_sub(before.allocations),
            ]
        });
        let [instructions, allocations] = more.max().context("callgrind has dumped no thread")?;
        let seen: u64 = few_threads.values().map(|counts| counts.allocations).sum();
        // A login allocates.
        ensure!(seen > 0, "valgrind sees no allocations at all: is pgherd linked without them?");
        let each = |count: u64| count as f64 / f64::from(many - few);
        Ok(Cost { instructions: each(instructions), allocations: each(allocations) })
    }

    /// Has pgbench run so many transactions; what each thread has done since the dump before.
    async fn threads(&self, transactions: u32) -> Result<BTreeMap<u32, Counts>> {
        let Environment { pg_bindir, .. } = self.environment;
        pgbench::run_transactions(pg_bindir, &self.running.login, self.mode, transactions).await?;
        let id = self.running.id.context("nothing runs")?.to_string();
        let before = self.dumps()?;
        let mut control = tokio::process::Command::new("callgrind_control");
        let output = control.args(["--dump", &id]).output().await.context("callgrind_control")?;
        ensure!(output.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&output.stdout));
        let begun = Instant::now();
        loop {
            let new: Vec<PathBuf> = self.dumps()?.into_iter().filter(|file| !before.contains(file)).collect();
            if !new.is_empty() {
                // They are written one after the other, and each at once.
                sleep(Duration::from_millis(200)).await;
                let new = self.dumps()?.into_iter().filter(|file| !before.contains(file));
                return new.map(|file| Counts::read(&file)).filter_map(Result::transpose).collect();
            }
            if begun.elapsed() > START {
                bail!("callgrind has dumped nothing: {}", String::from_utf8_lossy(&output.stdout));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn dumps(&self) -> Result<Vec<PathBuf>> {
        let files = fs::read_dir(self.environment.scratch().join(Peer::Pgherd.name()))?.flatten();
        let is_dump =
            |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DUMP));
        Ok(files.map(|file| file.path()).filter(is_dump).collect())
    }
}

/// What the names of callgrind's dumps begin with.
const DUMP: &str = "callgrind.out";

/// The command that has callgrind count what this one does.
#[must_use]
pub fn under_callgrind(directory: &Path) -> (PathBuf, Vec<String>) {
    let file = directory.join(DUMP);
    let arguments = [
        "--tool=callgrind",
        "--separate-threads=yes",
        "--fair-sched=yes",
        &format!("--callgrind-out-file={}", file.display()),
    ];
    let valgrind = find_program("valgrind").unwrap_or_else(|| PathBuf::from("valgrind"));
    (valgrind, arguments.map(str::to_owned).to_vec())
}

/// What a thread has done between two dumps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    instructions: u64,
    allocations: u64,
}

impl Counts {
    /// Reads the dump of a thread; none if it is of all of them.
    fn read(file: &Path) -> Result<Option<(u32, Self)>> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Option<(u32, Self)> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let thread = field("thread:")?.parse().ok()?;
        let instructions = field("totals:").or_else(|| field("summary:"))?.parse().ok()?;
        // A function is named once, and then known by its number.
        let mut allocating = Vec::new();
        let (mut allocations, mut calls_allocating) = (0, false);
        for line in text.lines() {
            if let Some(callee) = line.strip_prefix("cfn=") {
                let (number, name) = callee.split_once(' ').unwrap_or((callee, ""));
                if is_allocation(name) && !allocating.contains(&number) {
                    allocating.push(number);
                }
                calls_allocating = allocating.contains(&number);
            } else if let Some((number, name)) = line.strip_prefix("fn=").and_then(|it| it.split_once(' ')) {
                if is_allocation(name) && !allocating.contains(&number) {
                    allocating.push(number);
                }
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let count = calls.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
                allocations += count.filter(|_| calls_allocating).unwrap_or(0);
            }
        }
        Some((thread, Self { instructions, allocations }))
    }
}

fn is_allocation(name: &str) -> bool {
    let name = name.split('\'').next().unwrap_or(name);
    matches!(name, "malloc" | "calloc" | "realloc" | "posix_memalign" | "aligned_alloc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_malloc_are_counted_by_its_number_too() {
        let text = "# callgrind format\nthread: 2\nevents: Ir\nfn=(1) serve\n0 100\ncfn=(7) malloc\ncalls=3 0\n0 90\n\
                    cfn=(8) memcpy\ncalls=9 0\n0 9\nfn=(2) other\n0 1\ncfn=(7)\ncalls=2 0\n0 60\n\ntotals: 5000\n";
        assert_eq!(Counts::parse(text), Some((2, Counts { instructions: 5000, allocations: 5 })));
    }

    #[test]
    fn a_dump_of_no_single_thread_is_left_out() {
        assert_eq!(Counts::parse("# callgrind format\nevents: Ir\ntotals: 1\n"), None);
    }
}
