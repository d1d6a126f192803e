//! How long queries, transactions and waits took, as histograms.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::family::escaped;
use super::seconds;
use crate::server::table::DatabaseAndUser;
use crate::shared::Shared;
use crate::traffic::{Counter, Counts, Sums, Timed};

/// The first bucket is of what took no more than so many microseconds; each other is of twice as many as the one before.
const FIRST: u64 = 128;
/// No bucket has an example.
type NoExemplar = [(&'static str, &'static str); 0];

/// Buckets, but for the last, which is of all that took longer.
const BUCKETS: usize = 19;

/// What each family is called, what it says, and what of.
const FAMILIES: [(&str, &str, Timed, Counter); 3] = [
    ("query_duration", "How long servers worked on queries", Timed::Query, Counter::QueryTime),
    ("transaction_duration", "How long transactions took", Timed::Transaction, Counter::TransactionTime),
    (
        "wait_duration",
        "How long clients waited that had to wait for a server connection",
        Timed::Wait,
        Counter::WaitTime,
    ),
];

pub(super) fn encode(
    shared: &Shared,
    sums: &[(DatabaseAndUser, Sums)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    for (name, help, timed, counter) in FAMILIES {
        let times = shared.traffic.times(timed);
        if times.is_empty() {
            continue;
        }
        let mut family =
            encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for ((database, user), counts) in &times {
            let of_these =
                |(names, _): &(DatabaseAndUser, Sums)| names.cmp(&(database.clone(), user.clone()));
            let sum = sums.binary_search_by(of_these).ok().and_then(|at| sums.get(at));
            let sum = sum.map_or(0, |(_, sums)| sums.of(counter));
            let labels = [("database", escaped(database)), ("user", escaped(user))];
            histogram(counts, seconds(sum), family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn histogram(counts: &Counts, sum: f64, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let bounds = (0..BUCKETS).map(|power| FIRST << power);
    let mut buckets: Vec<(f64, u64)> = bounds.clone().map(|most| (seconds(most), 0)).collect();
    buckets.push((f64::MAX, 0));
    let mut all = 0;
    for (most, count) in counts.steps() {
        // A step ends one microsecond before a bucket does.
        let at = bounds.clone().position(|bound| most <= bound).unwrap_or(BUCKETS);
        if let Some((_, bucket)) = buckets.get_mut(at) {
            *bucket += count;
        }
        all += count;
    }
    encoder.encode_histogram::<NoExemplar>(sum, all, &buckets, None)
}
