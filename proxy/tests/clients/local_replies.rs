//! Replies that pgherd gives itself, to clients that do not wait for one answer before they ask for the next.

use std::time::Duration;

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Result, anyhow, ensure};
use tokio::time::{sleep, timeout};

use crate::front::{Front, messages};

/// A client that holds the statement of [`known_statement`], so that it stays known.
async fn holder(front: &Front) -> Result<RawClient> {
    let mut holder = front.raw().await?;
    let parse = messages(|out| {
        frontend::parse("held", "SELECT 1", [], out)?;
        frontend::sync(out);
        Ok(())
    })?;
    holder.send(&parse).await?;
    holder.read_answer().await?;
    Ok(holder)
}

/// Parse of a statement that the server has, and its Close: pgherd answers both itself.
fn known_statement() -> Result<Vec<u8>> {
    Ok(messages(|out| {
        frontend::parse("x", "SELECT 1", [], out)?;
        frontend::close(b'S', "x", out)
    })?
    .to_vec())
}

fn sync() -> Result<Vec<u8>> {
    Ok(messages(|out| {
        frontend::sync(out);
        Ok(())
    })?
    .to_vec())
}

#[tokio::test]
async fn a_reply_of_pgherds_own_is_not_put_into_the_middle_of_a_long_message_of_the_server() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (_holder, mut client) = (holder(&front).await?, front.raw().await?);
    let columns: Vec<String> =
        (0..1600).map(|number| format!("1 AS {:x<60}", format!("c{number}_"))).collect();
    let wide = format!("SELECT {}", columns.join(", "));
    ensure!(client.query(&format!("CREATE VIEW wide AS {wide}")).await?.error().is_none());
    client.send(&[known_statement()?, sync()?].concat()).await?;
    client.read_answer().await?;
    client.send(&messages(|out| frontend::parse("wide", "SELECT * FROM wide", [], out))?).await?;

    // The client reads nothing for a while, so that pgherd is stuck in the middle of a RowDescription.
    let rounds = 400;
    let describe = messages(|out| {
        frontend::describe(b'S', "wide", out)?;
        frontend::flush(out);
        Ok(())
    })?;
    for _ in 0..rounds {
        client.send(&describe).await?;
        sleep(Duration::from_millis(10)).await;
        client.send(&known_statement()?).await?;
        sleep(Duration::from_millis(2)).await;
    }
    client.send(&sync()?).await?;
    let answer = timeout(Duration::from_secs(20), client.read_answer()).await;
    let answer = answer.map_err(|_| anyhow!("the client does not understand what it reads"))?;
    let frames = answer.map_err(|error| anyhow!("{:.500}", format!("{error:#}")))?.frames;
    let tags: String = frames.iter().map(|frame| char::from(frame.tag)).collect();
    ensure!(tags == format!("1{}Z", "tT13".repeat(rounds)), "{tags}");
    Ok(())
}

/// Sends as much as the peer takes within this time; says how much.
async fn flood(client: &mut RawClient, bytes: &[u8], within: Duration) -> Result<usize> {
    let mut sent = 0;
    let flooding = async {
        loop {
            client.send(bytes).await?;
            sent += bytes.len();
        }
    };
    match timeout(within, flooding).await {
        Ok(ended) => ended,
        Err(_) => Ok(sent),
    }
}

#[tokio::test]
async fn a_client_that_asks_without_reading_is_held_back_before_its_answers_fill_the_memory() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (mut holder, mut client) = (front.raw().await?, front.raw().await?);
    let texts: Vec<String> = (0..150).map(|number| format!("SELECT {number}{}", " ".repeat(100))).collect();
    let mut held = messages(|out| {
        texts.iter().enumerate().try_for_each(|(n, text)| frontend::parse(&format!("s{n}"), text, [], out))
    })?;
    held.extend_from_slice(&sync()?);
    holder.send(&held).await?;
    holder.read_answer().await?;

    // What pgherd answers all by itself, again and again.
    let known = messages(|out| {
        texts.iter().try_for_each(|text| {
            frontend::parse("x", text, [], out)?;
            frontend::close(b'S', "x", out)
        })
    })?;
    client.send(&[&known[..], &sync()?].concat()).await?;
    let answer = client.read_answer().await?;
    ensure!(answer.error().is_none(), "{answer:?}");
    let before = front.resident()?;
    let sent = flood(&mut client, &known, Duration::from_secs(20)).await? / 1024;
    let after = front.resident()?;
    eprintln!("{sent} KiB sent, nothing read: resident memory {before} KiB before, {after} KiB after");
    ensure!(sent < 64 * 1024, "{sent} KiB were taken, and memory went from {before} to {after} KiB");
    Ok(())
}

#[tokio::test]
async fn a_client_that_asks_on_while_its_server_is_busy_is_held_back_and_holds_nobody_up() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 2).set("runtime.workers", 1)).await?;
    let (_holder, mut client, mut other) = (holder(&front).await?, front.raw().await?, front.raw().await?);
    client.send(&[known_statement()?, sync()?].concat()).await?;
    client.read_answer().await?;
    other.query("SELECT 1").await?;
    let before = front.resident()?;
    client.send(&messages(|out| frontend::query("SELECT pg_sleep(60)", out))?).await?;
    let bytes = known_statement()?.repeat(1000);
    let mut slowest = Duration::ZERO;
    let (sent, others) = tokio::join!(flood(&mut client, &bytes, Duration::from_secs(5)), async {
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < until {
            let asked = std::time::Instant::now();
            other.query("SELECT 1").await?;
            slowest = slowest.max(asked.elapsed());
        }
        Ok::<_, pgherd_testkit::Error>(())
    });
    others?;
    let (sent, after) = (sent? / 1024, front.resident()?);
    eprintln!(
        "{sent} KiB sent: resident memory {before} KiB before, {after} KiB after; another's slowest query {slowest:?}"
    );
    ensure!(after < before + 8 * 1024, "{before} to {after} KiB");
    ensure!(slowest < Duration::from_millis(500), "{slowest:?}");
    Ok(())
}
