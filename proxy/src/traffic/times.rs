//! How long things took: counted in steps of a quarter of a power of two, so that what is told of them is right to a fifth.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps in each power of two.
const FINE: u32 = 2;
/// Powers of two: the last step is for all that took longer than four minutes.
const POWERS: usize = 28;
/// Steps.
pub(crate) const STEPS: usize = (POWERS - 1) << FINE;

/// Counts of one worker, which nobody else writes.
#[derive(Debug)]
pub(super) struct Times([AtomicU64; STEPS]);

impl Default for Times {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Times {
    /// So many things took `sum` microseconds together: each counts as their mean.
    #[inline]
    pub(super) fn add(&self, sum: u64, things: u64) {
        let each = if things == 1 { sum } else { sum.checked_div(things).unwrap_or_default() };
        super::add(&self.0, step(each), things);
    }

    pub(super) fn sum_into(&self, counts: &mut Counts) {
        for (sum, cell) in counts.0.iter_mut().zip(&self.0) {
            *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts([u64; STEPS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; STEPS])
    }
}

impl Counts {
    /// Each step: the most microseconds that are counted there, and how many took no more than that and more than the step before.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().enumerate().map(|(at, count)| (most(at), *count))
    }

    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
    }
}

/// Where so many microseconds are counted.
#[inline]
fn step(micros: u64) -> usize {
    let step = if micros < 1 << FINE {
        micros
    } else {
        let power = micros.ilog2();
        let fine = (micros >> (power - FINE)) & ((1 << FINE) - 1);
        (u64::from(power - FINE + 1) << FINE) + fine
    };
    usize::try_from(step).map_or(STEPS - 1, |step| step.min(STEPS - 1))
}

/// The most microseconds that are counted in a step.
const fn most(step: usize) -> u64 {
    let step = step as u64;
    if step < 1 << FINE {
        return step;
    }
    let power = (step >> FINE) + FINE as u64 - 1;
    let fine = step & ((1 << FINE) - 1);
    let width = 1 << (power - FINE as u64);
    (1_u64 << power) + (fine + 1) * width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_counted_in_the_step_that_ends_with_it_or_behind_it() {
        let far = [100_000, 999_999, 1_000_000, 59_000_000, 134_217_727];
        for micros in (0..5000).chain(far) {
            let at = step(micros);
            assert!(micros <= most(at), "{micros} in step {at}, which ends with {}", most(at));
            assert!(at == 0 || micros > most(at - 1), "{micros} in step {at}");
            assert!(most(at) as f64 <= micros as f64 * 1.25 + 1.0, "{micros} in step {at}");
        }
        assert_eq!((step(u64::MAX), step(300_000_000)), (STEPS - 1, STEPS - 1));
    }

    #[test]
    fn things_that_were_measured_together_count_as_their_mean() {
        let (times, mut counts) = (Times::default(), Counts::default());
        times.add(300, 3);
        times.add(7, 1);
        times.add(0, 0);
        times.sum_into(&mut counts);
        let counted: Vec<_> = counts.steps().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(7, 1), (111, 3)]);
    }
}
