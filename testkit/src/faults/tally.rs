//! How long outages were.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Outages of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Outages(Vec<Duration>);

impl Outages {
    pub(super) fn note(&mut self, outage: Duration) {
        let at = self.0.partition_point(|it| *it <= outage);
        self.0.insert(at, outage);
    }

    /// The outage that `percent` of all do not exceed (the nearest rank).
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn worst(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|it| self.note(*it));
    }
}

impl fmt::Display for Outages {
    /// The median, the 90th and 99th percentile and the worst, in seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |it: Duration| it.as_secs_f64();
        let [p50, p90, p99] = [50, 90, 99].map(|percent| seconds(self.percentile(percent)));
        write!(f, "{p50:>7.2} {p90:>7.2} {p99:>7.2} {:>7.2}", seconds(self.worst()))
    }
}

/// Outages of writes and of reads, by what caused them.
#[derive(Clone, Debug)]
pub(super) struct Tally<K>(BTreeMap<K, [Outages; 2]>);

impl<K: Ord + Copy> Tally<K> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn note(&mut self, kind: K, write: Duration, read: Duration) {
        let [writes, reads] = self.0.entry(kind).or_default();
        writes.note(write);
        reads.note(read);
    }

    /// All outages of writes of the kinds that `of` accepts.
    pub(super) fn writes(&self, of: impl Fn(K) -> bool) -> Outages {
        let mut all = Outages::default();
        self.0.iter().filter(|(kind, _)| of(**kind)).for_each(|(_, [writes, _])| all.merge(writes));
        all
    }
}

impl<K: fmt::Display> fmt::Display for Tally<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<54}     no write for, seconds              no read for, seconds", "")?;
        write!(f, "{:<50} {:>3}", "", "n")?;
        for _ in 0..2 {
            write!(f, " {:>7} {:>7} {:>7} {:>7}  ", "p50", "p90", "p99", "max")?;
        }
        for (kind, [writes, reads]) in &self.0 {
            write!(f, "\n{:<50} {:>3} {writes}   {reads}", kind.to_string(), writes.count())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let mut outages = Outages::default();
        for milliseconds in (1..=100).rev() {
            outages.note(Duration::from_millis(milliseconds));
        }
        assert_eq!([50, 90, 99].map(|it| outages.percentile(it).as_millis()), [50, 90, 99]);
        assert_eq!(outages.worst().as_millis(), 100);
        let mut few = Outages::default();
        few.note(Duration::from_secs(7));
        assert_eq!([50, 99].map(|it| few.percentile(it).as_secs()), [7, 7]);
    }
}
