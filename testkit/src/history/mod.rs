//! The check that nothing acknowledged is lost and nothing takes effect twice.
//!
//! A [`Workload`] appends numbered rows over several connections and records of every attempt whether it was acknowledged,
//! refused, or is unknown. No number is ever used again. [`Report::compare`] then holds the record against the table.

mod report;
mod workload;

use std::time::Instant;

pub use report::{Report, Row};
pub use workload::{Commit, Running, Workload};

/// What became of one attempt, as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said that it is committed.
    Acknowledged,
    /// Committed, with a warning: a wait for synchronous replication that was cancelled. Only local, so it may be lost.
    AcknowledgedLocally {
        /// The SQLSTATE of the warning.
        sqlstate: String,
    },
    /// Certainly not committed: an error, or a connection that was lost before the commit was sent.
    Refused {
        /// The SQLSTATE, or `lost`.
        sqlstate: String,
    },
    /// The commit was sent, and what came back leaves its outcome open.
    Unknown {
        /// The SQLSTATE, or `lost` where the connection ended without one.
        sqlstate: String,
    },
}

/// One attempt to append a row.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The row.
    pub row: Row,
    /// When its first statement was sent.
    pub begun: Instant,
    /// When its outcome was known, or known to be unknown.
    pub ended: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

/// Everything that a workload saw.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// All attempts; those of one client in their order.
    pub attempts: Vec<Attempt>,
    /// How often an established connection was lost.
    pub connections_lost: usize,
    /// Logins that failed, by the text of their error.
    pub logins_failed: Vec<String>,
}
