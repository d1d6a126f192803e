//! Switchovers while pgbench runs: no client of it may meet an error.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::tally::Outages;
use crate::client::{Pgbench, RawClient};
use crate::cluster::Cluster;
use crate::history::{Report, Workload};
use crate::pgherd::Pgherd;
use crate::server::Server;
use crate::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long pgbench runs for each: the switchover is ordered in the second second.
const SECONDS: u32 = 6;
const SCALE: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Switchovers {
    /// How many, one after the other, to each server in its turn.
    pub times: usize,
    /// pgbench's clients.
    pub clients: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct SwitchoverReport {
    pauses: Outages,
    transactions: u64,
    /// What clients were told that they must not be.
    pub errors: Vec<String>,
}

impl Switchovers {
    /// Does it all, and tells of each.
    ///
    /// # Errors
    /// A switchover is refused or given up, or the herd does not come back to where it was.
    pub async fn run(self, tell: impl Fn(String)) -> Result<SwitchoverReport> {
        let cluster = Cluster::builder().start().await?;
        let pgherd = Pgherd::builder(&cluster).start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        Pgbench::initialize(&pgherd.connection_string("app", "app"), SCALE).await?;
        let mut report = SwitchoverReport::default();
        for (id, number) in [2, 3, 1].into_iter().cycle().zip(1..=self.times) {
            let done = self.one(&cluster, &pgherd, &cluster.server(id)?, &mut report).await;
            let said = done.with_context(|| format!("switchover {number}:\n{}", pgherd.log().join("\n")))?;
            tell(format!("{number:>4}  {said}"));
        }
        Ok(report)
    }

    async fn one(
        self,
        cluster: &Cluster,
        pgherd: &Pgherd,
        to: &Server,
        report: &mut SwitchoverReport,
    ) -> Result<String> {
        let workload =
            Workload::new(pgherd.address(), "app", "app", cluster.credentials().password("app")).clients(2);
        workload.create_table().await?;
        let pgbench = Pgbench::new(pgherd.connection_string("app", "app"));
        let pgbench = pgbench.clients(self.clients).seconds(SECONDS).spawn()?;
        let writers = workload.start().await?;
        writers.wait_acknowledged(50, PATIENCE).await?;
        sleep(Duration::from_secs(1)).await;
        let moment = Instant::now();
        let said = switch_over(cluster, pgherd, to).await?;
        let bench = pgbench.wait().await?;
        let written = Report::compare(&writers.stop().await?, cluster.primary().await?.history().await?);
        let pause = written.write_outage(moment).context("no write was acknowledged afterwards")?;
        ensure!(cluster.primary().await?.id() == to.id(), "{} does not lead", to.name());
        report.pauses.note(pause);
        report.transactions += bench.transactions;
        report.errors.extend(bench.aborts.into_iter().map(|abort| format!("pgbench: {}", abort.message)));
        if bench.failed_transactions > 0 || !bench.succeeded {
            report.errors.push(format!("pgbench: {}", bench.errors));
        }
        if !written.is_sound() || !written.sqlstates.is_empty() || written.connections_lost > 0 {
            report.errors.push(format!("writers: {written}"));
        }
        cluster.wait_healthy().await?;
        Ok(format!(
            "{}: no write for {:.2} s; pgbench: {:.0} transactions a second; {said}",
            to.name(),
            pause.as_secs_f64(),
            bench.tps
        ))
    }
}

impl SwitchoverReport {
    /// The promise about the pause, if it was not kept.
    pub fn broken_promise(&self) -> Option<String> {
        let p99 = self.pauses.percentile(99);
        (p99 > PAUSE).then(|| format!("a switchover: no write for {p99:?} (p99), not {PAUSE:?}"))
    }
}

impl fmt::Display for SwitchoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<50} {:>3} {:>7} {:>7} {:>7} {:>7}", "", "n", "p50", "p90", "p99", "max")?;
        writeln!(
            f,
            "{:<50} {:>3} {}",
            "switchover, no write for, seconds",
            self.pauses.count(),
            self.pauses
        )?;
        write!(f, "{} transactions of pgbench, {} errors", self.transactions, self.errors.len())
    }
}

/// Orders it, again as long as something else is under way; gives what pgherd says of it.
async fn switch_over(cluster: &Cluster, pgherd: &Pgherd, to: &Server) -> Result<String> {
    let order = format!("SWITCHOVER {}", to.backend_id());
    let answer = eventually("nothing else is under way", PATIENCE, || async {
        let mut console =
            RawClient::login(pgherd.address(), "repmgr", "pgherd", cluster.monitor_password()).await?;
        let answer = console.query(&order).await?;
        let busy = answer.error().is_some_and(|error| error.message().contains("not now"));
        Ok((!busy).then_some(answer))
    })
    .await?;
    ensure!(answer.command().as_deref() == Some("SWITCHOVER"), "{order}: {answer:?}");
    let rows = answer.rows();
    let done = rows.first().and_then(|row| row.first()).and_then(Option::as_ref);
    Ok(done.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default())
}
