//! Bytes in, actions out: the PostgreSQL wire protocol as pgherd needs it. Pure: no socket, clock, rng or runtime.

pub mod auth;
pub mod catalogue;
pub mod customs;
pub mod error;
pub mod flow;
pub mod frame;
pub mod leftovers;
pub mod parameters;
pub mod prepared;
pub mod proxy_header;
pub mod rows;
pub mod server;
pub mod session;
pub mod startup;
pub mod statement;
pub mod write;
