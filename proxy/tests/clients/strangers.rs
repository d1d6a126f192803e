//! Those who have not logged in: they keep nobody else out, and fill no log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pgherd_testkit::client::{RawClient, startup_packet};
use pgherd_testkit::{Context, Result, ensure, eventually};
use tokio::net::TcpSocket;

use crate::front::{Front, PATIENCE};
use crate::http::metric;
use crate::tls::{self, SSL_REQUEST};

/// Where most clients of these tests are.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Somebody else.
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

async fn connect(front: &Front, from: IpAddr) -> Result<RawClient> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    Ok(RawClient::over(socket.connect(front.pgherd.address()).await?))
}

/// It is told so and closed, without having said anything.
async fn turned_away(client: &mut RawClient) -> Result<()> {
    refused(client, "53300").await
}

async fn refused(client: &mut RawClient, code: &str) -> Result<()> {
    let told = tokio::time::timeout(PATIENCE, client.read_to_end()).await.context("it is kept")??;
    let error = told.first().and_then(|frame| frame.error_fields()).context("no error")?;
    ensure!(error.code() == code && error.severity() == "FATAL", "{error}");
    Ok(())
}

#[tokio::test]
async fn one_address_has_so_many_connections_before_their_logins_and_no_other_notices() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("listen.max_unauthenticated_per_address", 3)).await?;
    // Those who have logged in do not count.
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(front.raw().await?);
    }
    let mut silent = Vec::new();
    for said in [&b""[..], &startup_packet("app", "app")?[..10], &startup_packet("app", "app")?] {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(said).await?;
        silent.push(client);
    }
    turned_away(&mut connect(&front, HERE).await?).await?;
    ensure!(clients[0].query("SELECT 1").await?.error().is_none());
    let mut other = connect(&front, THERE).await?;
    other.start("app", "app", front.password("app")).await?;
    // Who leaves makes room, and who logs in.
    silent[2].authenticate("app", front.password("app")).await?;
    ensure!(silent[2].query("SELECT 1").await?.error().is_none());
    front.raw().await?;
    drop(silent.swap_remove(0));
    eventually("there is room", PATIENCE, || async { Ok(front.raw().await.ok()) }).await?;
    Ok(())
}

#[tokio::test]
async fn the_clients_of_a_balancer_count_by_their_own_addresses() -> Result<()> {
    let front = Front::with(|pgherd| {
        let pgherd = pgherd.set("listen.proxy_protocol", HERE.to_string());
        pgherd.set("listen.max_unauthenticated_per_address", 1)
    })
    .await?;
    let mut held = Vec::new();
    for client in 1..=3 {
        // More of the balancer's own, of which nobody knows yet whose they are.
        held.push(connect(&front, HERE).await?);
        let mut connection = connect(&front, HERE).await?;
        connection.send(format!("PROXY TCP4 192.0.2.{client} 10.0.0.1 1 5432\r\n").as_bytes()).await?;
        connection.send(&startup_packet("app", "app")?).await?;
        ensure!(connection.expect_frame().await?.tag == b'R', "each has a place");
        held.push(connection);
    }
    let mut second = connect(&front, HERE).await?;
    second.send(b"PROXY TCP4 192.0.2.2 10.0.0.1 2 5432\r\n").await?;
    turned_away(&mut second).await
}

#[tokio::test]
async fn who_says_a_byte_now_and_then_has_no_more_time_than_others() -> Result<()> {
    let (front, _pki) = tls::front(|pgherd| pgherd.set("pool.client_login_timeout", "1s")).await?;
    let startup = startup_packet("app", "app")?;
    let begun = Instant::now();
    for (before, said) in [(&b""[..], &startup[..]), (&SSL_REQUEST, &[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc])]
    {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(before).await?;
        let dripping = async {
            for byte in said.iter().chain(std::iter::repeat(&0)) {
                if client.send(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, dripping).await.context("it goes on for ever")?;
    }
    ensure!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    front.pgherd.wait_log("did not log in in time", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_flood_of_handshakes_and_logins_that_fail_fills_no_log() -> Result<()> {
    let (front, _pki) = tls::front(|pgherd| pgherd).await?;
    for _ in 0..200 {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(&SSL_REQUEST).await?;
        ensure!(client.read_byte().await? == Some(b'S'));
        // It may be closed before all is sent.
        let _ = client.send(b"GET / HTTP/1.1\r\n\r\n").await;
        client.read_bytes_to_end().await.ok();
    }
    let refused = RawClient::login(front.pgherd.address(), "app", "app", "wrong").await;
    ensure!(refused.is_err());
    let line = front.pgherd.wait_log("more of connections without a login", PATIENCE).await?;
    ensure!(line.contains("127.0.0.1"), "{line}");
    let left_out = line.split_once("left_out=").and_then(|(_, rest)| rest.split_whitespace().next());
    let left_out: usize = left_out.context("no count")?.parse()?;
    let told = front.pgherd.log();
    let told = |part: &str| told.iter().filter(|line| line.contains(part)).count();
    let lines = told("a TLS handshake failed") + told("a login was refused");
    ensure!(lines <= 20 && lines + left_out == 201, "{lines} told, {left_out} left out");
    Ok(())
}

#[tokio::test]
async fn where_memory_is_short_few_log_in_at_a_time_and_who_has_a_password_still_does() -> Result<()> {
    // Less than pgherd has from the start.
    let front = Front::with(|pgherd| pgherd.set("memory.limit", "1MiB")).await?;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(connect(&front, HERE).await?);
    }
    // One that came sooner would have the place of the last of them.
    eventually("all have their places", PATIENCE, || async {
        Ok((metric(&front, "pgherd_clients_logging_in").await? >= 64.0).then_some(()))
    })
    .await?;
    refused(&mut connect(&front, THERE).await?, "53200").await?;
    drop(silent);
    let mut client = eventually("there is room", PATIENCE, || async { Ok(front.raw().await.ok()) }).await?;
    ensure!(client.query("SELECT 1").await?.error().is_none());
    Ok(())
}
