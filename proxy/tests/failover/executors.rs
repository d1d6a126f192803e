//! A primary is replaced without ssh: over SQL, by an operator's commands, and where there is no repmgr either.

use pgherd_testkit::history::Report;
use pgherd_testkit::{Cluster, PgherdBuilder, Result, Server, ensure, eventually};
use toml::Value;

use crate::herd::{Herd, PATIENCE};

/// Kills the primary under load, and gives the server that takes its place and the other one.
async fn replace(herd: &Herd) -> Result<(Server, Server)> {
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let old = herd.cluster.primary().await?;
    old.kill9_all().await?;
    running.wait_acknowledged(200, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    let new = herd.cluster.primary().await?;
    ensure!(new.id() != old.id(), "{} still leads", old.name());
    let servers = herd.cluster.servers();
    let other = servers.iter().find(|it| it.id() != old.id() && it.id() != new.id()).cloned();
    Ok((new, other.ok_or_else(|| pgherd_testkit::anyhow!("three servers"))?))
}

async fn start(cluster: Cluster, settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<Herd> {
    for server in cluster.servers() {
        server.stop_sshd().await?;
    }
    Herd::of(cluster, settings).await
}

#[tokio::test]
async fn a_primary_is_replaced_over_sql_where_no_server_has_an_sshd() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let herd = start(cluster, |pgherd| pgherd.set("failover.executor", "sql")).await?;
    let (new, other) = replace(&herd).await?;
    herd.wait_led_by(&new, &[&other]).await?;
    // What comes back cannot be stopped over SQL: it gets nothing, and an operator is told.
    let old = herd.cluster.server(1)?;
    old.start().await?;
    herd.pgherd.wait_log("SQL cannot stop a server", PATIENCE).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    // Both accept writes now: who counts is the new one.
    let report = Report::compare(&running.stop().await?, new.history().await?);
    ensure!(report.is_exact() && report.is_sound() && report.sqlstates.is_empty(), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_primary_is_replaced_over_sql_although_ssh_was_to_be_used() -> Result<()> {
    let herd = start(Cluster::builder().start().await?, |pgherd| pgherd).await?;
    let (new, other) = replace(&herd).await?;
    herd.wait_led_by(&new, &[&other]).await?;
    herd.pgherd.wait_log("it is done over SQL", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_primary_is_replaced_where_nobody_has_ever_heard_of_repmgr() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let primary = cluster.primary().await?;
    primary.query_in("repmgr", "DROP EXTENSION repmgr").await?;
    let dropped = primary.scalar("SELECT pg_current_wal_lsn()").await?;
    for standby in cluster.standbys().await {
        standby.wait_replayed(&dropped).await?;
    }
    let herd = start(cluster, |pgherd| pgherd.set("failover.executor", "sql")).await?;
    let (new, other) = replace(&herd).await?;
    eventually("the other standby follows", PATIENCE, || async {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'",
            other.name()
        );
        Ok((new.scalar(&sql).await? == "1").then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_primary_is_replaced_by_an_operators_commands() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let program = cluster.repmgr_program()?.with_file_name("pg_ctl").display().to_string();
    let promote = ["/sbin/runuser", "-u", "postgres", "--", &program, "-D", "{data_directory}", "promote"];
    let said = cluster.directory().join("fenced");
    let fence = format!("echo $PGHERD_COMMAND_HOST \"$1\" >>{}; exit 1", said.display());
    let fence = ["/bin/sh", "-c", &fence, "fence", "{host}:{port}"];
    let words = |words: &[&str]| Value::from(words.iter().map(|it| Value::from(*it)).collect::<Vec<_>>());
    let herd = start(cluster, |pgherd| {
        pgherd
            .set("failover.executor", "command")
            .set("failover.command.promote", words(&promote))
            .set("failover.command.fence", words(&fence))
    })
    .await?;
    let old = herd.cluster.primary().await?;
    let (new, other) = replace(&herd).await?;
    herd.wait_led_by(&new, &[&other]).await?;
    let said = std::fs::read_to_string(said)?;
    ensure!(said.contains(&format!("{} {}:{}\n", old.address(), old.address(), old.port())), "{said}");
    herd.pgherd.wait_log("step=\"promote\" status=exit status: 0", PATIENCE).await?;
    Ok(())
}
