//! A few seconds of what `make soak` does over a herd for as long as one likes: one switchover and one reload among all kinds of work, and
//! everything has to add up.

use std::time::Duration;

use pgherd_testkit::endurance::Endurance;
use pgherd_testkit::{Result, ensure};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_have_counted_is_what_pgherd_has_and_nothing_of_it_is_left() -> Result<()> {
    let short = Duration::from_secs(1);
    let endurance = Endurance { duration: Duration::ZERO, calm: short, clients: 8, seed: 3 };
    let report = endurance.run(|told| eprintln!("{told}")).await?;
    eprintln!("{report}");
    ensure!(report.wrong.is_empty(), "{:#?}", report.wrong);
    Ok(())
}
