//! What becomes of a defect of pgherd: a session that panics ends alone, and a thread that stands still is told of.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};

use crate::front::{Front, PATIENCE, messages, says};
use crate::http::metric;

/// A pgherd that does what files in its cluster's directory say, before a cluster with the table `t`.
async fn provoked(cluster: Cluster, variables: &[(&str, String)]) -> Result<Front> {
    cluster.server(1)?.query_in("app", "CREATE TABLE t (a int); GRANT ALL ON t TO app").await?;
    let orders = cluster.directory().display().to_string();
    Front::of(cluster, |pgherd| {
        let pgherd = pgherd.set("pool.size", 2).env("PROVOKE_DEFECTS_IN", orders);
        variables.iter().fold(pgherd, |pgherd, (name, value)| pgherd.env(*name, value))
    })
    .await
}

/// A client, and the process id that it was told.
async fn client_of(front: &Front) -> Result<(RawClient, u32)> {
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    let frames = client.start("app", "app", front.password("app")).await?;
    let key = frames.iter().find(|frame| frame.tag == b'K').context("no cancel key")?;
    let pid = key.payload.get(..4).context("a short key")?.try_into()?;
    Ok((client, u32::from_be_bytes(pid)))
}

/// Orders something, once, at a place in pgherd. It is there as a whole or not at all.
fn order(front: &Front, place: &str, what: &str) -> Result<()> {
    let (draft, order) = (front.cluster.directory().join("draft"), front.cluster.directory().join(place));
    std::fs::write(&draft, what)?;
    Ok(std::fs::rename(draft, order)?)
}

async fn healthz(front: &Front) -> Result<(u16, String)> {
    front.pgherd.get("/healthz").await
}

#[tokio::test]
async fn a_session_that_panics_ends_alone_and_its_server_connection_with_it() -> Result<()> {
    let front = provoked(Cluster::builder().servers(1).start().await?, &[]).await?;
    let mut other = front.raw().await?;
    other.query("BEGIN; INSERT INTO t VALUES (1)").await?;
    let (mut client, pid) = client_of(&front).await?;
    client.query("BEGIN").await?;
    let process = says(&mut client, "SELECT pg_backend_pid()").await?;
    order(&front, &format!("asked-{pid}"), "panic")?;
    client.send(&messages(|out| frontend::query("INSERT INTO t VALUES (2)", out))?).await?;
    let told = client.read_to_end().await?;
    let error = told.last().and_then(|frame| frame.error_fields()).context("nothing was said")?;
    ensure!((error.severity(), error.code()) == ("FATAL", "XX000"), "{told:?}");

    // What it had at the server is gone; nobody gets its connection.
    let server = front.server()?;
    eventually("the server process of the session has ended", PATIENCE, || async {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process}");
        Ok((server.scalar(&sql).await? == "0").then_some(()))
    })
    .await?;
    // Who was there goes on where it was, and there is room for as many as before.
    ensure!(other.query("COMMIT").await?.error().is_none());
    let (mut one, mut two) = (front.raw().await?, front.raw().await?);
    for client in [&mut one, &mut two] {
        ensure!(client.query("BEGIN").await?.error().is_none());
        ensure!(says(client, "SELECT string_agg(a::text, ',') FROM t").await? == "1");
    }
    ensure!((metric(&front, "pgherd_session_panics_total").await? - 1.0).abs() < f64::EPSILON);
    ensure!(front.pgherd.log().iter().any(|line| line.contains("a session ended by a panic")));
    ensure!(healthz(&front).await?.0 == 200);
    Ok(())
}

/// Waits until `/healthz` says so, or that all is well.
async fn wait_healthz(front: &Front, status: u16, part: &str) -> Result<()> {
    eventually(format!("/healthz says {status} {part:?}"), PATIENCE, || async {
        let (code, body) = healthz(front).await?;
        Ok((code == status && body.contains(part)).then_some(()))
    })
    .await
}

/// A service manager, which reads at once what it is told: who tells it waits for that.
struct Manager(Arc<AtomicUsize>);

impl Manager {
    fn at(path: &Path) -> Result<Self> {
        let (socket, signs) = (UnixDatagram::bind(path)?, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&signs);
        std::thread::spawn(move || {
            let mut message = [0; 256];
            while socket.recv(&mut message).is_ok() {
                counted.fetch_add(usize::from(message.starts_with(b"WATCHDOG=1")), Ordering::Relaxed);
            }
        });
        Ok(Self(signs))
    }

    /// Signs of life that have come since the last look.
    fn signs(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_control_thread_that_stands_still_is_told_of_and_the_service_manager_hears_nothing_more()
-> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let path = cluster.directory().join("notify");
    let manager = Manager::at(&path)?;
    let variables = [("NOTIFY_SOCKET", path.display().to_string()), ("WATCHDOG_USEC", "1000000".to_owned())];
    let front = provoked(cluster, &variables).await?;
    eventually("a sign of life", PATIENCE, || async { Ok((manager.signs() > 0).then_some(())) }).await?;

    order(&front, "control", "15")?;
    wait_healthz(&front, 503, "the thread control has not turned for").await?;
    ensure!((metric(&front, "pgherd_threads_stuck").await? - 1.0).abs() < f64::EPSILON);
    front.pgherd.wait_log("the thread control has not turned", PATIENCE).await?;
    manager.signs();
    // Its time, and half of it again.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (said, is_well) = (manager.signs(), healthz(&front).await?.0 == 200);
    ensure!(said == 0 && !is_well, "{said} signs of life, and /healthz says that it is well: {is_well}");
    // Clients are served meanwhile.
    let mut client = front.raw().await?;
    ensure!(says(&mut client, "SELECT 1").await? == "1");

    // Its time is over.
    wait_healthz(&front, 200, "ok").await?;
    eventually("a sign of life", PATIENCE, || async { Ok((manager.signs() > 0).then_some(())) }).await?;
    ensure!(metric(&front, "pgherd_threads_stuck").await? < 0.5);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_stands_still_is_told_of() -> Result<()> {
    let front = provoked(Cluster::builder().servers(1).start().await?, &[]).await?;
    let (mut client, pid) = client_of(&front).await?;
    order(&front, &format!("asked-{pid}"), "8")?;
    client.send(&messages(|out| frontend::query("SELECT 1", out))?).await?;
    wait_healthz(&front, 503, "the thread pgherd-worker-").await?;
    ensure!(client.read_answer().await?.error().is_none());
    wait_healthz(&front, 200, "ok").await
}
