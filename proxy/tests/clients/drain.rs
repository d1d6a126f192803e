//! SIGTERM.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{RawClient, frontend, startup_packet};
use pgherd_testkit::{Result, ensure, eventually};

use crate::front::{Front, PATIENCE, messages};

#[tokio::test]
async fn sigterm_lets_open_work_finish_and_tells_idle_clients() -> Result<()> {
    let mut front = Front::start().await?;
    let (mut idle, mut open, mut busy) = (front.raw().await?, front.raw().await?, front.raw().await?);
    open.query("CREATE TABLE t (n int)").await?;
    open.query("BEGIN; INSERT INTO t VALUES (1)").await?;
    busy.send(&messages(|out| frontend::query("SELECT pg_sleep(1)", out))?).await?;
    // Somebody who connects and says nothing keeps nobody waiting.
    let _silent = RawClient::connect(front.pgherd.address()).await?;
    let mut halfway = RawClient::connect(front.pgherd.address()).await?;
    halfway.send(&startup_packet("app", "app")?).await?;
    ensure!(halfway.expect_frame().await?.tag == b'R');
    front.wait_running("pg_sleep(1)").await?;
    let begun = Instant::now();
    front.pgherd.terminate()?;

    let farewell = halfway.read_to_end().await?;
    ensure!(farewell.iter().any(|frame| frame.error_fields().is_some_and(|fields| fields.code() == "57P01")));
    let farewell = idle.read_to_end().await?;
    ensure!(farewell.iter().any(|frame| frame.error_fields().is_some_and(|fields| fields.code() == "57P01")));
    ensure!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    ensure!(busy.read_answer().await?.error().is_none());
    ensure!(RawClient::connect(front.pgherd.address()).await.is_err(), "nobody new is let in");
    ensure!(open.query("INSERT INTO t VALUES (2)").await?.error().is_none());
    ensure!(open.query("COMMIT").await?.command().as_deref() == Some("COMMIT"));
    let status = front.pgherd.wait_exit().await?;
    ensure!(
        status.success() && begun.elapsed() < Duration::from_secs(5),
        "{status} after {:?}",
        begun.elapsed()
    );
    ensure!(front.server()?.query_in("app", "SELECT * FROM t").await?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn those_who_do_not_finish_within_the_drain_timeout_are_ended() -> Result<()> {
    let mut front = Front::with(|pgherd| pgherd.set("runtime.drain_timeout", "1s")).await?;
    let mut open = front.raw().await?;
    open.query("BEGIN").await?;
    let begun = Instant::now();
    front.pgherd.terminate()?;
    let farewell = open.read_to_end().await?;
    ensure!(farewell.iter().any(|frame| frame.error_fields().is_some_and(|fields| fields.code() == "57P01")));
    let status = front.pgherd.wait_exit().await?;
    let took = begun.elapsed();
    ensure!(status.success() && took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() -> Result<()> {
    let mut front = Front::start().await?;
    let mut open = front.raw().await?;
    open.query("BEGIN").await?;
    front.pgherd.terminate()?;
    front.pgherd.wait_log("draining", PATIENCE).await?;
    front.pgherd.terminate()?;
    ensure!(!front.pgherd.wait_exit().await?.success());
    // SIGQUIT does so the first time.
    front.pgherd.start().await?;
    let mut open = front.raw().await?;
    open.query("BEGIN").await?;
    front.pgherd.send(rustix::process::Signal::QUIT)?;
    ensure!(!front.pgherd.wait_exit().await?.success());
    Ok(())
}

#[tokio::test]
async fn what_a_client_has_asked_before_the_farewell_is_answered() -> Result<()> {
    let front = Front::start().await?;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(front.raw().await?);
    }
    // Both are there when it goes on.
    front.pgherd.send(rustix::process::Signal::STOP)?;
    for client in &mut clients {
        client.send(&messages(|out| frontend::query("SELECT 1", out))?).await?;
    }
    front.pgherd.terminate()?;
    front.pgherd.send(rustix::process::Signal::CONT)?;
    for client in &mut clients {
        ensure!(client.read_answer().await?.rows() == [[Some("1".into())]]);
    }
    for client in &mut clients {
        let farewell = client.read_to_end().await?;
        ensure!(farewell.iter().any(|it| it.error_fields().is_some_and(|fields| fields.code() == "57P01")));
    }
    Ok(())
}

#[tokio::test]
async fn a_farewell_is_not_put_into_the_middle_of_a_row() -> Result<()> {
    let mut front = Front::with(|pgherd| pgherd.set("runtime.drain_timeout", "1s")).await?;
    let mut client = front.raw().await?;
    // Far more than sockets hold, and the client reads nothing for now.
    client.send(&messages(|out| frontend::query("SELECT repeat('x', 60000000)", out))?).await?;
    let server = front.server()?;
    eventually("the server can write no more", PATIENCE, || async {
        let stuck =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND usename = 'app'";
        Ok((server.scalar(stuck).await? == "1").then_some(()))
    })
    .await?;
    front.pgherd.terminate()?;
    front.pgherd.wait_exit().await?;
    let bytes = client.read_bytes_to_end().await?;
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(200)..]).into_owned();
    ensure!(!end.contains("57P01"), "{} of 60000000 bytes of a value end with {end:?}", bytes.len());
    Ok(())
}
