//! Short messages that begin in one bufferful of pgherd's and end in the next.

use std::time::Duration;

use pgherd_testkit::client::{Frame, RawClient, frontend};
use pgherd_testkit::{Result, ensure};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::front::{Front, comparable, execute, messages};

/// The length of pgherd's buffers.
const BUFFER: usize = 32 * 1024;

/// Sends these bytes so that pgherd reads as much of them at once as it can.
async fn send_at_once(front: &Front, client: &mut RawClient, bytes: &[u8]) -> Result<()> {
    front.pgherd.send(Signal::STOP)?;
    client.send(bytes).await?;
    sleep(Duration::from_millis(50)).await;
    front.pgherd.send(Signal::CONT)
}

/// A Query of this many bytes.
fn query_of(len: usize) -> Result<Vec<u8>> {
    let text = format!("SELECT 1{}", " ".repeat(len - 6 - "SELECT 1".len()));
    Ok(messages(|out| frontend::query(&text, out))?.to_vec())
}

#[tokio::test]
async fn a_bind_whose_name_straddles_finds_its_statement() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    client
        .send(&messages(|out| {
            frontend::parse("a_statement", "SELECT 'mine'", [], out)?;
            frontend::sync(out);
            Ok(())
        })?)
        .await?;
    client.read_answer().await?;
    let execute = execute("a_statement", &[])?;
    // The tag, the length, no portal, and the first letters of the name.
    let bytes = [&query_of(BUFFER - 9)?[..], &execute].concat();
    send_at_once(&front, &mut client, &bytes).await?;
    client.read_answer().await?;
    let answer = client.read_answer().await?;
    ensure!(answer.rows() == [[Some("mine".into())]], "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_statement_that_straddles_is_looked_at_as_a_whole() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    let set = messages(|out| frontend::query("SELECT set_config('work_mem', '7MB', false)", out))?;
    send_at_once(&front, &mut one, &[&query_of(BUFFER - 12)?[..], &set].concat()).await?;
    for _ in 0..2 {
        ensure!(one.read_answer().await?.error().is_none());
    }
    let seen = other.query("SHOW work_mem").await?.rows();
    ensure!(seen == [[Some("4MB".into())]], "what another client set: {seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_short_parse_that_straddles_does_not_keep_the_server_connection() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.pinned_size", 0).set("pool.query_wait_timeout", "2s")
    })
    .await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    let parse = messages(|out| {
        frontend::parse("s", "SELECT 'a short statement'", [], out)?;
        frontend::sync(out);
        Ok(())
    })?;
    send_at_once(&front, &mut one, &[&query_of(BUFFER - 12)?[..], &parse].concat()).await?;
    for _ in 0..2 {
        ensure!(one.read_answer().await?.error().is_none());
    }
    let answer = other.query("SELECT 1").await?;
    ensure!(answer.error().is_none(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_whose_last_byte_is_in_the_next_buffer_is_an_answer() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    let sql = |pad: usize| {
        format!(
            "SELECT repeat('x', CASE WHEN n = 1 THEN {pad} ELSE 1000 END) FROM generate_series(1, 16) AS n, \
             (SELECT pg_sleep(0.5)) AS s"
        )
    };
    let size = |frames: &[Frame]| frames.iter().map(|frame| frame.length as usize + 1).sum::<usize>();
    let short = client.query(&sql(1)).await?.frames;
    let pad = BUFFER + 1 - size(&short) + 1;
    let expected = client.query(&sql(pad)).await?.frames;
    ensure!(size(&expected) == BUFFER + 1, "{}", size(&expected));

    client.send(&messages(|out| frontend::query(&sql(pad), out))?).await?;
    front.wait_running("pg_sleep(0.5)").await?;
    // Meanwhile the server answers.
    front.pgherd.send(Signal::STOP)?;
    front.wait_all_idle(20).await?;
    front.pgherd.send(Signal::CONT)?;
    let frames = client.read_answer().await?.frames;
    ensure!(frames == expected, "{:?}", comparable(frames.get(17..).unwrap_or(&frames)));
    Ok(())
}
