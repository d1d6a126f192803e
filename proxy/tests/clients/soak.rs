//! A few seconds of the storms that `make soak` begins with.

use std::time::Duration;

use pgherd_testkit::soak::Soak;
use pgherd_testkit::{Result, ensure};

use crate::front::Front;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_the_rows_of_another_whatever_clients_do() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd.set("pool.size", 5).set("pool.pinned_size", 3).set("pool.query_wait_timeout", "5s")
    })
    .await?;
    let soak = Soak { duration: Duration::from_secs(5), clients: 24, seed: 7, most_connections: 8 };
    let report = soak.run(&front.cluster, &front.pgherd).await?;
    eprintln!("{report}");
    for act in ["queries", "pipelines", "transactions", "storms of cancel requests", "connections broken off"]
    {
        ensure!(report.counts.contains_key(act), "{act} did not happen:\n{report}");
    }
    Ok(())
}
