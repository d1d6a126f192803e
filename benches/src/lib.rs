//! Load benchmarks of pgherd beside its peers: pgbouncer, pgpool, haproxy and a plain relay.
//!
//! One run starts a PostgreSQL of its own, drives pgbench through each peer in turn, several rounds over, and
//! compares the peers round by round. Nothing here links pgherd: it is driven from outside, as its peers are.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program reports to its terminal"
)]

pub mod count;
pub mod environment;
pub mod idle;
pub mod options;
pub mod peers;
pub mod pgbench;
pub mod plot;
pub mod postgres;
pub mod procfs;
pub mod relay;
pub mod report;
pub mod results;
pub mod scale;
pub mod schedule;
pub mod server;
pub mod statistics;
pub mod transfer;
pub mod workload;
