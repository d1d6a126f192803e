//! Few server connections for many clients.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Context, Result, anyhow, ensure, eventually};
use tokio::task::JoinSet;

use crate::front::{Front, PATIENCE, messages};

const BACKEND: &str = "SELECT pg_backend_pid()";

async fn backend(client: &mut RawClient) -> Result<String> {
    let answer = client.query(BACKEND).await?;
    answer.value().ok_or_else(|| anyhow!("{answer:?}"))
}

#[tokio::test]
async fn a_hundred_clients_share_two_server_connections_and_all_get_their_own_rows() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 2)).await?;
    let mut clients = JoinSet::new();
    for number in 0..100 {
        let mut client = front.raw().await?;
        clients.spawn(async move {
            for round in 0..20 {
                let owner = format!("client {number} round {round}");
                let rows = client.query(&format!("SELECT '{owner}', pg_backend_pid()")).await?.rows();
                let row = rows.first().and_then(|row| row.first().cloned().flatten());
                ensure!(row.as_deref() == Some(owner.as_bytes()), "{owner} got {rows:?}");
            }
            Result::Ok(client)
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    front.wait_all_idle(2).await
}

#[tokio::test]
async fn a_transaction_keeps_its_server_connection_and_gives_it_back() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 2)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    one.query("BEGIN").await?;
    let held = backend(&mut one).await?;
    for _ in 0..3 {
        ensure!(backend(&mut other).await? != held && backend(&mut one).await? == held);
    }
    one.query("COMMIT").await?;
    other.query("BEGIN").await?;
    ensure!(backend(&mut one).await? == held || backend(&mut other).await? == held);
    Ok(())
}

#[tokio::test]
async fn in_session_mode_a_client_keeps_its_server_connection_until_it_leaves_and_nothing_of_it_stays()
-> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.mode", "session").set("pool.size", 1)).await?;
    let mut one = front.raw().await?;
    one.query("CREATE TEMP TABLE mine (); PREPARE p AS SELECT 1; SET work_mem = '7MB'").await?;
    let held = backend(&mut one).await?;
    for statement in ["SELECT * FROM mine", "EXECUTE p"] {
        ensure!(one.query(statement).await?.error().is_none() && backend(&mut one).await? == held);
    }
    drop(one);
    let mut next = front.raw().await?;
    ensure!(backend(&mut next).await? == held, "it is used again");
    ensure!(next.query("SELECT * FROM mine").await?.error().is_some_and(|error| error.code() == "42P01"));
    ensure!(next.query("EXECUTE p").await?.error().is_some_and(|error| error.code() == "26000"));
    let rows = next.query("SHOW work_mem").await?.rows();
    ensure!(rows == [[Some("4MB".into())]], "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn in_session_mode_who_begins_another_session_gets_another_process_while_there_may_be_more()
-> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.mode", "session").set("pool.size", 2)).await?;
    let session = async || -> Result<String> {
        let mut client = front.raw().await?;
        let process = backend(&mut client).await?;
        client.finish().await?;
        Ok(process)
    };
    let (first, second) = eventually("two sessions, one soon after the other", PATIENCE, || async {
        let (first, began) = (session().await?, Instant::now());
        let second = session().await?;
        Ok((began.elapsed() < Duration::from_millis(500)).then_some((first, second)))
    })
    .await?;
    ensure!(first != second);
    for _ in 0..5 {
        let again = session().await?;
        ensure!(again == first || again == second, "there are no more than two");
    }
    Ok(())
}

#[tokio::test]
async fn what_outlives_a_transaction_pins_the_session_and_is_not_seen_by_others() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    for statement in [
        "SET ROLE app; SET work_mem = '7MB'",
        "CREATE TEMP TABLE mine ()",
        "LISTEN c",
        "SELECT pg_advisory_lock(1)",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    ] {
        let (mut one, mut other) = (front.raw().await?, front.raw().await?);
        ensure!(one.query(statement).await?.error().is_none(), "{statement}");
        let held = backend(&mut one).await?;
        ensure!(backend(&mut other).await? != held, "{statement}");
        ensure!(backend(&mut one).await? == held, "{statement}");
        drop(one);
        // What it left is undone before another gets the connection.
        let traces = "SELECT current_setting('work_mem') = '4MB' AND to_regclass('pg_temp.mine') IS NULL \
                      AND NOT EXISTS (SELECT FROM pg_listening_channels()) \
                      AND NOT EXISTS (SELECT FROM pg_prepared_statements) \
                      AND NOT EXISTS (SELECT FROM pg_cursors WHERE name = 'c') \
                      AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
        for _ in 0..3 {
            let rows = other.query(traces).await?.rows();
            ensure!(rows == [[Some("t".into())]], "after {statement}: {rows:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_a_full_pool_does_not_serve_in_time_gets_a_clear_error() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.query_wait_timeout", "1s")).await?;
    let mut holder = front.raw().await?;
    holder.query("BEGIN").await?;

    let mut late = front.raw().await?;
    let asked = Instant::now();
    let answer = late.query("SELECT 1").await?;
    let error = answer.error().ok_or_else(|| anyhow!("{answer:?}"))?;
    ensure!(error.code() == "53300" && error.severity() == "ERROR", "{error}");
    let detail = error.field(b'D').unwrap_or_default();
    ensure!(detail.contains("database \"app\"") && detail.contains("user \"app\""), "{detail}");
    ensure!(error.field(b'H').is_some_and(|hint| hint.contains("pool.size")), "{error:?}");
    ensure!(asked.elapsed() >= Duration::from_millis(900) && answer.transaction_state() == Some('I'));

    holder.query("COMMIT").await?;
    ensure!(late.query("SELECT 1").await?.error().is_none(), "the one that was refused goes on");
    Ok(())
}

#[tokio::test]
async fn a_full_pool_serves_those_first_who_asked_first() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut holder = front.raw().await?;
    holder.query("BEGIN").await?;

    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = JoinSet::new();
    for number in 0..5 {
        let (mut client, order) = (front.raw().await?, std::sync::Arc::clone(&order));
        client.send(&messages(|out| frontend::query("SELECT 1", out))?).await?;
        waiting.spawn(async move {
            let answer = client.read_answer().await?;
            ensure!(answer.error().is_none(), "{answer:?}");
            order.lock().map(|mut order| order.push(number)).map_err(|_| anyhow!("poisoned"))
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    holder.query("COMMIT").await?;
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    let order = order.lock().map_err(|_| anyhow!("poisoned"))?.clone();
    ensure!(order == [0, 1, 2, 3, 4], "{order:?}");
    Ok(())
}

#[tokio::test]
async fn a_cold_pool_grows_as_fast_as_it_is_asked_to_and_never_past_its_size() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 10)).await?;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(front.raw().await?);
    }
    let begun = Instant::now();
    let mut asking: JoinSet<Result<RawClient>> = JoinSet::new();
    for mut client in clients {
        asking.spawn(async move {
            client.query("SELECT pg_sleep(0.2)").await?;
            Result::Ok(client)
        });
    }
    let mut most = 0;
    let server = front.server()?;
    while !asking.is_empty() {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'";
        most = most.max(server.scalar(sql).await?.parse::<u32>()?);
        while let Some(done) = asking.try_join_next() {
            done??;
        }
    }
    eprintln!("40 sleeps of 200 ms over 10 connections: {:?}, at most {most} connections", begun.elapsed());
    ensure!(most == 10, "{most}");
    ensure!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_place_that_a_pinned_session_leaves_serves_those_who_wait() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.pinned_size", 1).set("pool.query_wait_timeout", "3s")
    })
    .await?;
    // The first is counted with the pinned ones. For the second there is no room among them: it keeps the place of a
    // transaction.
    let (mut first, mut second, mut third) = (front.raw().await?, front.raw().await?, front.raw().await?);
    first.query("LISTEN a").await?;
    second.query("LISTEN b").await?;
    drop(first);
    eventually("one of them has left", PATIENCE, || async {
        let pins = front.console("pgherd").await?.query("SHOW PINS").await?.rows().len();
        Ok((pins == 1).then_some(()))
    })
    .await?;
    // Of two places one is used.
    let answer = third.query("SELECT 1").await?;
    ensure!(answer.error().is_none(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_connection_that_a_login_opened_serves_the_first_statement() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    // The catalogue is read there at once, in a transaction; whoever asks meanwhile would get another.
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle' AND query = 'COMMIT'";
    let opened = eventually("the catalogue was read", PATIENCE, || async {
        let rows = front.server()?.query(sql).await?;
        Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
    })
    .await?;
    let used = backend(&mut client).await?;
    ensure!(used == opened, "{opened} was opened at login, {used} is used");
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_fewer_connections_than_the_pool_may_have_serves_all_clients_in_turn()
-> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 10)).await?;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(front.raw().await?);
    }
    // From now on, since clients that log in count, too.
    front.server()?.query("ALTER ROLE app CONNECTION LIMIT 2").await?;
    let mut asking: JoinSet<Result<()>> = JoinSet::new();
    for mut client in clients {
        asking.spawn(async move {
            let answer = client.query("SELECT pg_sleep(0.3)").await?;
            ensure!(answer.error().is_none(), "{:?}", answer.error());
            Ok(())
        });
    }
    while let Some(done) = asking.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test]
async fn in_statement_mode_a_client_that_opens_a_transaction_block_is_sent_away() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.mode", "statement").set("pool.size", 1)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    for client in [&mut one, &mut other] {
        ensure!(client.query("SET work_mem = '7MB'; SELECT 1; SELECT 2").await?.error().is_none());
        ensure!(client.query("SHOW work_mem").await?.rows() == [[Some("7MB".into())]]);
    }
    let begun = one.query("BEGIN").await?;
    ensure!(begun.transaction_state() == Some('T'), "{begun:?}");
    let last = one.read_to_end().await?;
    let error = last.first().and_then(|frame| frame.error_fields()).context("no last words")?;
    ensure!(error.code() == "0A000" && error.severity() == "FATAL", "{error}");
    ensure!(error.field(b'H').is_some_and(|hint| hint.contains("pool.mode")), "{error}");
    // The connection was cleaned for the others.
    let rows = other.query("SELECT now() = statement_timestamp()").await?.rows();
    ensure!(rows == [[Some("t".into())]], "{rows:?}");
    Ok(())
}
