//! The network is cut.

use std::time::{Duration, Instant};

use pgherd_testkit::faults::CutOff;
use pgherd_testkit::{Cluster, Context, Network, Party, Result, ensure};

use crate::herd::{Herd, PATIENCE};

/// `make faults` tries it fifty times.
#[tokio::test]
async fn a_pgherd_that_is_cut_off_from_an_idle_primary_promotes_nobody_while_standbys_stream() -> Result<()> {
    CutOff { tries: 2, seed: 3 }.run().await
}

#[tokio::test]
async fn a_primary_that_is_cut_off_from_everybody_is_replaced_and_a_standby_when_the_network_is_back()
-> Result<()> {
    let cluster = Cluster::builder().network(Network::Namespaces).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    let old = herd.cluster.server(1)?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let moment = Instant::now();
    herd.cluster.isolate(Party::Server(1)).await?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    ensure!(!old.is_in_recovery().await?, "it does not know yet");
    herd.cluster.heal().await?;
    let new =
        herd.cluster.servers().iter().find(|it| {
            it.id() != 1 && herd.log().contains(&format!("node {} on timeline 2", it.backend_id()))
        });
    let new = new.context("a new primary")?;
    herd.wait_all_led_by(new).await.with_context(|| herd.log())?;
    let report = herd.compare(&running.stop().await?).await?;
    let outage = report.write_outage(moment).context("no write was acknowledged afterwards")?;
    eprintln!("no write for {outage:?}");
    ensure!(report.connections_lost == 0 && outage < Duration::from_secs(8), "{outage:?}, {report}");
    Ok(())
}
