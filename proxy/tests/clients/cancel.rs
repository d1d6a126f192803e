//! Cancel requests hit the right query or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Result, anyhow, ensure};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::front::{Front, PATIENCE};

#[tokio::test]
async fn a_query_is_cancelled_and_its_session_goes_on() -> Result<()> {
    let front = Front::start().await?;
    let session = front.connect().await?;
    let token = session.cancel_token();
    let begun = Instant::now();
    let (answer, cancelled) = tokio::join!(session.simple_query("SELECT pg_sleep(20)"), async {
        front.wait_running("pg_sleep(20)").await?;
        Result::<()>::Ok(token.cancel_query(NoTls).await?)
    });
    cancelled?;
    let code = answer.err().and_then(|error| error.code().cloned());
    ensure!(code.is_some_and(|code| code.code() == "57014") && begun.elapsed() < Duration::from_secs(5));
    session.simple_query("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_waits_for_a_server_connection_can_be_cancelled() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut holder = front.raw().await?;
    holder.query("BEGIN").await?;
    let session = front.connect().await?;
    let token = session.cancel_token();
    let (answer, cancelled) = tokio::join!(session.simple_query("SELECT 1"), async {
        front.wait_waiting(1).await?;
        Result::<()>::Ok(token.cancel_query(NoTls).await?)
    });
    cancelled?;
    ensure!(answer.err().and_then(|error| error.code().cloned()).is_some_and(|code| code.code() == "57014"));
    holder.query("COMMIT").await?;
    session.simple_query("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_cancel_that_comes_late_or_with_a_wrong_key_hits_nobody() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let idle = front.connect().await?;
    idle.simple_query("SELECT 1").await?;
    let mut busy = front.raw().await?;
    let wrong =
        [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[0, 0, 0, 1, 2, 3, 4, 5]].concat();
    let token = idle.cancel_token();
    let (answer, _) = tokio::join!(busy.query("SELECT pg_sleep(3)"), async {
        front.wait_running("pg_sleep(3)").await?;
        // The connection that `idle` used last now works for `busy`.
        token.cancel_query(NoTls).await?;
        let mut forger = RawClient::connect(front.pgherd.address()).await?;
        forger.send(&wrong).await?;
        ensure!(forger.read_to_end().await?.is_empty(), "nobody is told");
        Result::Ok(())
    });
    ensure!(answer?.error().is_none(), "somebody else's request hit it");
    Ok(())
}

#[tokio::test]
async fn under_a_storm_of_cancels_only_those_who_asked_are_cancelled() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 2)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (hits, quiet) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (session, stop, hits) = (front.connect().await?, Arc::clone(&stop), Arc::clone(&hits));
        let token = session.cancel_token();
        let over = Arc::clone(&stop);
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                token.cancel_query(NoTls).await?;
            }
            Result::Ok(())
        });
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match session.simple_query("SELECT pg_sleep(0.002)").await {
                    Ok(_) => {}
                    Err(error) if error.code().is_some_and(|code| code.code() == "57014") => {
                        hits.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Result::Ok(())
        });
    }
    for _ in 0..4 {
        let (mut client, stop, quiet) = (front.raw().await?, Arc::clone(&stop), Arc::clone(&quiet));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.query("SELECT pg_sleep(0.002)").await?;
                ensure!(answer.error().is_none(), "{answer:?}: nobody asked to cancel this one");
                quiet.fetch_add(1, Ordering::Relaxed);
            }
            Result::Ok(())
        });
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = tokio::time::timeout(PATIENCE, tasks.join_next()).await? {
        done??;
    }
    let (hits, quiet) = (hits.load(Ordering::Relaxed), quiet.load(Ordering::Relaxed));
    eprintln!("{hits} queries cancelled by their own clients, {quiet} of others left alone");
    ensure!(hits > 0 && quiet > 0, "{hits} {quiet}");
    front.wait_all_idle(2).await.map_err(|error| anyhow!("{error:#}"))
}
