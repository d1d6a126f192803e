//! Connections to PostgreSQL servers, their pools, and the table that says which server takes writes.

pub(crate) mod balance;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod distance;
pub(crate) mod gates;
pub(crate) mod lease;
pub(crate) mod marks;
pub(crate) mod operate;
pub(crate) mod pool;
pub(crate) mod probes;
pub(crate) mod quota;
pub(crate) mod secure;
pub(crate) mod table;
