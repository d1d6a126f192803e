//! A session that looks at its prepared statements has them for itself.

use std::io;

use pgherd_protocol::session::{OwnRequest, Session as Machine};

use super::acquire::Held;
use super::relay::{Event, Lost};
use super::session::Session;

/// So many requests are sent at once. What is said to them fits between two sockets.
const AT_ONCE: usize = 64;

impl Session {
    /// As [`Session::prepare_own_statements`]. A cancel request that comes meanwhile is for the text that waits for it.
    pub(super) async fn have_own_statements(&mut self, held: &mut Held) -> Result<(), Event> {
        self.access.seat.begin_work();
        let done = self.prepare_own_statements(held).await;
        self.front.held_over.add(self.access.seat.end_work());
        done
    }

    /// Has the server prepare the session's statements under its own names, and no others, so that `pg_prepared_statements` shows what it
    /// would on a connection of the session's own, but for those that do not fit the schema any more. Where that cannot be, all
    /// stays as it is.
    async fn prepare_own_statements(&mut self, held: &mut Held) -> Result<(), Event> {
        let Some(connection) = held.lease.connection() else { return Ok(()) };
        // A cancel request that is still on its way would hit this.
        let is_clear = connection.cancel.is_clear() || connection.cancel.cleared().await;
        let requests = self.front.machine.own_statements(&connection.state.statements);
        let Some(requests) = requests.filter(|_| is_clear) else {
            self.front.machine.stay_as_it_is();
            return Ok(());
        };
        let refused = self.request_all(held, &requests).await.map_err(Lost::because)?;
        if let Some(misfits) = Machine::misfits(&requests, &refused) {
            self.request_all(held, &[misfits]).await.map_err(Lost::because)?;
        }
        let Some(connection) = held.lease.connection() else { return Ok(()) };
        if self.front.machine.become_private(&mut connection.state.statements, &requests, &refused) {
            return Ok(());
        }
        // Its own names must not be left to others.
        let refused = self.request_all(held, &[Machine::no_statements()]).await.map_err(Lost::because)?;
        if refused.contains(&true) {
            return Err(Lost::because("its prepared statements could not be dropped"));
        }
        if let Some(connection) = held.lease.connection() {
            connection.state.statements.clear();
        }
        self.front.machine.stay_as_it_is();
        Ok(())
    }

    /// Of each request whether the server has refused it, or has prepared what gives something else than it is to give. What is notified
    /// meanwhile is told.
    async fn request_all(&mut self, held: &mut Held, requests: &[OwnRequest]) -> io::Result<Vec<bool>> {
        let mut all = Vec::new();
        let Some(connection) = held.lease.connection() else { return Ok(all) };
        let buffers = &self.worker.buffers;
        // With what the server has said behind earlier answers.
        let mut buffer = self.front.down.buffer.take().unwrap_or_else(|| buffers.take());
        for requests in requests.chunks(AT_ONCE) {
            let (refused, notifications) = connection.request(requests, &mut buffer).await?;
            all.extend(refused);
            self.access.standbys.tell(&notifications, &mut self.front.down);
        }
        self.front.down.take_over(buffer, buffers);
        Ok(all)
    }
}
