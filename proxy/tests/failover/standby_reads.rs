//! Reads on standbys: nobody sees a difference, but for the primary.

use pgherd_testkit::client::Pgbench;
use pgherd_testkit::{Cluster, PgherdBuilder, Result, ensure, eventually};
use tokio_postgres::SimpleQueryMessage;

use crate::herd::{Herd, PATIENCE};

/// A herd of three whose standbys are read.
pub(crate) async fn herd(cluster: Cluster) -> Result<Herd> {
    herd_of(cluster, "1, 2").await
}

/// A herd whose standbys are read: those, by pgherd's numbers.
pub(crate) async fn herd_of(cluster: Cluster, standbys: &str) -> Result<Herd> {
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    herd.wait_readable(standbys).await?;
    let reader = herd.connect().await?;
    // Not before the database's catalogue was read.
    eventually("reads go to standbys", PATIENCE, || async {
        let before = reads(&herd).await?;
        reader.simple_query("SELECT 1").await?;
        let after = reads(&herd).await?;
        Ok(after.iter().zip(&before).skip(1).any(|(after, before)| after > before).then_some(()))
    })
    .await?;
    Ok(herd)
}

/// How many statements that only read each server was sent, by its number.
pub(crate) async fn reads(herd: &Herd) -> Result<Vec<u64>> {
    let mut reads = Vec::new();
    for message in herd.connect().await?.simple_query("SHOW POOL_NODES").await? {
        if let SimpleQueryMessage::Row(row) = message {
            reads.push(row.try_get("select_cnt")?.unwrap_or_default().parse()?);
        }
    }
    Ok(reads)
}

#[tokio::test]
async fn reads_are_answered_by_standbys_and_writes_by_the_primary() -> Result<()> {
    let herd = herd(Cluster::builder().start().await?).await?;
    let session = herd.connect().await?;
    session.batch_execute("CREATE TABLE kept AS SELECT n FROM generate_series(1, 100) n").await?;
    let reader = herd.connect().await?;
    herd.wait_replayed().await?;
    let before = reads(&herd).await?;
    let statement = reader.prepare("SELECT n FROM kept WHERE n > $1").await?;
    for _ in 0..50 {
        ensure!(reader.query("SELECT n FROM kept", &[]).await?.len() == 100);
        ensure!(reader.query(&statement, &[&90_i32]).await?.len() == 10);
        ensure!(reader.simple_query("SELECT n FROM kept LIMIT 3").await?.len() == 5);
    }
    let after = reads(&herd).await?;
    let more: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    ensure!(more.first() == Some(&0) && more.iter().sum::<u64>() == 150, "{more:?}");
    session.batch_execute("INSERT INTO kept VALUES (101)").await?;
    let all = session.query("SELECT n FROM kept", &[]).await?;
    ensure!(all.len() == 101, "its own row is missing");
    Ok(())
}

#[tokio::test]
async fn what_a_standby_refuses_or_does_not_know_yet_is_answered_by_the_primary() -> Result<()> {
    let herd = herd(Cluster::builder().start().await?).await?;
    let (writer, reader) = (herd.connect().await?, herd.connect().await?);
    writer
        .batch_execute("CREATE UNLOGGED TABLE mine AS SELECT 7 AS n; CREATE TYPE mood AS ENUM ('good')")
        .await?;
    herd.wait_replayed().await?;
    for standby in herd.cluster.servers().iter().skip(1) {
        standby.query("SELECT pg_wal_replay_pause()").await?;
    }
    writer
        .batch_execute(
            "CREATE TABLE later AS SELECT 8 AS n; CREATE SCHEMA young; \
             CREATE TABLE young.later AS SELECT 9 AS n",
        )
        .await?;
    for (text, value) in [("mine", 7), ("later", 8), ("young.later", 9)] {
        for _ in 0..3 {
            let text = format!("SELECT n FROM {text}");
            ensure!(reader.query_one(&text, &[]).await?.get::<_, i32>(0) == value, "{text}");
            ensure!(reader.query_typed_one(&text, &[]).await?.get::<_, i32>(0) == value, "{text}");
            let rows = reader.simple_query(&text).await?;
            ensure!(rows.len() == 3, "{rows:?}");
        }
    }
    writer.batch_execute("ALTER TYPE mood ADD VALUE 'better'").await?;
    ensure!(reader.simple_query("SELECT 'better'::mood").await?.len() == 3);
    let error = reader.query_one("SELECT n FROM nowhere", &[]).await;
    let code = error.as_ref().err().and_then(|error| error.code()).map(|code| code.code());
    ensure!(code == Some("42P01"), "{error:?}");
    ensure!(reader.query_one("SELECT n FROM later", &[]).await?.get::<_, i32>(0) == 8);
    Ok(())
}

#[tokio::test]
async fn a_session_reads_what_it_has_written_however_far_behind_the_standbys_are() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let herd = herd(cluster).await?;
    for standby in herd.cluster.servers().iter().skip(1) {
        standby.query("ALTER SYSTEM SET recovery_min_apply_delay = '400ms'").await?;
        standby.reload().await?;
    }
    let workload = herd.workload().await?.audited(4);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(2000, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.is_sound() && report.reads > 1000 && report.sqlstates.is_empty(), "{report}");
    ensure!(report.reads_refused.is_empty(), "{report}");
    Ok(())
}

#[tokio::test]
async fn an_application_may_go_without_its_own_writes_and_sees_them_when_it_does_not() -> Result<()> {
    let lazy = "[{ application = \"/^lazy\", consistency = \"eventual\" }]";
    let cluster = Cluster::builder().servers(2).start().await?;
    let settings =
        |pgherd: PgherdBuilder| pgherd.set("routing.reads", "standbys").env("PGHERD_ROUTING__OVERRIDE", lazy);
    let herd = Herd::of(cluster, settings).await?;
    let standby = herd.cluster.server(2)?;
    let session = herd.connect().await?;
    session.batch_execute("CREATE TABLE kept (n int)").await?;
    herd.wait_replayed().await?;
    standby.query("SELECT pg_wal_replay_pause()").await?;
    let rows = async || -> Result<usize> { Ok(session.query_typed("SELECT n FROM kept", &[]).await?.len()) };
    session.batch_execute("SET application_name = 'lazy one'").await?;
    // Not before the database's catalogue was read.
    eventually("it does not see what it has written", PATIENCE, || async {
        session.batch_execute("INSERT INTO kept VALUES (1)").await?;
        Ok((rows().await? == 0).then_some(()))
    })
    .await?;
    session.batch_execute("RESET application_name").await?;
    ensure!(rows().await? > 0, "it does not see what it has written");
    Ok(())
}

#[tokio::test]
async fn no_reader_notices_that_the_standby_is_killed_that_it_reads_from() -> Result<()> {
    let herd = herd(Cluster::builder().start().await?).await?;
    let url = herd.pgherd.connection_string("app", "app");
    Pgbench::initialize(&url, 1).await?;
    let running = Pgbench::new(url).clients(8).seconds(6).arg("-S").spawn()?;
    for (id, left) in [(3, "1"), (2, "")] {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        herd.cluster.server(id)?.kill9_all().await?;
        herd.wait_readable(left).await?;
    }
    let report = running.wait().await?;
    let unharmed = report.failed_transactions == 0 && report.aborts.is_empty() && report.succeeded;
    ensure!(unharmed && report.transactions > 1000, "{report:?}\n{}", herd.log());
    Ok(())
}

#[tokio::test]
async fn several_statements_at_once_are_read_on_a_standby_that_answers_all_of_them() -> Result<()> {
    let herd = herd_of(Cluster::builder().servers(2).start().await?, "1").await?;
    let (writer, mut reader) = (herd.connect().await?, herd.raw().await?);
    writer.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await?;
    herd.wait_replayed().await?;
    let before = reads(&herd).await?;
    for _ in 0..20 {
        let answer = reader.query("SELECT 1; SELECT n FROM kept; VALUES (3)").await?;
        ensure!(answer.rows().len() == 3 && answer.error().is_none(), "{answer:?}");
    }
    let after = reads(&herd).await?;
    let more: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    ensure!(more == [0, 20], "{more:?}");
    // What is too long to be held back is for the primary, and what the standby does not have yet.
    let answer = reader.query("SELECT n FROM kept; SELECT repeat('x', 100000); SELECT 8").await?;
    ensure!(answer.rows().len() == 3 && answer.error().is_none(), "{:?}", answer.error());
    herd.cluster.server(2)?.query("SELECT pg_wal_replay_pause()").await?;
    writer.batch_execute("CREATE TABLE later AS SELECT 8 AS n").await?;
    for _ in 0..3 {
        let answer = reader.query("SELECT n FROM kept; SELECT n FROM later").await?;
        ensure!(answer.rows().len() == 2 && answer.error().is_none(), "{answer:?}");
        let answer = reader.query("SELECT n FROM kept; SELECT n FROM nowhere").await?;
        ensure!(answer.error().is_some_and(|error| error.code() == "42P01"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn in_statement_mode_reads_go_to_standbys_and_blocks_are_refused_as_ever() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let settings =
        |pgherd: PgherdBuilder| pgherd.set("routing.reads", "standbys").set("pool.mode", "statement");
    let herd = Herd::of(cluster, settings).await?;
    let mut reader = herd.raw().await?;
    eventually("reads go to standbys", PATIENCE, || async {
        let before = reads(&herd).await?;
        herd.raw().await?.query("SELECT 1").await?;
        Ok((reads(&herd).await?.get(1) > before.get(1)).then_some(()))
    })
    .await?;
    // The server has begun it when that is seen.
    reader.query("BEGIN READ ONLY").await?;
    let last = reader.read_to_end().await?;
    let error = last.iter().find_map(|frame| frame.error_fields());
    ensure!(error.is_some_and(|error| error.code() == "0A000"), "{last:?}");
    Ok(())
}

#[tokio::test]
async fn who_listens_reads_where_it_can_listen() -> Result<()> {
    let herd = herd_of(Cluster::builder().servers(2).start().await?, "1").await?;
    let mut listener = herd.raw().await?;
    listener.query("LISTEN news").await?;
    // Its channels are handed over to a connection that it shares, most likely.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for _ in 0..3 {
        let answer = listener.query("SELECT 7").await?;
        ensure!(answer.value().as_deref() == Some("7"), "{answer:?}");
    }
    herd.connect().await?.batch_execute("NOTIFY news").await?;
    let heard = listener.expect_frame().await?;
    ensure!(heard.tag == b'A', "{heard:?}");
    Ok(())
}
