//! Some seconds of what `make differential` does at length.

use std::time::Duration;

use pgherd_testkit::differential::{Differential, Mode};
use pgherd_testkit::{Cluster, Result, ensure};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_of_messages_by_chance_are_answered_as_by_postgresql() -> Result<()> {
    let (alone, herd) = tokio::try_join!(
        Cluster::builder().servers(1).setting("autovacuum", "off").start(),
        Cluster::builder().servers(2).setting("autovacuum", "off").start(),
    )?;
    let differential = Differential {
        sequences: 120,
        seed: 1,
        modes: Mode::ALL.to_vec(),
        time: Some(Duration::from_secs(5)),
        most_differences: 1,
    };
    let report = differential.run(&alone, &herd).await?;
    eprintln!("{report}");
    ensure!(report.differences.is_empty(), "{report}");
    ensure!(report.sequences.iter().all(|(_, count)| *count > 0), "{report}");
    Ok(())
}
