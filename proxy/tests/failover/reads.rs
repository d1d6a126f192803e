//! Reads while a server is lost: those that are under way there are answered by the next, unless it may be a read that has brought it down,
//! and others go on.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{ErrorFields, RawClient, Session};
use pgherd_testkit::history::Report;
use pgherd_testkit::{Cluster, Result, Server, ensure, eventually};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::herd::{Herd, PATIENCE};
use crate::standby_reads;

const READ: &str = "SELECT n FROM kept";
const READERS: usize = 15;

/// How a primary is lost.
#[derive(Clone, Copy, Debug)]
enum Fault {
    StopClean,
    StopImmediate,
    Kill9All,
}

/// A herd whose primary answers all reads.
async fn reading_from_the_primary() -> Result<Herd> {
    Herd::of(Cluster::builder().start().await?, |pgherd| pgherd.set("routing.reads", "primary")).await
}

async fn no_reader_notices(fault: Fault) -> Result<()> {
    let herd = reading_from_the_primary().await?;
    let primary = make_table(&herd).await?;
    let mut prepared = Vec::new();
    for _ in 0..READERS / 3 {
        let session = herd.connect().await?;
        let statement = session.prepare(READ).await?;
        prepared.push((session, statement));
    }
    let _lock = lock_table(&primary).await?;
    let mut reads = JoinSet::new();
    for (session, statement) in prepared {
        let (raw, other) = (herd.raw().await?, herd.connect().await?);
        reads.spawn(read(raw));
        reads.spawn(async move { Ok(other.query_typed_one(READ, &[]).await?.get(0)) });
        reads.spawn(async move { Ok(session.query_one(&statement, &[]).await?.get(0)) });
    }
    wait_reading(&primary, READERS).await?;
    match fault {
        Fault::StopClean => primary.stop_clean().await?,
        Fault::StopImmediate => primary.stop_immediate().await?,
        Fault::Kill9All => primary.kill9_all().await?,
    }
    while let Some(value) = reads.join_next().await {
        let value = value?;
        ensure!(value.as_ref().is_ok_and(|value| *value == 7), "{value:?}\n{}", herd.log());
    }
    ensure!(herd.cluster.primary().await?.id() != primary.id());
    Ok(())
}

#[tokio::test]
async fn who_reads_from_a_primary_that_is_stopped_is_answered_by_the_next() -> Result<()> {
    no_reader_notices(Fault::StopClean).await
}

#[tokio::test]
async fn who_reads_from_a_primary_that_is_stopped_at_once_is_answered_by_the_next() -> Result<()> {
    no_reader_notices(Fault::StopImmediate).await
}

#[tokio::test]
async fn who_reads_from_a_primary_that_is_killed_is_answered_by_the_next() -> Result<()> {
    no_reader_notices(Fault::Kill9All).await
}

#[tokio::test]
async fn who_reads_from_a_primary_that_hangs_is_answered_by_the_next_unless_it_cancels() -> Result<()> {
    let herd = reading_from_the_primary().await?;
    let primary = make_table(&herd).await?;
    let _lock = lock_table(&primary).await?;
    let patient = tokio::spawn(read(herd.raw().await?));
    let impatient = herd.connect().await?;
    let cancel = impatient.cancel_token();
    let impatient = tokio::spawn(async move { impatient.simple_query(READ).await });
    wait_reading(&primary, 2).await?;
    primary.freeze().await?;
    // It does not come to the server, and pgherd does not wait for that.
    let (patient, impatient, cancelled) = tokio::join!(patient, impatient, cancel.cancel_query(NoTls));
    let patient = patient?;
    ensure!(patient.as_ref().is_ok_and(|value| *value == 7), "{patient:?}");
    let code = impatient?.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::T_R_SERIALIZATION_FAILURE), "{code:?}");
    Ok(cancelled?)
}

#[tokio::test]
async fn no_reader_is_refused_while_the_primary_is_killed_under_load() -> Result<()> {
    let herd = Herd::start().await?;
    let workload = herd.workload().await?.audited(16);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    herd.cluster.server(1)?.kill9_all().await?;
    running.wait_acknowledged(200, PATIENCE).await?;
    let report: Report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && report.reads > 0, "{report}");
    ensure!(report.reads_refused.is_empty(), "{report}");
    Ok(())
}

#[tokio::test]
async fn reads_go_on_on_the_standbys_while_the_primary_hangs_until_it_is_replaced() -> Result<()> {
    let herd = standby_reads::herd(Cluster::builder().start().await?).await?;
    let primary = make_table(&herd).await?;
    let (reader, writer) = (herd.connect().await?, herd.connect().await?);
    primary.freeze().await?;
    // What was sent before the primary is known to hang has an unknown outcome.
    let write = tokio::spawn(async move {
        while writer.batch_execute("CREATE TABLE IF NOT EXISTS written ()").await.is_err() {}
    });
    let (mut longest, mut reads) = (Duration::ZERO, 0);
    while !write.is_finished() {
        let begun = Instant::now();
        ensure!(reader.query_typed_one(READ, &[]).await?.get::<_, i32>(0) == 7);
        (longest, reads) = (longest.max(begun.elapsed()), reads + 1);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    write.await?;
    ensure!(herd.cluster.primary().await?.id() != primary.id());
    eprintln!("{reads} reads while nobody could write, the longest took {longest:?}");
    // What hangs is seen to after failover.confirm, 4 s.
    ensure!(longest < Duration::from_secs(2), "a read took {longest:?}\n{}", herd.log());
    Ok(())
}

/// What brings down its server is not taken to the next one.
#[tokio::test]
async fn who_reads_when_its_server_process_crashes_is_told_and_the_others_too() -> Result<()> {
    let herd = Herd::of(Cluster::builder().servers(1).start().await?, |pgherd| pgherd).await?;
    let primary = make_table(&herd).await?;
    let _lock = lock_table(&primary).await?;
    let mut reads = JoinSet::new();
    for _ in 0..2 {
        reads.spawn(read(herd.raw().await?));
    }
    let pid = wait_reading(&primary, 2).await?;
    ensure!(Command::new("kill").args(["-SEGV", &pid]).status().await?.success());
    while let Some(value) = reads.join_next().await {
        let value = value?;
        ensure!(sqlstate(&value) == "40001", "{value:?}\n{}", herd.log());
    }
    herd.wait_writable().await
}

#[tokio::test]
async fn who_reads_on_a_connection_that_somebody_ends_is_told() -> Result<()> {
    let herd = Herd::of(Cluster::builder().servers(1).start().await?, |pgherd| pgherd).await?;
    let primary = make_table(&herd).await?;
    let _lock = lock_table(&primary).await?;
    let ended = tokio::spawn(read(herd.raw().await?));
    let pid = wait_reading(&primary, 1).await?;
    primary.scalar(&format!("SELECT pg_terminate_backend({pid})")).await?;
    let ended = ended.await?;
    ensure!(sqlstate(&ended) == "57P01", "{ended:?}");
    Ok(())
}

/// A table with a row that every server has; and the primary.
async fn make_table(herd: &Herd) -> Result<Server> {
    herd.connect().await?.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await?;
    let primary = herd.cluster.primary().await?;
    herd.wait_replayed().await?;
    Ok(primary)
}

/// Whoever reads the table on the primary waits as long as this lives.
async fn lock_table(primary: &Server) -> Result<Session> {
    let lock = primary.connect("app", "app").await?;
    lock.batch_execute("BEGIN; LOCK TABLE kept IN ACCESS EXCLUSIVE MODE").await?;
    Ok(lock)
}

/// Waits until so many clients wait for the table; the process id of one that serves them.
async fn wait_reading(primary: &Server, count: usize) -> Result<String> {
    let sql =
        "SELECT count(*), min(pid) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'";
    eventually(format!("{count} clients read"), PATIENCE, || async {
        let rows = primary.query(sql).await?;
        let found = rows.first().filter(|row| row.get(0) == Some(count.to_string().as_str()));
        Ok(found.and_then(|row| row.get(1)).map(ToOwned::to_owned))
    })
    .await
}

async fn read(mut client: RawClient) -> Result<i32> {
    let answer = client.query(READ).await?;
    if let Some(error) = answer.error() {
        return Err(error.into());
    }
    Ok(answer.value().unwrap_or_default().parse()?)
}

fn sqlstate(read: &Result<i32>) -> String {
    let error = read.as_ref().err().and_then(|error| error.downcast_ref::<ErrorFields>());
    error.map(|error| error.code().to_owned()).unwrap_or_default()
}
