//! Each fault does what it says, and the cluster recovers from it.

use std::time::Duration;

use pgherd_testkit::{Cluster, Result, eventually};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_server_that_was_stopped_killed_or_frozen_comes_back() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);

    standby.stop_clean().await?;
    assert!(standby.postmaster_pid().is_none());
    assert!(standby.query("SELECT 1").await.is_err());
    assert!(standby.start().await.is_ok());
    standby.wait_streaming().await?;

    primary.stop_immediate().await?;
    assert!(cluster.primary().await.is_err());
    primary.start().await?;
    standby.wait_streaming().await?;
    assert!(primary.log_tail().contains("database system was not properly shut down"));

    let killed = primary.postmaster_pid();
    primary.kill9().await?;
    assert!(primary.postmaster_pid().is_none());
    primary.start().await?;
    assert_ne!(primary.postmaster_pid(), killed);
    assert!(primary.log_tail().contains("database system was interrupted"), "{}", primary.log_tail());

    primary.kill9_all().await?;
    primary.start().await?;
    primary.restart().await?;
    cluster.wait_healthy().await
}

#[tokio::test]
async fn the_backends_of_a_postmaster_killed_with_9_are_told_and_a_transaction_is_rolled_back() -> Result<()>
{
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let session = server.connect("app", "app").await?;
    session.batch_execute("CREATE TABLE t (n int)").await?;
    session.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await?;
    server.kill9().await?;
    eventually("the loss of the connection", SOON, || async { Ok(session.is_lost().then_some(())) }).await?;
    server.start().await?;
    let rows = server.query_in("app", "SELECT * FROM t").await?;
    assert!(rows.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_keeps_connections_open_and_answers_after_its_thaw() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let server = cluster.primary().await?;
    let session = server.connect("app", "app").await?;
    server.freeze().await?;
    let answer = session.simple_query("SELECT 1");
    tokio::pin!(answer);
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut answer).await.is_err());
    assert!(server.postmaster_pid().is_some() && !session.is_lost());
    server.thaw().await?;
    tokio::time::timeout(SOON, answer).await??;
    // The standby's wal_receiver_timeout may have passed; it connects again.
    cluster.wait_healthy().await
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_written_until_there_is_room_again() -> Result<()> {
    let cluster = Cluster::builder().servers(1).disk(256).start().await?;
    let server = cluster.server(1)?;
    let grow = "CREATE TABLE IF NOT EXISTS t (x text); INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    server.fill_disk().await?;
    assert!(server.query(grow).await.is_err());
    assert!(server.log_tail().contains("No space left on device"), "{}", server.log_tail());
    server.free_disk().await?;
    if server.postmaster_pid().is_none() {
        // A write-ahead log that cannot be written ends the server.
        server.start().await?;
    }
    server.wait_ready().await?;
    server.query("SELECT 1").await.map(drop)
}

#[tokio::test]
async fn with_a_synchronous_standby_a_commit_waits_while_it_is_frozen() -> Result<()> {
    let cluster = Cluster::builder().servers(2).synchronous(1).start().await?;
    let session = cluster.primary().await?.connect("app", "app").await?;
    session.batch_execute("CREATE TABLE t (n int)").await?;
    let standby = cluster.server(2)?;
    standby.freeze().await?;
    let commit = session.batch_execute("INSERT INTO t VALUES (1)");
    tokio::pin!(commit);
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut commit).await.is_err());
    standby.thaw().await?;
    tokio::time::timeout(SOON, commit).await??;
    Ok(())
}

#[tokio::test]
async fn a_cluster_of_its_own_initdb_has_another_system_identifier() -> Result<()> {
    const IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";
    let cached = Cluster::builder().servers(1).start().await?;
    let fresh = Cluster::builder().servers(2).template_cache(false).start().await?;
    let (one, other) =
        (cached.server(1)?.scalar(IDENTIFIER).await?, fresh.server(1)?.scalar(IDENTIFIER).await?);
    assert_ne!(one, other);
    fresh.wait_healthy().await
}
