//! A standby that streams from another standby.

use pgherd_testkit::{Cluster, Context, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

/// Waits until `standby` streams from `upstream`, and the rows on `primary` say so.
async fn wait_follows(standby: &Server, upstream: &Server, primary: &Server) -> Result<()> {
    eventually(format!("{} follows {}", standby.name(), upstream.name()), PATIENCE, || async {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'",
            standby.name()
        );
        let row = format!("SELECT upstream_node_id FROM repmgr.nodes WHERE node_id = {}", standby.id());
        let rows = primary.query_in("repmgr", &row).await?;
        let recorded = rows.first().and_then(|row| row.get(0)) == Some(upstream.id().to_string().as_str());
        Ok((recorded && upstream.scalar(&sql).await? == "1").then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_cascade_outlives_the_primary_and_its_end_follows_the_primary_when_its_upstream_is_lost()
-> Result<()> {
    let cluster = Cluster::builder().servers(4).start().await?;
    let [old, new, middle, end] = [1, 2, 3, 4].map(|id| cluster.server(id));
    let (old, new, middle, end) = (old?, new?, middle?, end?);
    end.must_repmgr("standby follow --upstream-node-id=3").await?;
    wait_follows(&end, &middle, &old).await?;
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    herd.pgherd.wait_log("readable=[1, 2, 3]", PATIENCE).await?;
    let workload = herd.workload().await?;
    // All have all: whoever has more than the others would be promoted.
    let written = old.scalar("SELECT pg_current_wal_flush_lsn()").await?;
    for standby in [&new, &middle, &end] {
        standby.wait_replayed(&written).await?;
    }
    old.kill9_all().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    ensure!(
        herd.cluster.primary().await?.id() == new.id(),
        "of equals the one with the lowest number: {}",
        herd.log()
    );
    wait_follows(&middle, &new, &new).await?;
    wait_follows(&end, &middle, &new).await?;
    middle.stop_clean().await?;
    wait_follows(&end, &new, &new).await.with_context(|| herd.log())?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    Ok(())
}

/// The control file of a standby tells the timeline of its last restartpoint. Nobody is to take what it streamed since for WAL of its own.
#[tokio::test]
async fn a_standby_that_lost_its_upstream_on_a_new_timeline_is_repointed_and_not_rewound() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let [old, new, end] = [1, 2, 3].map(|id| cluster.server(id));
    let (old, new, end) = (old?, new?, end?);
    end.must_repmgr("standby follow --upstream-node-id=2").await?;
    wait_follows(&end, &new, &old).await?;
    old.kill9_all().await?;
    new.must_repmgr("standby promote").await?;
    eventually("the standby streams the new timeline", PATIENCE, || async {
        let timeline = end.scalar("SELECT received_tli FROM pg_stat_wal_receiver").await?;
        Ok((timeline == "2").then_some(()))
    })
    .await?;
    new.query("CREATE TABLE later (); INSERT INTO later DEFAULT VALUES").await?;
    end.wait_replayed(&new.scalar("SELECT pg_current_wal_flush_lsn()").await?).await?;
    end.query("ALTER SYSTEM SET primary_conninfo = ''").await?;
    end.reload().await?;
    let run = "SELECT pg_postmaster_start_time()";
    let before = end.scalar(run).await?;
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    wait_follows(&end, &new, &new).await.with_context(|| herd.log())?;
    ensure!(end.scalar(run).await? == before, "it was restarted: {}", herd.log());
    ensure!(!herd.log().contains("step=Rejoin"), "{}", herd.log());
    Ok(())
}
