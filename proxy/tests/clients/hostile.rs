//! Some seconds of what `make hostile` does at length.

use std::time::Duration;

use pgherd_testkit::hostile::{Attack, Hostile};
use pgherd_testkit::{Cluster, Context, Result};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_end_nothing_grow_nothing_and_keep_nobody_out() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let hostile = Hostile { time: Duration::from_secs(1), strength: 20, memory_limit: 128 };
    for attack in [Attack::HalfOpen, Attack::EndlessPipelines, Attack::HugeLengths, Attack::Churn] {
        let siege = hostile.run(&cluster, attack).await.context(attack.name())?;
        eprintln!("{siege}");
    }
    Ok(())
}
