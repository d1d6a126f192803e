//! Partitions between namespaces drop what they name, and nothing else.

use std::time::Duration;

use pgherd_testkit::{Cluster, Context, Network, Party, Result, Server, bail};

const STREAMING: &str = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";

#[tokio::test]
async fn a_cut_drops_one_direction_between_two_parties() -> Result<()> {
    let cluster = Cluster::builder().servers(2).network(Network::Namespaces).start().await?;
    let [one, two] = [cluster.server(1)?, cluster.server(2)?];
    assert!(sends(&one, &two).await? && sends(&two, &one).await?);

    // Only datagrams tell the directions apart: a TCP connection needs both.
    cluster.cut(Party::Server(1), Party::Server(2)).await?;
    assert!(!sends(&one, &two).await?);
    assert!(sends(&two, &one).await?);
    cluster.mend(Party::Server(1), Party::Server(2)).await?;
    assert!(sends(&one, &two).await? && sends(&two, &one).await?);

    cluster.isolate(Party::Server(2)).await?;
    assert!(!sends(&one, &two).await? && !sends(&two, &one).await?);
    // The test itself still sees the server, which loses its upstream within wal_receiver_timeout.
    pgherd_testkit::eventually("the end of streaming", Duration::from_secs(10), || async {
        Ok((two.scalar(STREAMING).await? == "0").then_some(()))
    })
    .await?;
    cluster.heal().await?;
    two.wait_streaming().await?;
    cluster.wait_healthy().await
}

#[tokio::test]
async fn the_observer_can_be_cut_from_a_server_that_others_still_reach() -> Result<()> {
    let cluster = Cluster::builder().servers(2).network(Network::Namespaces).start().await?;
    let standby = cluster.server(2)?;
    cluster.partition(Party::Observer, Party::Server(2)).await?;
    assert!(
        tokio::time::timeout(Duration::from_secs(1), standby.query("SELECT 1"))
            .await
            .map_or(true, |r| r.is_err())
    );
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    assert_eq!(cluster.server(1)?.scalar(streaming).await?, "1");
    cluster.heal().await?;
    standby.wait_ready().await
}

#[tokio::test]
async fn repmgr_works_over_ssh_between_namespaces() -> Result<()> {
    let cluster = Cluster::builder().servers(2).network(Network::Namespaces).start().await?;
    cluster.server(1)?.kill9_all().await?;
    let output = cluster.server(2)?.repmgr("standby promote").await?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.primary().await?.id(), 2);
    Ok(())
}

/// Whether a datagram to a closed port arrives: the kernel of the receiver's namespace counts it.
async fn sends(from: &Server, to: &Server) -> Result<bool> {
    let before = unclaimed_datagrams(to).await?;
    from.ssh(&format!("echo here > /dev/udp/{}/7777", to.address())).await?;
    let arrived = pgherd_testkit::eventually("a datagram", Duration::from_secs(2), || async {
        Ok((unclaimed_datagrams(to).await? > before).then_some(()))
    });
    Ok(arrived.await.is_ok())
}

async fn unclaimed_datagrams(server: &Server) -> Result<u64> {
    let output = server.ssh("grep ^Udp: /proc/net/snmp").await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let [names, values] = lines.as_slice() else { bail!("/proc/net/snmp: {text}") };
    let value =
        names.iter().zip(values).find(|(name, _)| **name == "NoPorts").map(|(_, value)| value.parse());
    value.context("no NoPorts")?.context("not a number")
}
