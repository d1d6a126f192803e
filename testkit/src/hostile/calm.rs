//! Well-behaved clients, and how long their statements take.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::RawClient;

/// Between two statements.
const PAUSE: Duration = Duration::from_millis(3);

/// What most statements took, and all but one in a hundred: in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Half of them took no longer.
    pub median: u32,
    /// 99 of a hundred took no longer.
    pub p99: u32,
    /// How many there were.
    pub count: usize,
}

impl Latencies {
    pub(super) fn of(mut measured: Vec<u32>) -> Self {
        measured.sort_unstable();
        let at = |part: usize| measured.get(measured.len() * part / 100).copied().unwrap_or_default();
        let (median, p99) = (at(50), at(99));
        Self { median, p99, count: measured.len() }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} / {:.2}", f64::from(self.median) / 1000.0, f64::from(self.p99) / 1000.0)
    }
}

/// Runs short transactions until it is over; how long each took, before the attack and meanwhile.
pub(super) async fn live(
    mut client: RawClient,
    over: watch::Receiver<bool>,
    attacked: watch::Receiver<bool>,
) -> Result<[Vec<u32>; 2]> {
    let [mut before, mut meanwhile] = <[Vec<u32>; 2]>::default();
    while !*over.borrow() {
        let begun = Instant::now();
        let answer = client.query("SELECT 1").await?;
        ensure!(answer.error().is_none(), "{answer:?}");
        let took = u32::try_from(begun.elapsed().as_micros())?;
        if *attacked.borrow() { &mut meanwhile } else { &mut before }.push(took);
        tokio::time::sleep(PAUSE).await;
    }
    Ok([before, meanwhile])
}
