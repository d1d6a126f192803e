//! Sessions that do for too long what they do.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Context, Result, anyhow, ensure, eventually};

use crate::front::{Front, PATIENCE, messages};

/// Long enough for what a slow machine does in between, short enough for a test.
const LIMIT: &str = "2s";

async fn last_words(client: &mut RawClient) -> Result<String> {
    let frames = client.read_to_end().await?;
    let error = frames.last().and_then(|frame| frame.error_fields()).context("no last words")?;
    ensure!(error.severity() == "FATAL", "{error}");
    Ok(format!("{} {}", error.code(), error.message()))
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.query_timeout", LIMIT).set("pool.size", 1)).await?;
    let mut client = front.raw().await?;
    client.query("BEGIN").await?;
    let begun = Instant::now();
    let answer = client.query("SELECT pg_sleep(60)").await?;
    let error = answer.error().ok_or_else(|| anyhow!("{answer:?}"))?;
    ensure!(error.code() == "57014" && error.severity() == "ERROR", "{error}");
    ensure!(error.message() == "canceling statement due to statement timeout", "{error}");
    ensure!(error.field(b'D').is_some_and(|detail| detail.contains("query_timeout")), "{error:?}");
    ensure!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    ensure!(answer.transaction_state() == Some('E'));
    // What follows is not cancelled, nor is what others do on that connection.
    for _ in 0..3 {
        client.query("ROLLBACK; BEGIN").await?;
        ensure!(client.query("SELECT 1").await?.error().is_none());
    }
    client.query("COMMIT").await?;
    let mut other = front.raw().await?;
    ensure!(other.query("SELECT 1").await?.error().is_none());
    // One that is asked for again and again is not one that takes long.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        client
            .send(&messages(|out| (0..20).try_for_each(|_| frontend::query("SELECT pg_sleep(0.01)", out)))?)
            .await?;
        for _ in 0..20 {
            let answer = client.read_answer().await?;
            ensure!(answer.error().is_none(), "{answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_left_open_is_rolled_back_and_its_locks_are_gone() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.idle_transaction_timeout", LIMIT)).await?;
    let (mut holder, mut other) = (front.raw().await?, front.raw().await?);
    ensure!(other.query("CREATE TABLE locked (x int)").await?.error().is_none());
    // A transaction that does something now and then may be long.
    holder.query("BEGIN").await?;
    for _ in 0..4 {
        ensure!(holder.query("SELECT pg_sleep(1)").await?.error().is_none());
    }
    holder.query("LOCK TABLE locked").await?;
    let waiting = other.query("INSERT INTO locked VALUES (1)").await?;
    ensure!(waiting.error().is_none(), "{waiting:?}");
    let words = last_words(&mut holder).await?;
    ensure!(words == "25P03 terminating connection due to idle-in-transaction timeout", "{words}");
    // The same between the messages of a batch; outside of a transaction a client may be idle.
    holder = front.raw().await?;
    holder
        .send(&messages(|out| frontend::parse("", "SELECT 1", [], out).map(|()| out.extend(b"H\0\0\0\x04")))?)
        .await?;
    ensure!(last_words(&mut holder).await?.starts_with("25P03"));
    ensure!(other.query("SELECT 1").await?.error().is_none());
    front.wait_all_idle(2).await
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_ends_with_its_session_whatever_it_does() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.transaction_timeout", LIMIT)).await?;
    let expected = "25P04 terminating connection due to transaction timeout";
    for (number, statements) in [
        &["SELECT pg_sleep(60)"][..],
        &["BEGIN", "SELECT pg_sleep(60)"],
        &["BEGIN"],
        &["LISTEN c", "BEGIN", "SELECT pg_sleep(0.1)"],
    ]
    .iter()
    .enumerate()
    {
        let mut client = front.raw().await?;
        client
            .send(&messages(|out| statements.iter().try_for_each(|sql| frontend::query(sql, out)))?)
            .await?;
        let words = last_words(&mut client).await?;
        ensure!(words == expected, "{number}: {words}");
    }
    // Many short ones in a row may take as long as they like.
    let (mut client, begun) = (front.raw().await?, Instant::now());
    client.query("LISTEN c").await?;
    while begun.elapsed() < Duration::from_secs(4) {
        ensure!(client.query("SELECT pg_sleep(0.2)").await?.error().is_none());
    }
    drop(client);
    // What ran in them runs no more.
    front.wait_all_idle(4).await
}

#[tokio::test]
async fn a_client_that_does_nothing_is_sent_away_where_its_user_is_not_to_stay() -> Result<()> {
    let front = Front::with(|pgherd| {
        let limits = toml::toml! {
            database = "app"
            user = "app"
            client_idle_timeout = "2s"
        };
        pgherd.set("pool.override", vec![toml::Value::Table(limits)])
    })
    .await?;
    let expected = "57P05 terminating connection due to idle-session timeout";
    let (mut silent, mut pinned, mut busy) = (front.raw().await?, front.raw().await?, front.raw().await?);
    let mut legacy =
        RawClient::login(front.pgherd.address(), "legacy", "app", front.password("legacy")).await?;
    let mut in_transaction = front.raw().await?;
    in_transaction.query("BEGIN").await?;
    pinned.query("LISTEN c").await?;
    for _ in 0..5 {
        ensure!(busy.query("SELECT pg_sleep(1)").await?.error().is_none());
    }
    for client in [&mut silent, &mut pinned, &mut busy] {
        let words = last_words(client).await?;
        ensure!(words == expected, "{words}");
    }
    ensure!(legacy.query("SELECT 1").await?.error().is_none(), "others may stay");
    ensure!(in_transaction.query("SELECT 1").await?.error().is_none(), "a transaction is not idle");
    drop(in_transaction);
    eventually("nobody listens any more", PATIENCE, || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND usename = 'app'";
        Ok((front.server()?.scalar(sql).await? == "0").then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_server_that_does_not_act_on_a_cancel_request_is_given_up() -> Result<()> {
    let front =
        Front::with(|pgherd| pgherd.set("pool.query_timeout", "1s").set("pool.cancel_wait_timeout", "1s"))
            .await?;
    let mut client = front.raw().await?;
    // A backend that reads CopyData is not interrupted.
    client.query("CREATE TABLE loaded (x int)").await?;
    client.query("BEGIN").await?;
    client.send(&messages(|out| frontend::query("COPY loaded FROM STDIN", out))?).await?;
    let answer = client.read_answer().await?;
    let error = answer.error().ok_or_else(|| anyhow!("{answer:?}"))?;
    ensure!(error.code() == "40001", "{error}");
    ensure!(error.field(b'D').is_some_and(|detail| detail.contains("pool.cancel_wait_timeout")), "{error:?}");
    for sql in ["ROLLBACK", "SELECT 1"] {
        ensure!(client.query(sql).await?.error().is_none(), "the session goes on");
    }
    front.wait_all_idle(2).await
}
