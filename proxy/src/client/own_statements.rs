//! A session that looks at its prepared statements has them for itself.

use std::io;

use pgherd_protocol::session::{OwnRequest, Session as Machine};

use super::acquire::Held;
use super::relay::{Event, Lost};
use super::session::Session;

/// So many requests are sent at once. What is said to them fits between two sockets.
const AT_ONCE: usize = 64;

impl Session {
    /// Has the server prepare the session's statements under its own names, and no others, so that `pg_prepared_statements` shows what it
    /// would on a connection of the session's own. Where that cannot be, all stays as it is.
    pub(super) async fn have_own_statements(&mut self, held: &mut Held) -> Result<(), Event> {
        let Some(connection) = held.lease.connection() else { return Ok(()) };
        // A cancel request that is still on its way would hit this.
        let is_clear = connection.cancel.is_clear() || connection.cancel.cleared().await;
        let Some(requests) = self.front.machine.own_statements().filter(|_| is_clear) else {
            self.front.machine.stay_shared();
            return Ok(());
        };
        if self.request_all(held, &requests).await.map_err(Lost::because)? {
            if let Some(connection) = held.lease.connection() {
                self.front.machine.become_private(&mut connection.state.statements);
            }
            return Ok(());
        }
        // One of them does not fit the schema any more.
        self.request_all(held, &[Machine::no_statements()]).await.map_err(Lost::because)?;
        if let Some(connection) = held.lease.connection() {
            connection.state.statements.clear();
        }
        self.front.machine.stay_shared();
        Ok(())
    }

    /// True if the server has refused none, and each statement gives what it is to give. What is notified meanwhile is told.
    async fn request_all(&mut self, held: &mut Held, requests: &[OwnRequest]) -> io::Result<bool> {
        let Some(connection) = held.lease.connection() else { return Ok(false) };
        let buffers = &self.worker.buffers;
        // With what the server has said behind earlier answers.
        let mut buffer = self.front.down.buffer.take().unwrap_or_else(|| buffers.take());
        let mut is_done = true;
        for requests in requests.chunks(AT_ONCE) {
            let (refused, notifications) = connection.request(requests, &mut buffer).await?;
            is_done &= !refused;
            self.front.down.append().extend_from_slice(&notifications);
        }
        self.front.down.take_over(buffer, buffers);
        Ok(is_done)
    }
}
