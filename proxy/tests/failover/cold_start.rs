//! pgherd is down, the primary, whatever its id, is lost, and pgherd starts.

use std::time::{Duration, Instant};

use pgherd_testkit::client::psql;
use pgherd_testkit::{Cluster, Pgherd, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

const GRACE: Duration = Duration::from_secs(2);

/// The primary has this repmgr id, pgherd's number plus one, when it is lost.
async fn promotes_at_its_start(id: i32) -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    cluster.make_primary(id).await?;
    let old = cluster.primary().await?;
    ensure!(old.id() == id);
    old.kill9_all().await?;

    let started = Instant::now();
    let pgherd = Pgherd::builder(&cluster).set("failover.cold_grace", "2s").start().await?;
    let url = pgherd.connection_string("app", "app");
    psql(&url, "CREATE TABLE t AS SELECT 1 AS n").await?;
    let took = started.elapsed();
    eprintln!(
        "primary {} lost while pgherd was down: a write after {took:?}, with a grace of {GRACE:?}",
        old.name()
    );
    ensure!(took >= GRACE && took < GRACE + Duration::from_secs(2), "{took:?}");
    let new = cluster.primary().await?;
    ensure!(new.id() != id);

    let other = cluster.servers().iter().find(|it| it.id() != id && it.id() != new.id()).cloned();
    let herd = Herd { cluster, pgherd };
    herd.wait_led_by(&new, &other.iter().collect::<Vec<_>>()).await
}

#[tokio::test]
async fn the_first_server_was_the_primary() -> Result<()> {
    promotes_at_its_start(1).await
}

#[tokio::test]
async fn the_second_server_was_the_primary() -> Result<()> {
    promotes_at_its_start(2).await
}

#[tokio::test]
async fn the_third_server_was_the_primary() -> Result<()> {
    promotes_at_its_start(3).await
}

#[tokio::test]
async fn a_primary_that_is_only_slow_to_start_is_waited_for_and_kept() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    cluster.make_primary(2).await?;
    let primary = cluster.server(2)?;
    primary.stop_clean().await?;
    let pgherd = Pgherd::builder(&cluster).set("failover.cold_grace", "20s").start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    primary.start().await?;
    psql(&pgherd.connection_string("app", "app"), "CREATE TABLE t AS SELECT 1 AS n").await?;
    ensure!(cluster.primary().await?.id() == 2);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_down_or_has_no_address_at_start_is_a_line_in_the_log() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    cluster.server(2)?.stop_clean().await?;
    let mut nodes = cluster.backend_nodes();
    nodes.push("2:no-such-host.invalid:5432".to_owned());
    let pgherd = Pgherd::builder(&cluster).set("backends.nodes", nodes).start().await?;
    psql(&pgherd.connection_string("app", "app"), "SELECT 1").await?;
    for line in ["node 1 refuses connections", "node 2 refuses connections"] {
        pgherd.wait_log(line, PATIENCE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn pgherd_starts_with_every_server_down_and_serves_when_they_come() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    for server in cluster.servers() {
        server.kill9_all().await?;
    }
    let pgherd = Pgherd::builder(&cluster).set("failover.cold_grace", "5s").start().await?;
    let url = pgherd.connection_string("app", "app");
    let refused = psql(&url, "SELECT 1").await;
    let refusal = format!("{:#}", refused.err().unwrap_or_else(|| pgherd_testkit::anyhow!("it was served")));
    ensure!(refusal.contains("the password cannot be checked now"), "{refusal}");
    for server in cluster.servers() {
        server.start().await?;
    }
    eventually("a write", PATIENCE, || async {
        psql(&url, "CREATE TABLE IF NOT EXISTS t ()").await.map(Some)
    })
    .await?;
    ensure!(cluster.primary().await?.id() == 1, "nobody was promoted");
    Ok(())
}
