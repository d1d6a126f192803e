//! Sessions in session mode whose reads may be answered by standbys. Such a session has one connection to the primary for life, its **home**, and
//! waits there for its client, so that whatever the server says on its own is told at once. What only reads is answered elsewhere as long as the
//! session has left nothing at home that would make a difference: home is left aside for so long.

use std::io;
use std::sync::Arc;

use pgherd_protocol::prepared::Lookup;
use pgherd_protocol::rows::one_column;
use pgherd_protocol::session::Pooling;
use pgherd_protocol::statement::Why;
use tokio::time::Instant;

use super::acquire::{Access, Held, RESET};
use super::reads::Reads;
use super::relay::{Event, Front, Lost};
use super::session::{Session, note_customs};
use super::turns::Turn;
use crate::buffer::Buffer;
use crate::config::{self, Consistency, HiddenState, PoolMode, ReadPolicy};
use crate::server::connection::{Outcome, ServerConnection};
use crate::traffic::{Counter, Reason};
use crate::worker::Worker;

/// Tells after how long the server ends a session that does nothing.
const IDLE_TIMEOUT: &str = "SHOW idle_session_timeout";

/// How a session uses server connections that begins now. In session mode what it leaves on its own is kept track of only where there is somewhere
/// else to read; and not where nobody would be told what functions leave, or where the server ends who does nothing on its own for long.
///
/// In session mode it has its own connection from now on, if there is one to be had by then.
pub(super) async fn pooling(
    mode: PoolMode,
    access: &mut Access,
    worker: &Worker,
    deadline: Instant,
) -> Pooling {
    if mode != PoolMode::Session {
        return Pooling::Transaction;
    }
    access.home = tokio::time::timeout_at(deadline, access.at_once(worker)).await.unwrap_or_default();
    let hidden_state = worker.shared.config.load().pool.hidden_state_for(access.database(), access.user());
    let reads_elsewhere = hidden_state != HiddenState::Off
        && worker.shared.control.routing.borrow().nodes.len() > 1
        && access.read_policy(worker).reads != config::Reads::Primary;
    if reads_elsewhere && !ends_when_idle(access, worker).await { Pooling::Home } else { Pooling::Session }
}

/// True if the session's own connection ends when nothing is done there for long, though the session may be busy elsewhere.
async fn ends_when_idle(access: &mut Access, worker: &Worker) -> bool {
    let Some(connection) = access.home.as_mut().and_then(|home| home.lease.connection()) else {
        return false;
    };
    let Some(answer) = connection.ask_alone(IDLE_TIMEOUT, 1, &worker.buffers).await else {
        access.home = None;
        return false;
    };
    // Before version 14 there is none.
    let rows = answer.rows.unwrap_or_default();
    rows.first().and_then(|row| one_column(row)).is_some_and(|limit| limit != b"0")
}

/// Has the connection counted that a session has got at its login, if it has.
pub(super) fn count(access: &Access, worker: &Worker) {
    if access.home.is_some()
        && let Some(shard) = access.account.shard(worker.id)
    {
        shard.add(Counter::Assignments, 1);
    }
}

/// Why a session with this policy reads from the primary alone, if it does.
pub(super) fn reads_on_primary(policy: ReadPolicy) -> Option<Reason> {
    if policy.reads == config::Reads::Primary {
        Some(Reason::Setting)
    } else {
        (policy.consistency == Consistency::Strong).then_some(Reason::Strong)
    }
}

impl Front {
    /// Takes in what holds where what a client sends may be for another server than the one that serves it.
    pub(super) fn prepare_to_look(&mut self, access: &mut Access, worker: &Worker) {
        self.looks_ahead = self.machine.is_at_home();
        if !self.looks_ahead && !self.machine.is_in_standby_block() {
            return;
        }
        if let Some(outlook) = &access.outlook {
            self.machine.heed(&outlook.suspects(worker.shared.statements.catalogue_generation()));
        }
        if self.looks_ahead
            && self.machine.is_at_rest()
            && let Some(reason) = reads_on_primary(access.read_policy(worker))
        {
            self.looks_ahead = false;
            self.reason = reason;
        }
    }

    /// True if what the client of a session that is at home has sent is to be read on a standby. What comes to the primary is counted there by the
    /// reason for that.
    pub(super) fn leaves_home(&mut self, server: &ServerConnection, lookup: Lookup<'_>) -> bool {
        let is_rested = self.machine.is_at_rest() && !self.up.flow.is_inside_message();
        if !is_rested || std::mem::take(&mut self.reads) == Reads::OnPrimary {
            return false;
        }
        // What the server has begun to say is told before.
        let is_quiet = !self.down.has_input() && !server.state.parameters_lost;
        let looked = if is_quiet { self.looks_elsewhere(lookup) } else { Err(Reason::Pinned) };
        looked.map_err(|reason| self.reason = reason).is_ok()
    }
}

impl Session {
    /// Leaves the session's own connection aside: what its client has sent may be read on a standby.
    pub(super) fn leave_home(&mut self, mut home: Held) -> Turn {
        if let Some(connection) = home.lease.connection() {
            self.front.machine.detach(&mut connection.state);
            note_customs(&mut self.access, self.front.machine.customs(), &self.worker);
        }
        self.access.home = Some(home);
        self.front.reads = Reads::OnStandby;
        Turn::Next
    }

    /// A lease begins with what the client has sent. On the primary that is the connection that a session keeps, if it keeps one, and it was looked
    /// at whether it is for that.
    pub(super) fn begin(&mut self, held: Held) -> Held {
        self.front.meter.begin();
        if self.front.machine.has_home() && held.server.is_primary() {
            self.front.reads = Reads::OnPrimary;
        }
        held
    }

    /// True if what the session does next is done on its own connection.
    pub(super) fn is_at_home(&self) -> bool {
        self.access.home.is_some() && self.front.reads != Reads::OnStandby
    }

    /// The session's own connection, if that is where it is to go on.
    pub(super) fn come_home(&mut self) -> Option<Held> {
        if !self.is_at_home() {
            return None;
        }
        let home = self.access.home.take()?;
        if self.front.up.has_input() {
            self.front.meter.begin();
        }
        if self.front.reads == Reads::OnPrimary {
            self.front.reason = Reason::Text(Why::Refused);
        }
        Some(home)
    }

    /// Brings to a connection what the session has to find there, and no pool knows of.
    pub(super) async fn furnish(&mut self, held: &mut Held) -> Result<(), Event> {
        if self.listening.is_shared() {
            return Box::pin(self.take_channels_back(held)).await;
        }
        let is_up_to_date = |connection: &mut ServerConnection| connection.has(&self.access.parameters);
        if !self.front.machine.is_at_home() || held.lease.connection().is_none_or(is_up_to_date) {
            return Ok(());
        }
        Box::pin(self.furnish_home(held)).await
    }

    /// Has in force on the session's own connection what has come to be in force in the session while it was aside, such as the empty value that SET
    /// LOCAL leaves of a custom parameter where it was said.
    async fn furnish_home(&mut self, home: &mut Held) -> Result<(), Event> {
        let Some(connection) = home.lease.connection() else { return Ok(()) };
        let parameters = Arc::clone(&self.access.parameters);
        let set = parameters.to_sql().unwrap_or_default();
        parameters.custom_names().for_each(|name| {
            connection.state.customs.add(name);
        });
        let mut buffer = self.worker.buffers.take();
        let run = connection.run_and_hear([RESET, &set], &mut buffer).await;
        let run = self.hear(run.map(|([reset, set], heard)| (reset.and(set), heard)), buffer);
        match run {
            Ok(Ok(())) => {
                connection.applied = Some(parameters);
                Ok(())
            }
            Ok(Err(_)) => Err(Lost::because("its run-time parameters could not be set there")),
            Err(error) => Err(Lost::because(error)),
        }
    }

    /// Has the client told of what the session has heard with the answer to something of pgherd's own.
    pub(super) fn hear(
        &mut self,
        run: io::Result<(Outcome, Vec<u8>)>,
        buffer: Buffer,
    ) -> io::Result<Outcome> {
        let (outcome, heard) = run?;
        self.access.standbys.tell(&heard, &mut self.front.down);
        self.front.down.take_over(buffer, &self.worker.buffers);
        Ok(outcome)
    }

    /// The session has ended while its own connection was aside: what it has left there is undone.
    pub(super) async fn give_up_home(&mut self) {
        let Some(mut home) = self.access.home.take() else { return };
        let Some(connection) = home.lease.connection() else { return };
        if self.discard(connection).await.is_some() {
            self.give_back(home).await;
        }
    }
}
