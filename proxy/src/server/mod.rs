//! Connections to PostgreSQL servers, their pools, and the table that says which server takes writes.

pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod lease;
pub(crate) mod pool;
pub(crate) mod table;
