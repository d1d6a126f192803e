//! The check that nothing acknowledged is lost and nothing takes effect twice.
//!
//! A [`Workload`] appends numbered rows over several connections and records of every attempt whether it was acknowledged,
//! refused, or is unknown. No number is ever used again. [`Report::compare`] then holds the record against the table.
//!
//! With [`Workload::audited`] it moves money between accounts too, every client reads back what it wrote, and others look
//! all the time whether the sum is right.

mod bank;
mod reader;
mod report;
mod workload;

use std::time::Instant;

pub use report::{Report, Row};
pub use workload::{Commit, Running, Workload};
pub(crate) use workload::{End, commit};

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

/// One read.
#[derive(Clone, Debug)]
pub struct Read {
    /// When it was sent.
    pub begun: Instant,
    /// When its answer, or the lack of one, was known.
    pub ended: Instant,
    /// What it saw.
    pub seen: Seen,
}

/// What a read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What it must.
    Right,
    /// Not the row that the same client had written before, and that was acknowledged.
    Missing(Row),
    /// Another sum of all accounts than the right one.
    WrongSum(String),
    /// Nothing: an error, or a connection that was lost.
    Refused {
        /// The SQLSTATE, or `lost`.
        sqlstate: String,
    },
}

/// Everything that a workload saw.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// All attempts; those of one client in their order.
    pub attempts: Vec<Attempt>,
    /// All reads.
    pub reads: Vec<Read>,
    /// How often an established connection was lost.
    pub connections_lost: usize,
    /// Logins that failed, by the text of their error.
    pub logins_failed: Vec<String>,
}
