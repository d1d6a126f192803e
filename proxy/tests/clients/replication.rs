//! Replication connections through pgherd: backups, WAL and changes as they are written.

use std::path::Path;
use std::process::Stdio;

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Cluster, Context, Pgherd, Result, ensure, eventually};
use tokio::process::Command;

use crate::console::value;
use crate::front::{Front, PATIENCE, messages};

async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE * 4, command.output()).await.context("it hangs")??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn front(mode: &str, size: u32) -> Result<Front> {
    let cluster = Cluster::builder().servers(1).setting("wal_level", "logical").start().await?;
    let pgherd = Pgherd::builder(&cluster).set("pool.mode", mode).set("pool.replication_size", size);
    let pgherd = pgherd.start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok(Front { cluster, pgherd })
}

#[tokio::test]
async fn backups_and_wal_and_changes_come_through_whatever_the_mode() -> Result<()> {
    let front = front("transaction", 2).await?;
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name).display().to_string();
    let url = front.pgherd.connection_string("repmgr", "app");

    // With the WAL through a second connection.
    let backup = place("backup");
    run("pg_basebackup", &["-d", &url, "-D", &backup, "-X", "stream", "-c", "fast"]).await?;
    ensure!(Path::new(&backup).join("backup_manifest").exists());

    let server = front.server()?;
    let wal = place("wal");
    std::fs::create_dir(&wal)?;
    let end = server.scalar("SELECT pg_current_wal_lsn()::text").await?;
    run("pg_receivewal", &["-d", &url, "-D", &wal, "--endpos", &end, "--no-loop"]).await?;
    ensure!(std::fs::read_dir(&wal)?.count() > 0, "no WAL came");

    let slot = ["-d", &url, "--slot", "changes"];
    run("pg_recvlogical", &[&slot[..], &["--create-slot", "-P", "test_decoding"]].concat()).await?;
    let mut client = front.raw().await?;
    for sql in ["CREATE TABLE seen (a int)", "INSERT INTO seen SELECT generate_series(1, 3)"] {
        ensure!(client.query(sql).await?.error().is_none(), "{sql}");
    }
    let end = server.scalar("SELECT pg_current_wal_lsn()::text").await?;
    let changes =
        run("pg_recvlogical", &[&slot[..], &["--start", "-f", "-", "--endpos", &end, "--no-loop"]].concat())
            .await?;
    ensure!(changes.contains("public.seen: INSERT: a[integer]:3"), "{changes}");
    run("pg_recvlogical", &[&slot[..], &["--drop-slot"]].concat()).await?;
    Ok(())
}

/// The raw login of a replication connection.
async fn replicate(front: &Front) -> Result<RawClient> {
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    let parameters = [("user", "repmgr"), ("database", "app"), ("replication", "database")];
    client.send(&messages(|out| frontend::startup_message(parameters, out))?).await?;
    client.authenticate("repmgr", front.password("repmgr")).await?;
    Ok(client)
}

#[tokio::test]
async fn replication_connections_are_bounded_and_end_with_their_clients() -> Result<()> {
    let front = front("session", 1).await?;
    let mut one = replicate(&front).await?;
    let answer = one.query("IDENTIFY_SYSTEM").await?;
    ensure!(answer.rows().len() == 1, "{answer:?}");
    let refused = replicate(&front).await.err().map(|error| format!("{error:#}"));
    ensure!(refused.as_ref().is_some_and(|error| error.contains("too many replication")), "{refused:?}");

    let mut console = front.console("pgherd").await?;
    let shown = value(&mut console, "CLIENTS", &[("database", "app")], "replication").await?;
    ensure!(shown == "logical", "{shown}");

    // It reads a stream, and goes away in the middle of it.
    let server = front.server()?;
    let start = server.scalar("SELECT pg_current_wal_lsn()::text").await?;
    one.send(&messages(|out| frontend::query(&format!("START_REPLICATION PHYSICAL {start}"), out))?).await?;
    ensure!(one.expect_frame().await?.tag == b'W');
    drop(one);
    let senders = "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'walsender'";
    eventually("no walsender is left", PATIENCE, || async {
        Ok((server.scalar(senders).await? == "0").then_some(()))
    })
    .await?;
    // Its place is free.
    eventually("another is let in", PATIENCE, || async { Ok(replicate(&front).await.ok().map(drop)) }).await
}
