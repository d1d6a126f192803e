//! A standby is stopped and started.

use pgherd_testkit::{Result, ensure};

use crate::herd::{Herd, PATIENCE};

#[tokio::test]
async fn a_standby_that_was_stopped_is_back_in_rotation_by_itself() -> Result<()> {
    let herd = Herd::start().await?;
    herd.pgherd.wait_log("readable=[1, 2]", PATIENCE).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let standby = herd.cluster.server(3)?;
    standby.stop_clean().await?;
    herd.pgherd.wait_log("readable=[1]", PATIENCE).await?;
    standby.start().await?;
    let back = pgherd_testkit::eventually("it is readable again", PATIENCE, || async {
        let log = herd.pgherd.log();
        let last = log.iter().rev().find(|line| line.contains("readable=["));
        Ok(last.is_some_and(|line| line.contains("readable=[1, 2]")).then_some(()))
    });
    back.await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && report.missing.is_empty() && report.refused == 0, "{report}");
    ensure!(report.sqlstates.is_empty(), "no writer noticed: {report}");
    ensure!(herd.cluster.primary().await?.id() == 1);
    Ok(())
}
