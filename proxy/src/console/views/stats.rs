//! What databases have had to do: PgBouncer's SHOW STATS and its like.

use std::time::Instant;

use pgherd_protocol::rows::{Column, Row, Value};

use super::{Scene, numeric, text};
use crate::traffic::{Counter, Flows, Sums};

/// SHOW STATS
pub(super) const STATS: &[Column] = &[
    text("database"),
    numeric("total_server_assignment_count"),
    numeric("total_xact_count"),
    numeric("total_query_count"),
    numeric("total_received"),
    numeric("total_sent"),
    numeric("total_xact_time"),
    numeric("total_query_time"),
    numeric("total_wait_time"),
    numeric("total_client_parse_count"),
    numeric("total_server_parse_count"),
    numeric("total_bind_count"),
    numeric("avg_server_assignment_count"),
    numeric("avg_xact_count"),
    numeric("avg_query_count"),
    numeric("avg_recv"),
    numeric("avg_sent"),
    numeric("avg_xact_time"),
    numeric("avg_query_time"),
    numeric("avg_wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
];

/// SHOW STATS_TOTALS
pub(super) const TOTALS_BY_DATABASE: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("client_parse_count"),
    numeric("server_parse_count"),
    numeric("bind_count"),
];

/// SHOW STATS_AVERAGES
pub(super) const AVERAGES: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
];

/// SHOW TOTALS
pub(super) const TOTALS: &[Column] = &[text("name"), numeric("value")];

/// The counters in PgBouncer's order, with its names in SHOW TOTALS.
const ORDER: [(Counter, &str); 11] = [
    (Counter::Assignments, "server_assignment_count"),
    (Counter::Transactions, "xact_count"),
    (Counter::Queries, "query_count"),
    (Counter::Received, "client_bytes"),
    (Counter::Sent, "server_bytes"),
    (Counter::TransactionTime, "xact_time"),
    (Counter::QueryTime, "query_time"),
    (Counter::WaitTime, "wait_time"),
    (Counter::ClientParses, "ps_client_parse_count"),
    (Counter::ServerParses, "ps_server_parse_count"),
    (Counter::Binds, "ps_bind_count"),
];

pub(super) fn stats(scene: &Scene<'_>) -> Vec<Row> {
    by_database(scene, |flows| values(&flows.total).chain(values(&flows.average)).collect())
}

pub(super) fn totals_by_database(scene: &Scene<'_>) -> Vec<Row> {
    by_database(scene, |flows| values(&flows.total).collect())
}

pub(super) fn averages(scene: &Scene<'_>) -> Vec<Row> {
    by_database(scene, |flows| values(&flows.average).collect())
}

pub(super) fn totals(scene: &Scene<'_>) -> Vec<Row> {
    let sum = |pick: fn(&Flows) -> &Sums| {
        let flows = scene.shared().traffic.by_database(Instant::now());
        flows.values().fold(Sums::default(), |sum, flows| sum.plus(pick(flows)))
    };
    let of = |prefix: &'static str, sums: Sums| {
        ORDER.map(|(counter, name)| vec![format!("{prefix}_{name}").into(), sums.of(counter).into()])
    };
    let totals = of("total", sum(|flows| &flows.total));
    totals.into_iter().chain(of("avg", sum(|flows| &flows.average))).collect()
}

fn values(sums: &Sums) -> impl Iterator<Item = Value> {
    ORDER.iter().map(|(counter, _)| sums.of(*counter).into())
}

fn by_database(scene: &Scene<'_>, values: impl Fn(&Flows) -> Vec<Value>) -> Vec<Row> {
    let flows = scene.shared().traffic.by_database(Instant::now());
    let row = |database: &str, flows: &Flows| {
        let mut row = vec![Value::from(database)];
        row.extend(values(flows));
        row
    };
    flows.iter().map(|(database, flows)| row(database, flows)).collect()
}
