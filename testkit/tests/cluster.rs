//! A cluster comes up as promised, and nothing of it is left.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{Pgbench, psql};
use pgherd_testkit::{Cluster, Result};

#[tokio::test]
async fn three_servers_are_up_and_registered_within_three_seconds_of_a_warm_template() -> Result<()> {
    drop(Cluster::builder().servers(1).start().await?);
    let begin = Instant::now();
    let cluster = Cluster::builder().servers(3).start().await?;
    let took = begin.elapsed();
    eprintln!("up in {took:?}");
    assert_eq!(cluster.primary().await?.id(), 1);
    let primary = cluster.primary().await?;
    let rows =
        primary.query_in("repmgr", "SELECT node_id, type, active FROM repmgr.nodes ORDER BY 1").await?;
    let rows: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [("1", "primary"), ("2", "standby"), ("3", "standby")];
    assert_eq!(rows, expected.map(|(id, kind)| (Some(id), Some(kind), Some("t"))));
    cluster.wait_healthy().await?;
    assert!(took < Duration::from_secs(3), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn every_kind_of_user_logs_in_and_psql_and_pgbench_run() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    for (user, database) in
        [("postgres", "postgres"), ("repmgr", "repmgr"), ("app", "app"), ("legacy", "app")]
    {
        let who = psql(&server.connection_string(user, database), "SELECT current_user").await?;
        assert_eq!(who.trim(), user);
    }
    let app = server.connection_string("app", "app");
    Pgbench::initialize(&app, 1).await?;
    let report = Pgbench::new(&app).clients(4).seconds(1).run().await?;
    assert!(report.succeeded && report.tps > 0.0 && report.transactions > 0, "{report:?}");
    assert!(report.aborts.is_empty(), "{report:?}");
    Ok(())
}
