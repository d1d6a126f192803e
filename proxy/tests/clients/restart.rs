//! Another pgherd takes over from one that runs.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use pgherd_testkit::client::{Pgbench, RawClient, frontend};
use pgherd_testkit::{Cluster, Context, Pgherd, Result, ensure, eventually};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::front::{Front, PATIENCE, messages};

/// A pgherd that others may take over from, and the path where they announce themselves.
async fn start() -> Result<(Front, PathBuf)> {
    let mut path = PathBuf::new();
    let cluster = Cluster::builder().servers(1).start().await?;
    path.push(cluster.directory());
    path.push("handover");
    let handover = path.display().to_string();
    let pgherd = Pgherd::builder(&cluster)
        .set("runtime.handover", handover)
        .set("listen.unix", cluster.directory().display().to_string())
        .set("runtime.drain_timeout", "60s");
    let pgherd = pgherd.start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok((Front { cluster, pgherd }, path))
}

/// Another process takes over; gives the one before.
async fn restart(front: &mut Front) -> Result<Pgherd> {
    let next = front.pgherd.launch_successor()?;
    next.wait_log("this pgherd has taken over", PATIENCE).await?;
    Ok(std::mem::replace(&mut front.pgherd, next))
}

/// A client whose query runs at the server, and its cancel key.
async fn busy(front: &Front) -> Result<(RawClient, Vec<u8>)> {
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    let frames = client.start("app", "app", front.password("app")).await?;
    let key = frames.iter().find(|frame| frame.tag == b'K').context("no BackendKeyData")?.payload.to_vec();
    client.send(&messages(|out| frontend::query("SELECT pg_sleep(600)", out))?).await?;
    Ok((client, key))
}

async fn cancel(front: &Front, key: &[u8]) -> Result<()> {
    let mut request = RawClient::connect(front.pgherd.address()).await?;
    request.send(&[&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), key].concat()).await?;
    request.read_to_end().await.map(drop)
}

#[tokio::test]
async fn restarts_under_load_refuse_nobody_and_fail_no_transaction_of_clients_that_reconnect() -> Result<()> {
    let (mut front, _) = start().await?;
    let url = front.pgherd.connection_string("app", "app");
    Pgbench::initialize(&url, 1).await?;
    let load = Pgbench::new(&url).clients(4).arg("--connect").seconds(9).spawn()?;
    let mut open = front.raw().await?;
    open.query("CREATE TABLE long (n int)").await?;
    open.query("BEGIN; INSERT INTO long VALUES (1)").await?;
    let mut before = Vec::new();
    for _ in 0..3 {
        before.push(restart(&mut front).await?);
    }
    // The first still has a transaction, which goes on there.
    ensure!(open.query("INSERT INTO long VALUES (2)").await?.error().is_none());
    ensure!(open.query("COMMIT").await?.command().as_deref() == Some("COMMIT"));
    let farewell = open.read_to_end().await?;
    ensure!(farewell.iter().any(|frame| frame.error_fields().is_some_and(|error| error.code() == "57P01")));
    for ended in &mut before {
        ensure!(ended.wait_exit().await?.success());
    }
    let report = load.wait().await?;
    ensure!(report.succeeded && report.aborts.is_empty() && report.failed_transactions == 0, "{report:?}");
    ensure!(report.transactions > 0, "{report:?}");
    ensure!(front.server()?.query_in("app", "SELECT * FROM long").await?.len() == 2);
    // The Unix socket has gone along.
    drop(UnixStream::connect(front.cluster.directory().join(".s.PGSQL.5432"))?);
    // Nothing is left behind for the next one to trip over.
    front.pgherd.terminate()?;
    ensure!(front.pgherd.wait_exit().await?.success());
    front.pgherd.start().await?;
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn a_cancel_request_reaches_the_process_that_has_the_session() -> Result<()> {
    let (mut front, _) = start().await?;
    let oldest = busy(&front).await?;
    let _first = restart(&mut front).await?;
    let middle = busy(&front).await?;
    let _second = restart(&mut front).await?;
    let newest = busy(&front).await?;
    eventually("three queries run", PATIENCE, || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'";
        Ok((front.server()?.scalar(sql).await? == "3").then_some(()))
    })
    .await?;
    // A key of nobody goes all the way, and does nothing.
    cancel(&front, &[0, 0, 0, 1, 2, 3, 4, 5]).await?;
    for (mut client, key) in [middle, oldest, newest] {
        cancel(&front, &key).await?;
        let answer = client.read_answer().await?;
        ensure!(answer.error().is_some_and(|error| error.code() == "57014"), "{answer:?}");
    }
    Ok(())
}

/// Speaks as a pgherd that wants to take over.
fn connect(path: &Path) -> Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

fn say(socket: &UnixStream, message: &[u8]) -> Result<()> {
    ensure!(rustix::net::send(socket, message, rustix::net::SendFlags::NOSIGNAL)? == message.len());
    Ok(())
}

fn hear(socket: &UnixStream) -> Result<Vec<u8>> {
    let mut bytes = [0; 64];
    let length = match rustix::net::recv(socket, &mut bytes[..], rustix::net::RecvFlags::empty()) {
        Ok((_, length)) => length,
        // It is closed, and has not read everything.
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(bytes.iter().copied().take(length).collect())
}

#[tokio::test]
async fn a_successor_that_fails_on_the_way_leaves_everything_as_it_was() -> Result<()> {
    let (mut front, path) = start().await?;
    ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600);
    let mut idle = front.raw().await?;
    // Nonsense, and silence.
    for message in [&b"\x01X"[..], b"\x02H", &[0; 600], b"\x01S"] {
        let socket = connect(&path)?;
        say(&socket, message)?;
        ensure!(hear(&socket)?.is_empty(), "it is closed");
    }
    // One that ends after each step.
    for steps in 1..=3 {
        let socket = connect(&path)?;
        say(&socket, b"\x01H")?;
        ensure!(hear(&socket)? == b"\x01L");
        if steps > 1 {
            say(&socket, b"\x01R")?;
        }
        if steps > 2 {
            ensure!(hear(&socket)? == b"\x01A");
        }
        drop(socket);
        ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    }
    front.pgherd.wait_log("this pgherd decides about failovers", PATIENCE).await?;
    ensure!(idle.query("SELECT 1").await?.error().is_none(), "nobody was sent away");
    // One that does not answer is not taken for dead: who starts does not serve beside it.
    front.pgherd.send(Signal::STOP)?;
    let mut next = front.pgherd.launch_successor()?;
    ensure!(!next.wait_exit().await?.success());
    ensure!(next.log().iter().any(|line| line.contains("runtime.handover")), "{:?}", next.log());
    front.pgherd.send(Signal::CONT)?;
    ensure!(idle.query("SELECT 1").await?.error().is_none());
    restart(&mut front).await?.wait_exit().await?;
    // One that was killed is not waited for.
    front.pgherd.kill9().await?;
    front.pgherd.start().await?;
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn a_socket_of_systemd_is_listened_on_and_what_waits_there_is_served() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    fcntl_setfd(&listener, FdFlags::empty())?;
    let mut waits = RawClient::connect(address).await?;
    let program = std::env::current_exe()?;
    let program = program.ancestors().nth(2).context("no directory")?.join("pgherd");
    let script = cluster.directory().join("activate");
    fs::write(
        &script,
        format!(
            "#!/bin/bash\nexec 3<&{}\nexport LISTEN_PID=$$ LISTEN_FDS=1\nexec {} \"$@\"\n",
            listener.as_raw_fd(),
            program.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut pgherd = Pgherd::builder(&cluster).listen(address).binary(&script).start().await?;
    let password = cluster.credentials().password("app");
    waits.start("app", "app", password).await?;
    ensure!(waits.query("SELECT 1").await?.error().is_none());
    // It is systemd's: it stays open, and who connects meanwhile waits for the next.
    pgherd.kill9().await?;
    let mut waits = RawClient::connect(address).await?;
    pgherd.start().await?;
    waits.start("app", "app", password).await?;
    ensure!(waits.query("SELECT 1").await?.error().is_none());
    Ok(())
}
