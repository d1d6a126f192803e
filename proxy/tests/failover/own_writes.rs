//! Reads on standbys at length: every session sees what it has written, and next to nothing is left to the primary. A few thousand reads
//! in every test run; `make reads` does a hundred thousand, and prints what was measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgherd_testkit::client::{Pgbench, Session};
use pgherd_testkit::{Cluster, Context, Result, Server, bail, ensure, eventually};
use tokio::task::JoinSet;
use tokio_postgres::SimpleQueryMessage;

use crate::herd::{PATIENCE, number_in};
use crate::standby_reads;

/// How many sessions write and read back.
const SESSIONS: i32 = 32;

/// Between two reads of a session.
const PAUSE: Duration = Duration::from_millis(2);

/// How many reads there are to be: `PGHERD_READS`, or a few thousand.
fn wanted() -> Result<u64> {
    number_in("PGHERD_READS", 5000)
}

/// What the sessions saw.
#[derive(Debug, Default)]
struct Seen {
    on_standbys: AtomicU64,
    on_primary: AtomicU64,
    writes: AtomicU64,
    missed: AtomicU64,
    is_over: AtomicBool,
}

impl Seen {
    fn reads(&self) -> u64 {
        self.on_standbys.load(Ordering::Relaxed) + self.on_primary.load(Ordering::Relaxed)
    }

    fn note(&self, (value, in_recovery): (i64, bool), written: i64) {
        let counter = if in_recovery { &self.on_standbys } else { &self.on_primary };
        counter.fetch_add(1, Ordering::Relaxed);
        if value != written {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes a row of its own again and again, and reads it until the next time.
async fn write_and_read(session: Session, id: i32, seen: &'static Seen) -> Result<()> {
    // The hint is for pg_is_in_recovery(), which says where the row was read.
    let text =
        format!("/* pgherd: standby */ SELECT value, pg_is_in_recovery() FROM written WHERE id = {id}");
    let statement = session.prepare(&text).await?;
    let mut written: i64 = 0;
    while !seen.is_over.load(Ordering::Relaxed) {
        written += 1;
        session.batch_execute(&format!("UPDATE written SET value = {written} WHERE id = {id}")).await?;
        seen.writes.fetch_add(1, Ordering::Relaxed);
        let turn = u64::try_from(i64::from(id) * 7 + written)?;
        let until = Instant::now() + Duration::from_millis(300 + 137 * (turn % 7));
        while Instant::now() < until {
            let row = if turn.is_multiple_of(2) {
                let row = session.query_one(&statement, &[]).await?;
                (row.get(0), row.get(1))
            } else {
                read_simply(&session, &text).await?
            };
            seen.note(row, written);
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn read_simply(session: &Session, text: &str) -> Result<(i64, bool)> {
    for message in session.simple_query(text).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let value = row.try_get(0)?.context("a value")?.parse()?;
            return Ok((value, row.try_get(1)? == Some("t")));
        }
    }
    bail!("no row")
}

/// Stops and goes on with replay, over and over.
async fn stutter(standby: Server, seen: &'static Seen) -> Result<()> {
    while !seen.is_over.load(Ordering::Relaxed) {
        for (what, milliseconds) in [("pause", 350), ("resume", 250)] {
            standby.query(&format!("SELECT pg_wal_replay_{what}()")).await?;
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_session_sees_its_own_writes_while_replay_is_delayed_and_stutters() -> Result<()> {
    let herd = standby_reads::herd(Cluster::builder().start().await?).await?;
    let (late, stuttering) = (herd.cluster.server(2)?, herd.cluster.server(3)?);
    late.query("ALTER SYSTEM SET recovery_min_apply_delay = '200ms'").await?;
    late.reload().await?;
    let setup = format!(
        "CREATE TABLE written AS SELECT id, 0::bigint AS value FROM generate_series(1, {SESSIONS}) id; \
         ALTER TABLE written ADD PRIMARY KEY (id)"
    );
    herd.connect().await?.batch_execute(&setup).await?;
    herd.wait_replayed().await?;
    let seen: &'static Seen = Box::leak(Box::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(stutter(stuttering, seen));
    for id in 1..=SESSIONS {
        tasks.spawn(write_and_read(herd.connect().await?, id, seen));
    }
    let (began, wanted) = (Instant::now(), wanted()?);
    while seen.reads() < wanted && !tasks.is_empty() {
        ensure!(began.elapsed() < PATIENCE * 10, "only {} reads", seen.reads());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen.is_over.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let (writes, missed) = (seen.writes.load(Ordering::Relaxed), seen.missed.load(Ordering::Relaxed));
    let on_standbys = seen.on_standbys.load(Ordering::Relaxed);
    eprintln!(
        "{} reads behind {writes} writes, {on_standbys} of them on standbys: {missed} missed what was written",
        seen.reads()
    );
    ensure!(missed == 0, "{missed} reads missed what their session had written");
    ensure!(on_standbys > 0, "no read was on a standby");
    Ok(())
}

#[tokio::test]
async fn hardly_a_read_is_left_to_the_primary_and_none_fails_when_a_standby_is_killed() -> Result<()> {
    let herd = standby_reads::herd(Cluster::builder().start().await?).await?;
    let url = herd.pgherd.connection_string("app", "app");
    Pgbench::initialize(&url, 1).await?;
    herd.wait_replayed().await?;
    for (protocol, is_killed) in [("simple", false), ("extended", false), ("prepared", true)] {
        let before = standby_reads::reads(&herd).await?;
        let run = Pgbench::new(&url).clients(8).seconds(2).arg("-S").arg(format!("--protocol={protocol}"));
        let running = run.spawn()?;
        if is_killed {
            eventually("pgbench reads from the standby", PATIENCE, || async {
                let (now, then) = (standby_reads::reads(&herd).await?, before.get(1));
                Ok((now.get(1) > then.map(|reads| reads + 100).as_ref()).then_some(()))
            })
            .await?;
            herd.cluster.server(2)?.kill9_all().await?;
        }
        let report = running.wait().await?;
        let unharmed = report.failed_transactions == 0 && report.aborts.is_empty() && report.succeeded;
        ensure!(unharmed && report.transactions > 1000, "{report:?}\n{}", herd.log());
        let after = standby_reads::reads(&herd).await?;
        let more: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let (on_primary, all) = (more.first().copied().unwrap_or_default(), more.iter().sum::<u64>());
        let killed = if is_killed { ", a standby was killed" } else { "" };
        eprintln!("pgbench -S, {protocol}: {all} reads, on each server {more:?}{killed}");
        ensure!(on_primary * 100 < all, "{protocol}: {on_primary} of {all} reads on the primary");
    }
    Ok(())
}
