//! The primary is killed again and again, each server in its turn. A few times in every test run; `make campaign` does it
//! twenty times, and prints what was measured.

use std::time::{Duration, Instant};

use pgherd_testkit::history::Report;
use pgherd_testkit::{Cluster, Context, Result, ensure};

use crate::herd::{Herd, PATIENCE};

/// How often the primary is killed: `PGHERD_KILLS`, or a few times.
fn kills() -> Result<usize> {
    match std::env::var("PGHERD_KILLS") {
        Ok(text) => text.parse().context("PGHERD_KILLS"),
        Err(_) => Ok(2),
    }
}

/// What one kill did.
struct Kill {
    outage: Duration,
    report: Report,
}

/// Kills the primary under load, and brings it back when another leads.
async fn kill_primary(herd: &Herd) -> Result<Kill> {
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(200, PATIENCE).await?;
    let old = herd.cluster.primary().await?;
    let moment = Instant::now();
    old.kill9().await?;
    running.wait_acknowledged(200, PATIENCE).await.with_context(|| herd.pgherd.log().join("\n"))?;
    let record = running.stop().await?;
    let report = herd.compare(&record).await?;
    let outage = report.write_outage(moment).context("no write was acknowledged afterwards")?;
    ensure!(report.connections_lost == 0, "{report}");
    ensure!(herd.cluster.primary().await?.id() != old.id());
    // It comes back writable, and is made a standby of the new primary.
    old.launch().await?;
    herd.cluster.wait_healthy().await.with_context(|| herd.pgherd.log().join("\n"))?;
    Ok(Kill { outage, report })
}

async fn campaign(synchronous: u8) -> Result<Vec<Kill>> {
    let cluster = Cluster::builder().synchronous(synchronous).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.min_interval", "0s")).await?;
    let mut done = Vec::new();
    for _ in 0..kills()? {
        done.push(kill_primary(&herd).await?);
    }
    let mut outages: Vec<Duration> = done.iter().map(|kill| kill.outage).collect();
    outages.sort();
    let sum = |count: fn(&Report) -> usize| done.iter().map(|kill| count(&kill.report)).sum::<usize>();
    eprintln!(
        "{} kills with {synchronous} synchronous standbys: no write for p50 {:?}, worst {:?}; {} acknowledged, \
         {} acknowledged and missing, {} unknown; all: {outages:?}",
        done.len(),
        outages.get(outages.len() / 2).copied().unwrap_or_default(),
        outages.last().copied().unwrap_or_default(),
        sum(|report| report.acknowledged),
        sum(|report| report.missing.len()),
        sum(|report| report.unknown_present.len() + report.unknown_absent.len()),
    );
    ensure!(outages.get(outages.len() / 2).is_some_and(|p50| *p50 <= Duration::from_secs(1)), "{outages:?}");
    ensure!(outages.last().is_some_and(|worst| *worst <= Duration::from_secs(2)), "{outages:?}");
    Ok(done)
}

#[tokio::test]
async fn writes_go_on_within_a_second_after_each_kill_of_the_primary() -> Result<()> {
    campaign(0).await.map(drop)
}

#[tokio::test]
async fn with_synchronous_replication_no_acknowledged_row_is_missing_after_any_kill() -> Result<()> {
    for kill in campaign(1).await? {
        ensure!(kill.report.is_sound(), "{}", kill.report);
    }
    Ok(())
}
