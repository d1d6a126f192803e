//! pgherd is killed with SIGKILL again and again, whatever it is at: nothing is lost but transactions that were open. A few times in every test
//! run; `make kills` does it a hundred times.

use std::time::Duration;

use pgherd_testkit::{Cluster, Context, Result, ensure};
use tokio::time::sleep;

use crate::herd::{Herd, PATIENCE, number_in};

/// What pgherd is at when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    OrdinaryWork,
    Switchover,
    Failover,
}

/// When it is killed, from the moment at which that begins. In milliseconds, each kill at another: over all that a failover or a switchover
/// takes, and a little more.
fn moment(number: u64) -> Duration {
    Duration::from_millis(number * 137 % 1511)
}

/// Begins something, kills pgherd in the middle of it, and starts it again at once.
async fn kill(herd: &mut Herd, at: At, after: Duration) -> Result<()> {
    let primary = herd.cluster.primary().await?;
    let mut console = herd.console().await?;
    let order = match at {
        At::OrdinaryWork => None,
        // It may end in any way: with pgherd, or before.
        At::Switchover => Some(tokio::spawn(async move { console.query("SWITCHOVER").await })),
        At::Failover => {
            primary.kill9().await?;
            None
        }
    };
    sleep(after).await;
    herd.pgherd.kill9().await?;
    if let Some(order) = order {
        drop(order.await);
    }
    herd.pgherd.start().await?;
    if at == At::Failover && primary.postmaster_pid().is_none() && !primary.is_attended() {
        // As whatever watches over it would. That pgherd does so, too, is no error.
        match primary.launch().await {
            Err(error) if primary.postmaster_pid().is_none() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_pgherd_that_is_killed_whatever_it_is_at_loses_nothing_but_open_transactions() -> Result<()> {
    let kills = number_in("PGHERD_KILLS", 3)?;
    let cluster = Cluster::builder().synchronous(1).start().await?;
    let mut herd = Herd::of(cluster, |pgherd| pgherd.set("failover.min_interval", "0s")).await?;
    let workload = herd.workload().await?.audited(2);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    for number in 1..=kills {
        let at = match number % 3 {
            0 => At::OrdinaryWork,
            1 => At::Switchover,
            _ => At::Failover,
        };
        let after = moment(number);
        let what = format!("kill {number}, {after:?} after the begin of: {at:?}");
        kill(&mut herd, at, after).await.with_context(|| what.clone())?;
        running.wait_acknowledged(20, PATIENCE).await.with_context(|| format!("{what}\n{}", herd.log()))?;
        herd.cluster.wait_healthy().await.with_context(|| format!("{what}\n{}", herd.log()))?;
    }
    let record = running.stop().await?;
    let report = herd.compare_rows(&record).await?;
    ensure!(report.is_sound(), "{report}");
    let wrong = workload.audit(&herd.cluster.primary().await?).await?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    ensure!(report.connections_lost >= usize::try_from(kills)?, "nobody noticed anything: {report}");
    eprintln!("killed {kills} times");
    Ok(())
}
