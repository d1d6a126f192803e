//! Bytes in, actions out: the PostgreSQL wire protocol as pgherd needs it. Pure: no socket, clock, rng or runtime.
pub mod auth;
