//! What clients meet while there is no primary, and while pgherd itself is restarted.

use std::time::{Duration, Instant};

use pgherd_testkit::client::psql;
use pgherd_testkit::{Cluster, Result, ensure};

use crate::herd::{Herd, PATIENCE, timeline};

#[tokio::test]
async fn clients_that_come_or_wake_up_during_the_outage_wait_and_then_work() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    // A long grace makes the outage long enough to log in during it.
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.restart_grace", "3s")).await?;
    let idle = herd.connect().await?;
    idle.batch_execute("SELECT 1").await?;
    herd.cluster.server(1)?.kill9().await?;
    let down = Instant::now();
    let url = herd.pgherd.connection_string("app", "app");
    let (one, two) = tokio::join!(
        idle.batch_execute("CREATE TABLE t AS SELECT 1 AS n"),
        psql(&url, "CREATE TABLE u AS SELECT 1 AS n"),
    );
    one?;
    two?;
    ensure!(down.elapsed() > Duration::from_secs(3), "there was an outage: {:?}", down.elapsed());
    ensure!(herd.cluster.primary().await?.id() != 1);
    Ok(())
}

#[tokio::test]
async fn a_write_that_waits_longer_than_write_wait_gets_a_clear_error_and_the_session_goes_on() -> Result<()>
{
    let cluster = Cluster::builder().servers(1).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.write_wait", "1s")).await?;
    let mut client = herd.raw().await?;
    client.query("SELECT 1").await?;
    let server = herd.cluster.server(1)?;
    server.stop_clean().await?;
    let asked = Instant::now();
    let answer = client.query("INSERT INTO probe DEFAULT VALUES").await?;
    let error = answer.error().ok_or_else(|| pgherd_testkit::anyhow!("{answer:?}"))?;
    ensure!(error.code() == "57P03" && error.severity() == "ERROR", "{error}");
    ensure!(error.message().contains("no primary is available"), "{error}");
    ensure!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
    ensure!(answer.transaction_state() == Some('I'));
    server.start().await?;
    herd.wait_writable().await?;
    ensure!(client.query("SELECT 1").await?.error().is_none(), "the same connection");
    Ok(())
}

#[tokio::test]
async fn a_transaction_on_a_lost_primary_stays_aborted_until_the_client_ends_it() -> Result<()> {
    let herd = Herd::start().await?;
    let mut client = herd.raw().await?;
    client.query("CREATE TABLE t (n int)").await?;
    client.query("BEGIN").await?;
    ensure!(client.query("INSERT INTO t VALUES (1)").await?.transaction_state() == Some('T'));
    let mut other = herd.raw().await?;
    for sql in ["BEGIN", "INSERT INTO t VALUES (3)"] {
        ensure!(other.query(sql).await?.transaction_state() == Some('T'));
    }
    herd.cluster.server(1)?.kill9().await?;
    herd.pgherd.wait_log("from=Verify to=Steady", PATIENCE).await?;

    let committed = other.query("COMMIT").await?;
    ensure!(committed.error().is_some_and(|error| error.code() == "40001"), "{committed:?}");
    ensure!(committed.transaction_state() == Some('I'));
    let lost = client.query("INSERT INTO t VALUES (2)").await?;
    ensure!(lost.error().is_some_and(|error| error.code() == "40001"), "{lost:?}");
    ensure!(lost.transaction_state() == Some('E'));
    let refused = client.query("SELECT 1").await?;
    ensure!(refused.error().is_some_and(|error| error.code() == "25P02"), "{refused:?}");
    let ended = client.query("COMMIT").await?;
    ensure!(ended.command().as_deref() == Some("ROLLBACK") && ended.transaction_state() == Some('I'));
    let rows = client.query("SELECT count(*) FROM t").await?.rows();
    ensure!(rows == [[Some("0".into())]], "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn pgherd_restarts_alone_and_nothing_changes() -> Result<()> {
    let mut herd = Herd::start().await?;
    for _ in 0..3 {
        herd.pgherd.kill9().await?;
        let started = Instant::now();
        herd.pgherd.start().await?;
        psql(&herd.pgherd.connection_string("app", "app"), "INSERT INTO probe DEFAULT VALUES").await?;
        eprintln!("serving {:?} after the start", started.elapsed());
        let log = || herd.pgherd.log().join("\n");
        ensure!(started.elapsed() < Duration::from_secs(5), "{:?}\n{}", started.elapsed(), log());
    }
    let primary = herd.cluster.server(1)?;
    ensure!(herd.cluster.primary().await?.id() == 1 && timeline(&primary).await? == "00000001");
    ensure!(
        !herd.pgherd.log().iter().any(|line| line.contains("command begins")),
        "it did nothing to the servers"
    );
    Ok(())
}
