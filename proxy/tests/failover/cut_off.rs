//! pgherd alone does not reach the primary.

use pgherd_testkit::Result;
use pgherd_testkit::faults::CutOff;

/// `make faults` tries it fifty times.
#[tokio::test]
async fn a_pgherd_that_is_cut_off_from_an_idle_primary_promotes_nobody_while_standbys_stream() -> Result<()> {
    CutOff { tries: 2, seed: 3 }.run().await
}
