//! Faults of every kind, one after the other, under a workload that checks itself: what is acknowledged stays, nothing takes effect
//! twice, and everybody reads what they wrote. After each the herd must be whole again by itself.

mod beside;
mod cut_off;
mod field;
mod kind;
mod pgpool;
mod switchovers;
mod tally;

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::chance::Chance;
use crate::history::{Report, Workload};
use crate::log_tail::LogTail;
pub use beside::{Beside, BesideReport};
pub use cut_off::CutOff;
pub(crate) use field::Field;
use kind::{KINDS, Promise, SHORT};
pub(crate) use kind::{Kind, LASTING, deal};
pub use switchovers::{SwitchoverReport, Switchovers};
use tally::Tally;

/// What a client may be told when the primary is lost.
const KNOWN: [&str; 4] = ["40001", "25P02", "08007", "57P03"];
/// And when pgherd is.
const LOST: &str = "lost";
const SILENT: Duration = Duration::from_secs(5);
const KILLED: Duration = Duration::from_secs(1);
const KILLED_MEDIAN: Duration = Duration::from_millis(500);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// How many faults, one after the other.
    pub faults: usize,
    /// Where chance begins: the same seed brings the same faults, for the same times.
    pub seed: u64,
    /// How many standbys a commit waits for. With none, acknowledged rows may be lost, and are counted.
    pub synchronous: u8,
    /// Only a few kinds, which take little time.
    pub short: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct CampaignReport {
    tally: Tally<Kind>,
    acknowledged: usize,
    missing: usize,
    reads: usize,
    unknown: usize,
    /// What must not be, by the number of the fault, from 1.
    pub wrong: Vec<String>,
}

/// A fault that is over.
struct Told {
    kind: Kind,
    report: Report,
    write: Duration,
    read: Duration,
    wrong: Vec<String>,
}

impl Campaign {
    /// Does it all, and tells of each fault.
    ///
    /// # Errors
    /// The herd does not come back to where it was.
    pub async fn run(self, tell: impl Fn(String)) -> Result<CampaignReport> {
        let mut field = Field::start(self.synchronous).await?;
        let mut witness = Witness::of(&field);
        let mut report = CampaignReport::new();
        let mut kept = Vec::new();
        let kinds: &[Kind] = if self.short { &SHORT } else { &KINDS };
        let faults = deal(kinds, self.faults, &mut Chance::new(self.seed));
        for (kind, number) in faults.into_iter().zip(1_u64..) {
            let chance = Chance::new(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 8));
            let told = self.fault(&mut field, &mut witness, kind, chance).await;
            let told = told.with_context(|| format!("fault {number}, {kind}, of seed {}", self.seed))?;
            tell(format!("{number:>4}  {told}"));
            kept.push(keep(&field, number).await?);
            report.note(number, told);
        }
        // What was there after a fault is there after all that followed.
        for (rows, number) in kept.iter().zip(1_u64..) {
            let now = count(&field, &format!("history_{number}")).await?;
            if now != *rows {
                report
                    .wrong
                    .push(format!("{number}: it left {rows} rows, of which {now} are there at the end"));
            }
        }
        Ok(report)
    }

    async fn fault(
        self,
        field: &mut Field,
        witness: &mut Witness,
        kind: Kind,
        mut chance: Chance,
    ) -> Result<Told> {
        let password = field.cluster.credentials().password("app");
        let workload = Workload::new(field.pgherd.address(), "app", "app", password).audited(2);
        workload.create_table().await?;
        let before = field.cluster.primary().await?.timeline().await?;
        let running = workload.start().await?;
        running.wait_acknowledged(100, Duration::from_secs(30)).await?;
        let moment = Instant::now();
        let suffered = field.suffer(kind, &running, &mut chance).await;
        let whole = match suffered {
            Ok(()) => field.make_whole().await,
            failed => failed,
        };
        whole.with_context(|| last_lines(field))?;
        let record = running.stop().await?;
        let primary = field.cluster.primary().await?;
        let report = Report::compare(&record, primary.history().await?);
        let mut wrong = workload.audit(&primary).await?;
        let promotions = primary.timeline().await? - before;
        if !kind.promotions().contains(&promotions) {
            wrong.push(format!("{promotions} promotions"));
        }
        wrong.extend(witness.testify()?);
        wrong.extend(self.judge(kind, &report));
        if !wrong.is_empty() {
            wrong.push(last_lines(field));
        }
        let outage = |it: Option<Duration>| it.context("nothing was answered afterwards");
        let (write, read) = (outage(report.write_outage(moment))?, outage(report.read_outage(moment))?);
        Ok(Told { kind, report, write, read, wrong })
    }

    fn judge(self, kind: Kind, report: &Report) -> Vec<String> {
        let mut wrong = Vec::new();
        if !report.is_exact() {
            wrong.push(format!("something is in the table, or was read, that must not be: {report}"));
        }
        if self.synchronous > 0 && !report.missing.is_empty() {
            wrong.push(format!("acknowledged and lost: {:?}", report.missing));
        }
        let met: BTreeSet<&str> =
            report.sqlstates.keys().chain(report.reads_refused.keys()).map(String::as_str).collect();
        let known = |code: &&str| KNOWN.contains(code) || (*code == LOST && !kind.keeps_connections());
        let unknown: Vec<&&str> = met.iter().filter(|code| !known(code)).collect();
        if !unknown.is_empty() {
            wrong.push(format!("clients were told {unknown:?}"));
        }
        if kind.keeps_connections() && report.connections_lost + report.logins_failed > 0 {
            wrong.push(format!(
                "{} connections were lost, {} logins failed",
                report.connections_lost, report.logins_failed
            ));
        }
        if kind.is_unnoticed() && !met.is_empty() {
            wrong.push(format!("clients noticed it: {met:?}"));
        }
        wrong
    }
}

impl CampaignReport {
    const fn new() -> Self {
        Self { tally: Tally::new(), acknowledged: 0, missing: 0, reads: 0, unknown: 0, wrong: Vec::new() }
    }

    fn note(&mut self, number: u64, told: Told) {
        self.tally.note(told.kind, told.write, told.read);
        self.acknowledged += told.report.acknowledged;
        self.missing += told.report.missing.len();
        self.reads += told.report.reads;
        self.unknown += told.report.unknown_present.len() + told.report.unknown_absent.len();
        self.wrong.extend(told.wrong.into_iter().map(|wrong| format!("{number}, {}: {wrong}", told.kind)));
    }

    /// Promises about the time without a write that were not kept.
    pub fn broken_promises(&self) -> Vec<String> {
        let killed = self.tally.writes(|kind| kind.promise() == Some(Promise::Killed));
        let silent = self.tally.writes(|kind| kind.promise() == Some(Promise::Silent));
        [
            ("killed or stopped, median", killed.percentile(50), KILLED_MEDIAN),
            ("killed or stopped, p99", killed.percentile(99), KILLED),
            ("silent, worst", silent.worst(), SILENT),
        ]
        .into_iter()
        .filter(|(_, outage, most)| outage > most)
        .map(|(what, outage, most)| {
            format!("a primary that is {what}: no write for {outage:?}, not {most:?}")
        })
        .collect()
    }
}

impl fmt::Display for CampaignReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed = self.tally.writes(|kind| kind.promise() == Some(Promise::Killed));
        let silent = self.tally.writes(|kind| kind.promise() == Some(Promise::Silent));
        writeln!(f, "{}", self.tally)?;
        writeln!(f, "{:<50} {:>3} {killed}", "primary killed or stopped, all kinds", killed.count())?;
        writeln!(f, "{:<50} {:>3} {silent}", "primary silent, all kinds", silent.count())?;
        write!(
            f,
            "{} writes acknowledged, of which {} are missing; {} with an unknown outcome; {} reads",
            self.acknowledged, self.missing, self.unknown, self.reads
        )
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<50} no write for {:>5.2} s, no read for {:>5.2} s; {:?}{}",
            self.kind.to_string(),
            self.write.as_secs_f64(),
            self.read.as_secs_f64(),
            self.report.sqlstates,
            if self.wrong.is_empty() { "" } else { "  WRONG" }
        )
    }
}

/// Reads in pgherd's log, over all its starts, to which timelines it sent writes.
#[derive(Debug)]
struct Witness {
    tail: LogTail,
    timeline: u32,
}

impl Witness {
    fn of(field: &Field) -> Self {
        Self { tail: field.pgherd.log_tail(), timeline: 0 }
    }

    /// Where writes went to an older timeline than before.
    fn testify(&mut self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for line in self.tail.read()?.into_iter().filter(|line| line.contains("writes are open")) {
            let timeline = line.split_once("on timeline ").and_then(|(_, rest)| rest.split(' ').next());
            let timeline: u32 = timeline.context("no timeline")?.parse().context(line.clone())?;
            if timeline < self.timeline {
                wrong.push(format!("writes go back from timeline {}: {line}", self.timeline));
            }
            self.timeline = timeline;
        }
        Ok(wrong)
    }
}

/// Puts the rows of a fault aside, for a look at the end; gives how many there are.
async fn keep(field: &Field, number: u64) -> Result<u64> {
    let primary = field.cluster.primary().await?;
    primary.query_in("app", &format!("ALTER TABLE history RENAME TO history_{number}")).await?;
    count(field, &format!("history_{number}")).await
}

async fn count(field: &Field, table: &str) -> Result<u64> {
    let primary = field.cluster.primary().await?;
    let rows = primary.query_in("app", &format!("SELECT count(*) FROM {table}")).await?;
    let count = rows.first().and_then(|row| row.get(0)).context("no count")?;
    Ok(count.parse()?)
}

/// The end of pgherd's log.
fn last_lines(field: &Field) -> String {
    let log = field.pgherd.log();
    log.get(log.len().saturating_sub(120)..).unwrap_or_default().join("\n")
}
