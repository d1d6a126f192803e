//! Session mode: a client has one connection to the primary for life, and reads on standbys what that would answer in the same way.

use std::time::Duration;

use pgherd_testkit::client::{Frame, Pgbench, RawClient};
use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE};
use crate::session_reads::{reasons, run};
use crate::standby_reads::reads;

/// Where it reads: `t` on the standby. And what it has set.
const LOOK: &str = "/* pgherd: standby */ SELECT pg_is_in_recovery(), current_setting('app.tenant', true)";

/// A standby that is read, and pgherd in session mode.
async fn herd() -> Result<Herd> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("pool.mode", "session").set("pool.size", 9)).await?;
    herd.wait_readable("1").await?;
    Ok(herd)
}

/// A client that is logged in, and the process id that it was told.
async fn login(herd: &Herd) -> Result<(RawClient, u32)> {
    let mut client = RawClient::connect(herd.pgherd.address()).await?;
    let frames = client.start("app", "app", herd.cluster.credentials().password("app")).await?;
    let key = frames.iter().find(|frame| frame.tag == b'K').context("no BackendKeyData")?;
    Ok((client, u32::from_be_bytes(*key.payload.first_chunk().context("BackendKeyData is empty")?)))
}

/// Whether it reads on the standby, and what it has set.
async fn looks(client: &mut RawClient) -> Result<(bool, Option<String>)> {
    let answer = client.query(LOOK).await?;
    let row = answer.rows().into_iter().next().with_context(|| format!("{answer:?}"))?;
    let text = |column: usize| {
        row.get(column).cloned().flatten().map(|value| String::from_utf8_lossy(&value).into_owned())
    };
    Ok((text(0).as_deref() == Some("t"), text(1)))
}

async fn reads_there(herd: &Herd, client: &mut RawClient) -> Result<()> {
    let client = tokio::sync::Mutex::new(client);
    eventually("it reads from the standby", PATIENCE, || async {
        Ok(looks(*client.lock().await).await?.0.then_some(()))
    })
    .await
    .with_context(|| herd.log())
}

/// The server process that answers what is for the primary.
async fn pid(client: &mut RawClient) -> Result<u32> {
    Ok(client.query("SELECT pg_backend_pid()").await?.value().context("no answer")?.parse()?)
}

/// Where all connections of the pool are kept, the catalogue is read beside it.
async fn reads_where_the_pool_is_full(herd: &Herd) -> Result<()> {
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(login(herd).await?);
    }
    let (mut client, _) = login(herd).await?;
    // What they leave is not known yet.
    run(&mut client, &["CREATE TABLE early (n int)", "INSERT INTO early VALUES (1)"]).await?;
    reads_there(herd, &mut client).await
}

#[tokio::test]
async fn a_session_has_one_connection_and_reads_elsewhere_what_that_would_answer_in_the_same_way()
-> Result<()> {
    let mut herd = herd().await?;
    reads_where_the_pool_is_full(&herd).await?;
    reads_what_home_would_answer(&herd).await?;
    follows_what_is_said(&mut herd).await?;
    hears_of_home(&herd).await?;
    reads_at_home_what_ends_when_idle(&herd).await?;
    reads_with_pgbench(&herd).await
}

/// What has been left at home is seen.
async fn reads_what_home_would_answer(herd: &Herd) -> Result<()> {
    let (mut client, told) = login(herd).await?;
    run(
        &mut client,
        &["CREATE FUNCTION any_text() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SELECT 1'; END$$"],
    )
    .await?;
    herd.wait_replayed().await?;
    let mut console = herd.console().await?;
    let keeps = ["SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"];
    for (statements, is_read_there, tenant) in [
        (&[][..], true, None),
        (&["SET app.tenant = 'a'", "SET work_mem = '5MB'"], true, Some("a")),
        (&["CREATE TEMPORARY TABLE mine (n int)"], false, Some("a")),
        (&["INSERT INTO mine VALUES (1)", "DROP TABLE mine"], true, Some("a")),
        (&keeps[..1], false, Some("a")),
        (&keeps[1..], true, Some("a")),
        (&["PREPARE p AS SELECT 1", "EXECUTE p", "LISTEN news", "NOTIFY news"], true, Some("a")),
        (&["BEGIN", "SET app.tenant = 'b'", "ROLLBACK"], true, Some("a")),
        (&["SELECT any_text()"], false, Some("a")),
        (&["DISCARD ALL", "SET app.tenant = 'c'"], true, Some("c")),
    ] {
        run(&mut client, statements).await?;
        if is_read_there {
            reads_there(herd, &mut client).await.with_context(|| format!("{statements:?}"))?;
        }
        let (is_there, set) = looks(&mut client).await?;
        ensure!(is_there == is_read_there && set.as_deref() == tenant, "{statements:?}: {is_there} {set:?}");
        ensure!(pid(&mut client).await? == told, "{statements:?}: another server process");
        let pins = console.query("SHOW PINS").await?;
        ensure!(pins.rows().is_empty(), "{statements:?}: {pins:?}");
    }
    // A block comes home, and its session sees what it has written.
    reads_there(herd, &mut client).await?;
    run(&mut client, &["BEGIN READ ONLY"]).await?;
    ensure!(looks(&mut client).await?.0);
    ensure!(pid(&mut client).await? == told && !looks(&mut client).await?.0);
    run(&mut client, &["COMMIT"]).await?;
    Ok(())
}

/// What a block does, and where reads go when that is said otherwise.
async fn follows_what_is_said(herd: &mut Herd) -> Result<()> {
    // What is left of a parameter that was set for a block on the standby is found at home, too.
    let (mut next, told) = login(herd).await?;
    reads_there(herd, &mut next).await?;
    run(&mut next, &["BEGIN READ ONLY", "SET LOCAL app.other = 'x'"]).await?;
    ensure!(looks(&mut next).await?.0);
    run(&mut next, &["COMMIT"]).await?;
    for hint in ["standby", "primary"] {
        let text = format!("/* pgherd: {hint} */ SELECT current_setting('app.other', true)");
        let other = next.query(&text).await?;
        ensure!(other.value().as_deref() == Some(""), "{hint}: {other:?}");
    }
    run(&mut next, &["CREATE TABLE kept (n int)"]).await?;
    for n in 1..20 {
        run(&mut next, &[&format!("INSERT INTO kept VALUES ({n})")]).await?;
        let seen = next.query("SELECT n FROM kept").await?.rows().len();
        ensure!(seen == n, "{seen} of {n}");
    }
    herd.pgherd.set("routing.reads", "primary")?;
    herd.pgherd.reload().await?;
    eventually("it reads at home", PATIENCE, || async {
        Ok((!looks(&mut login(herd).await?.0).await?.0).then_some(()))
    })
    .await?;
    ensure!(!looks(&mut next).await?.0, "it reads from the standby yet");
    herd.pgherd.set("routing.reads", "standbys")?;
    herd.pgherd.reload().await?;
    reads_there(herd, &mut next).await?;
    // When its client leaves it is cleaned and kept, also where it is aside.
    let left = tokio::time::timeout(Duration::from_millis(300), next.query("SELECT pg_sleep(600)")).await;
    ensure!(left.is_err(), "{left:?}");
    drop(next);
    let (primary, is_cleaned) = (
        herd.cluster.server(1)?,
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {told} AND query = 'DISCARD ALL'"),
    );
    eventually("it is cleaned", PATIENCE, || async {
        Ok((primary.scalar(&is_cleaned).await? == "1").then_some(()))
    })
    .await
}

/// What happens to a connection that is aside reaches its client.
async fn hears_of_home(herd: &Herd) -> Result<()> {
    let ((mut client, told), (mut other, others)) = (login(herd).await?, login(herd).await?);
    run(&mut client, &["LISTEN news"]).await?;
    reads_there(herd, &mut client).await?;
    // Idle at home.
    run(&mut other, &["NOTIFY news"]).await?;
    ensure!(client.expect_frame().await?.tag == b'A');
    sees_what_it_is_told_of(herd, &mut client, &mut other).await?;
    // While it reads, and behind that.
    let notify = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&mut other, &["NOTIFY news"]).await
    };
    let (slept, notified) = tokio::join!(client.query("SELECT pg_sleep(0.5)"), notify);
    ensure!(slept?.error().is_none() && client.expect_frame().await?.tag == b'A', "{notified:?}");
    // While it is in a block there, which comes home then.
    reads_there(herd, &mut client).await?;
    run(&mut client, &["BEGIN READ ONLY"]).await?;
    ensure!(looks(&mut client).await?.0);
    run(&mut other, &["NOTIFY news"]).await?;
    let frames = [client.query("SELECT pg_backend_pid()").await?, client.query("COMMIT").await?];
    let heard = frames.iter().flat_map(|answer| &answer.frames).any(|frame| frame.tag == b'A');
    ensure!(heard || client.expect_frame().await?.tag == b'A', "{frames:?}");
    // A standby that is lost is none of its matters.
    let standby = herd.cluster.server(2)?;
    standby.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'").await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    reads_there(herd, &mut client).await?;
    ensure!(pid(&mut client).await? == told);
    let end = async |pid: u32| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        herd.cluster.server(1)?.query(&format!("SELECT pg_terminate_backend({pid})")).await
    };
    let ends = |frames: &[Frame]| {
        frames.iter().find_map(Frame::error_fields).is_some_and(|error| error.code() == "57P01")
    };
    reads_there(herd, &mut client).await?;
    let (slept, ended) = tokio::join!(client.query("SELECT pg_sleep(0.5)"), end(told));
    ended?;
    ensure!(slept?.error().is_none());
    let last = client.read_to_end().await?;
    ensure!(ends(&last), "{last:?}");
    let (last, ended) = tokio::join!(other.read_to_end(), end(others));
    ended?;
    ensure!(ends(last.as_ref().map_or(&[], Vec::as_slice)), "{last:?}");
    Ok(())
}

/// A notification may come before the standby has what it tells of, and so may the name of a table.
async fn sees_what_it_is_told_of(herd: &Herd, client: &mut RawClient, other: &mut RawClient) -> Result<()> {
    let standby = herd.cluster.server(2)?;
    herd.wait_replayed().await?;
    reads_there(herd, client).await?;
    standby.query("SELECT pg_wal_replay_pause()").await?;
    let before = reasons(herd).await?;
    run(other, &["CREATE TABLE fresh AS SELECT 1 AS n"]).await?;
    let fresh = client.query("SELECT n FROM fresh").await?;
    ensure!(fresh.value().as_deref() == Some("1"), "{fresh:?}");
    let refused =
        [&before, &reasons(herd).await?].map(|reasons| reasons.get("refused").copied().unwrap_or(0));
    ensure!(refused[1] == refused[0] + 1, "{refused:?}");
    ensure!(looks(client).await?.0, "it does not read from the standby any more");
    run(other, &["BEGIN", "INSERT INTO kept VALUES (20)", "NOTIFY news", "COMMIT"]).await?;
    ensure!(client.expect_frame().await?.tag == b'A');
    let seen = client.query("SELECT count(*) FROM kept").await?;
    ensure!(seen.value().as_deref() == Some("20"), "{seen:?}");
    standby.query("SELECT pg_wal_replay_resume()").await?;
    reads_there(herd, client).await
}

/// Where the server ends who does nothing on its own connection, a session that is busy elsewhere would be ended.
async fn reads_at_home_what_ends_when_idle(herd: &Herd) -> Result<()> {
    let primary = herd.cluster.server(1)?;
    for (role, is_read_there) in [("SET idle_session_timeout = '1h'", false), ("RESET ALL", true)] {
        primary.query(&format!("ALTER ROLE app {role}")).await?;
        eventually(format!("a session of a role with {role} reads where it should"), PATIENCE, || async {
            let (mut client, told) = login(herd).await?;
            let is_there = looks(&mut client).await?.0;
            ensure!(pid(&mut client).await? == told, "{role}");
            Ok((is_there == is_read_there).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Hardly a read is left to the primary.
async fn reads_with_pgbench(herd: &Herd) -> Result<()> {
    let url = herd.pgherd.connection_string("app", "app");
    Pgbench::initialize(&url, 1).await?;
    herd.wait_replayed().await?;
    for protocol in ["simple", "prepared"] {
        let before = reads(herd).await?;
        let run = Pgbench::new(&url).clients(4).seconds(1).arg("-S").arg(format!("--protocol={protocol}"));
        let report = run.run().await?;
        ensure!(report.succeeded && report.transactions > 100, "{report:?}\n{}", herd.log());
        let after = reads(herd).await?;
        let more: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let (on_primary, all) = (more.first().copied().unwrap_or_default(), more.iter().sum::<u64>());
        eprintln!("pgbench -S in session mode, {protocol}: {all} reads, on each server {more:?}");
        ensure!(on_primary < 20 + all / 100, "{protocol}: {on_primary} of {all} reads on the primary");
    }
    let connections =
        herd.cluster.server(2)?.scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'").await?;
    ensure!(connections.parse::<usize>()? <= 9, "{connections}");
    Ok(())
}
