//! What Prometheus and orchestrators are answered.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use pgherd_testkit::{Cluster, Context, Pgherd, Purpose, Result, ensure, eventually};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::front::{Front, PATIENCE};
use crate::tls;

/// The value of one metric with these labels.
pub(crate) async fn metric(front: &Front, name: &str) -> Result<f64> {
    let (status, text) = front.pgherd.get("/metrics").await?;
    ensure!(status == 200 && text.ends_with("# EOF\n"), "{status}: {text}");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("{name} is not in\n{text}"))?.parse()?)
}

#[tokio::test]
async fn metrics_tell_of_clients_pools_servers_and_the_failover() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 7)).await?;
    let mut client = front.raw().await?;
    client.query("SELECT 1").await?;
    client.query("SELECT 1").await?;
    client.query("CREATE TEMPORARY TABLE mine (a int)").await?;
    let pool = r#"{database="app",user="app"}"#;
    for (name, expected) in [
        (format!("pgherd_pool_clients_active{pool}"), 1.0),
        (format!("pgherd_pool_clients_waiting{pool}"), 0.0),
        (format!("pgherd_pool_servers_active{pool}"), 1.0),
        (format!("pgherd_pool_size{pool}"), 7.0),
        (r#"pgherd_pool_pinned{database="app",user="app",reason="a temporary object"}"#.to_owned(), 1.0),
        (format!("pgherd_transactions_total{pool}"), 3.0),
        ("pgherd_writes_open".to_owned(), 1.0),
        ("pgherd_failover_decides".to_owned(), 1.0),
        (r#"pgherd_failover_state{state="Steady"}"#.to_owned(), 1.0),
        (r#"pgherd_failover_state{state="Hold"}"#.to_owned(), 0.0),
    ] {
        // pgherd itself may have a connection for a moment.
        eventually(format!("{name} is {expected}"), PATIENCE, || async {
            let found = metric(&front, &name).await?;
            Ok(((found - expected).abs() < f64::EPSILON).then_some(()))
        })
        .await?;
    }
    let server = front.server()?;
    let up = format!(r#"pgherd_server_up{{node="0",host="{}",port="5432"}}"#, server.address());
    ensure!(metric(&front, &up).await? > 0.0);
    let lent = up.replace("server_up", "server_connections_lent");
    let wait_lent = async |expected: f64| {
        eventually(format!("{expected} connections are lent"), PATIENCE, || async {
            Ok(((metric(&front, &lent).await? - expected).abs() < f64::EPSILON).then_some(()))
        })
        .await
    };
    wait_lent(1.0).await?;
    client.finish().await?;
    wait_lent(0.0).await?;
    eventually("the pinned connection is not pinned any more", PATIENCE, || async {
        let (_, text) = front.pgherd.get("/metrics").await?;
        Ok((!text.contains("pgherd_pool_pinned{")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_metrics_are_those_of_the_documentation() -> Result<()> {
    let front = Front::of(Cluster::builder().servers(2).start().await?, |pgherd| pgherd).await?;
    let mut client = front.raw().await?;
    client.query("CREATE TEMPORARY TABLE mine (a int)").await?;
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    // That of the certificate is there with TLS, that of spans with traces: their tests look for them.
    let told: BTreeSet<&str> =
        rows.filter(|name| !name.contains("_tls_") && !name.contains("_trace_")).collect();
    // Those of a standby are there once it and the primary have been asked.
    eventually("the metrics are those of the documentation", PATIENCE, || async {
        let (_, text) = front.pgherd.get("/metrics").await?;
        let found: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .map(of_family)
            .collect();
        let differ: Vec<_> = found.symmetric_difference(&told).collect();
        ensure!(differ.iter().all(|name| name.contains("_standby_")), "not in both: {differ:?}");
        Ok(differ.is_empty().then_some(()))
    })
    .await
}

/// A histogram is several metrics.
fn of_family(name: &str) -> &str {
    let mut parts = ["_bucket", "_count", "_sum"].into_iter().filter_map(|part| name.strip_suffix(part));
    parts.rfind(|family| family.contains("_duration_")).unwrap_or(name)
}

#[tokio::test]
async fn the_metrics_tell_how_far_the_replay_of_a_standby_is_behind() -> Result<()> {
    let front = Front::of(Cluster::builder().servers(2).start().await?, |pgherd| pgherd).await?;
    let standby = front.cluster.server(2)?;
    let of_standby = |name: &str| {
        let labels = format!(r#"{{node="1",host="{}",port="5432"}}"#, standby.address());
        format!("pgherd_standby_replay_lag_{name}{labels}")
    };
    let (bytes, seconds) = (of_standby("bytes"), of_standby("seconds"));
    let wait = async |what: &str, holds: fn(f64, f64) -> bool| {
        eventually(what, PATIENCE, || async {
            let (_, text) = front.pgherd.get("/metrics").await?;
            if !text.contains(&seconds) {
                return Ok(None);
            }
            Ok(holds(metric(&front, &bytes).await?, metric(&front, &seconds).await?).then_some(()))
        })
        .await
    };
    wait("it has all", |bytes, seconds| bytes <= 0.0 && seconds <= 0.0).await?;
    standby.query("SELECT pg_wal_replay_pause()").await?;
    front.connect().await?.batch_execute("CREATE TABLE seen AS SELECT generate_series(1, 1000) AS n").await?;
    wait("it lacks the table, for longer and longer", |bytes, seconds| bytes > 10_000.0 && seconds > 1.5)
        .await?;
    standby.query("SELECT pg_wal_replay_resume()").await?;
    wait("it has all again", |bytes, seconds| bytes <= 0.0 && seconds <= 0.0).await
}

#[tokio::test]
async fn the_metrics_tell_when_the_certificate_expires_that_is_shown_now() -> Result<()> {
    let (front, pki) = tls::front(|pgherd| pgherd).await?;
    let name = "pgherd_tls_certificate_expiry_timestamp_seconds";
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    ensure!(metric(&front, name).await? > now);
    pki.authority.expired("localhost", Purpose::Server)?.write(front.cluster.directory(), "pgherd")?;
    front.pgherd.send(Signal::HUP)?;
    eventually("the certificate has expired", PATIENCE, || async {
        Ok((metric(&front, name).await? < now).then_some(()))
    })
    .await
}

#[tokio::test]
async fn readiness_is_whether_clients_are_let_in() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    server.stop_clean().await?;
    let mut pgherd = Pgherd::builder(&cluster).set("runtime.drain_timeout", "1min").start().await?;
    ensure!(pgherd.get("/healthz").await?.0 == 200);
    let (status, why) = pgherd.get("/readyz").await?;
    ensure!(status == 503 && !why.trim().is_empty(), "{status}: {why}");
    server.start().await?;
    eventually("it is ready", PATIENCE, || async {
        Ok((pgherd.get("/readyz").await?.0 == 200).then_some(()))
    })
    .await?;
    ensure!(pgherd.get("/nothing").await?.0 == 404);
    let client = pgherd_testkit::client::Session::connect(&pgherd.connection_string("app", "app")).await?;
    client.batch_execute("BEGIN").await?;
    pgherd.terminate()?;
    eventually("it is not ready", PATIENCE, || async {
        Ok((pgherd.get("/readyz").await?.0 == 503).then_some(()))
    })
    .await?;
    client.batch_execute("COMMIT").await?;
    drop(client);
    pgherd.ended().await?;
    Ok(())
}

#[tokio::test]
async fn who_says_nothing_or_garbage_keeps_nobody_from_asking() -> Result<()> {
    let front = Front::start().await?;
    let address = front.pgherd.http_address()?;
    let mut silent = Vec::new();
    for number in 0..32 {
        let mut stream = TcpStream::connect(address).await?;
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await?;
        }
        silent.push(stream);
    }
    // All places are taken by them.
    ensure!(quickly(&front.pgherd).await? == 200);
    let mut garbage = TcpStream::connect(address).await?;
    garbage.write_all(&[0, 0, 0, 8, 4, 210, 22, 47, b'\r', b'\n', b'\r', b'\n']).await?;
    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 400") || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    ensure!(front.pgherd.get("/healthz").await?.0 == 200);
    Ok(())
}

#[tokio::test]
async fn who_asks_and_does_not_read_keeps_nobody_from_asking() -> Result<()> {
    let front = Front::start().await?;
    let address = front.pgherd.http_address()?;
    // Far more than sockets hold is to be said to each.
    let request = b"GET /metrics HTTP/1.1\r\nHost: pgherd\r\n\r\n".repeat(2000);
    let mut slow = Vec::new();
    for _ in 0..32 {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let mut stream = socket.connect(address).await?;
        // It may be that not all of it is read.
        let _ = tokio::time::timeout(Duration::from_millis(100), stream.write_all(&request)).await;
        slow.push(stream);
    }
    ensure!(quickly(&front.pgherd).await? == 200);
    Ok(())
}

/// The status of a health check that somebody draws conclusions from if it takes long.
async fn quickly(pgherd: &Pgherd) -> Result<u16> {
    Ok(tokio::time::timeout(Duration::from_secs(5), pgherd.get("/healthz")).await??.0)
}
