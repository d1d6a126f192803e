//! More than the primary is lost at once: pgherd, the best candidate, every server.

use std::time::Duration;

use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

#[tokio::test]
async fn the_primary_and_pgherd_are_lost_together_and_the_next_pgherd_promotes_a_standby() -> Result<()> {
    let cluster = Cluster::builder().synchronous(1).start().await?;
    let mut herd = Herd::of(cluster, |pgherd| pgherd.set("failover.cold_grace", "2s")).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let primary = herd.cluster.primary().await?;
    let (server, pgherd) = tokio::join!(primary.kill9_all(), herd.pgherd.kill9());
    server.and(pgherd)?;
    herd.pgherd.start().await?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    let report = herd.compare_rows(&running.stop().await?).await?;
    ensure!(report.is_sound(), "{report}");
    ensure!(herd.cluster.primary().await?.id() != primary.id());
    Ok(())
}

#[tokio::test]
async fn the_primary_and_the_best_candidate_are_lost_at_once_and_the_last_standby_leads() -> Result<()> {
    let herd = Herd::start().await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    // Of two that have all, the one with the lower number is the better.
    tokio::try_join!(one.kill9_all(), two.kill9_all())?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    ensure!(herd.cluster.primary().await?.id() == three.id(), "{}", herd.log());
    // Both come back: the old primary writable, the other as a standby of one that is gone.
    tokio::try_join!(one.launch(), two.launch())?;
    herd.wait_led_by(&three, &[&one]).await.with_context(|| herd.log())?;
    // The old primary is its upstream by repmgr's rows: where that is rejoined soon enough, it follows that as in a cascade.
    eventually("the other standby streams, too", PATIENCE, || async {
        let sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND received_tli = 2";
        Ok((two.scalar(sql).await? == "1").then_some(()))
    })
    .await
    .with_context(|| herd.log())?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    Ok(())
}

/// Every server is killed, and they come back in this order.
async fn all_come_back(order: [i32; 3]) -> Result<()> {
    let cluster = Cluster::builder().synchronous(1).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let servers = herd.cluster.servers();
    let [one, two, three] = servers else { pgherd_testkit::bail!("three servers") };
    tokio::try_join!(one.kill9_all(), two.kill9_all(), three.kill9_all())?;
    for id in order {
        herd.cluster.server(id)?.launch().await?;
        // Long enough for it to answer before the next is there.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    herd.cluster.wait_healthy().await.with_context(|| herd.log())?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.is_sound() && report.connections_lost == 0, "{report}");
    Ok(())
}

#[tokio::test]
async fn every_server_is_lost_and_the_primary_comes_back_first() -> Result<()> {
    all_come_back([1, 3, 2]).await
}

#[tokio::test]
async fn every_server_is_lost_and_the_primary_comes_back_last() -> Result<()> {
    all_come_back([3, 2, 1]).await
}
