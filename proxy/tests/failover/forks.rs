//! Servers that went on from the same point, each on its own.

use pgherd_testkit::client::ErrorFields;
use pgherd_testkit::{Cluster, Context, Pgherd, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

/// Writes what the others do not have.
async fn write_there(server: &Server) -> Result<()> {
    let id = server.id();
    server.query_in("app", &format!("CREATE TABLE fork AS SELECT {id} AS id")).await.map(drop)
}

#[tokio::test]
async fn of_servers_that_forked_none_gets_a_write_until_an_operator_has_decided() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let [one, two, three] = [cluster.server(1)?, cluster.server(2)?, cluster.server(3)?];
    // The third knows less of the common past than the second.
    three.stop_clean().await?;
    one.query_in("app", "CREATE TABLE past AS SELECT generate_series(1, 100) AS n").await?;
    two.wait_replayed(&one.scalar("SELECT pg_current_wal_lsn()").await?).await?;
    one.kill9_all().await?;
    two.must_repmgr("standby promote").await?;
    write_there(&two).await?;
    three.start().await?;
    three.query("SELECT pg_promote()").await?;
    write_there(&three).await?;

    let pgherd = Pgherd::builder(&cluster).set("failover.write_wait", "1s").start().await?;
    pgherd.wait_log("neither's history contains the other's", PATIENCE).await?;
    let herd = Herd { cluster, pgherd };
    // Nobody could log in before, so that a login needs a server.
    let refused = herd.raw().await.err().context("somebody was let in")?;
    let error = refused.downcast_ref::<ErrorFields>().context("no error of the server")?;
    ensure!(error.code() == "57P03" && error.message().contains("fork"), "{error}");
    ensure!(!herd.log().contains("command begins"), "nothing was done to the servers: {}", herd.log());

    // The operator decides for the second.
    let answer = herd.console().await?.query("FAILOVER TO 1 ACCEPT TIMELINE 2").await?;
    ensure!(answer.error().is_none(), "{answer:?}\n{}", herd.log());
    herd.wait_writable().await?;
    ensure!(
        two.timeline().await? == 2 && !herd.log().contains("step=Promote"),
        "it is served as it is: {}",
        herd.log()
    );

    // The third is stopped by pgherd, and cloned by the operator: both timelines have the number 2, and so pg_rewind takes them for the
    // same.
    eventually("the third is stopped", PATIENCE, || async { Ok((!three.is_attended()).then_some(())) })
        .await?;
    let (address, port) = (two.address(), two.port());
    let clone =
        format!("-h {address} -p {port} -U repmgr -d repmgr --force standby clone --upstream-node-id=2");
    three.must_repmgr(&clone).await?;
    three.start().await?;
    three.must_repmgr("standby register --force --upstream-node-id=2").await?;
    herd.wait_led_by(&two, &[&three]).await.with_context(|| herd.log())?;
    let rows = three.query_in("app", "SELECT id FROM fork").await?;
    ensure!(rows.len() == 1 && rows.first().and_then(|row| row.get(0)) == Some("2"), "{rows:?}");
    Ok(())
}
