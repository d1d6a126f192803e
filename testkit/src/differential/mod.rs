//! The same messages, by chance, sent to PostgreSQL and to pgherd before another PostgreSQL: both must say the same.
//!
//! Each mode of pgherd has two databases of the same content, in two clusters, so that neither side notices the other. A sequence of messages
//! comes from a seed. One that is not answered alike is made as short as it can be, and shown.

mod end;
mod explained;
mod message;
mod mode;
mod sequence;
mod shrink;
mod texts;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

pub use self::mode::Mode;
use self::world::{Difference, World};
use crate::cluster::Cluster;

/// How long a sequence may take. None takes more than some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Differential {
    /// How many sequences in all.
    pub sequences: u64,
    /// The first seed; others follow, in each mode the same.
    pub seed: u64,
    /// The ways in which pgherd serves.
    pub modes: Vec<Mode>,
    /// After this time no new sequence is begun.
    pub time: Option<Duration>,
    /// So many differences in a mode end it.
    pub most_differences: usize,
}

/// What was compared, and what was different.
#[derive(Clone, Debug, Default)]
pub struct DifferentialReport {
    /// How many sequences each mode has answered.
    pub sequences: Vec<(Mode, u64)>,
    /// Each difference, with the sequence that shows it.
    pub differences: Vec<String>,
    /// How often there was a difference that is known, by its reason.
    pub explained: BTreeMap<&'static str, u64>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for DifferentialReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        for (mode, count) in &self.sequences {
            writeln!(f, "{count:>10}  {mode}")?;
        }
        for (why, count) in &self.explained {
            writeln!(f, "{count:>10}  explained: {why}")?;
        }
        let all: u64 = self.sequences.iter().map(|(_, count)| count).sum();
        write!(f, "{all:>10}  sequences in {} s, {} different", self.took.as_secs(), self.differences.len())
    }
}

impl Differential {
    /// Compares a PostgreSQL that is alone with a pgherd before a herd.
    ///
    /// # Errors
    /// What keeps it from being done, or a pgherd that has panicked. A difference is in the report.
    pub async fn run(&self, alone: &Cluster, herd: &Cluster) -> Result<DifferentialReport> {
        ensure!(!self.modes.is_empty(), "no mode");
        for cluster in [alone, herd] {
            let settings = format!("ALTER ROLE {} SET lock_timeout = '30ms'", texts::USER);
            cluster.server(1)?.query(&settings).await?;
        }
        let mut worlds = Vec::new();
        for mode in &self.modes {
            worlds.push((*mode, World::make(alone, herd, *mode).await.with_context(|| mode.to_string())?));
        }
        let began = Instant::now();
        let count = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        let modes = u64::try_from(self.modes.len())?;
        for (index, (mode, world)) in (0..modes).zip(worlds) {
            let sequences = self.sequences / modes + u64::from(index < self.sequences % modes);
            let (this, count) = (self.clone(), Arc::clone(&count));
            running.spawn(async move { this.go_through(&world, mode, sequences, began, &count).await });
        }
        let mut report = DifferentialReport::default();
        while let Some(ended) = running.join_next().await {
            let done: Done = ended.context("a mode panicked")??;
            report.sequences.push((done.mode, done.count));
            report.differences.extend(done.differences);
            for (why, count) in done.explained {
                *report.explained.entry(why).or_default() += count;
            }
        }
        report.sequences.sort_by_key(|(mode, _)| mode.name());
        report.took = began.elapsed();
        Ok(report)
    }

    /// All sequences of one mode.
    async fn go_through(
        &self,
        world: &World,
        mode: Mode,
        sequences: u64,
        began: Instant,
        count: &AtomicU64,
    ) -> Result<Done> {
        let mut done = Done { mode, count: 0, differences: Vec::new(), explained: BTreeMap::new() };
        while done.count < sequences
            && done.differences.len() < self.most_differences
            && self.time.is_none_or(|time| began.elapsed() < time)
        {
            let seed = self.seed + done.count;
            let sequence = sequence::generate(seed, mode);
            let told = timeout(PATIENCE, world.tell(&sequence)).await.context("it does not end").flatten();
            let told = told.with_context(|| format!("seed {seed}, mode {mode}:\n{sequence}"))?;
            match told {
                Some(Difference { why: Some(why), .. }) => *done.explained.entry(why).or_default() += 1,
                Some(seen) => {
                    let (shortest, seen) = shrink::shrink(world, &sequence, seen).await?;
                    let shown = format!("seed {seed}, mode {mode}:\n{shortest}  {}\n", seen.what);
                    // Whoever waits for hours sees it at once.
                    eprintln!("{shown}");
                    done.differences.push(shown);
                }
                None => {}
            }
            done.count += 1;
            let all = count.fetch_add(1, Ordering::Relaxed) + 1;
            if all.is_multiple_of(1000) {
                eprintln!("{all} sequences after {} s", began.elapsed().as_secs());
            }
        }
        world.check()?;
        Ok(done)
    }
}

/// What came of one mode.
struct Done {
    mode: Mode,
    count: u64,
    differences: Vec<String>,
    explained: BTreeMap<&'static str, u64>,
}
