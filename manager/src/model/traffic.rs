//! What clients do, over time.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The last hour.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct History {
    /// Time between two points.
    pub every_seconds: u64,
    /// The oldest first.
    pub points: Vec<Point>,
}

/// A few seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// When they ended (RFC 3339).
    pub at: String,
    /// Transactions a second.
    pub transactions: f64,
    /// Queries a second.
    pub queries: f64,
    /// Bytes a second from clients.
    pub received: f64,
    /// Bytes a second to clients.
    pub sent: f64,
    /// How long half of the queries took at most; none where there was no query.
    pub p50_ms: Option<f64>,
    /// The same of 95 of a hundred.
    pub p95_ms: Option<f64>,
    /// The same of 99 of a hundred.
    pub p99_ms: Option<f64>,
    /// How long 99 of a hundred waits for a server connection took at most.
    pub wait_p99_ms: Option<f64>,
    /// Clients that are logged in.
    pub clients: usize,
    /// The most that there may be.
    pub clients_max: usize,
    /// Clients that wait for a server connection.
    pub waiting: usize,
    /// Server connections that clients have.
    pub active: usize,
    /// Server connections that nobody has.
    pub idle: usize,
    /// Queries a second of each server that only read.
    pub reads: BTreeMap<u32, f64>,
    /// How far each standby's replay is behind.
    pub lag_bytes: BTreeMap<u32, u64>,
    /// For how long it has been.
    pub lag_seconds: BTreeMap<u32, f64>,
}
