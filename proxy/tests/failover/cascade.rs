//! A standby that streams from another standby.

use pgherd_testkit::{Cluster, Result, Server, ensure, eventually};

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
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    old.kill9_all().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    ensure!(herd.cluster.primary().await?.id() == new.id(), "of equals the one with the lowest number");
    wait_follows(&middle, &new, &new).await?;
    wait_follows(&end, &middle, &new).await?;
    middle.stop_clean().await?;
    wait_follows(&end, &new, &new).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    Ok(())
}
