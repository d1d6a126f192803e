//! Servers that are added and taken away while pgherd runs.

use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};
use toml::Value;

use crate::herd::{Herd, PATIENCE};

fn nodes(cluster: &Cluster, which: &[usize]) -> Vec<Value> {
    let all = cluster.backend_nodes();
    which.iter().filter_map(|it| all.get(*it).cloned()).map(Value::from).collect()
}

/// Waits until pgherd's log says `part` in a line behind the first `after`.
async fn wait_said(herd: &Herd, after: usize, part: &str) -> Result<()> {
    eventually(format!("{part:?} in pgherd's log"), PATIENCE, || async {
        Ok(herd.pgherd.log().iter().skip(after).any(|line| line.contains(part)).then_some(()))
    })
    .await
    .with_context(|| herd.pgherd.log().join("\n"))
}

#[tokio::test]
async fn servers_are_added_and_taken_away_and_a_failover_goes_by_those_that_there_are() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let two = nodes(&cluster, &[0, 1]);
    let mut herd = Herd::of(cluster, |pgherd| pgherd.set("backends.nodes", two)).await?;
    let [first, second, third] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;

    // The primary is not taken away, and nothing else of such a configuration is taken.
    let before = herd.pgherd.log().len();
    herd.pgherd.set("backends.nodes", nodes(&herd.cluster, &[1, 2]))?;
    herd.pgherd.set("pool.size", 3)?;
    let lines = herd.pgherd.reload().await?;
    ensure!(lines.iter().any(|line| line.contains("is the primary: it can't be taken away")), "{lines:?}");
    ensure!(lines.iter().any(|line| line.contains("nothing was changed")), "{lines:?}");

    herd.pgherd.set("backends.nodes", nodes(&herd.cluster, &[0, 1, 2]))?;
    herd.pgherd.reload().await?;
    wait_said(&herd, before, "readable=[1, 2]").await?;

    // One that is down is taken away, with a reload while it is.
    second.kill9().await?;
    wait_said(&herd, before, "node 1 refuses connections").await?;
    let down = herd.pgherd.log().len();
    herd.pgherd.set("pool.size", 4)?;
    let lines = herd.pgherd.reload().await?;
    ensure!(lines.iter().any(|line| line.contains("changed=\"pool.size\"")), "{lines:?}");
    herd.pgherd.set("backends.nodes", nodes(&herd.cluster, &[0, 2]))?;
    herd.pgherd.reload().await?;
    wait_said(&herd, down, "no longer: node 1 refuses connections").await?;

    // A reload in the middle of a failover.
    let losing = herd.pgherd.log().len();
    first.kill9_all().await?;
    wait_said(&herd, losing, "writes wait").await?;
    herd.pgherd.set("pool.size", 5)?;
    let lines = herd.pgherd.reload().await?;
    ensure!(lines.iter().any(|line| line.contains("the configuration was read again")), "{lines:?}");
    running.wait_acknowledged(100, PATIENCE).await?;
    ensure!(herd.cluster.primary().await?.id() == third.id());
    let record = running.stop().await?;
    let report = herd.compare(&record).await?;
    ensure!(report.connections_lost == 0, "{report}");
    Ok(())
}
