//! Connections that somebody, or a time-out of the server's, ends: the client's ends with them, as directly.

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Result, ensure, eventually};

use crate::front::{Front, PATIENCE, comparable, extended, messages};

#[tokio::test]
async fn a_session_that_is_ended_by_order_is_told_so_and_closed() -> Result<()> {
    let front = Front::start().await?;
    let own = "SELECT pg_terminate_backend(pg_backend_pid())";
    for (what, before, last) in [
        ("itself", "SELECT 1", messages(|out| frontend::query(own, out))?),
        ("itself, by the extended protocol", "SELECT 1", extended("", own, &[])?),
        ("itself in a transaction", "BEGIN", messages(|out| frontend::query(own, out))?),
        (
            "a time-out of the server's",
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 100; SELECT 1",
            messages(|_| Ok(()))?,
        ),
    ] {
        let answer = front
            .same(what, async |address| {
                let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
                client.query(before).await?;
                client.send(&last).await?;
                Ok(comparable(&client.read_to_end().await?))
            })
            .await?;
        ensure!(answer.last().is_some_and(|last| last.contains("FATAL")), "{what}: {answer:?}");
    }
    // Another session ends it, with the process id that the server knows.
    front
        .same("another", async |address| {
            let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
            client.send(&messages(|out| frontend::query("SELECT 'victim' FROM pg_sleep(60)", out))?).await?;
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%''victim''%' \
                       AND pid <> pg_backend_pid() AND state = 'active'";
            eventually("the victim is found", PATIENCE, || async {
                Ok((front.server()?.scalar(end).await? != "0").then_some(()))
            })
            .await?;
            Ok(comparable(&client.read_to_end().await?))
        })
        .await?;
    front.wait_all_idle(20).await
}

#[tokio::test]
async fn a_stop_of_the_server_is_no_order_to_end_a_session() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    client.query("BEGIN").await?;
    front.server()?.stop_clean().await?;
    let answer = client.query("SELECT 1").await?;
    let error = answer.error();
    ensure!(error.is_some_and(|fields| fields.code() == "40001"), "{:?}", comparable(&answer.frames));
    client.query("ROLLBACK").await?;
    front.server()?.start().await?;
    eventually("the session goes on", PATIENCE, || async {
        let answer = front.raw().await?.query("SELECT 1").await?;
        Ok(answer.error().is_none().then_some(()))
    })
    .await?;
    ensure!(client.query("SELECT 1").await?.rows() == [[Some("1".into())]]);
    Ok(())
}
