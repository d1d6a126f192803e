//! What a session has left on its server connection, when it is at rest.

use std::sync::Arc;

use pgherd_protocol::leftovers::{Leftovers, parameters_question, question};

use super::acquire::Held;
use super::relay::{Event, Lost};
use super::session::Session;
use crate::server::connection::ServerConnection;

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
        let own = machine.customs().names();
        let sql = if machine.is_suspect() {
            let suspected = machine.suspected_parameters().iter().map(|name| &**name);
            question(&self.access.user, machine.startup(), own.chain(suspected)).into()
        } else {
            parameters_question(own)
        };
        let restore = (connection.state.parameters_lost && !machine.startup().is_empty())
            .then(|| machine.startup().to_sql_after_reset(false));
        let mut buffer = buffers.take();
        let mut rows = Some(Vec::new());
        // What the session hears meanwhile, if it listens, is for the client.
        for sql in restore.as_deref().into_iter().chain([&*sql]) {
            let answer = connection.ask(sql, MOST_ROWS, &mut buffer).await.map_err(Lost::because)?;
            self.front.down.append().extend_from_slice(&answer.notifications);
            rows = rows.and(answer.rows);
        }
        self.front.down.take_over(buffer, buffers);
        let encoding = connection.state.parameters.get("client_encoding").map(|encoding| &**encoding);
        let read = rows.and_then(|rows| {
            let left = Leftovers::read(rows)?;
            let parameters = machine.startup().carried(&left.parameters, encoding)?;
            Some((left.pin, parameters))
        });
        let Some((pin, parameters)) = read else {
            machine.stay();
            return Ok(());
        };
        machine.finds_customs(parameters.customs());
        if machine.on_leftovers(pin, &parameters) {
            let parameters = parameters.with_customs(machine.customs());
            self.access.parameters = self.worker.shared.parameters.share(parameters);
            *self.access.seat.card().parameters.lock() = Arc::clone(&self.access.parameters);
            let is_known = !machine.may_hide_parameters();
            connection.applied = is_known.then(|| Arc::clone(&self.access.parameters));
            connection.state.parameters_lost = false;
        }
        Ok(())
    }

    /// Finds out which custom parameters functions have set on a connection that the session leaves behind. None if that cannot be
    /// told.
    pub(super) async fn find_customs(&self, connection: &mut ServerConnection) -> Option<()> {
        let Some(outlook) = &self.access.outlook else { return Some(()) };
        let suspects = outlook.suspects(self.worker.shared.statements.catalogue_generation()).clone();
        if suspects.parameters.is_empty() {
            return Some(());
        }
        let sql = parameters_question(suspects.parameters.iter().map(|name| &**name));
        let mut buffer = self.worker.buffers.take();
        let answer = connection.ask(&sql, MOST_ROWS, &mut buffer).await.ok()?;
        self.worker.buffers.give(buffer);
        let found = self.front.machine.startup().carried(&answer.rows?, None)?;
        connection.state.customs.add_all(found.customs());
        Some(())
    }
}
