//! Where the primary's write-ahead log was, and when.

use std::time::{Duration, Instant};

use pgherd_health::Lsn;

use crate::config::MaxLag;

/// So many positions are kept; the older they are, the fewer.
const MOST: usize = 128;

/// WAL is written in pages of this size, each with a header, which is longer in the first page of a segment.
const PAGE: u64 = 8192;
const HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;
/// Each segment's size is a multiple of this.
const SMALLEST_SEGMENT: u64 = 1 << 20;

/// A position, and the first and the last time that it was asked for and was the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    lsn: Lsn,
    first_asked: Instant,
    last_asked: Instant,
}

/// The primary's positions in one reign, both they and their times growing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Samples(Vec<Sample>);

/// How far a standby is behind, by what the primary is known to have had when the standby was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// What it had not replayed.
    pub(crate) bytes: u64,
    /// For how long it had lacked something.
    pub(crate) time: Duration,
}

impl Lag {
    /// True if a standby may be so far behind.
    pub(super) fn is_within(self, max: MaxLag) -> bool {
        match max {
            MaxLag::Bytes(bytes) => self.bytes <= bytes,
            MaxLag::Time(time) => self.time <= time,
        }
    }
}

impl Samples {
    /// Takes in a position that was asked for at `asked_at`, not before the last one.
    pub(super) fn push(&mut self, lsn: Lsn, asked_at: Instant) {
        match self.0.last_mut() {
            Some(last) if last.lsn == lsn => last.last_asked = asked_at,
            _ => self.0.push(Sample { lsn, first_asked: asked_at, last_asked: asked_at }),
        }
        if self.0.len() == MOST {
            self.thin_out();
        }
    }

    /// Drops the one that is missed least: the gap that it leaves is the smallest for its age. Whoever needs it takes the next, which covers
    /// more.
    fn thin_out(&mut self) {
        let Some(newest) = self.0.last().map(|last| last.first_asked) else { return };
        let gap = |triple: &[Sample]| match triple {
            [before, _, next] => {
                let gap = next.first_asked.duration_since(before.first_asked);
                gap.as_secs_f64() / newest.duration_since(before.first_asked).as_secs_f64()
            }
            _ => f64::MAX,
        };
        let gaps = self.0.windows(3).map(gap).enumerate();
        if let Some((before, _)) = gaps.min_by(|(_, one), (_, other)| one.total_cmp(other)) {
            self.0.remove(before + 1);
        }
    }

    /// The last one, and when it was asked for last.
    pub(super) fn last(&self) -> Option<(Lsn, Instant)> {
        self.0.last().map(|last| (last.lsn, last.last_asked))
    }

    /// A position behind all that was committed at `moment`: one that was asked for later, not just then, however coarse the clock.
    pub(super) fn covering(&self, moment: Instant) -> Option<Lsn> {
        let before = self.0.partition_point(|sample| sample.last_asked <= moment);
        self.0.get(before).map(|sample| sample.lsn)
    }

    /// How far a standby was behind that had replayed so much when it was asked; none if nothing was known of the primary then.
    pub(super) fn lag(&self, replayed: Lsn, asked_at: Instant) -> Option<Lag> {
        let known = self.0.partition_point(|sample| sample.first_asked <= asked_at);
        let known = self.0.get(..known)?;
        let bytes = known.last()?.lsn.bytes_since(replayed);
        let lacked = known.get(known.partition_point(|sample| sample.lsn <= replayed));
        let time = lacked.map(|first| asked_at.duration_since(first.first_asked)).unwrap_or_default();
        Some(Lag { bytes, time })
    }
}

/// The end of the last record before an insert position. Where that is just behind a page's header, the record ends where the page begins, and
/// that is what a standby says that has replayed it.
pub(super) const fn end_of_records(insert: Lsn) -> Lsn {
    let is_behind_header = insert.0 % PAGE == HEADER || insert.0 % SMALLEST_SEGMENT == LONG_HEADER;
    if is_behind_header { Lsn(insert.0 - insert.0 % PAGE) } else { insert }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64, start: Instant) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn what_was_committed_is_covered_by_the_first_position_that_was_asked_for_afterwards() {
        let start = Instant::now();
        let mut samples = Samples::default();
        for (lsn, second) in [(10, 1), (20, 2), (20, 3), (30, 5)] {
            samples.push(Lsn(lsn), at(second, start));
        }
        let covering = [0, 1, 2, 3, 4, 5, 6].map(|second| samples.covering(at(second, start)));
        assert_eq!(covering.map(|lsn| lsn.map_or(0, |lsn| lsn.0)), [10, 20, 20, 30, 30, 0, 0]);
    }

    #[test]
    fn old_positions_thin_out_and_their_number_is_bounded() {
        let start = Instant::now();
        let mut samples = Samples::default();
        for second in 0..10_000 {
            samples.push(Lsn(second), at(second, start));
            assert!(samples.0.len() < MOST);
        }
        for second in 0..9_999 {
            let covering = samples.covering(at(second, start)).unwrap();
            assert!(covering > Lsn(second));
            assert!(second < 9_990 || covering == Lsn(second + 1), "the newest are all there");
        }
        let lag = samples.lag(Lsn(9_000), at(9_999, start)).unwrap();
        assert_eq!(lag.bytes, 999);
        assert!((Duration::from_secs(850)..Duration::from_secs(1000)).contains(&lag.time), "{lag:?}");
    }

    #[test]
    fn a_standby_is_behind_what_the_primary_had_when_it_was_asked() {
        let start = Instant::now();
        let mut samples = Samples::default();
        assert_eq!(samples.lag(Lsn(10), start), None);
        for (lsn, second) in [(10, 1), (20, 2), (30, 4)] {
            samples.push(Lsn(lsn), at(second, start));
        }
        let lag = |lsn, second| samples.lag(Lsn(lsn), at(second, start));
        let behind = |bytes, seconds| Some(Lag { bytes, time: Duration::from_secs(seconds) });
        assert_eq!(lag(10, 0), None);
        assert_eq!(lag(10, 1), behind(0, 0));
        assert_eq!(lag(10, 3), behind(10, 1));
        assert_eq!(lag(10, 5), behind(20, 3));
        assert_eq!(lag(20, 3), behind(0, 0), "the primary has written since, for all that is known");
        assert_eq!(lag(40, 5), behind(0, 0));
    }

    #[test]
    fn a_position_behind_a_pages_header_is_the_pages_start() {
        for (insert, end) in [
            (0x0100_0028, 0x0100_0000),
            (0x0100_2018, 0x0100_2000),
            (0x0100_2028, 0x0100_2028),
            (0x0100_2000, 0x0100_2000),
            (0x0100_2020, 0x0100_2020),
        ] {
            assert_eq!(end_of_records(Lsn(insert)), Lsn(end), "{insert:x}");
        }
    }
}
