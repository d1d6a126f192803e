//! Of two pgherds one decides, whatever happens while one takes over from the other.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use pgherd_testkit::{Cluster, Pgherd, Result, ensure, eventually};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::herd::{Herd, PATIENCE};

fn hear(socket: &UnixStream) -> Result<Vec<u8>> {
    let mut bytes = [0; 64];
    let (_, length) = rustix::net::recv(socket, &mut bytes[..], rustix::net::RecvFlags::empty())?;
    Ok(bytes.iter().copied().take(length).collect())
}

#[tokio::test]
async fn while_the_one_before_hangs_the_next_serves_and_decides_nothing_until_that_is_gone() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let path = cluster.directory().join("handover");
    // A pgherd that hangs after it has given its sockets: none.
    let hangs = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    hangs.bind(&SockAddr::unix(&path)?)?;
    hangs.listen(4)?;
    let pgherd =
        Pgherd::builder(&cluster).set("runtime.handover", path.display().to_string()).launch().await?;
    let link = tokio::task::spawn_blocking(move || -> Result<_> {
        let link = UnixStream::from(OwnedFd::from(hangs.accept()?.0));
        ensure!(hear(&link)? == b"\x01H");
        rustix::net::send(&link, b"\x01L", rustix::net::SendFlags::NOSIGNAL)?;
        ensure!(hear(&link)? == b"\x01R");
        Ok((hangs, link))
    });
    let (hangs, link) = link.await??;
    let herd = Herd { cluster, pgherd };
    herd.wait_writable().await?;
    herd.pgherd.wait_log("has not stood aside yet", PATIENCE).await?;

    let primary = herd.cluster.primary().await?;
    primary.kill9_all().await?;
    herd.pgherd.wait_log("another pgherd decides", PATIENCE).await?;
    herd.pgherd.wait_log("writes wait", PATIENCE).await?;
    // Far longer than a failover takes.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    for standby in herd.cluster.standbys().await {
        ensure!(standby.is_in_recovery().await?, "{} was promoted", standby.name());
    }
    ensure!(!herd.pgherd.log().iter().any(|line| line.contains("command begins")), "{:?}", herd.pgherd.log());
    // It is gone.
    drop((hangs, link));
    herd.pgherd.wait_log("this pgherd has taken over", PATIENCE).await?;
    eventually("another primary", PATIENCE, || async {
        Ok(herd.cluster.primary().await.ok().filter(|new| new.id() != primary.id()).map(drop))
    })
    .await?;
    herd.wait_writable().await
}
