//! What a session has left on its server connection, when it is at rest.

use std::sync::Arc;

use pgherd_protocol::leftovers::{Leftovers, question};
use pgherd_protocol::parameters::IN_FORCE;
use pgherd_protocol::statement::Pin;

use super::acquire::Held;
use super::relay::{Event, Lost};
use super::session::Session;
use crate::server::connection::Answer;

/// PostgreSQL has some 350 parameters.
const MOST_ROWS: usize = 512;

impl Session {
    /// Asks the server what the session has left there: which parameters it has set, so that they are in force wherever it is
    /// served next; and where it may have left, or undone, more than that, what there is of it. A session of which that cannot
    /// be told stays where it is.
    pub(super) async fn ask_what_is_left(&mut self, held: &mut Held) -> Result<(), Event> {
        let Some(connection) = held.lease.connection() else { return Ok(()) };
        let machine = &mut self.front.machine;
        let buffers = &self.worker.buffers;
        // A cancel request that is still on its way would hit this.
        if !connection.cancel.is_clear() && !connection.cancel.cleared().await {
            machine.stay();
            return Ok(());
        }
        if connection.state.parameters_lost && !machine.startup().is_empty() {
            let restored = connection.run_all([&machine.startup().to_sql_after_reset(false)], buffers).await;
            if !matches!(restored.map_err(Lost::because)?, [Ok(())]) {
                machine.stay();
                return Ok(());
            }
        }
        let answer = if machine.is_suspect() {
            let sql = question(&self.access.user, machine.startup(), machine.suspected_parameters());
            connection.ask(&sql, MOST_ROWS, buffers).await
        } else {
            connection.ask(IN_FORCE, MOST_ROWS, buffers).await
        };
        let encoding = connection.state.parameters.get("client_encoding").map(|encoding| &**encoding);
        let read = answer.map_err(Lost::because)?.and_then(|Answer { rows, notifications }| {
            let left = Leftovers::read(rows)?;
            let parameters = machine.startup().carried(&left.parameters, encoding)?;
            Some((left.pin, parameters, notifications))
        });
        let Some((pin, parameters, notifications)) = read else {
            machine.stay();
            return Ok(());
        };
        if pin == Some(Pin::Listen) {
            self.front.down.append().extend_from_slice(&notifications);
        }
        if machine.on_leftovers(pin, &parameters) {
            self.access.parameters = self.worker.shared.parameters.share(parameters);
            *self.access.seat.card().parameters.lock() = Arc::clone(&self.access.parameters);
            connection.applied = Some(Arc::clone(&self.access.parameters));
            connection.state.parameters_lost = false;
        }
        Ok(())
    }
}
