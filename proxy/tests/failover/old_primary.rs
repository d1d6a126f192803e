//! An old primary that comes back writable, of which pgherd has seen neither the end nor the return.

use std::time::Duration;

use pgherd_testkit::client::psql;
use pgherd_testkit::{Cluster, Context, Pgherd, Result, Server, ensure};

use crate::herd::{Herd, PATIENCE};

/// Writes past pgherd, on a server that should not be writable any more.
async fn write_there(server: &Server) -> Result<()> {
    server.query_in("app", "CREATE TABLE stray AS SELECT generate_series(1, 1000) AS n").await.map(drop)
}

/// Whether what was written past pgherd is there.
async fn has_stray(server: &Server) -> Result<bool> {
    let rows = server.query_in("app", "SELECT to_regclass('stray') IS NOT NULL").await?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

#[tokio::test]
async fn an_old_primary_that_comes_back_with_wal_of_its_own_while_pgherd_restarts_never_gets_a_write()
-> Result<()> {
    let mut herd = Herd::start().await?;
    let old = herd.cluster.server(1)?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    old.kill9_all().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let new = herd.cluster.primary().await?;
    herd.pgherd.kill9().await?;
    old.start().await?;
    write_there(&old).await?;
    let starts = herd.pgherd.log().len();
    herd.pgherd.start().await?;
    running.wait_acknowledged(100, PATIENCE).await.with_context(|| herd.log())?;
    // The writers go on while it is rewound.
    herd.wait_all_led_by(&new).await.with_context(|| herd.log())?;
    herd.compare_rows(&running.stop().await?).await?;
    ensure!(old.is_in_recovery().await? && !has_stray(&old).await? && !has_stray(&new).await?);
    herd.pgherd.wait_log("server rejoined", PATIENCE).await?;
    let log = herd.pgherd.log();
    let served = log.iter().skip(starts).find(|line| line.contains("writes are open"));
    ensure!(served.is_some_and(|line| line.contains("on timeline 2 ")), "{}", herd.log());
    let rejoined = log.iter().find(|line| line.contains("server rejoined"));
    ensure!(rejoined.is_some_and(|line| !line.contains("lost=0 ")), "its own WAL is told: {}", herd.log());
    Ok(())
}

#[tokio::test]
async fn an_old_primary_with_more_wal_of_its_own_than_may_be_lost_is_left_to_an_operator() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let mut herd = Herd::of(cluster, |pgherd| pgherd.set("failover.max_data_loss", "16KiB")).await?;
    let [old, new] = [herd.cluster.server(1)?, herd.cluster.server(2)?];
    old.kill9_all().await?;
    herd.wait_writable().await?;
    herd.pgherd.kill9().await?;
    old.start().await?;
    write_there(&old).await?;
    let starts = herd.pgherd.log().len();
    herd.pgherd.start().await?;
    herd.pgherd.wait_log("bytes of WAL of its own, more than failover.max_data_loss", PATIENCE).await?;
    let acts = herd.pgherd.log().iter().skip(starts).any(|line| line.contains("command begins"));
    ensure!(has_stray(&old).await? && !acts, "nothing is done to the servers: {}", herd.log());
    let refused = herd.pgherd.ask(&["rejoin", "0", "--allow-data-loss"]).await?;
    ensure!(refused.complained.contains("there is no primary to follow: Hold"), "{refused:?}");
    let chosen = herd.pgherd.ask(&["failover", "--accept-timeline", "2"]).await?;
    ensure!(chosen.code == 0, "{chosen:?}");
    herd.wait_writable().await?;
    let given_up = "has more WAL of its own than failover.max_data_loss: an operator must rejoin it";
    herd.pgherd.wait_log(given_up, PATIENCE).await.with_context(|| herd.log())?;
    let rejoined = herd.pgherd.ask(&["rejoin", "0", "--allow-data-loss"]).await?;
    ensure!(rejoined.code == 0, "{rejoined:?}\n{}", herd.log());
    herd.wait_all_led_by(&new).await.with_context(|| herd.log())?;
    ensure!(!has_stray(&old).await? && !has_stray(&new).await?);
    Ok(())
}

#[tokio::test]
async fn a_false_primary_that_was_fenced_by_a_pgherd_that_has_died_comes_back_by_itself() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let [old, new, other] = [cluster.server(1)?, cluster.server(2)?, cluster.server(3)?];
    old.kill9_all().await?;
    new.must_repmgr("standby promote").await?;
    other.must_repmgr("standby follow --upstream-node-id=2").await?;
    old.start().await?;
    write_there(&old).await?;

    let mut pgherd = Pgherd::builder(&cluster).start().await?;
    let fenced = old.data_directory().join("pgherd.fenced");
    let is_fenced = async {
        while !fenced.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_fenced).await?;
    pgherd.kill9().await?;
    let mut herd = Herd { cluster, pgherd };
    // On a busy machine it may have come further than that.
    let left_down = !herd.log().contains("step=Rejoin");
    if !left_down {
        eprintln!(
            "the rejoin was begun before pgherd was killed: that its host tells of the fence is not seen here"
        );
    }
    let starts = herd.pgherd.log().len();
    herd.pgherd.start().await?;
    psql(&herd.pgherd.connection_string("app", "app"), "CREATE TABLE t AS SELECT 1 AS n").await?;
    let there = new.query_in("app", "SELECT n FROM t").await?;
    ensure!(there.len() == 1, "the write went to the new primary");
    herd.wait_led_by(&new, &[&old, &other]).await.with_context(|| herd.log())?;
    ensure!(!has_stray(&old).await? && new.timeline().await? == 2);
    let log = herd.pgherd.log();
    let told = |words: &str| log.iter().skip(starts).any(|line| line.contains(words));
    ensure!(!left_down || told("server was fenced by a pgherd"), "{}", herd.log());
    ensure!(!told("step=Fence"), "it was down: {}", herd.log());
    Ok(())
}
