//! Paired ratios, their spread, and what the spread supports.

use std::collections::BTreeMap;

use serde::Serialize;

/// Fewer paired rounds than this support nothing: two figures may agree by chance.
pub const FEWEST_ROUNDS: usize = 3;

/// The median and the range of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle figure, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest figure.
    pub min: f64,
    /// The largest figure.
    pub max: f64,
}

impl Spread {
    /// The spread of the finite ones of `figures`; none when there is none.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (&low, &high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

/// `subject / other` for every round that has both, so that what slowed a whole round down cancels out.
#[must_use]
pub fn paired_ratios(subject: &BTreeMap<u32, f64>, other: &BTreeMap<u32, f64>) -> Vec<f64> {
    let pairs = subject.iter().filter_map(|(round, figure)| Some((figure, other.get(round)?)));
    pairs.map(|(subject, other)| subject / other).filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect()
}

/// Whether a ratio's spread supports that there is a difference at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every round says the same, and by more than the control's noise.
    Supported,
    /// Some rounds say more, some say less.
    IncludesOne,
    /// The median differs from 1 by no more than the same relay measured twice does.
    WithinControl,
    /// Fewer than [`FEWEST_ROUNDS`] rounds.
    TooFewRounds,
    /// Every round says the same, and there is no control to compare with.
    NoControl,
}

/// Judges paired ratios by their own spread and by that of the A/A control (none: empty).
///
/// The control's noise is its largest deviation from 1 in either direction, on a logarithmic scale, since 0.8 and 1.25
/// are the same deviation.
#[must_use]
pub fn judge(ratios: &[f64], control: &[f64]) -> Verdict {
    let Some(spread) = Spread::of(ratios).filter(|_| ratios.len() >= FEWEST_ROUNDS) else {
        return Verdict::TooFewRounds;
    };
    let noise = control.iter().map(|ratio| ratio.ln().abs()).fold(0.0, f64::max);
    if spread.min <= 1.0 && spread.max >= 1.0 {
        Verdict::IncludesOne
    } else if control.is_empty() {
        Verdict::NoControl
    } else if spread.median.ln().abs() <= noise {
        Verdict::WithinControl
    } else {
        Verdict::Supported
    }
}

/// The smallest of `sorted` that at least `percent` % of them do not exceed (nearest rank).
#[must_use]
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(figures: &[(u32, f64)]) -> BTreeMap<u32, f64> {
        figures.iter().copied().collect()
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of(&[f64::NAN]), None);
    }

    #[test]
    fn a_slow_round_cancels_out_when_paired() {
        let subject = rounds(&[(1, 100.0), (2, 10.0), (3, 120.0)]);
        let other = rounds(&[(1, 50.0), (2, 5.0), (3, 60.0)]);
        assert_eq!(paired_ratios(&subject, &other), vec![2.0, 2.0, 2.0]);
    }

    #[test]
    fn rounds_that_only_one_has_and_divisions_by_zero_are_no_pairs() {
        let subject = rounds(&[(1, 100.0), (2, 10.0), (4, 3.0)]);
        let other = rounds(&[(1, 50.0), (3, 5.0), (4, 0.0)]);
        assert_eq!(paired_ratios(&subject, &other), vec![2.0]);
    }

    #[test]
    fn a_spread_on_both_sides_of_one_supports_nothing() {
        assert_eq!(judge(&[0.99, 1.3, 1.4], &[]), Verdict::IncludesOne);
        assert_eq!(judge(&[1.0, 1.3, 1.4], &[]), Verdict::IncludesOne);
    }

    #[test]
    fn a_difference_smaller_than_the_controls_is_noise_in_either_direction() {
        assert_eq!(judge(&[1.04, 1.05, 1.06], &[0.92, 1.01, 1.0]), Verdict::WithinControl);
        assert_eq!(judge(&[0.94, 0.95, 0.96], &[1.08, 1.01, 1.0]), Verdict::WithinControl);
        assert_eq!(judge(&[1.2, 1.25, 1.3], &[0.92, 1.01, 1.0]), Verdict::Supported);
    }

    #[test]
    fn two_rounds_support_nothing() {
        assert_eq!(judge(&[2.0, 2.0], &[]), Verdict::TooFewRounds);
        assert_eq!(judge(&[2.0, 2.0, 2.0], &[]), Verdict::NoControl);
        assert_eq!(judge(&[2.0, 2.0, 2.0], &[1.1]), Verdict::Supported);
    }

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 99)), (Some(100), Some(198)));
        assert_eq!((percentile(&[5], 99), percentile(&[], 50)), (Some(5), None));
    }
}
