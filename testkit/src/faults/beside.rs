//! pgpool and pgherd, each before a herd of its own that loses its primary in the same ways.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::pgpool::Pgpool;
use super::tally::Outages;
use crate::cluster::Cluster;
use crate::history::{Attempt, Outcome, Report, Seen, Workload};
use crate::pgherd::Pgherd;

/// Longer than this nobody waits for writes.
const GIVEN_UP: Duration = Duration::from_secs(45);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// How often each loses its primary in each way.
    pub rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    Kill,
    Stop,
    Freeze,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Pgherd,
    Pgpool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct BesideReport(BTreeMap<(Loss, Peer), Sum>);

#[derive(Debug, Default)]
struct Sum {
    outages: Outages,
    /// Rounds in which no write was acknowledged until nobody waited any more.
    never: usize,
    clients: usize,
    connections_lost: usize,
    read_back: usize,
    stale: usize,
}

impl Beside {
    /// Does it all, and tells of each loss. Every one has a cluster of its own, since pgpool's does not come back by itself.
    ///
    /// # Errors
    /// Something could not be started.
    pub async fn run(self, tell: impl Fn(String)) -> Result<BesideReport> {
        let mut report = BesideReport::default();
        for _ in 0..self.rounds {
            for loss in [Loss::Kill, Loss::Stop, Loss::Freeze] {
                for peer in [Peer::Pgherd, Peer::Pgpool] {
                    let sum = report.0.entry((loss, peer)).or_default();
                    let outage = lose(loss, peer, sum).await.with_context(|| format!("{peer}, {loss}"))?;
                    let outage = outage.map_or_else(
                        || format!("no write within {} s", GIVEN_UP.as_secs()),
                        |outage| format!("no write for {:.2} s", outage.as_secs_f64()),
                    );
                    tell(format!("{peer:<8} {loss:<36} {outage}"));
                }
            }
        }
        Ok(report)
    }
}

/// One loss; gives the time without a write, if it ended.
async fn lose(loss: Loss, peer: Peer, sum: &mut Sum) -> Result<Option<Duration>> {
    let cluster = Cluster::builder().start().await?;
    match peer {
        Peer::Pgherd => {
            let pgherd = Pgherd::builder(&cluster).start().await?;
            pgherd.wait_log("writes are open", GIVEN_UP).await?;
            under_load(&cluster, pgherd.address(), loss, sum).await
        }
        Peer::Pgpool => {
            let pgpool = Pgpool::start(&cluster).await?;
            under_load(&cluster, pgpool.address, loss, sum).await
        }
    }
}

async fn under_load(
    cluster: &Cluster,
    address: SocketAddr,
    loss: Loss,
    sum: &mut Sum,
) -> Result<Option<Duration>> {
    let workload = Workload::new(address, "app", "app", cluster.credentials().password("app")).audited(2);
    workload.create_table().await?;
    let primary = cluster.primary().await?;
    let made = primary.scalar("SELECT pg_current_wal_lsn()").await?;
    for standby in cluster.standbys().await {
        standby.wait_replayed(&made).await?;
    }
    let running = workload.start().await?;
    running.wait_acknowledged(300, GIVEN_UP).await?;
    let moment = Instant::now();
    match loss {
        Loss::Kill => primary.kill9().await?,
        Loss::Stop => primary.stop_clean().await?,
        Loss::Freeze => primary.freeze().await?,
    }
    let again = running.wait_acknowledged(60, GIVEN_UP).await.is_ok();
    if loss == Loss::Freeze {
        // Whoever still waits for it gets an answer.
        primary.thaw().await?;
    }
    let record = running.stop().await?;
    let rows = match cluster.primary().await {
        Ok(primary) => primary.history().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let report = Report::compare(&record, rows);
    let outage = report.write_outage(moment).filter(|_| again);
    match outage {
        Some(outage) => sum.outages.note(outage),
        None => sum.never += 1,
    }
    sum.clients += 10;
    sum.connections_lost += report.connections_lost;
    // Before the loss: afterwards a row that is not seen may be lost.
    let before = record.reads.iter().filter(|read| read.ended < moment);
    sum.stale += before.filter(|read| matches!(read.seen, Seen::Missing(_))).count();
    let acknowledged = |it: &&Attempt| it.ended < moment && it.outcome == Outcome::Acknowledged;
    sum.read_back += record.attempts.iter().filter(acknowledged).count();
    Ok(outage)
}

impl fmt::Display for BesideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<46} {:>3} {:>7} {:>7} {:>7} {:>7} {:>9} {:>17} {:>14}",
            "", "n", "p50", "p90", "p99", "max", "no write", "connections lost", "stale reads"
        )?;
        for ((loss, peer), sum) in &self.0 {
            let n = sum.outages.count() + sum.never;
            let stale = 100.0 * share(sum.stale, sum.read_back);
            write!(
                f,
                "\n{:<36} {:<9} {n:>3} {} {:>4} of {n:>2} {:>9} of {:>4} {stale:>12.1} %",
                loss.to_string(),
                peer.to_string(),
                sum.outages,
                sum.never,
                sum.connections_lost,
                sum.clients,
            )?;
        }
        Ok(())
    }
}

fn share(part: usize, whole: usize) -> f64 {
    let [part, whole] = [part, whole].map(|it| f64::from(u32::try_from(it).unwrap_or(u32::MAX)));
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "primary: kill -9 of the postmaster",
            Self::Stop => "primary: clean stop",
            Self::Freeze => "primary: SIGSTOP",
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pgherd => "pgherd",
            Self::Pgpool => "pgpool",
        })
    }
}
