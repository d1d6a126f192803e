//! Which of several servers a read goes to: two are drawn by their weights, and the one of them that has less to do gets it.
//!
//! So a server that is slow gets less without anybody measuring it, and no crowd of sessions runs to the one that was idle a moment ago. How
//! far away a server is shows in that only where much is under way, so it is measured ([`super::distance`]): one that is far
//! is not drawn while one that is near has little to do.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The least part of its weight that a server has that has just come.
const LEAST: f64 = 0.1;

/// What a server has to do, of all of its pools: connections that are lent, and clients that wait for one. On a cache line of its own, since
/// all workers count there.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Outstanding {
    lent: AtomicUsize,
    waited_for: AtomicUsize,
}

impl Outstanding {
    /// One more is lent.
    pub(super) fn begin(&self) {
        self.lent.fetch_add(1, Ordering::Relaxed);
    }

    /// One that was lent is not any more.
    pub(super) fn end(&self) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are lent now.
    pub(super) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// How many are lent now or waited for.
    fn count(&self) -> usize {
        self.lent() + self.waited_for.load(Ordering::Relaxed)
    }
}

/// A client waits, as long as this is there.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Outstanding>);

impl Waiting {
    /// One more waits for a server.
    pub(super) fn begin(outstanding: &Arc<Outstanding>) -> Self {
        outstanding.waited_for.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(outstanding))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waited_for.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a server's share of the reads depends on.
#[derive(Debug)]
pub(super) struct Share {
    /// The bits of a float.
    weight: AtomicU64,
    /// What a read is worth there, for the way to it: the bits of a float, 1 where it is near.
    nearness: AtomicU64,
    /// When it came; none if it has its full weight at once.
    since: Option<Instant>,
    /// What it has to do.
    pub(super) outstanding: Arc<Outstanding>,
}

impl Share {
    /// That of a server of this weight, which has come at `since` if it begins slowly.
    pub(super) fn new(weight: f64, since: Option<Instant>) -> Self {
        let (weight, nearness) = (AtomicU64::new(weight.to_bits()), AtomicU64::new(1_f64.to_bits()));
        Self { weight, nearness, since, outstanding: Arc::default() }
    }

    /// Another weight is configured, or the same.
    pub(super) fn set_weight(&self, weight: f64) {
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// It is as near or as far as this, from 0 to 1.
    pub(super) fn set_nearness(&self, nearness: f64) {
        self.nearness.store(nearness.to_bits(), Ordering::Relaxed);
    }

    /// The server as one that may be drawn.
    pub(super) fn candidate<T>(&self, server: T, at: (Duration, Instant)) -> Candidate<T> {
        let nearness = f64::from_bits(self.nearness.load(Ordering::Relaxed));
        let outstanding = self.outstanding.count() as f64;
        Candidate { server, weight: self.weight(at), nearness, outstanding }
    }

    fn weight(&self, (slow_start, now): (Duration, Instant)) -> f64 {
        let weight = f64::from_bits(self.weight.load(Ordering::Relaxed));
        let age = self.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since));
        let part = if age >= slow_start { 1.0 } else { age.div_duration_f64(slow_start).max(LEAST) };
        weight * part
    }
}

/// A server that may be drawn.
#[derive(Debug)]
pub(super) struct Candidate<T> {
    server: T,
    weight: f64,
    nearness: f64,
    outstanding: f64,
}

impl<T> Candidate<T> {
    /// How often it is drawn. One that is far is hardly drawn at all, and gets what is too much for those that are near.
    fn pull(&self) -> f64 {
        self.weight * self.nearness.powi(2)
    }

    /// True if it has less to do than the other for its weight and the way there, and will still have no more with one more read.
    fn is_less_busy_than(&self, other: &Self) -> bool {
        let takes = |it: &Self, reads: f64| reads / (it.weight * it.nearness);
        takes(self, self.outstanding + 1.0) <= takes(other, other.outstanding)
    }
}

/// Draws two candidates by their weights and distances, without replacement, and takes the first unless the other is less busy. One without a weight is
/// never taken.
pub(super) fn pick<T>(candidates: impl Iterator<Item = Candidate<T>>, dice: &mut Dice) -> Option<T> {
    let (mut first, mut second) = (None::<(f64, Candidate<T>)>, None::<(f64, Candidate<T>)>);
    let comes_before = |time: f64, other: &Option<(f64, _)>| other.as_ref().is_none_or(|it| time < it.0);
    for candidate in candidates.filter(|candidate| candidate.weight > 0.0) {
        // Who waits for an event that is as frequent as its weight: the first one comes to one of them with the probability of its weight.
        let time = dice.exponential() / candidate.pull();
        if comes_before(time, &first) {
            second = first.replace((time, candidate));
        } else if comes_before(time, &second) {
            second = Some((time, candidate));
        }
    }
    let first = first?.1;
    match second {
        Some((_, other)) if other.is_less_busy_than(&first) => Some(other.server),
        _ => Some(first.server),
    }
}

/// Random numbers to balance with, at next to no cost; good for nothing that anybody must not guess. This is `SplitMix64`.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Begins with any number, the same for the same.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    pub(super) fn even(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How long one waits for an event that comes once in a unit of time.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.even()).ln()
    }
}
