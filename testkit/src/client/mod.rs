//! Clients: tokio-postgres, psql, pgbench, and one that sends and reads bytes as they are.

mod pgbench;
mod psql;
mod raw;
mod session;

pub use pgbench::{Abort, Pgbench, PgbenchReport, Running};
pub use postgres_protocol::IsNull;
/// Messages of the frontend, ready to be sent by a [`RawClient`].
pub use postgres_protocol::message::frontend;
pub use psql::psql;
pub use raw::{Answer, ErrorFields, Frame, RawClient, startup_packet};
pub use session::Session;

/// A connection string in libpq's form.
pub fn connection_string(host: &str, port: u16, user: &str, database: &str, password: &str) -> String {
    format!("host={host} port={port} user={user} dbname={database} password={password} connect_timeout=5")
}
