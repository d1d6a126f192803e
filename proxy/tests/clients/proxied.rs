//! Clients behind a load balancer that speaks the PROXY protocol.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pgherd_testkit::client::{RawClient, startup_packet};
use pgherd_testkit::{Context, Result, ensure, eventually};
use tokio::net::TcpSocket;

use crate::front::{Front, PATIENCE};
use crate::tls::{self, Pki};

/// The load balancer.
const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
/// Anybody else.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 5432\r\n";

/// A header of version 2 for 192.0.2.8, with something behind the addresses.
fn binary(command: u8) -> Vec<u8> {
    let addresses = [192, 0, 2, 8, 10, 0, 0, 1, 0xdc, 0x04, 0x15, 0x38];
    let more = [0x04, 0, 3, b'x', b'y', b'z'];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11, 0, 18], &addresses, &more].concat()
}

async fn connect(front: &Front, from: IpAddr) -> Result<RawClient> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    Ok(RawClient::over(socket.connect(front.pgherd.address()).await?))
}

async fn front() -> Result<(Front, Pki)> {
    tls::front(|pgherd| {
        let pgherd = pgherd.set("listen.proxy_protocol", format!("{TRUSTED},2001:db8::/32"));
        pgherd.set("pool.client_login_timeout", "6s").set("log.level", "debug")
    })
    .await
}

/// The addresses of those who have logged in.
fn logins(front: &Front) -> Vec<String> {
    let log = front.pgherd.log();
    let lines = log.iter().filter(|line| line.contains("a client logged in"));
    let peer = |line: &String| Some(line.split_once("peer=")?.1.split_whitespace().next()?.to_owned());
    lines.filter_map(peer).collect()
}

#[tokio::test]
async fn a_client_is_known_by_the_address_that_a_trusted_balancer_tells() -> Result<()> {
    let (front, pki) = front().await?;
    let startup = startup_packet("app", "app")?;
    let password = front.password("app");
    // With all that follows in one piece, and byte by byte.
    let mut client = connect(&front, TRUSTED).await?;
    client.send(&[LINE, &startup[..]].concat()).await?;
    client.authenticate("app", password).await?;
    let mut client = connect(&front, TRUSTED).await?;
    client.send_bytewise(&[&binary(0x21)[..], &startup[..]].concat()).await?;
    client.authenticate("app", password).await?;
    ensure!(client.query("SELECT 1").await?.error().is_none());
    // Before TLS, too.
    let mut client = connect(&front, TRUSTED).await?;
    client.send(b"PROXY TCP6 2001:db8::7 ::1 1 5432\r\n").await?;
    tls::secure(client, &pki).await?.start("app", "app", password).await?;
    // A balancer's own check, and a client of which it knows nothing.
    for header in [&binary(0x20)[..], b"PROXY UNKNOWN\r\n"] {
        let mut client = connect(&front, TRUSTED).await?;
        client.send(header).await?;
        client.start("app", "app", password).await?;
    }
    let seen = eventually("all logins are in the log", PATIENCE, || async {
        Ok(Some(logins(&front)).filter(|logins| logins.len() == 5))
    })
    .await?;
    ensure!(seen[..3] == ["192.0.2.7:56324", "192.0.2.8:56324", "[2001:db8::7]:1"], "{seen:?}");
    ensure!(seen[3..].iter().all(|peer| peer.starts_with("127.0.0.1:")), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_else_is_believed_and_a_balancer_that_says_nothing_is_not_served() -> Result<()> {
    let (front, _) = front().await?;
    let startup = startup_packet("app", "app")?;
    // A header of somebody who is not trusted is no startup packet.
    for header in [LINE, &binary(0x21)] {
        let mut client = connect(&front, OTHER).await?;
        let _ = client.send(&[header, &startup[..]].concat()).await;
        let said = client.read_bytes_to_end().await?;
        ensure!(!said.windows(1).any(|byte| byte == b"R"), "{said:?}");
    }
    let mut client = connect(&front, OTHER).await?;
    client.start("app", "app", front.password("app")).await?;
    // One that is trusted has to say it, and in full.
    for said in [&startup[..], b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", &[0xff; 5000]]
    {
        let mut client = connect(&front, TRUSTED).await?;
        let _ = client.send(said).await;
        ensure!(client.read_bytes_to_end().await?.is_empty(), "{said:?}");
    }
    let line = front.pgherd.wait_log("does not say for whom it connects", PATIENCE).await?;
    ensure!(line.contains("no header of the PROXY protocol"), "{line}");
    // What never ends is closed after the login's time.
    let mut waiting = Vec::new();
    for cut in [0, 1, 14, LINE.len() - 1] {
        let mut client = connect(&front, TRUSTED).await?;
        client.send(LINE.get(..cut).context("no such cut")?).await?;
        waiting.push(client);
    }
    for mut client in waiting {
        ensure!(client.read_bytes_to_end().await?.is_empty());
    }
    let seen = logins(&front);
    ensure!(seen.len() == 1 && seen[0].starts_with("127.0.0.9:"), "{seen:?}");
    Ok(())
}
