//! Several pgherds before one cluster: the one that holds the lease in etcd acts, and only as long as it holds it.

use std::time::{Duration, Instant};

use pgherd_testkit::history::{Running, Workload};
use pgherd_testkit::{Authority, Cluster, Context, Etcd, Pgherd, Result, ensure, eventually};
use rustix::process::Signal;

use crate::herd::{Herd, PATIENCE, timeline};

const TTL: &str = "3s";
const HOLDS: &str = "this pgherd decides: it holds the lease in etcd";

/// Three servers, an etcd, and a pgherd that holds the lease.
async fn with_etcd(ttl: &str) -> Result<(Herd, Etcd)> {
    let cluster = Cluster::builder().start().await?;
    let etcd = Etcd::start(&cluster).await?;
    let url = etcd.url();
    let herd =
        Herd::of(cluster, |pgherd| pgherd.set("failover.etcd.endpoints", url).set("failover.etcd.ttl", ttl))
            .await?;
    herd.pgherd.wait_log(HOLDS, PATIENCE).await?;
    Ok((herd, etcd))
}

/// Another pgherd, which looks on.
async fn another(herd: &Herd, etcd: &Etcd) -> Result<Pgherd> {
    let builder = Pgherd::builder(&herd.cluster)
        .set("failover.etcd.endpoints", etcd.url())
        .set("failover.etcd.ttl", TTL);
    let other = builder.start().await?;
    other.wait_log("holds the lease in etcd", PATIENCE).await?;
    other.wait_log("writes are open", PATIENCE).await?;
    Ok(other)
}

/// Writers through this pgherd, who have begun.
async fn writers(herd: &Herd, pgherd: &Pgherd) -> Result<Running> {
    let password = herd.cluster.credentials().password("app");
    let workload = Workload::new(pgherd.address(), "app", "app", password);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    Ok(running)
}

fn ordered(pgherd: &Pgherd) -> usize {
    pgherd
        .log()
        .iter()
        .filter(|line| line.contains("command begins") && line.contains("step=Promote"))
        .count()
}

#[tokio::test]
async fn when_the_holder_of_the_lease_and_the_primary_are_killed_at_once_the_other_pgherd_promotes_one_server()
-> Result<()> {
    let (mut herd, etcd) = with_etcd(TTL).await?;
    let other = another(&herd, &etcd).await?;
    let running = writers(&herd, &other).await?;
    let one = herd.cluster.server(1)?;
    herd.pgherd.kill9().await?;
    one.kill9_all().await?;
    running.wait_acknowledged(50, PATIENCE).await.with_context(|| other.log().join("\n"))?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    let new = herd.cluster.primary().await?;
    ensure!(new.id() != 1 && timeline(&new).await? == "00000002");
    ensure!((ordered(&herd.pgherd), ordered(&other)) == (0, 1), "{}", other.log().join("\n"));

    // The first comes back, and looks on: also at what becomes of the old primary.
    herd.pgherd.start().await?;
    one.start().await?;
    let third = herd.cluster.server(if new.id() == 2 { 3 } else { 2 })?;
    herd.wait_led_by(&new, &[&one, &third]).await?;
    herd.wait_writable().await?;
    ensure!((ordered(&herd.pgherd), ordered(&other)) == (0, 1), "{}", herd.pgherd.log().join("\n"));
    Ok(())
}

/// It may hold the promotion locks of the standbys by then, and has frozen them.
#[tokio::test]
async fn where_the_holder_of_the_lease_hangs_while_it_replaces_the_primary_the_other_pgherd_does()
-> Result<()> {
    let (herd, etcd) = with_etcd(TTL).await?;
    let other = another(&herd, &etcd).await?;
    let running = writers(&herd, &other).await?;
    herd.cluster.server(1)?.kill9_all().await?;
    herd.pgherd.wait_log("step=Lock", PATIENCE).await?;
    herd.pgherd.send(Signal::STOP)?;
    let log = || other.log().join("\n");
    other.wait_log("on timeline 2 of cluster", PATIENCE).await.with_context(log)?;
    running.wait_acknowledged(50, PATIENCE).await.with_context(log)?;
    let new = herd.cluster.primary().await?;
    // What it had begun comes to nothing.
    herd.pgherd.send(Signal::CONT)?;
    herd.wait_writable().await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    ensure!(
        herd.cluster.primary().await?.id() == new.id() && timeline(&new).await? == "00000002",
        "{}",
        log()
    );
    Ok(())
}

#[tokio::test]
async fn without_etcd_clients_are_served_and_nobody_is_promoted_until_it_is_back() -> Result<()> {
    let (herd, mut etcd) = with_etcd(TTL).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    etcd.kill9().await?;
    herd.pgherd.wait_log("etcd does not answer", PATIENCE).await?;
    // Longer than the lease lasts.
    let lost = Instant::now();
    while lost.elapsed() < Duration::from_secs(5) {
        running.wait_acknowledged(50, PATIENCE).await?;
    }
    herd.cluster.server(1)?.kill9_all().await?;
    let line = eventually("pgherd holds for want of etcd", PATIENCE, || async {
        let lines = herd.pgherd.log().into_iter();
        Ok(lines.rev().find(|line| line.contains("to=Hold") && line.contains("etcd does not answer")))
    })
    .await
    .with_context(|| herd.pgherd.log().join("\n"))?;
    ensure!(ordered(&herd.pgherd) == 0 && !herd.pgherd.log().join("\n").contains("step=Freeze"), "{line}");
    etcd.start_again().await?;
    running.wait_acknowledged(50, PATIENCE).await.with_context(|| herd.pgherd.log().join("\n"))?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && ordered(&herd.pgherd) == 1, "{report}");
    ensure!(herd.cluster.primary().await?.id() != 1);
    Ok(())
}

#[tokio::test]
async fn a_timeline_that_was_replaced_gets_no_writes_from_a_pgherd_that_starts_and_sees_nothing_else()
-> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let etcd = Etcd::start(&cluster).await?;
    let url = etcd.url();
    let mut herd =
        Herd::of(cluster, |pgherd| pgherd.set("failover.etcd.endpoints", url).set("failover.etcd.ttl", TTL))
            .await?;
    herd.pgherd.wait_log(HOLDS, PATIENCE).await?;
    let [one, two] = [herd.cluster.server(1)?, herd.cluster.server(2)?];
    one.kill9_all().await?;
    herd.wait_writable().await?;
    ensure!(!two.is_in_recovery().await?);
    // What is served is written down beside the work; the next look sees it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    herd.pgherd.kill9().await?;
    two.kill9_all().await?;
    one.start().await?;
    let before = herd.pgherd.log().len();
    herd.pgherd.start().await?;
    eventually("it holds", PATIENCE, || async {
        let lines = herd.pgherd.log();
        Ok(lines.iter().skip(before).any(|line| line.contains("timeline 2 was served")).then_some(()))
    })
    .await
    .with_context(|| herd.pgherd.log().join("\n"))?;
    let lines = herd.pgherd.log();
    ensure!(!lines.iter().skip(before).any(|line| line.contains("writes are open")), "{}", lines.join("\n"));
    // Once the right one is back it is served, and the other is rewound.
    two.start().await?;
    herd.wait_writable().await?;
    herd.wait_led_by(&two, &[&one]).await
}

#[tokio::test]
async fn a_pgherd_that_hands_over_or_ends_gives_its_lease_back_at_once() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let etcd = Etcd::start(&cluster).await?;
    let (url, path) = (etcd.url(), cluster.directory().join("handover").display().to_string());
    let mut herd = Herd::of(cluster, |pgherd| {
        pgherd
            .set("failover.etcd.endpoints", url)
            .set("failover.etcd.ttl", "30s")
            .set("runtime.handover", path)
            .set("runtime.drain_timeout", "1s")
    })
    .await?;
    herd.pgherd.wait_log(HOLDS, PATIENCE).await?;
    let began = Instant::now();
    let mut next = herd.pgherd.launch_successor()?;
    next.wait_log(HOLDS, PATIENCE).await?;
    ensure!(began.elapsed() < Duration::from_secs(25), "it had to wait for the end of the lease");
    herd.pgherd.wait_exit().await?;
    next.terminate()?;
    next.wait_exit().await?;
    let began = Instant::now();
    herd.pgherd.launch()?;
    let before = herd.pgherd.log().len();
    eventually("the lease is held again", PATIENCE, || async {
        Ok(herd.pgherd.log().iter().skip(before).any(|line| line.contains(HOLDS)).then_some(()))
    })
    .await
    .with_context(|| [next.log().join("\n"), herd.pgherd.log().join("\n")].join("\n\n"))?;
    ensure!(began.elapsed() < Duration::from_secs(25), "it had to wait for the end of the lease");
    Ok(())
}

#[tokio::test]
async fn the_lease_is_held_over_tls_with_a_certificate() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let mut etcd = Etcd::start(&cluster).await?;
    let authority = Authority::new("etcd's authority")?;
    etcd.speak_tls(&authority).await?;
    let ca = authority.write(cluster.directory(), "etcd-ca")?.display().to_string();
    let (certificate, key) =
        authority.client("pgherd", "tests")?.write(cluster.directory(), "etcd-client")?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let url = etcd.url();
    let mut herd = Herd::of(cluster, |pgherd| {
        pgherd
            .set("failover.etcd.endpoints", url)
            .set("failover.etcd.ca", ca)
            .set("failover.etcd.cert", certificate)
            .set("failover.etcd.key", key)
    })
    .await?;
    herd.pgherd.wait_log(HOLDS, PATIENCE).await?;

    // Clients are served all the same where etcd is not trusted, or does not trust.
    for (unset, why) in
        [("failover.etcd.ca", "invalid peer certificate"), ("failover.etcd.cert", "etcd does not answer")]
    {
        herd.pgherd.kill9().await?;
        herd.pgherd.unset(unset)?;
        if unset == "failover.etcd.cert" {
            herd.pgherd.unset("failover.etcd.key")?;
        }
        let before = herd.pgherd.log().len();
        herd.pgherd.start().await?;
        herd.wait_writable().await?;
        eventually("it says why", PATIENCE, || async {
            let lines = herd.pgherd.log();
            Ok(lines.iter().skip(before).any(|line| line.contains(why)).then_some(()))
        })
        .await
        .with_context(|| herd.pgherd.log().join("\n"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pgherd_that_etcd_does_not_let_in_serves_clients_and_says_so() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let etcd = Etcd::start(&cluster).await?;
    etcd.require_login("s3cr3t").await?;
    let url = etcd.url();
    let mut herd = Herd::of(cluster, |pgherd| {
        pgherd
            .set("failover.etcd.endpoints", url)
            .set("failover.etcd.user", "root")
            .set("failover.etcd.password", "no s3cr3t")
    })
    .await?;
    herd.pgherd.wait_log("etcd says: ", PATIENCE).await?;
    herd.pgherd.kill9().await?;
    herd.pgherd.set("failover.etcd.password", "s3cr3t")?;
    herd.pgherd.start().await?;
    herd.pgherd.wait_log(HOLDS, PATIENCE).await?;
    ensure!(!herd.pgherd.log().join("\n").contains("s3cr3t"));
    Ok(())
}
