//! Each step as it is taken where there is no shell on the servers.

use anyhow::{Result, ensure};
use pgherd_failover::{ExecutorSettings, Means, Outcome, Step};
use pgherd_testkit::{Cluster, Server, eventually};

use crate::herd::{Herd, PATIENCE, has_received, id, rejoin, settings, streams_to};

async fn herd(servers: u8) -> Result<Herd> {
    let cluster = Cluster::builder().servers(servers).start().await?;
    let settings = ExecutorSettings { means: Means::Sql, ..settings(&cluster)? };
    Herd::with(cluster, settings)
}

async fn rows(primary: &Server) -> Result<Vec<String>> {
    let sql =
        "SELECT concat_ws(' ', node_id, type, active, upstream_node_id) FROM repmgr.nodes ORDER BY node_id";
    let rows = primary.query_in("repmgr", sql).await?;
    Ok(rows.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect())
}

/// Loses the primary, has the second server promoted and the third follow it.
async fn fail_over(herd: &Herd) -> Result<()> {
    let (old, candidate, other) = (herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?);
    let written = old.scalar("SELECT pg_current_wal_flush_lsn()").await?;
    for standby in [&candidate, &other] {
        has_received(standby, &written).await?;
    }
    old.kill9().await?;
    for standby in [&candidate, &other] {
        herd.freeze(standby).await?;
        ensure!(herd.take(standby, Step::Lock).await == Outcome::Done);
    }
    ensure!(herd.take(&candidate, Step::Promote).await == Outcome::Done);
    ensure!(!candidate.is_in_recovery().await?, "it is promoted");
    // What repmgr itself leaves; the rows of those that follow are theirs to change.
    let expected = ["1 primary f", "2 primary t", "3 standby t 1"];
    ensure!(rows(&candidate).await? == expected, "{:?}", rows(&candidate).await?);
    ensure!(herd.take(&candidate, Step::VerifyWrite).await == Outcome::Done);
    for standby in [&candidate, &other] {
        ensure!(herd.take(standby, Step::Unlock).await == Outcome::Done);
    }
    ensure!(herd.take(&other, Step::Follow { upstream: id(&candidate) }).await == Outcome::Done);
    streams_to(&candidate, &other).await?;
    let expected = ["1 primary f", "2 primary t", "3 standby t 2"];
    ensure!(rows(&candidate).await? == expected, "{:?}", rows(&candidate).await?);
    let conninfo = other.scalar("SHOW primary_conninfo").await?;
    for kept in ["user='repmgr'", "application_name='pg03'", "connect_timeout='2'"] {
        ensure!(conninfo.contains(kept), "{conninfo}");
    }
    Ok(())
}

#[tokio::test]
async fn sql_promotes_and_repoints_and_writes_down_what_repmgr_would() -> Result<()> {
    let herd = herd(3).await?;
    fail_over(&herd).await
}

#[tokio::test]
async fn sql_stands_in_for_ssh_where_sshd_cannot_be_reached() -> Result<()> {
    let herd = Herd::of(3).await?;
    for server in herd.cluster.servers() {
        server.stop_sshd().await?;
    }
    fail_over(&herd).await
}

#[tokio::test]
async fn a_standby_with_a_slot_gets_one_at_its_new_upstream() -> Result<()> {
    let herd = herd(3).await?;
    let (primary, upstream, standby) =
        (herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?);
    primary.query("SELECT pg_create_physical_replication_slot('repmgr_slot_3')").await?;
    standby.query("ALTER SYSTEM SET primary_slot_name = 'repmgr_slot_3'").await?;
    standby.reload().await?;
    let active = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'repmgr_slot_3' AND active";
    let is_used = |server: Server| async move {
        eventually("the slot is used", PATIENCE, || async {
            Ok((server.scalar(active).await? == "1").then_some(()))
        })
        .await
    };
    is_used(primary.clone()).await?;
    // A standby can be followed as well as a primary; the rows are changed where that can be done.
    ensure!(herd.take(&standby, Step::Follow { upstream: id(&upstream) }).await == Outcome::Done);
    is_used(upstream.clone()).await?;
    ensure!(rows(&primary).await? == ["1 primary t", "2 standby t 1", "3 standby t 2"]);
    ensure!(herd.take(&standby, Step::Follow { upstream: id(&primary) }).await == Outcome::Done);
    is_used(primary.clone()).await?;
    ensure!(rows(&primary).await? == ["1 primary t", "2 standby t 1", "3 standby t 1"]);
    Ok(())
}

#[tokio::test]
async fn a_standby_that_cannot_follow_is_not_said_to() -> Result<()> {
    let herd = herd(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    primary.stop_clean().await?;
    let outcome = herd.take(&standby, Step::Follow { upstream: id(&primary) }).await;
    let lost = |reason: &String| reason.contains("node 0, which it was to follow, takes no connections");
    ensure!(matches!(&outcome, Outcome::Unknown(reason) if lost(reason)), "{outcome:?}");
    let outcome = herd.take(&primary, Step::Follow { upstream: id(&standby) }).await;
    ensure!(matches!(outcome, Outcome::Failed(_)), "it is down: {outcome:?}");
    Ok(())
}

#[tokio::test]
async fn sql_says_what_it_cannot_do() -> Result<()> {
    let herd = herd(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let client = primary.connect("app", "app").await?;
    client.batch_execute("SELECT 1").await?;
    let outcome = herd.take(&primary, Step::Fence).await;
    let honest = |why: &str| why.contains("1 sessions of clients were ended") && why.contains("must stop it");
    ensure!(matches!(&outcome, Outcome::Failed(why) if honest(why)), "{outcome:?}");
    ensure!(client.batch_execute("SELECT 1").await.is_err(), "its session has ended");
    ensure!(primary.postmaster_pid().is_some(), "it runs");
    let rejoin = rejoin(&standby);
    for step in [Step::Rehearse, Step::Stop, Step::Start, rejoin, Step::Promote] {
        let outcome = herd.take(&primary, step).await;
        ensure!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    let outcome = herd.take(&standby, Step::CanLogIn { target: id(&primary) }).await;
    ensure!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    ensure!(!primary.is_in_recovery().await?);
    Ok(())
}

#[tokio::test]
async fn nobody_is_promoted_over_sql_whose_lock_was_lost() -> Result<()> {
    let herd = herd(2).await?;
    let standby = herd.cluster.server(2)?;
    ensure!(herd.take(&standby, Step::Lock).await == Outcome::Done);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    standby.query_in("repmgr", end).await?;
    let outcome = herd.take(&standby, Step::Promote).await;
    ensure!(matches!(&outcome, Outcome::Failed(why) if why.contains("lock")), "{outcome:?}");
    ensure!(standby.is_in_recovery().await?);
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_stays_is_told_of_where_nobody_can_end_it() -> Result<()> {
    let herd = herd(2).await?;
    let standby = herd.cluster.server(2)?;
    standby.query("SELECT pg_wal_replay_pause()").await?;
    let outcome = herd.take(&standby, Step::Freeze).await;
    ensure!(matches!(&outcome, Outcome::Failed(why) if why.contains("SQL cannot end it")), "{outcome:?}");
    standby.query("SELECT pg_wal_replay_resume()").await?;
    herd.freeze(&standby).await?;
    Ok(())
}
