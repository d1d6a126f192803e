//! Faults one after the other, each server the primary in its turn. A few in every test run; `make faults` does a hundred of every
//! kind, and prints what was measured.

use std::time::{Duration, Instant};

use pgherd_testkit::faults::Campaign;
use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE, number_in};

#[tokio::test]
async fn under_faults_of_several_kinds_nothing_acknowledged_is_lost_and_nothing_happens_twice() -> Result<()>
{
    let campaign = Campaign { faults: 4, seed: 1, synchronous: 1, short: true };
    let report = campaign.run(|told| eprintln!("{told}")).await?;
    eprintln!("{report}");
    ensure!(report.wrong.is_empty(), "{:#?}", report.wrong);
    Ok(())
}

/// How often each server leads: `PGHERD_TURNS`, or once.
fn turns() -> Result<usize> {
    number_in("PGHERD_TURNS", 1)
}

/// Kills the primary, and has `id` lead, by an order if another was promoted; gives the longest time without a write.
async fn give_turn(herd: &Herd, id: i32) -> Result<Duration> {
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let old = herd.cluster.primary().await?;
    let moment = Instant::now();
    old.kill9().await?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    // It comes back writable, and is made a standby of the new primary.
    old.launch().await?;
    herd.cluster.wait_healthy().await.with_context(|| herd.log())?;
    if herd.cluster.primary().await?.id() != id {
        eventually("the switchover", PATIENCE, || async {
            let order = format!("SWITCHOVER {}", id - 1);
            Ok(herd.console().await?.query(&order).await?.error().is_none().then_some(()))
        })
        .await?;
        running.wait_acknowledged(100, PATIENCE).await?;
        herd.cluster.wait_healthy().await.with_context(|| herd.log())?;
    }
    let record = running.stop().await?;
    ensure!(herd.cluster.primary().await?.id() == id, "{}", herd.log());
    let report = herd.compare(&record).await?;
    ensure!(report.is_sound() && report.connections_lost == 0, "{report}");
    report.write_outage(moment).context("no write was acknowledged afterwards")
}

#[tokio::test]
async fn each_server_leads_in_its_turn_under_load_and_nothing_is_lost() -> Result<()> {
    let cluster = Cluster::builder().synchronous(1).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.min_interval", "0s")).await?;
    let mut outages = Vec::new();
    for id in [2, 3, 1].repeat(turns()?) {
        outages.push(give_turn(&herd, id).await?);
    }
    outages.sort();
    eprintln!("{} turns; no write for {outages:?}", outages.len());
    ensure!(outages.iter().all(|outage| *outage <= Duration::from_secs(2)), "{outages:?}");
    Ok(())
}
