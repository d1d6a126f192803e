//! The process id that a client is given at its login.

use pgherd_testkit::client::{Frame, RawClient};
use pgherd_testkit::{Context, Result, ensure};

use crate::front::Front;

/// A client that is logged in as `app`, and the process id that it was told.
async fn login(front: &Front) -> Result<(RawClient, u32)> {
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    let frames = client.start("app", "app", front.password("app")).await?;
    let key = frames.iter().find(|frame| frame.tag == b'K').context("no BackendKeyData")?;
    Ok((client, number(key).context("BackendKeyData is empty")?))
}

/// The first number of a message.
fn number(frame: &Frame) -> Option<u32> {
    Some(u32::from_be_bytes(*frame.payload.first_chunk()?))
}

#[tokio::test]
async fn a_session_recognises_its_own_notifications() -> Result<()> {
    for mode in ["session", "transaction"] {
        let front = Front::with(|pgherd| pgherd.set("pool.mode", mode)).await?;
        let ((mut one, pid), (mut other, _)) = (login(&front).await?, login(&front).await?);
        one.query("LISTEN c").await?;
        let frames = one.query("NOTIFY c, 'mine'").await?.frames;
        let mine = frames.iter().find(|frame| frame.tag == b'A').context("no notification")?;
        ensure!(
            number(mine) == Some(pid) && mine.payload.ends_with(b"c\0mine\0"),
            "{mode}: {mine:?} is not of {pid}"
        );
        other.query("NOTIFY c, 'of another'").await?;
        let others = one.expect_frame().await?;
        ensure!(others.tag == b'A' && number(&others) != Some(pid), "{mode}: {others:?}");
    }
    Ok(())
}

#[tokio::test]
async fn in_session_mode_it_is_the_server_process_that_pg_terminate_backend_ends() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.mode", "session").set("pool.size", 2)).await?;
    let ((mut one, pid), (mut other, others)) = (login(&front).await?, login(&front).await?);
    ensure!(pid != others);
    ensure!(one.query("SELECT pg_backend_pid()").await?.rows() == [[Some(pid.to_string().into())]]);
    // While it is idle, as in PostgreSQL.
    other.query(&format!("SELECT pg_terminate_backend({pid})")).await?;
    let last = one.read_to_end().await?;
    let error = last.first().and_then(Frame::error_fields).context("no last words")?;
    ensure!(error.code() == "57P01" && error.severity() == "FATAL", "{error}");

    // A full pool keeps nobody from logging in, and gives whoever waits the next connection.
    let (holder, _) = login(&front).await?;
    let (mut late, _) = login(&front).await?;
    drop(holder);
    ensure!(late.query("SELECT 1").await?.error().is_none());
    Ok(())
}
