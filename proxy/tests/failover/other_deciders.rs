//! Somebody else than pgherd decides: an operator, or repmgrd.

use std::time::Duration;

use pgherd_testkit::{Cluster, Context, Pgherd, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

#[tokio::test]
async fn in_manual_mode_writes_wait_until_an_operator_has_promoted_a_standby() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.mode", "manual")).await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    one.kill9_all().await?;
    herd.pgherd.wait_log("failover.mode is manual", PATIENCE).await?;
    // Longer than a failover takes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(two.is_in_recovery().await? && three.is_in_recovery().await?, "{}", herd.log());
    ensure!(!herd.log().contains("step=Promote") && !herd.log().contains("step=Freeze"), "{}", herd.log());

    three.must_repmgr("standby promote").await?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    herd.wait_led_by(&three, &[&two]).await.with_context(|| herd.log())?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    Ok(())
}

#[tokio::test]
async fn where_repmgrd_decides_it_promotes_and_clients_go_on_at_its_primary() -> Result<()> {
    let herd = Herd::start().await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    for standby in [&two, &three] {
        standby.start_repmgrd().await?;
        eventually("repmgrd runs", PATIENCE, || async {
            let runs = standby.query_in("repmgr", "SELECT repmgr.repmgrd_is_running()").await?;
            Ok((runs.first().and_then(|row| row.get(0)) == Some("t")).then_some(()))
        })
        .await?;
    }
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    one.kill9_all().await?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    let new = herd.cluster.primary().await?;
    let other = if new.id() == 2 { &three } else { &two };
    herd.wait_led_by(&new, &[other]).await.with_context(|| herd.log())?;
    ensure!(new.id() != 1 && !herd.log().contains("step=Promote"), "{}", herd.log());
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    Ok(())
}

/// As where the program that promoted was killed before it had written that down.
#[tokio::test]
async fn a_promotion_that_repmgr_does_not_know_of_is_written_down_and_the_others_follow() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let [one, two, three] = [cluster.server(1)?, cluster.server(2)?, cluster.server(3)?];
    one.kill9_all().await?;
    two.query("SELECT pg_promote()").await?;
    let pgherd = Pgherd::builder(&cluster).start().await?;
    let herd = Herd { cluster, pgherd };
    herd.wait_writable().await?;
    herd.wait_led_by(&two, &[&three]).await.with_context(|| herd.log())?;
    one.start().await?;
    herd.wait_led_by(&two, &[&one, &three]).await.with_context(|| herd.log())
}
