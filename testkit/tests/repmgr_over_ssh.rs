//! What pgherd orders over ssh works on a cluster by hand.

use pgherd_testkit::{Cluster, Result};

#[tokio::test]
async fn promote_follow_and_rejoin_restore_a_cluster_whose_primary_was_killed() -> Result<()> {
    let cluster = Cluster::builder().servers(3).start().await?;
    let [old, new, other] = [cluster.server(1)?, cluster.server(2)?, cluster.server(3)?];
    old.query_in("app", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await?;
    old.kill9().await?;

    new.must_repmgr("standby promote").await?;
    assert_eq!(cluster.primary().await?.id(), 2);
    other.must_repmgr("standby follow --upstream-node-id=2").await?;
    other.wait_streaming().await?;

    // The old primary writes WAL that nobody else has, and must be rewound.
    old.start().await?;
    old.query_in("app", "INSERT INTO t SELECT generate_series(1, 1000)").await?;
    old.stop_clean().await?;
    new.query_in("app", "INSERT INTO t VALUES (-1); CHECKPOINT").await?;
    let upstream = format!("host={} port={} user=repmgr dbname=repmgr", new.address(), new.port());
    old.must_repmgr(&format!("node rejoin --force-rewind -d '{upstream}'")).await?;
    old.wait_streaming().await?;
    cluster.wait_healthy().await?;

    let kinds =
        new.query_in("repmgr", "SELECT node_id, type, upstream_node_id FROM repmgr.nodes ORDER BY 1").await?;
    let kinds: Vec<_> = kinds.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let standby = |id| (Some(id), Some("standby"), Some("2"));
    assert_eq!(kinds, [standby("1"), (Some("2"), Some("primary"), None), standby("3")]);
    // What is the server's own survived the rewind.
    let own = old.scalar("SELECT current_setting('cluster_name')").await?;
    assert_eq!(own, "pg01");
    Ok(())
}

#[tokio::test]
async fn ssh_lets_in_the_key_alone_and_fails_while_sshd_is_down() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let who = server.ssh("id -un; echo $PGPASSFILE").await?;
    let expected = format!("postgres\n{}/pgpass\n", server.directory().display());
    assert_eq!(String::from_utf8_lossy(&who.stdout), expected);
    assert!(cluster.known_hosts()?.starts_with(&format!("[{}]:222 ssh-ed25519 ", server.address())));

    server.stop_sshd().await?;
    assert!(!server.ssh("true").await?.status.success());
    server.start_sshd().await?;
    assert!(server.ssh("true").await?.status.success());
    Ok(())
}
