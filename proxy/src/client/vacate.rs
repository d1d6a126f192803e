//! Makes way for a statement that wants a database for itself, such as DROP DATABASE: PostgreSQL waits a while for others to
//! leave it, and idle connections of pgherd's would not.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use pgherd_protocol::session::Session as Machine;
use tokio::time::Sleep;

use crate::server::table::Server;

/// A statement that is not refused within this time waits for others to leave.
const AFTER: Duration = Duration::from_millis(100);

/// The database that the session's statement may be waiting for.
#[derive(Debug, Default)]
pub(super) struct Vacating(Option<Wanted>);

#[derive(Debug)]
struct Wanted {
    database: Box<[u8]>,
    after: Pin<Box<Sleep>>,
}

impl Vacating {
    /// Closes the user's idle connections to that database, once it is plain that the session waits. Not those of others: a
    /// statement that was only prepared would do to be a nuisance to them.
    pub(super) fn poll(
        &mut self,
        machine: &mut Machine,
        (server, user): (&Server, &str),
        cx: &mut Context<'_>,
    ) {
        if let Some(database) = machine.take_wanted_database() {
            self.0 = Some(Wanted { database, after: Box::pin(tokio::time::sleep(AFTER)) });
        }
        let Some(Wanted { database, after }) = &mut self.0 else { return };
        if after.as_mut().poll(cx).is_ready() {
            if !machine.owes_nothing() {
                server.vacate(database, user);
            }
            self.0 = None;
        }
    }
}
