//! A COPY that fails while the client still sends: what is left of its data reaches nobody as anything else.

use std::time::Duration;

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Context, Result, anyhow, ensure};

use crate::front::{Front, messages};

/// CopyData with these bytes.
fn data(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(messages(|out| frontend::CopyData::new(bytes).map(|data| data.write(out)))?.to_vec())
}

async fn start(client: &mut RawClient) -> Result<()> {
    client.send(&messages(|out| frontend::query("COPY t FROM STDIN", out))?).await?;
    ensure!(client.expect_frame().await?.tag == b'G');
    Ok(())
}

async fn soon<T>(what: &str, doing: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(Duration::from_secs(10), doing).await;
    done.map_err(|_| anyhow!("{what}: no answer within 10 s"))?.with_context(|| what.to_owned())
}

#[tokio::test]
async fn half_a_message_of_a_copy_that_has_failed_is_not_left_on_a_server_connection_for_the_next_client()
-> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front.server()?.query_in("app", "CREATE TABLE t (n int); GRANT ALL ON t TO app").await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    start(&mut one).await?;
    // The first message fails the COPY; of the second a half has gone out by then.
    let second = data(&b"2\n".repeat(50_000))?;
    one.send(&[&data(b"no number\n")?[..], &second[..60_000]].concat()).await?;
    let answer = one.read_answer().await?;
    ensure!(answer.error().is_some_and(|error| error.code() == "22P02"), "{answer:?}");

    let (rows, rest) = tokio::join!(
        soon("another client's query", async { Ok(other.query("SELECT 'mine'").await?.rows()) }),
        async {
            front.wait_waiting(1).await?;
            one.send(&second[60_000..]).await
        }
    );
    rest?;
    ensure!(rows? == [[Some("mine".into())]]);
    let rows =
        soon("the same client's query", async { Ok(one.query("SELECT 'mine'").await?.rows()) }).await?;
    ensure!(rows == [[Some("mine".into())]], "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_bulk_load_that_fails_in_the_middle_leaves_the_session_in_step() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 5)).await?;
    front.server()?.query_in("app", "CREATE TABLE t (n int, s text); GRANT ALL ON t TO app").await?;
    for (server, address) in ["PostgreSQL", "pgherd"].into_iter().zip(front.both()?) {
        let mut one = RawClient::login(address, "app", "app", front.password("app")).await?;
        start(&mut one).await?;
        // Far more than sockets hold, with a bad row in the middle; what follows has bytes in it that look like a statement,
        // as a binary COPY may have.
        let good = data(&b"1\tx\n".repeat(2000))?;
        let statement = messages(|out| frontend::query("SELECT 'smuggled'", out))?;
        let mut bytes = good.repeat(500);
        bytes.extend_from_slice(&data(b"no number\tx\n")?);
        bytes.extend_from_slice(&data(&statement.repeat(400))?.repeat(1000));
        let end = messages(|out| {
            frontend::copy_done(out);
            frontend::query("SELECT 'mine'", out)
        })?;
        bytes.extend_from_slice(&end);
        soon(server, async {
            one.send(&bytes).await?;
            let answer = one.read_answer().await?;
            ensure!(answer.error().is_some_and(|error| error.code() == "22P02"), "{answer:?}");
            let answer = one.read_answer().await?;
            ensure!(answer.rows() == [[Some("mine".into())]], "{answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
