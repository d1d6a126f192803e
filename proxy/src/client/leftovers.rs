//! What a session has left on its server connection, when it is at rest.

use std::sync::Arc;

use pgherd_protocol::leftovers::{Leftovers, parameters_question, question};
use pgherd_protocol::session::Detached;

use super::acquire::Held;
use super::own_work;
use super::relay::{Event, Front, Lost};
use super::session::Session;
use super::turns::Turn;
use super::unserved::cancelled;
use super::watch::Activity;
use super::wishes;
use crate::server::connection::ServerConnection;

/// PostgreSQL has some 350 parameters.
const MOST_ROWS: usize = 512;

impl Session {
    /// Asks what the session has left on its connection, now that it is at rest.
    pub(super) async fn settle(&mut self, held: &mut Held) -> Result<(), Event> {
        // It is pinned as long as the server has not said otherwise.
        self.front.machine.pin_beyond_mode().into_iter().for_each(|pin| self.access.seat.pin(pin));
        // The question has a time-out of its own.
        self.watch.note(Activity::Waiting, self.front.machine.rounds());
        let asked = self.ask_what_is_left(held).await;
        self.access.seat.release();
        if asked? && let Turn::End = self.serve_detached(Detached::refusing(cancelled())).await {
            return Err(Event::ClientGone);
        }
        Ok(())
    }

    /// Asks the server what the session has left there: which parameters it has set, so that they are in force wherever it is
    /// served next; and where it may have left, or undone, more than that, what there is of it. A session of which that cannot
    /// be told stays where it is. True if the client has sent something meanwhile, and has cancelled it.
    async fn ask_what_is_left(&mut self, held: &mut Held) -> Result<bool, Event> {
        let Some(connection) = held.lease.connection() else { return Ok(false) };
        let Front { machine, stream, up, down, .. } = &mut self.front;
        let buffers = &self.worker.buffers;
        // A cancel request that is still on its way would hit this.
        if !connection.cancel.is_clear() && !connection.cancel.cleared().await {
            machine.stay();
            return Ok(false);
        }
        let customs = machine.customs();
        let own = customs.names();
        let sql = if machine.is_suspect() {
            let suspected = machine.suspected_parameters().iter().map(|name| &**name);
            let suspected = suspected.filter(|name| !customs.has(name));
            question(self.access.user(), machine.startup(), own.chain(suspected)).into()
        } else {
            parameters_question(own)
        };
        let restore = (connection.state.parameters_lost && !machine.startup().is_empty())
            .then(|| machine.startup().to_sql_after_reset(false));
        let mut buffer = buffers.take();
        let mut rows = Some(Vec::new());
        // What the session hears meanwhile, if it listens, is for the client.
        if let Some(sql) = restore {
            let answer = connection.ask(&sql, MOST_ROWS, &mut buffer).await.map_err(Lost::because)?;
            self.access.standbys.tell(&answer.notifications, down);
            rows = answer.rows;
        }
        let point = Arc::clone(&connection.cancel);
        let question = connection.ask(&sql, MOST_ROWS, &mut buffer);
        let (answer, is_cancelled) =
            own_work::asked(question, (stream, up.has_input()), (&self.access.seat, &point)).await;
        let answer = answer.map_err(Lost::because)?;
        self.access.standbys.tell(&answer.notifications, down);
        rows = rows.and(answer.rows);
        down.take_over(buffer, buffers);
        let encoding = connection.state.parameters.get("client_encoding").map(|encoding| &**encoding);
        let read = rows.and_then(|rows| {
            let left = Leftovers::read(rows)?;
            let parameters = machine.startup().carried(&left.parameters, encoding)?;
            Some((left.pin, parameters))
        });
        let Some((pin, mut parameters)) = read else {
            machine.stay();
            return Ok(is_cancelled);
        };
        machine.finds_customs(parameters.customs());
        let after = wishes::take_after(&mut parameters);
        if machine.on_leftovers(pin, &parameters) {
            let parameters = parameters.with_customs(machine.customs());
            let parameters = self.worker.shared.parameters.share(parameters);
            let before = std::mem::replace(&mut self.access.parameters, parameters);
            *self.access.seat.card().parameters.lock() = Arc::clone(&self.access.parameters);
            // What was taken out is there yet.
            let is_known = !machine.may_hide_parameters() && after == Ok(None);
            connection.applied = is_known.then(|| Arc::clone(&self.access.parameters));
            connection.state.parameters_lost = false;
            let positions = self.worker.shared.backends.positions();
            wishes::heed(&mut self.front, (&mut self.access, &before), after, &positions);
        }
        Ok(is_cancelled)
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
