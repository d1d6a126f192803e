//! A cancel request that its server acts on only after pgherd has given up waiting for it.

use std::time::Duration;

use pgherd_testkit::{Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;
use tokio_postgres::NoTls;

use crate::front::{Front, PATIENCE};

#[tokio::test]
async fn a_cancel_request_that_is_stuck_at_its_server_never_hits_the_next_client() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.cancel_wait_timeout", "5s").set("monitor.timeout", "20s")
    })
    .await?;
    let session = front.connect().await?;
    session.simple_query("SELECT 1").await?;
    let mut other = front.raw().await?;
    let postmaster = front.server()?.postmaster_pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let postmaster = postmaster.ok_or_else(|| anyhow!("no postmaster"))?;
    let token = session.cancel_token();

    // The postmaster is too busy to accept connections; its backends work.
    let (first, cancelled) = tokio::join!(session.simple_query("SELECT pg_sleep(2)"), async {
        front.wait_running("pg_sleep(2)").await?;
        kill_process(postmaster, Signal::STOP)?;
        token.cancel_query(NoTls).await?;
        Ok::<_, pgherd_testkit::Error>(())
    });
    cancelled?;
    eprintln!("the query that was to be cancelled: {:?}", first.map(|_| ()));
    front.pgherd.wait_log("a cancel request did not reach its server", PATIENCE).await?;
    let (answer, resumed) = tokio::join!(other.query("SELECT 'mine' FROM pg_sleep(3)"), async {
        sleep(Duration::from_secs(1)).await;
        kill_process(postmaster, Signal::CONT)
    });
    resumed?;
    let answer = answer?;
    ensure!(answer.error().is_none(), "another client's request hit it: {:?}", answer.error());
    ensure!(answer.rows() == [[Some("mine".into())]], "{answer:?}");
    Ok(())
}
