//! Clients that go away in the middle of something.

use std::time::Duration;

use pgherd_testkit::client::frontend;
use pgherd_testkit::{Context, Error, Result, ensure};

use crate::front::{Front, bind, messages};

/// Far sooner than what clients asked for would have ended.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_was_asked_for_before_the_client_said_terminate_is_done() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    client.query("CREATE TABLE t (n int)").await?;
    let insert = messages(|out| frontend::query("INSERT INTO t SELECT 1 FROM pg_sleep(0.5)", out))?;
    client.send(&[&insert[..], b"X\0\0\0\x04"].concat()).await?;
    client.read_to_end().await?;
    ensure!(front.server()?.query_in("app", "SELECT * FROM t").await?.len() == 1);
    front.wait_all_idle(20).await
}

#[tokio::test]
async fn whatever_a_client_is_in_the_middle_of_when_it_leaves_nothing_is_left() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 3)).await?;
    front.server()?.query_in("app", "CREATE TABLE t (n int); GRANT ALL ON t TO app").await?;
    let half = messages(|out| {
        frontend::parse("", "SELECT 1", [], out)?;
        bind("", &[], out)
    })?;
    let parts: [(&str, Vec<u8>); 8] = [
        ("nothing", Vec::new()),
        ("a query", messages(|out| frontend::query("SELECT pg_sleep(30)", out))?.to_vec()),
        ("half of a message", b"Q\0\0\0\x20SELECT".to_vec()),
        ("a batch without its Sync", half.to_vec()),
        ("a transaction", messages(|out| frontend::query("BEGIN; INSERT INTO t VALUES (1)", out))?.to_vec()),
        (
            "a large result",
            messages(|out| {
                frontend::query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)", out)
            })?
            .to_vec(),
        ),
        ("a COPY into a table", messages(|out| frontend::query("COPY t FROM STDIN", out))?.to_vec()),
        (
            "a COPY out of one",
            messages(|out| {
                frontend::query(
                    "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT",
                    out,
                )
            })?
            .to_vec(),
        ),
    ];
    for (what, bytes) in parts {
        let begun = std::time::Instant::now();
        for _ in 0..5 {
            let mut client = front.raw().await?;
            client.send(&bytes).await?;
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(client);
        }
        let idle = tokio::time::timeout(SOON, front.wait_all_idle(3)).await;
        idle.map_err(Error::from).flatten().with_context(|| format!("in the middle of {what}"))?;
        eprintln!("{what}: {:?}", begun.elapsed());
    }
    // All three places of the pool are free again.
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = front.raw().await?;
        ensure!(client.query("BEGIN").await?.error().is_none());
        clients.push(client);
    }
    let rows = clients[0].query("SELECT count(*) FROM t").await?.rows();
    ensure!(rows == [[Some("0".into())]], "no row of a client that left is there: {rows:?}");
    Ok(())
}
