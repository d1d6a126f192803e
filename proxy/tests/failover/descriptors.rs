//! Clients that use up pgherd's file descriptors.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Cluster, Pgherd, Result, ensure};

use crate::herd::Herd;

#[tokio::test]
async fn clients_that_use_up_the_file_descriptors_cause_no_failover_and_no_outage() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let program = Pgherd::program()?;
    let wrapper = cluster.directory().join("pgherd-with-few-descriptors");
    std::fs::write(&wrapper, format!("#!/bin/sh\nulimit -n 100\nexec {} \"$@\"\n", program.display()))?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let herd = Herd::of(cluster, |pgherd| pgherd.binary(&wrapper)).await?;
    let mut client = herd.raw().await?;
    client.query("SELECT 1").await?;

    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(RawClient::connect(herd.pgherd.address()).await?);
    }
    for _ in 0..6 {
        let answer = client.query("INSERT INTO probe DEFAULT VALUES").await?;
        ensure!(answer.error().is_none(), "{answer:?}\n{}", herd.pgherd.log().join("\n"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let log = herd.pgherd.log();
    let doubts: Vec<_> = log.iter().filter(|line| line.contains("to=Suspect")).collect();
    ensure!(doubts.is_empty(), "{doubts:#?}");
    Ok(())
}
