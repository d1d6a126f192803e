//! The last hour in points.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::feed::show_time;
use crate::model::{History, Point};
use crate::{Counts, Distribution};

/// Time between two points.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// Points that are kept: an hour of them.
const KEPT: usize = 720;

/// The points of the last hour.
#[derive(Debug, Default)]
pub(crate) struct Points {
    points: VecDeque<Point>,
    /// What there was at the last one.
    last: Option<(std::time::Instant, Counts)>,
}

impl Points {
    /// Adds the time since the last one; the first only begins it.
    pub(crate) fn add(&mut self, counts: Counts, now: std::time::Instant) -> Option<Point> {
        let last = self.last.replace((now, counts.clone()));
        let (then, before) = last?;
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        let point = point(&counts, &before, seconds);
        if self.points.len() == KEPT {
            self.points.pop_front();
        }
        self.points.push_back(point.clone());
        Some(point)
    }

    /// The last one.
    pub(crate) fn latest(&self) -> Option<Point> {
        self.points.back().cloned()
    }

    /// All.
    pub(crate) fn all(&self) -> History {
        History { every_seconds: EVERY.as_secs(), points: self.points.iter().cloned().collect() }
    }
}

/// What there is before anything can be said of the last seconds.
pub(crate) fn first(counts: &Counts) -> Point {
    point(counts, counts, EVERY.as_secs_f64())
}

fn point(now: &Counts, before: &Counts, seconds: f64) -> Point {
    let rate = |now: u64, before: u64| rounded(now.wrapping_sub(before) as f64 / seconds.max(0.001));
    let query = now.query.since(&before.query);
    let wait = now.wait.since(&before.wait);
    let milliseconds = |micros: f64| rounded(micros / 1000.0);
    Point {
        at: show_time(SystemTime::now()),
        transactions: rate(now.transactions, before.transactions),
        queries: rate(now.queries, before.queries),
        received: rate(now.received, before.received),
        sent: rate(now.sent, before.sent),
        p50_ms: query.quantile(0.5).map(milliseconds),
        p95_ms: query.quantile(0.95).map(milliseconds),
        p99_ms: query.quantile(0.99).map(milliseconds),
        wait_p99_ms: wait.quantile(0.99).map(milliseconds),
        clients: now.clients,
        clients_max: now.clients_max,
        waiting: now.waiting,
        active: now.active,
        idle: now.idle,
        reads: now.reads.iter().map(|(node, reads)| (*node, rate(*reads, reads_of(before, *node)))).collect(),
        lag_bytes: now.lag.iter().map(|(node, bytes, _)| (*node, *bytes)).collect::<BTreeMap<_, _>>(),
        lag_seconds: now.lag.iter().map(|(node, _, seconds)| (*node, rounded(*seconds))).collect(),
    }
}

fn reads_of(counts: &Counts, node: u32) -> u64 {
    counts.reads.iter().find(|(it, _)| *it == node).map_or(0, |(_, reads)| *reads)
}

/// With as many digits as are worth sending.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl Distribution {
    /// What came since then.
    fn since(&self, before: &Self) -> Self {
        let counts = self.0.iter().enumerate().map(|(at, (most, count))| {
            let then = before.0.get(at).map_or(0, |(_, count)| *count);
            (*most, count.wrapping_sub(then))
        });
        Self(counts.collect())
    }

    /// What this share of all is no more than, between the bounds of what was counted together; none of nothing.
    fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        if all == 0 {
            return None;
        }
        let wanted = share * all as f64;
        let (mut below, mut counted) = (0_u64, 0.0);
        for (most, count) in &self.0 {
            let here = *count as f64;
            if here > 0.0 && counted + here >= wanted {
                let part = ((wanted - counted) / here).clamp(0.0, 1.0);
                return Some((most - below) as f64 * part + below as f64);
            }
            counted += here;
            below = *most;
        }
        Some(below as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn counts(queries: u64, quick: u64, slow: u64) -> Counts {
        let query = Distribution(vec![(1000, quick), (2000, 0), (4000, slow)]);
        Counts { queries, query, ..Counts::default() }
    }

    #[test]
    fn a_point_is_what_came_since_the_last() {
        let (mut points, began) = (Points::default(), Instant::now());
        assert_eq!(points.add(counts(1000, 900, 100), began), None);
        let point = points.add(counts(1100, 950, 150), began + Duration::from_secs(5)).unwrap();
        assert_eq!(point.queries, 20.0);
        assert_eq!((point.p50_ms, point.p99_ms), (Some(1.0), Some(3.96)));
        let still = points.add(counts(1100, 950, 150), began + Duration::from_secs(10)).unwrap();
        assert_eq!((still.queries, still.p50_ms), (0.0, None), "of nothing there is no half");
        assert_eq!(points.all().points.len(), 2);
    }

    #[test]
    fn an_hour_is_kept() {
        let (mut points, began) = (Points::default(), Instant::now());
        for number in 0..1000_u64 {
            points.add(counts(number, 0, 0), began + EVERY * u32::try_from(number).unwrap());
        }
        assert_eq!(points.all().points.len(), KEPT);
    }
}
