//! Each step as it is taken over ssh, with repmgr.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use pgherd_failover::{
    Clients, Command, CommandId, Ended, ExecutorSettings, Limit, Loss, Outcome, RepmgrRows, SshSettings, Step,
};
use pgherd_health::{Branch, Lsn, NodeId, TimelineId, parse_history};
use pgherd_testkit::{Cluster, Server, eventually};

use crate::herd::{Herd, PATIENCE, executor, executor_for, has_received, id, rejoin, settings, streams_to};

#[tokio::test]
async fn a_failover_step_by_step_ends_with_all_servers_on_the_new_primary() -> Result<()> {
    let herd = Herd::of(3).await?;
    let [old, candidate, other] = [1, 2, 3].map(|id| herd.cluster.server(id));
    let (old, candidate, other) = (old?, candidate?, other?);
    // The first use opens the session, as a running pgherd has done beforehand.
    ensure!(herd.take(&candidate, Step::CanLogIn { target: id(&old) }).await == Outcome::Done);
    old.query("CREATE TABLE t AS SELECT generate_series(1, 10000)").await?;
    let written = old.scalar("SELECT pg_current_wal_flush_lsn()").await?;
    for standby in [&candidate, &other] {
        has_received(standby, &written).await?;
    }
    old.kill9().await?;
    ensure!(matches!(herd.take(&candidate, Step::CanLogIn { target: id(&old) }).await, Outcome::Failed(_)));
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: false });
    let (one, two) = (herd.freeze(&candidate).await?, herd.freeze(&other).await?);
    ensure!(one == two && one.0 > 0, "{one} {two}");
    for standby in [&candidate, &other] {
        ensure!(herd.take(standby, Step::Lock).await == Outcome::Done);
    }
    ensure!(herd.take(&candidate, Step::Promote).await == Outcome::Done);
    ensure!(!candidate.is_in_recovery().await?, "it is promoted");
    ensure!(herd.take(&candidate, Step::VerifyWrite).await == Outcome::Done);
    ensure!(!candidate.scalar("SHOW primary_conninfo").await?.contains("frozen"), "the freeze is gone");
    for standby in [&candidate, &other] {
        ensure!(herd.take(standby, Step::Unlock).await == Outcome::Done);
    }
    ensure!(herd.take(&other, Step::Follow { upstream: id(&candidate) }).await == Outcome::Done);
    ensure!(herd.take(&candidate, Step::Checkpoint).await == Outcome::Done);
    ensure!(herd.take(&old, rejoin(&candidate)).await == Outcome::Done);
    streams_to(&candidate, &other).await?;
    streams_to(&candidate, &old).await?;
    ensure!(old.is_in_recovery().await?);
    ensure!(old.scalar("SELECT count(*) FROM t").await? == "10000");
    let rows =
        candidate.query_in("repmgr", "SELECT node_id, type, active FROM repmgr.nodes ORDER BY 1").await?;
    let rows: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [("1", "standby"), ("2", "primary"), ("3", "standby")];
    ensure!(rows == expected.map(|(id, kind)| (Some(id), Some(kind), Some("t"))), "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_running_false_primary_is_fenced_and_comes_back_as_a_standby_without_its_own_rows() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (old, new) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    ensure!(herd.freeze(&new).await?.0 > 0);
    ensure!(herd.take(&new, Step::Promote).await != Outcome::Done, "repmgr sees a live primary");
    ensure!(new.is_in_recovery().await?);
    new.query("SELECT pg_promote()").await?;
    old.query("CREATE TABLE lost AS SELECT generate_series(1, 1000)").await?;
    // As `repmgr standby promote` does it.
    new.query_in(
        "repmgr",
        "UPDATE repmgr.nodes SET active = false WHERE node_id = 1; \
         UPDATE repmgr.nodes SET type = 'primary', upstream_node_id = NULL WHERE node_id = 2",
    )
    .await?;
    ensure!(herd.take(&new, Step::VerifyWrite).await == Outcome::Done);
    // Its last checkpoint may be on the timeline before.
    ensure!(herd.take(&new, Step::Fence).await == Outcome::Fenced { stopped: true });
    let (promoted, _) = recalled(&herd, &new).await?;
    new.start().await?;
    ensure!(herd.take(&new, Step::Checkpoint).await == Outcome::Done);
    let flushed: Lsn = old.scalar("SELECT pg_current_wal_flush_lsn()").await?.parse()?;
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: true });
    ensure!(old.postmaster_pid().is_none(), "it is stopped");
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: false });
    let first = fenced_at(&herd, &old).await?;
    ensure!(first >= flushed && first.bytes_since(flushed) < 4096, "{first}, and {flushed} was flushed");
    old.start().await?;
    // Its WAL ends with a segment, and there is none behind that.
    let switched: Lsn = old.scalar("SELECT pg_switch_wal()").await?.parse()?;
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: true });
    let end = fenced_at(&herd, &old).await?;
    ensure!(end > first && end == Lsn(switched.0.next_multiple_of(8)), "{end}, and {switched} was switched");
    old.start().await?;
    old.kill9_all().await?;
    ensure!(herd.take(&old, Step::Recall).await == Outcome::Done, "it has run since");
    old.start().await?;
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: true });
    let second = fenced_at(&herd, &old).await?;
    // A rejoin that comes no further than to the server's recovery.
    new.stop_clean().await?;
    ensure!(herd.take(&old, rejoin(&new)).await != Outcome::Done);
    let third = fenced_at(&herd, &old).await?;
    ensure!(first < second && second < third && third.bytes_since(second) < 8192, "{first} {second} {third}");
    new.start().await?;
    let history =
        parse_history(TimelineId(2), &new.scalar("SELECT pg_read_file('pg_wal/00000002.history')").await?);
    let lineage = Branch { timeline: TimelineId(2), history: Arc::new(history.map_err(Error::msg)?) };
    ensure!(promoted == lineage, "{promoted}");
    let rejoin =
        |bytes| Step::Rejoin { upstream: id(&new), limit: Limit { lineage: lineage.clone(), bytes } };
    let loss = Loss { from: lineage.history.0.last().context("it forked")?.switch_point, to: third };
    ensure!(herd.take(&old, rejoin(loss.bytes() - 1)).await == Outcome::Kept(loss), "{loss}");
    let later = old.data_directory().join("pg_wal/00000009.history");
    std::fs::write(&later, "")?;
    let untold = herd.take(&old, rejoin(loss.bytes())).await;
    let why = "what WAL of its own it has cannot be told";
    ensure!(matches!(&untold, Outcome::Failed(it) if it.starts_with(why)), "{untold:?}");
    std::fs::remove_file(&later)?;
    ensure!(fenced_at(&herd, &old).await? == third, "it is as it was");
    ensure!(herd.take(&old, rejoin(loss.bytes())).await == Outcome::Rejoined(loss), "{loss}");
    streams_to(&new, &old).await?;
    ensure!(old.scalar("SELECT to_regclass('lost') IS NULL").await? == "t", "it was rewound");
    Ok(())
}

/// Where a server that was fenced ends on its first timeline.
async fn fenced_at(herd: &Herd, server: &Server) -> Result<Lsn> {
    let (branch, end) = recalled(herd, server).await?;
    ensure!(branch == Branch { timeline: TimelineId(1), ..Branch::default() }, "{branch}");
    Ok(end)
}

/// What a server has that was fenced, as the host tells a pgherd that has never seen it.
async fn recalled(herd: &Herd, server: &Server) -> Result<(Branch, Lsn)> {
    let next = executor(&herd.cluster, settings(&herd.cluster)?);
    match herd.take_by(&next, server, Step::Recall).await {
        Outcome::Recalled { branch, ended: Ended::Fenced { end, standby: false } } => Ok((branch, end)),
        outcome => bail!("{outcome:?}"),
    }
}

#[tokio::test]
async fn a_freeze_can_be_undone_also_by_a_pgherd_that_did_not_begin_it() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let before = standby.scalar("SHOW primary_conninfo").await?;
    let frozen = herd.freeze(&standby).await?;
    ensure!(standby.scalar("SELECT count(*) FROM pg_stat_wal_receiver").await? == "0");
    primary.query("CREATE TABLE t()").await?;
    ensure!(herd.freeze(&standby).await? == frozen, "it stays where it is, and a second freeze is none");
    let next = executor(&herd.cluster, settings(&herd.cluster)?);
    ensure!(herd.take_by(&next, &standby, Step::Unfreeze).await == Outcome::Done);
    eventually("the old setting is back", PATIENCE, || async {
        Ok((standby.scalar("SHOW primary_conninfo").await? == before).then_some(()))
    })
    .await?;
    streams_to(&primary, &standby).await?;
    ensure!(herd.take(&standby, Step::Unfreeze).await == Outcome::Done, "undone twice");
    Ok(())
}

#[tokio::test]
async fn a_standby_whose_replay_is_paused_is_frozen_where_it_received() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    standby.query("SELECT pg_wal_replay_pause()").await?;
    primary.query("CREATE TABLE t AS SELECT generate_series(1, 1000)").await?;
    let written = primary.scalar("SELECT pg_current_wal_flush_lsn()").await?;
    has_received(&standby, &written).await?;
    let frozen = herd.freeze(&standby).await?;
    ensure!(frozen >= written.parse()?, "{frozen} {written}");
    Ok(())
}

#[tokio::test]
async fn backends_that_outlive_a_killed_postmaster_are_killed_and_bystanders_are_not() -> Result<()> {
    let herd = Herd::of(1).await?;
    let server = herd.cluster.server(1)?;
    let busy = server.connect("postgres", "postgres").await?;
    let mut bystander = tokio::process::Command::new("sleep")
        .arg("60")
        .current_dir(server.data_directory())
        .kill_on_drop(true)
        .spawn()?;
    // A backend in a busy loop does not notice that its postmaster is gone.
    let work = "DO $$ BEGIN PERFORM count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b; END $$";
    let running = tokio::spawn(async move { busy.batch_execute(work).await });
    eventually("it is busy", PATIENCE, || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'";
        Ok((server.scalar(sql).await? == "1").then_some(()))
    })
    .await?;
    server.kill9().await?;
    ensure!(herd.take(&server, Step::Fence).await == Outcome::Fenced { stopped: false });
    ensure!(running.await?.is_err(), "its backend is dead");
    ensure!(bystander.try_wait()?.is_none(), "a process that is not PostgreSQL's lives on");
    ensure!(herd.take(&server, Step::Fence).await == Outcome::Fenced { stopped: false }, "nothing is left");
    Ok(())
}

#[tokio::test]
async fn a_frozen_postmaster_is_fenced_too() -> Result<()> {
    let herd = Herd::of(1).await?;
    let server = herd.cluster.server(1)?;
    server.freeze().await?;
    ensure!(herd.take(&server, Step::Fence).await == Outcome::Fenced { stopped: true });
    ensure!(server.postmaster_pid().is_none());
    Ok(())
}

#[tokio::test]
async fn only_one_pgherd_holds_the_promotion_lock_and_its_end_releases_it() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let second = executor(&herd.cluster, settings(&herd.cluster)?);
    ensure!(herd.take(&standby, Step::Lock).await == Outcome::Done);
    ensure!(matches!(herd.take_by(&second, &standby, Step::Lock).await, Outcome::Failed(_)));
    ensure!(herd.take(&standby, Step::Unlock).await == Outcome::Done);
    ensure!(herd.take_by(&second, &standby, Step::Lock).await == Outcome::Done);
    drop(second);
    eventually("the lock is free", PATIENCE, || async {
        Ok((herd.take(&standby, Step::Lock).await == Outcome::Done).then_some(()))
    })
    .await?;
    ensure!(matches!(herd.take(&primary, Step::Lock).await, Outcome::Failed(_)), "not on a primary");
    standby
        .query_in("repmgr", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        .await?;
    let lost = herd.take(&standby, Step::Promote).await;
    ensure!(matches!(&lost, Outcome::Failed(reason) if reason.contains("lock")), "{lost:?}");
    Ok(())
}

#[tokio::test]
async fn the_promotion_lock_of_a_pgherd_that_hangs_is_free_after_a_while() -> Result<()> {
    let herd = Herd::of(2).await?;
    let standby = herd.cluster.server(2)?;
    let (living, next) = (&herd.executor, executor(&herd.cluster, settings(&herd.cluster)?));
    ensure!(herd.take(&standby, Step::Lock).await == Outcome::Done);
    // As long as it lives it keeps its connections.
    let began = Instant::now();
    tokio::select! {
        () = living.keep_sessions(id(&standby)) => bail!("it does not end"),
        () = tokio::time::sleep(Duration::from_secs(4)) => {}
    }
    let refused = herd.take_by(&next, &standby, Step::Lock).await;
    ensure!(matches!(refused, Outcome::Failed(_)), "{refused:?} after {:?}", began.elapsed());
    eventually("the lock is free", PATIENCE, || async {
        Ok((herd.take_by(&next, &standby, Step::Lock).await == Outcome::Done).then_some(()))
    })
    .await?;
    let lost = herd.take(&standby, Step::Promote).await;
    ensure!(matches!(&lost, Outcome::Failed(reason) if reason.contains("lock")), "{lost:?}");
    ensure!(herd.take_by(&next, &standby, Step::Unlock).await == Outcome::Done);
    Ok(())
}

/// A pgherd that hangs between taking the lock and bounding its session would keep it for as long as it hangs.
#[tokio::test]
async fn a_session_is_bound_before_it_takes_the_promotion_lock() -> Result<()> {
    let herd = Herd::of(2).await?;
    let standby = herd.cluster.server(2)?;
    herd.cluster.server(1)?.query("ALTER ROLE ALL SET log_statement = 'all'").await?;
    let told = eventually("the standby logs what the lock takes", PATIENCE, || async {
        let executor = executor(&herd.cluster, settings(&herd.cluster)?);
        ensure!(herd.take_by(&executor, &standby, Step::Lock).await == Outcome::Done);
        ensure!(herd.take_by(&executor, &standby, Step::Unlock).await == Outcome::Done);
        let log = std::fs::read_to_string(standby.log_path())?;
        Ok(log.contains("pg_try_advisory_lock").then_some(log))
    })
    .await?;
    let bound = told.find("set_config(name, '3s'").context("no session was bound")?;
    let locked = told.find("pg_try_advisory_lock").context("no lock was taken")?;
    ensure!(bound < locked, "{told}");
    Ok(())
}

#[tokio::test]
async fn a_host_with_another_key_than_the_pinned_one_gets_no_command() -> Result<()> {
    let mut cluster = Cluster::builder().servers(2).start().await?;
    let server = cluster.server(1)?;
    let pinned = cluster.known_hosts()?;
    let keys: Vec<(&str, &str)> = pinned.lines().filter_map(|line| line.split_once(' ')).collect();
    let swapped = cluster.directory().join("known_hosts.swapped");
    let none = cluster.directory().join("known_hosts.none");
    let lines: Vec<String> =
        keys.iter().zip(keys.iter().rev()).map(|((host, _), (_, key))| format!("{host} {key}\n")).collect();
    std::fs::write(&swapped, lines.concat())?;
    std::fs::write(&none, "")?;
    let right = settings(&cluster)?;
    for (file, words) in [(&swapped, "is not the pinned one"), (&none, "is pinned")] {
        let ssh = SshSettings { known_hosts: Some(file.clone()), ..right.ssh.clone() };
        let executor = executor(&cluster, ExecutorSettings { ssh, ..right.clone() });
        let herd = Herd { executor, rows: RepmgrRows::default(), cluster };
        let outcome = herd.take(&server, Step::Fence).await;
        ensure!(matches!(&outcome, Outcome::Failed(reason) if reason.contains(words)), "{outcome:?}");
        ensure!(server.postmaster_pid().is_some(), "nothing was done");
        Herd { cluster, .. } = herd;
    }
    let ssh = SshSettings { known_hosts: Some(none.clone()), trust_first_use: true, ..right.ssh.clone() };
    let executor = executor(&cluster, ExecutorSettings { ssh, ..right.clone() });
    let herd = Herd { executor, rows: RepmgrRows::default(), cluster };
    ensure!(herd.take(&server, Step::CanLogIn { target: id(&server) }).await == Outcome::Done);
    let learnt = std::fs::read_to_string(&none)?;
    ensure!(keys.iter().any(|(_, key)| learnt.contains(key.trim())), "{learnt}");
    Ok(())
}

#[tokio::test]
async fn a_session_is_opened_again_after_sshd_was_gone() -> Result<()> {
    let herd = Herd::of(1).await?;
    let server = herd.cluster.server(1)?;
    let ask = || herd.take(&server, Step::CanLogIn { target: id(&server) });
    ensure!(ask().await == Outcome::Done);
    server.stop_sshd().await?;
    ensure!(matches!(ask().await, Outcome::Unknown(_)), "whether it can log in was not found out");
    let fence = herd.take(&server, Step::Fence).await;
    ensure!(matches!(fence, Outcome::Failed(_)), "{fence:?}");
    server.start_sshd().await?;
    ensure!(ask().await == Outcome::Done);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_down_fails_every_step_over_sql() -> Result<()> {
    let herd = Herd::of(1).await?;
    let server = herd.cluster.server(1)?;
    server.stop_clean().await?;
    for step in [Step::Freeze, Step::Lock, Step::VerifyWrite, Step::Checkpoint] {
        let outcome = herd.take(&server, step).await;
        ensure!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_step_on_a_frozen_server_ends_at_its_deadline_as_unknown() -> Result<()> {
    let herd = Herd::of(2).await?;
    let standby = herd.cluster.server(2)?;
    ensure!(herd.take(&standby, Step::Lock).await == Outcome::Done);
    standby.freeze().await?;
    let deadline = Duration::from_millis(500);
    let command = Command { id: CommandId(1), node: id(&standby), step: Step::Freeze, deadline };
    let outcome = herd.executor.run(&command, &herd.rows).await;
    standby.thaw().await?;
    ensure!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    // What was cut off may still come, or not: the next one settles it.
    ensure!(herd.freeze(&standby).await?.0 > 0);
    Ok(())
}

#[tokio::test]
async fn a_primary_that_is_stopped_says_where_it_ends_and_can_be_started_again() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    primary.query("CREATE TABLE t AS SELECT generate_series(1, 10000)").await?;
    ensure!(herd.take(&primary, Step::Rehearse).await == Outcome::Done);
    ensure!(herd.take(&primary, Step::Checkpoint).await == Outcome::Done);
    ensure!(herd.take(&primary, Step::Quiesce { within: PATIENCE }).await == Outcome::Done);
    let Outcome::Stopped { checkpoint } = herd.take(&primary, Step::Stop).await else { bail!("not stopped") };
    ensure!(primary.postmaster_pid().is_none(), "it is down");
    let next = executor(&herd.cluster, settings(&herd.cluster)?);
    let recalled = herd.take_by(&next, &primary, Step::Recall).await;
    let branch = Branch { timeline: TimelineId(1), ..Branch::default() };
    let ended = Ended::ShutDown { checkpoint };
    ensure!(recalled == Outcome::Recalled { branch, ended }, "whoever asks is told who has stopped it");
    let end = herd.freeze(&standby).await?;
    ensure!(end > checkpoint && end.0 - checkpoint.0 < 4096, "{end} {checkpoint}");
    for step in [Step::Rehearse, Step::Stop] {
        let outcome = herd.take(&primary, step).await;
        ensure!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    ensure!(herd.take(&primary, Step::Start).await == Outcome::Done);
    ensure!(!primary.is_in_recovery().await?, "it is the primary again");
    ensure!(matches!(herd.take(&primary, Step::Recall).await, Outcome::Unknown(_)), "it runs");
    ensure!(herd.take(&standby, Step::Unfreeze).await == Outcome::Done);
    streams_to(&primary, &standby).await?;
    ensure!(herd.take(&primary, Step::Start).await != Outcome::Done, "it runs already");
    primary.stop_clean().await?;
    ensure!(herd.take(&primary, Step::Recall).await == Outcome::Done, "somebody else has stopped it");
    ensure!(matches!(herd.take(&standby, Step::Stop).await, Outcome::Unknown(_)), "it is no primary");
    ensure!(herd.take(&standby, Step::Recall).await == Outcome::Done, "nor was it one");
    standby.start().await?;
    ensure!(herd.take(&standby, Step::Fence).await == Outcome::Fenced { stopped: true });
    let recalled = herd.take(&standby, Step::Recall).await;
    let is_told = |ended: &Ended| matches!(ended, Ended::Fenced { end: at, standby: true } if *at >= end);
    ensure!(matches!(&recalled, Outcome::Recalled { ended, .. } if is_told(ended)), "{recalled:?}");
    Ok(())
}

#[tokio::test]
async fn a_stop_that_nobody_waits_for_any_more_is_known_to_whoever_comes_next() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    // A clean stop waits for those that stream.
    standby.freeze().await?;
    let Herd { cluster, executor: dies, rows } = herd;
    let command = Command { id: CommandId(1), node: id(&primary), step: Step::Stop, deadline: PATIENCE };
    tokio::select! {
        outcome = dies.run(&command, &rows) => bail!("{outcome:?}"),
        stops = eventually("it is being stopped", PATIENCE, || async {
            Ok(primary.connect("postgres", "postgres").await.is_err().then_some(()))
        }) => stops?,
    }
    drop(dies);
    standby.thaw().await?;
    let herd = Herd { executor: executor(&cluster, settings(&cluster)?), cluster, rows };
    eventually("it is known", PATIENCE, || async {
        let outcome = herd.take(&primary, Step::Recall).await;
        Ok(matches!(outcome, Outcome::Recalled { .. }).then_some(()))
    })
    .await
}

/// Clients of a pgherd of which so many connections are lent.
#[derive(Debug, Default)]
struct Lent(Mutex<Option<usize>>);

impl Clients for Lent {
    fn lent(&self, _: NodeId) -> Option<usize> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::test]
async fn a_primary_is_quiet_when_nobody_is_in_a_transaction_and_no_connection_is_lent() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let lent = Arc::new(Lent::default());
    let clients: Arc<dyn Clients> = Arc::<Lent>::clone(&lent);
    let executor = executor_for(&cluster, settings(&cluster)?, Some(clients));
    let herd = Herd { executor, rows: RepmgrRows::default(), cluster };
    let server = herd.cluster.server(1)?;
    let within = Duration::from_millis(200);
    let refused = async |words: &str| {
        let outcome = herd.take(&server, Step::Quiesce { within }).await;
        ensure!(matches!(&outcome, Outcome::Failed(why) if why.contains(words)), "{outcome:?}");
        Ok(())
    };
    let set = |count| *lent.0.lock().unwrap_or_else(PoisonError::into_inner) = count;
    refused("writes are not held yet").await?;
    set(Some(3));
    refused("3 connections of clients are in use").await?;
    set(Some(0));
    let session = server.connect("postgres", "postgres").await?;
    session.batch_execute("SELECT 1").await?;
    ensure!(herd.take(&server, Step::Quiesce { within }).await == Outcome::Done, "an idle session is none");
    session.batch_execute("BEGIN").await?;
    refused("(user postgres, database postgres) is idle in transaction").await?;
    let waiting = herd.take(&server, Step::Quiesce { within: PATIENCE });
    let ends = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        session.batch_execute("COMMIT").await
    };
    let (outcome, ended) = tokio::join!(waiting, ends);
    ended?;
    ensure!(outcome == Outcome::Done, "{outcome:?}");
    Ok(())
}
