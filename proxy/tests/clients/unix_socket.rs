//! Clients on the same machine.

use std::path::PathBuf;

use pgherd_testkit::client::{RawClient, psql};
use pgherd_testkit::{Cluster, Pgherd, Result, ensure, eventually};

use crate::front::{Front, PATIENCE};
use crate::tls::{Pki, SSL_REQUEST};

/// One server and a pgherd that listens on a Unix socket, and wants TLS of all others.
async fn front() -> Result<(Front, PathBuf)> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let directory = cluster.directory().join("sockets");
    std::fs::create_dir(&directory)?;
    let pgherd = Pki::new(&cluster)?.serve(Pgherd::builder(&cluster))?;
    let pgherd = pgherd
        .set("listen.tls.mode", "require")
        .set("listen.unix", directory.display().to_string())
        .set("log.level", "debug")
        .start()
        .await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok((Front { cluster, pgherd }, directory))
}

#[tokio::test]
async fn a_unix_socket_is_where_libpq_looks_for_it_and_needs_no_tls() -> Result<()> {
    let (mut front, directory) = front().await?;
    let socket = directory.join(".s.PGSQL.5432");
    let port = front.pgherd.address().port();
    let place = directory.display();
    let at = format!("host={place} port={port} user=app dbname=app password={}", front.password("app"));
    ensure!(psql(&at, "SELECT 6 * 7").await? == "42\n");
    let said = psql(&at, "\\conninfo").await?;
    ensure!(said.contains(&format!("via socket in \"{place}\"")), "{said}");
    let login = front.pgherd.wait_log("a client logged in", PATIENCE).await?;
    ensure!(login.contains("peer=unix:") && login.contains(&socket.display().to_string()), "{login}");

    // TLS is declined here, as by PostgreSQL; and a client that begins with it is sent away.
    let mut client = RawClient::connect_unix(&socket).await?;
    client.send(&SSL_REQUEST).await?;
    ensure!(client.read_byte().await? == Some(b'N'));
    let greeting = client.start("app", "app", front.password("app")).await?;
    let mut direct = RawClient::connect_unix(&socket).await?;
    direct.send(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]).await?;
    ensure!(direct.read_bytes_to_end().await?.is_empty());

    // A cancel request comes through it, too.
    let key = greeting.iter().find(|frame| frame.tag == b'K').map(|frame| frame.payload.clone());
    let length = u32::try_from(8 + key.as_ref().map_or(0, |key| key.len()))?.to_be_bytes();
    let request = [&length[..], &80_877_102_u32.to_be_bytes(), &key.unwrap_or_default()].concat();
    let server = front.server()?;
    let cancelled = async {
        eventually("the query runs", PATIENCE, || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
            Ok((server.scalar(sql).await? == "1").then_some(()))
        })
        .await?;
        RawClient::connect_unix(&socket).await?.send(&request).await
    };
    let (answer, sent) = tokio::join!(client.query("SELECT pg_sleep(60)"), cancelled);
    sent?;
    ensure!(answer?.error().is_some_and(|error| error.code() == "57014"));

    // What a killed one leaves is no obstacle, and one that ends leaves nothing.
    front.pgherd.kill9().await?;
    ensure!(socket.exists());
    front.pgherd.start().await?;
    ensure!(psql(&at, "SELECT 1").await? == "1\n");
    front.pgherd.terminate()?;
    front.pgherd.wait_exit().await?;
    ensure!(!socket.exists());
    Ok(())
}
