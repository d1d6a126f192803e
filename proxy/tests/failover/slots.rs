//! Replication slots that a failover leaves behind, or loses.

use pgherd_testkit::{Cluster, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

async fn slots(server: &Server) -> Result<Vec<String>> {
    let rows = server.query("SELECT slot_name FROM pg_replication_slots ORDER BY slot_name").await?;
    Ok(rows.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect())
}

#[tokio::test]
async fn repmgrs_slots_that_nobody_needs_are_dropped_and_lost_logical_ones_are_told_of() -> Result<()> {
    let cluster = Cluster::builder().setting("wal_level", "logical").start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);
    primary.query_in("app", "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')").await?;
    // Of a server that streams from the primary, of the server itself, of one that nobody knows, and not of repmgr's.
    for slot in ["repmgr_slot_3", "repmgr_slot_2", "repmgr_slot_9", "backup"] {
        standby.query(&format!("SELECT pg_create_physical_replication_slot('{slot}', true)")).await?;
    }
    // Of one that streams from there, if not by it.
    primary.query("SELECT pg_create_physical_replication_slot('repmgr_slot_3', true)").await?;
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    eventually("only the needless slots are gone", PATIENCE, || async {
        Ok((slots(&standby).await? == ["backup", "repmgr_slot_9"]).then_some(()))
    })
    .await?;
    ensure!(slots(&primary).await? == ["feed", "repmgr_slot_3"], "{:?}", slots(&primary).await?);
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    primary.kill9_all().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    running.stop().await?;
    let new = herd.cluster.primary().await?.backend_id();
    let warning = format!("logical slot feed of database app was lost when node {new} became the primary");
    herd.pgherd.wait_log(&warning, PATIENCE).await?;
    Ok(())
}
