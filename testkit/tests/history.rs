//! The workload and its check against real servers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pgherd_testkit::client::{ErrorFields, RawClient};
use pgherd_testkit::history::{Report, Workload};
use pgherd_testkit::{Cluster, Result, Server};

const SOON: Duration = Duration::from_secs(20);

fn workload(cluster: &Cluster, server: &Server) -> Workload {
    let address = SocketAddr::from((server.address(), server.port()));
    Workload::new(address, "app", "app", cluster.credentials().password("app")).clients(4)
}

#[tokio::test]
async fn a_crash_of_the_server_loses_nothing_acknowledged_and_its_outage_is_measured() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let workload = workload(&cluster, &server);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(50, SOON).await?;
    let killed = Instant::now();
    server.kill9_all().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.start().await?;
    running.wait_acknowledged(50, SOON).await?;
    let record = running.stop().await?;

    let report = Report::compare(&record, server.history().await?);
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.connections_lost, 4, "{report}");
    let outage = report.write_outage(killed);
    assert!(outage.is_some_and(|outage| outage >= Duration::from_millis(300)), "{outage:?} {report}");
    Ok(())
}

#[tokio::test]
async fn rows_that_are_taken_away_or_put_in_are_found() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let workload = workload(&cluster, &server);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(20, SOON).await?;
    let record = running.stop().await?;
    assert!(Report::compare(&record, server.history().await?).is_sound());

    let taken =
        "DELETE FROM history WHERE client = 2 AND seq = (SELECT min(seq) FROM history WHERE client = 2)";
    let put_in = "INSERT INTO history SELECT 99, max(seq) FROM history";
    server.query_in("app", &format!("{taken}; {put_in}")).await?;
    let report = Report::compare(&record, server.history().await?);
    assert_eq!((report.missing.len(), report.unexpected.len()), (1, 1), "{report}");
    assert!(!report.is_sound());
    Ok(())
}

#[tokio::test]
async fn the_raw_client_logs_in_with_both_kinds_of_verifier_and_sees_the_sqlstate_of_a_refusal() -> Result<()>
{
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let address = (server.address(), server.port());
    for user in ["app", "legacy"] {
        let mut client = RawClient::login(address, user, "app", cluster.credentials().password(user)).await?;
        let answer = client.query("SELECT current_user, NULL").await?;
        assert_eq!(answer.rows(), [[Some(user.to_owned().into()), None]]);
        assert_eq!((answer.command().as_deref(), answer.transaction_state()), (Some("SELECT 1"), Some('I')));
        let refused = client.query("SELECT 1/0").await?;
        assert_eq!(refused.error().map(|error| error.code().to_owned()).as_deref(), Some("22012"));
    }
    let error = RawClient::login(address, "app", "app", "wrong").await.err();
    let code = error.and_then(|error| Some(error.downcast_ref::<ErrorFields>()?.code().to_owned()));
    assert_eq!(code.as_deref(), Some("28P01"));
    Ok(())
}
