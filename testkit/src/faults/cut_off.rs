//! A pgherd that is cut off from an idle primary while the standbys still stream from it. It must not promote anybody.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::field::{Field, between};
use super::kind::Packets;
use super::last_lines;
use crate::chance::Chance;
use crate::log_tail::LogTail;
use crate::network::Party;

/// pgherd gives up a silent primary after four seconds, and asks the standbys over ssh then.
const HOLDS_WITHIN: Duration = Duration::from_secs(30);
/// Steps that end an epoch. To ask a standby whether it can log in to the primary changes nothing.
const DEEDS: [&str; 4] = ["step=Fence", "step=Freeze", "step=Lock", "step=Promote"];

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct CutOff {
    /// How often, one after the other.
    pub tries: u32,
    /// Where chance begins.
    pub seed: u64,
}

impl CutOff {
    /// Tries it. Commits wait for nobody, so that nothing but the standbys' word keeps pgherd from promoting one.
    ///
    /// # Errors
    /// Somebody was promoted, fenced or frozen, or writes did not go on afterwards.
    pub async fn run(self) -> Result<()> {
        let mut field = Field::start(0).await?;
        let mut chance = Chance::new(self.seed);
        for number in 1..=self.tries {
            let tried = cut_off(&mut field, &mut chance).await;
            tried.with_context(|| format!("try {number} of seed {}: {}", self.seed, last_lines(&field)))?;
        }
        Ok(())
    }
}

async fn cut_off(field: &mut Field, chance: &mut Chance) -> Result<()> {
    let primary = field.cluster.primary().await?;
    let timeline = primary.timeline().await?;
    let mut tail = field.pgherd.log_tail();
    let packets = [Packets::All, Packets::There, Packets::Back];
    let packets = packets.get(usize::try_from(chance.below(3))?).copied().unwrap_or(Packets::All);
    field.part(packets, Party::Proxy, &primary).await?;
    // A pgherd that knows what was there before, or one that has just been started and does not.
    if chance.below(3) > 0 {
        tail.wait("a hold", HOLDS_WITHIN, |line| line.contains("to=Hold")).await?;
    } else {
        field.pgherd.restart().await?;
        tail.wait("a wait", HOLDS_WITHIN, |line| line.contains("still streams from a primary")).await?;
    }
    // It is tried again and again meanwhile.
    sleep(between(2000, 8000, chance)).await;
    ensure!(field.cluster.primary().await?.id() == primary.id(), "another server is writable");
    ensure!(primary.timeline().await? == timeline, "the timeline has changed");
    field.cluster.heal().await?;
    serves_again(&mut tail).await?;
    ensure!(field.cluster.primary().await?.id() == primary.id(), "another server was promoted");
    ensure!(primary.timeline().await? == timeline, "the timeline has changed");
    Ok(())
}

/// Waits until writes are open again, and looks at what was done until then.
async fn serves_again(tail: &mut LogTail) -> Result<()> {
    let deadline = tokio::time::Instant::now() + HOLDS_WITHIN;
    loop {
        for line in tail.read()? {
            ensure!(!DEEDS.iter().any(|deed| line.contains(deed)), "pgherd did something: {line}");
            if line.contains("writes are open") {
                return Ok(());
            }
        }
        ensure!(tokio::time::Instant::now() < deadline, "writes are not open again");
        sleep(Duration::from_millis(20)).await;
    }
}
