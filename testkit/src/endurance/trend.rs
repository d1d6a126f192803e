//! How the memory of a process develops: a line through what was measured in the second half of the time.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::LOOK_EVERY;
use crate::processes;

/// Resident memory over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend {
    /// Minutes, and KiB.
    points: Vec<(f64, f64)>,
}

impl Trend {
    /// Looks until it is told to stop.
    pub(super) async fn watch(pid: u32, stop: CancellationToken) -> Result<Self> {
        let (begun, mut trend) = (Instant::now(), Self::default());
        while !stop.is_cancelled() {
            trend.points.push((begun.elapsed().as_secs_f64() / 60.0, processes::resident(pid)? as f64));
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
        Ok(trend)
    }

    /// KiB a minute in the second half, by least squares, and the standard error of that.
    pub(super) fn slope(&self) -> (f64, f64) {
        let half = self.points.get(self.points.len() / 2..).unwrap_or_default();
        let n = half.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| half.iter().map(of).sum::<f64>() / n;
        let (middle, level) = (mean(|it| it.0), mean(|it| it.1));
        let spread: f64 = half.iter().map(|(at, _)| (at - middle).powi(2)).sum();
        if half.len() < 3 || spread <= 0.0 {
            return (0.0, f64::INFINITY);
        }
        let slope = half.iter().map(|(at, kib)| (at - middle) * (kib - level)).sum::<f64>() / spread;
        let off = |(at, kib): &(f64, f64)| (kib - level - slope * (at - middle)).powi(2);
        (slope, (half.iter().map(off).sum::<f64>() / (n - 2.0) / spread).sqrt())
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slope, error) = self.slope();
        let most = self.points.iter().map(|(_, kib)| *kib).fold(0.0, f64::max);
        let last = self.points.last().map_or(0.0, |(_, kib)| *kib);
        write!(
            f,
            "{slope:+.2} KiB a minute (standard error {error:.2}) in the second half, of {last:.0} KiB; at most {most:.0} KiB"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(kib: impl Fn(f64) -> f64) -> Trend {
        Trend { points: (0..600).map(|it| f64::from(it) / 30.0).map(|at| (at, kib(at))).collect() }
    }

    #[test]
    fn a_leak_shows_beneath_what_comes_and_goes() {
        let (slope, error) = trend(|at| 20_000.0 + 100.0 * (at * 40.0).sin() + at * 15.0).slope();
        assert!((slope - 15.0).abs() < 3.0 * error && error < 5.0, "{slope} {error}");
    }

    #[test]
    fn what_grows_at_first_and_then_stays_is_no_leak() {
        let (slope, _) = trend(|at| 20_000.0 + at.min(9.0) * 500.0).slope();
        assert!(slope.abs() < 1e-6, "{slope}");
    }
}
