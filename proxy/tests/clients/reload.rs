//! SIGHUP: the configuration is read again, and nobody notices.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{Pgbench, RawClient};
use pgherd_testkit::{Result, ensure, eventually};

use crate::front::{Front, PATIENCE};

/// Server connections of the pool of `app`.
async fn connections(front: &Front) -> Result<usize> {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'";
    Ok(front.server()?.scalar(sql).await?.parse()?)
}

fn says(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[tokio::test]
async fn many_reloads_under_load_cost_nobody_a_transaction_a_connection_or_a_login() -> Result<()> {
    let mut front = Front::start().await?;
    let url = front.pgherd.connection_string("app", "app");
    Pgbench::initialize(&url, 1).await?;
    let steady = Pgbench::new(&url).clients(6).seconds(8).spawn()?;
    let reconnecting =
        Pgbench::new(&url).clients(2).arg("--connect").arg("--select-only").seconds(8).spawn()?;
    let begun = Instant::now();
    let mut reloads = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        front.pgherd.set("pool.size", 1 + i64::from(reloads % 5))?;
        front.pgherd.set("pool.mode", if reloads % 2 == 0 { "session" } else { "transaction" })?;
        front.pgherd.set("pool.server_lifetime", if reloads % 3 == 0 { "10ms" } else { "1h" })?;
        front.pgherd.set("log.level", if reloads % 2 == 0 { "debug" } else { "info" })?;
        front.pgherd.set("log.format", if reloads % 3 == 0 { "json" } else { "text" })?;
        front.pgherd.set("monitor.timeout", if reloads % 2 == 0 { "900ms" } else { "1s" })?;
        // In session mode a pool of fewer connections than clients starves some of them, as it should.
        if reloads % 2 == 0 {
            front.pgherd.set("pool.size", 20)?;
        }
        let lines = front.pgherd.reload().await?;
        ensure!(says(&lines, "the configuration was read again"), "{lines:?}");
        reloads += 1;
    }
    let (steady, reconnecting) = (steady.wait().await?, reconnecting.wait().await?);
    for report in [&steady, &reconnecting] {
        ensure!(
            report.succeeded && report.aborts.is_empty() && report.failed_transactions == 0,
            "{report:?}"
        );
        ensure!(report.transactions > 0, "{report:?}");
    }
    ensure!(reloads >= 5, "{reloads} reloads");
    Ok(())
}

#[tokio::test]
async fn a_configuration_with_errors_changes_nothing_and_each_error_is_logged_with_its_place() -> Result<()> {
    let mut front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut open = front.raw().await?;
    open.query("BEGIN").await?;
    front.pgherd.set("pool.size", "many")?;
    front.pgherd.set("pool.query_wait_timeout", "1s")?;
    front.pgherd.set("failover.confirm", "soon")?;
    let lines = front.pgherd.reload().await?;
    ensure!(
        says(&lines, "pool.size") && says(&lines, "failover.confirm") && says(&lines, ".toml:"),
        "{lines:?}"
    );
    ensure!(says(&lines, "nothing was changed"), "{lines:?}");
    let mut waits = front.raw().await?;
    let waiting = tokio::spawn(async move { waits.query("SELECT 1").await });
    // Longer than the wait would be by the file that was not taken.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ensure!(!waiting.is_finished());
    open.query("COMMIT").await?;
    ensure!(waiting.await??.error().is_none());

    front.pgherd.set("pool.size", 1)?;
    front.pgherd.set("failover.confirm", "4s")?;
    front.pgherd.set("listen.address", "127.0.0.1:1")?;
    front.pgherd.set("runtime.workers", 7)?;
    let lines = front.pgherd.reload().await?;
    ensure!(says(&lines, "listen.address: takes effect at a restart"), "{lines:?}");
    ensure!(says(&lines, "runtime.workers: takes effect at a restart"), "{lines:?}");
    ensure!(says(&lines, "changed=\"pool.query_wait_timeout\""), "{lines:?}");
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn pools_grow_at_once_and_shrink_as_connections_come_back() -> Result<()> {
    let mut front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(front.raw().await?);
    }
    let begin =
        |mut client: RawClient| async move { client.query("BEGIN").await.map(|answer| (client, answer)) };
    let begun: Vec<_> = clients.into_iter().map(|client| tokio::spawn(begin(client))).collect();
    eventually("one of them is served", PATIENCE, || async {
        Ok((begun.iter().filter(|client| client.is_finished()).count() == 1).then_some(()))
    })
    .await?;
    front.pgherd.set("pool.size", 4)?;
    front.pgherd.reload().await?;
    let mut open = Vec::new();
    for client in begun {
        open.push(client.await??.0);
    }
    ensure!(connections(&front).await? == 4);

    front.pgherd.set("pool.size", 2)?;
    front.pgherd.reload().await?;
    for client in &mut open {
        ensure!(client.query("SELECT 1").await?.error().is_none(), "open transactions go on");
        client.query("COMMIT").await?;
    }
    eventually("two are left", PATIENCE, || async { Ok((connections(&front).await? == 2).then_some(())) })
        .await?;
    front.pgherd.set("pool.size", 1)?;
    front.pgherd.reload().await?;
    eventually("one is left", PATIENCE, || async { Ok((connections(&front).await? == 1).then_some(())) })
        .await?;

    // The mode is one for new sessions.
    front.pgherd.set("pool.mode", "statement")?;
    front.pgherd.set("pool.max_clients", 5)?;
    front.pgherd.reload().await?;
    let mut new = front.raw().await?;
    ensure!(
        open[0].query("BEGIN").await?.error().is_none() && open[0].query("COMMIT").await?.error().is_none()
    );
    ensure!(new.query("BEGIN").await?.error().is_none());
    let last = new.read_to_end().await?;
    ensure!(last.iter().any(|frame| frame.error_fields().is_some_and(|error| error.code() == "0A000")));
    let _fifth = front.raw().await?;
    let refused = front.raw().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("too many clients"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_new_password_of_the_monitor_user_is_read_from_its_file() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    let mut front = Front::start().await?;
    front.server()?.query("ALTER ROLE repmgr PASSWORD 'another'").await?;
    std::fs::write(file.path(), "another\n")?;
    // Both are never given at once; the file is read as one that was there from the beginning.
    front.pgherd.unset("monitor.password")?;
    front.pgherd.set("monitor.password_file", path)?;
    let lines = front.pgherd.reload().await?;
    ensure!(says(&lines, "monitor.password"), "{lines:?}");
    ensure!(!lines.iter().any(|line| line.contains("another")), "{lines:?}");
    // Nobody has logged in yet: this reads the stored password.
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());

    front.server()?.query("ALTER ROLE repmgr PASSWORD 'third'").await?;
    std::fs::write(file.path(), "third\n")?;
    let lines = front.pgherd.reload().await?;
    ensure!(says(&lines, "changed=\"monitor.password\""), "{lines:?}");
    let login = RawClient::login(front.pgherd.address(), "legacy", "app", front.password("legacy")).await;
    ensure!(login?.query("SELECT 1").await?.error().is_none());
    Ok(())
}
