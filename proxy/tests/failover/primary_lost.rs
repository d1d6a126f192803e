//! The primary is stopped, killed, frozen or restarted under load.

use std::time::{Duration, Instant};

use pgherd_testkit::history::Report;
use pgherd_testkit::{Authority, Cluster, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE, timeline};

/// How a primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    StopClean,
    Kill9,
    Kill9All,
    Freeze,
}

/// Loses the primary under load, and gives what the writers saw. Every writer keeps its connection.
async fn lose_primary(herd: &Herd, fault: Fault) -> Result<Report> {
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let primary = herd.cluster.primary().await?;
    let moment = Instant::now();
    match fault {
        Fault::StopClean => primary.stop_clean().await?,
        Fault::Kill9 => primary.kill9().await?,
        Fault::Kill9All => primary.kill9_all().await?,
        Fault::Freeze => primary.freeze().await?,
    }
    running.wait_acknowledged(200, PATIENCE).await?;
    let record = running.stop().await?;
    let report = herd.compare(&record).await?;
    eprintln!("{fault:?}: no write for {:?}", report.write_outage(moment));
    ensure!(report.connections_lost == 0, "{report}");
    let known = ["40001", "08007", "25P02"];
    ensure!(report.sqlstates.keys().all(|code| known.contains(&code.as_str())), "{report}");
    Ok(report)
}

/// The server that leads now, which is not `old`, and the other one.
async fn successor<'a>(
    herd: &Herd,
    old: &Server,
    servers: [&'a Server; 3],
) -> Result<(&'a Server, &'a Server)> {
    let id = herd.cluster.primary().await?.id();
    ensure!(id != old.id(), "{} still leads", old.name());
    let mut rest = servers.into_iter().filter(|server| server.id() != old.id());
    let (Some(one), Some(other)) = (rest.next(), rest.next()) else { pgherd_testkit::bail!("three servers") };
    Ok(if one.id() == id { (one, other) } else { (other, one) })
}

async fn is_replaced_after(fault: Fault) -> Result<()> {
    let herd = Herd::start().await?;
    let servers = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let [one, two, three] = &servers;
    let report = lose_primary(&herd, fault).await?;
    let (new, other) = successor(&herd, one, [one, two, three]).await?;
    ensure!(timeline(new).await? == "00000002");
    herd.wait_led_by(new, &[other]).await?;
    if fault == Fault::StopClean {
        // A clean stop sends all WAL to the standbys.
        ensure!(report.missing.is_empty(), "{report}");
    }
    if fault == Fault::Freeze {
        // pgherd stopped it, and so brings it back.
        herd.wait_led_by(new, &[one, other]).await?;
        ensure!(one.is_in_recovery().await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_primary_that_is_stopped_is_replaced_and_no_client_loses_its_connection() -> Result<()> {
    is_replaced_after(Fault::StopClean).await
}

#[tokio::test]
async fn a_primary_whose_postmaster_is_killed_is_replaced_and_no_client_loses_its_connection() -> Result<()> {
    is_replaced_after(Fault::Kill9).await
}

#[tokio::test]
async fn a_primary_of_which_every_process_is_killed_is_replaced() -> Result<()> {
    is_replaced_after(Fault::Kill9All).await
}

#[tokio::test]
async fn a_primary_that_hangs_is_replaced_fenced_and_rejoined() -> Result<()> {
    is_replaced_after(Fault::Freeze).await
}

#[tokio::test]
async fn a_primary_is_replaced_where_servers_are_reached_over_tls_alone() -> Result<()> {
    const RULES: &str = "
        local    all          postgres             peer
        hostssl  all          repmgr    0.0.0.0/0  scram-sha-256
        hostssl  replication  repmgr    0.0.0.0/0  scram-sha-256
        host     all          app,postgres 0.0.0.0/0  scram-sha-256";
    let cluster = Cluster::builder().start().await?;
    let authority = Authority::new("test authority")?;
    for server in cluster.servers() {
        let identity = authority.server(&[&server.address().to_string()])?;
        server.speak_tls(&identity, &authority).await?;
        server.set_rules(RULES).await?;
    }
    let ca = authority.write(cluster.directory(), "ca")?.display().to_string();
    let herd =
        Herd::of(cluster, |pgherd| pgherd.set("backends.tls.mode", "verify-full").set("backends.tls.ca", ca))
            .await?;
    lose_primary(&herd, Fault::Kill9All).await?;
    let new = herd.cluster.primary().await?;
    ensure!(new.id() != 1);
    let in_the_clear = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                        WHERE NOT ssl AND usename IN ('app', 'repmgr') AND backend_type = 'client backend'";
    ensure!(new.scalar(in_the_clear).await? == "0", "all that pgherd asks there goes over TLS");
    Ok(())
}

#[tokio::test]
async fn a_primary_that_returns_within_restart_grace_stays_the_primary() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.restart_grace", "20s")).await?;
    let primary = herd.cluster.server(1)?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    primary.kill9_all().await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    primary.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && report.missing.is_empty(), "{report}");
    ensure!(herd.cluster.primary().await?.id() == 1 && timeline(&primary).await? == "00000001");
    Ok(())
}

#[tokio::test]
async fn without_restart_grace_a_primary_that_returns_is_fenced_and_rejoined() -> Result<()> {
    let herd = Herd::start().await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    one.kill9_all().await?;
    // Before that it would be served again.
    herd.pgherd.wait_log("role=\"primary\" timeline=2", PATIENCE).await?;
    // It comes back by itself, writable, as a container's restart policy would have it.
    one.launch().await?;
    let serving = eventually("another primary", PATIENCE, || async {
        let primary = herd.cluster.primary().await?;
        Ok((primary.id() != 1).then_some(primary))
    })
    .await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let (new, other) = if serving.id() == 2 { (&two, &three) } else { (&three, &two) };
    herd.wait_led_by(new, &[&one, other]).await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    ensure!(one.is_in_recovery().await? && timeline(new).await? == "00000002");
    Ok(())
}

#[tokio::test]
async fn pgbench_goes_on_over_its_connections_but_for_those_whose_commit_was_in_flight() -> Result<()> {
    use pgherd_testkit::client::Pgbench;
    const UNKNOWN: &str = "whether the transaction committed is not known";
    let herd = Herd::start().await?;
    let url = herd.pgherd.connection_string("app", "app");
    Pgbench::initialize(&url, 1).await?;
    let running = Pgbench::new(&url).clients(16).seconds(8).arg("--max-tries=1000").spawn()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    herd.cluster.server(1)?.kill9().await?;
    let report = running.wait().await?;
    eprintln!(
        "{} transactions, {} tried again, {} clients ended with 08007",
        report.transactions,
        report.retried_transactions,
        report.aborts.len()
    );
    ensure!(report.aborts.iter().all(|abort| abort.message.contains(UNKNOWN)), "{report:?}");
    ensure!(report.aborts.len() < 16 && report.failed_transactions == 0, "{report:?}");
    ensure!(herd.cluster.primary().await?.id() != 1);
    Ok(())
}
