//! The best candidate does not do what it is told.

use pgherd_testkit::{Context, Result, ensure};

use crate::herd::Herd;

#[tokio::test]
async fn when_the_best_candidate_cannot_be_promoted_the_next_one_is() -> Result<()> {
    let herd = Herd::start().await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    // Nobody writes, so both have all, and the one with the lower number is the better.
    two.set_repmgr("service_promote_command", "/bin/false")?;
    let mut client = herd.raw().await?;
    one.kill9_all().await?;
    let answer = client.query("INSERT INTO probe DEFAULT VALUES").await?;
    ensure!(answer.error().is_none(), "the client only waited: {answer:?}");
    ensure!(herd.cluster.primary().await?.id() == three.id(), "{}", herd.log());
    ensure!(herd.log().matches("step=Promote").count() >= 2, "both were told: {}", herd.log());
    herd.wait_led_by(&three, &[&two]).await.with_context(|| herd.log())
}
