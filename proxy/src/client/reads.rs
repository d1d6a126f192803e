//! Reads on standbys: which one, and what becomes of what it refuses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::NodeId;
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::prepared::Lookup;
use pgherd_protocol::session::{Passage, Refusal};
use pgherd_protocol::statement::Why;

use super::acquire::{Access, Attempt, Held};
use super::blocks::{Ended, end_block, in_time};
use super::home::reads_on_primary;
use super::pipe::Pipe;
use super::relay::Front;
use super::session::Session;
use super::turns::Turn;
use super::wishes::{self, Defaults};
use crate::buffer::{Buffer, Buffers};
use crate::config::{Consistency, ReadPolicy, Routing};
use crate::reactor;
use crate::roster::Card;
use crate::server::balance::Dice;
use crate::server::connection::ServerConnection;
use crate::server::marks::{After, Mark, Positions};
use crate::server::pool::{Checkout, Pool};
use crate::server::table::Server;
use crate::traffic::Reason;
use crate::worker::Worker;

/// A session that got no connection to a standby, though there should be one, does without that standby for so long.
const SHUNS: Duration = Duration::from_secs(1);

/// Where the session's next lease is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reads {
    /// Wherever the client's next message may be answered.
    #[default]
    Anywhere,
    /// A standby has refused it, or it was looked at and is not for one.
    OnPrimary,
    /// A standby may answer it: the session has left its own connection aside for that.
    OnStandby,
}

/// What holds for a session's reads, and by what that was found.
#[derive(Debug)]
struct Found {
    routing: Arc<Routing>,
    parameters: Arc<Parameters>,
    policy: Arc<ReadPolicy>,
}

/// What a session keeps for its reads on standbys.
#[derive(Debug)]
pub(crate) struct Standbys {
    found: Option<Found>,
    /// What its role asks for; few ask for anything.
    defaults: Option<Box<Defaults>>,
    /// The pools that served it.
    pools: Vec<(Arc<Server>, Arc<Pool>)>,
    /// The last standby that had no connection for it, and until when it is not asked again.
    shunned: Option<(NodeId, Instant)>,
    /// What it has written.
    mark: Mark,
    /// What it must see of that where it reads next.
    must_see: Mark,
    dice: Dice,
}

impl Standbys {
    /// Those of a session of this number.
    pub(super) fn new(session: u64) -> Self {
        Self {
            found: None,
            defaults: None,
            pools: Vec::new(),
            shunned: None,
            mark: Mark::default(),
            must_see: Mark::default(),
            dice: Dice::new(session),
        }
    }

    /// This server's pool, if it was asked before.
    pub(super) fn pool_of(&self, server: &Arc<Server>) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|(its, _)| Arc::ptr_eq(its, server)).map(|(_, pool)| pool)
    }

    /// This standby had no connection for it.
    pub(super) fn shun(&mut self, standby: NodeId) {
        self.shunned = Some((standby, Instant::now() + SHUNS));
    }

    /// The session was told of what may have been written.
    pub(super) fn note_written(&mut self) {
        self.mark.wrote();
    }

    /// The session is told of these notifications, which came with the answer to something of pgherd's own: it is to see what they tell of.
    pub(super) fn tell(&mut self, notifications: &[u8], down: &mut Pipe) {
        if !notifications.is_empty() {
            self.note_written();
            down.append().extend_from_slice(notifications);
        }
    }

    /// A session begins, of a role that asks for this, and is to see this, if it has said what.
    pub(super) fn begin(&mut self, defaults: Defaults, after: Option<After>, positions: &Positions) {
        self.defaults = (defaults != Defaults::default()).then(|| Box::new(defaults));
        self.point_to(after, positions);
    }

    /// The session is to see this, too, if it has said what.
    pub(super) fn point_to(&mut self, after: Option<After>, positions: &Positions) {
        if let Some(after) = after {
            self.mark.name(after, positions);
        }
    }

    fn shunned(&mut self) -> Option<NodeId> {
        self.shunned = self.shunned.filter(|(_, until)| Instant::now() < *until);
        self.shunned.map(|(standby, _)| standby)
    }
}

impl Access {
    /// What holds for the session's reads: what it asks for itself, else what the configuration says. Found anew when either has changed.
    pub(super) fn read_policy(&mut self, worker: &Worker) -> ReadPolicy {
        let config = worker.shared.config.load();
        let Self { parameters, standbys, seat, .. } = self;
        if let Some(found) = &standbys.found
            && Arc::ptr_eq(&found.routing, &config.routing)
            && Arc::ptr_eq(&found.parameters, parameters)
        {
            return *found.policy;
        }
        let (routing, parameters) = (Arc::clone(&config.routing), Arc::clone(parameters));
        let application = parameters.get("application_name").unwrap_or_default();
        let Card { database, user, .. } = seat.card();
        let policy = routing.policy_for(database, user, application);
        let policy = wishes::apply(policy, &parameters, standbys.defaults.as_deref());
        let shared = worker.shared.policies.share(policy);
        standbys.found = Some(Found { routing, parameters, policy: shared });
        policy
    }

    /// Asks the pool of a standby for a connection. `Err` says why it is to be the primary.
    fn try_standby(&mut self, policy: ReadPolicy, worker: &Worker) -> Result<Attempt, Reason> {
        let shunned = self.standbys.shunned();
        let backends = &worker.shared.backends;
        let (table, positions) = (backends.load(), backends.positions());
        let Standbys { mark, must_see, dice, .. } = &mut self.standbys;
        mark.resolve(&positions);
        *must_see = if policy.consistency == Consistency::Eventual { Mark::default() } else { *mark };
        let (within, has, is_open) = (
            |server: &Server| positions.is_within(policy.max_lag, server.node.id),
            |server: &Server| positions.may_allow(must_see, server.node.id),
            |server: &Server| shunned != Some(server.node.id),
        );
        let config = worker.shared.config.load();
        let (slow_start, location) = (config.routing.slow_start, config.routing.location.as_deref());
        let is_near = |it: &Server| location.is_some_and(|location| positions.is_at(location, it.node.id));
        let now = reactor::now();
        let may = |server: &Server| within(server) && has(server) && is_open(server);
        let Some(server) = table.choose((&policy, slow_start), (now, dice), (may, is_near)) else {
            let reason = table.why_none(now, within, has);
            if reason == Reason::OwnWrites {
                backends.want_positions();
            }
            return Err(if reason == Reason::Turn && shunned.is_some() {
                Reason::Connection
            } else {
                reason
            });
        };
        if server.is_primary() {
            return Err(Reason::Turn);
        }
        if self.standbys.pool_of(server).is_none() {
            self.standbys.pools.retain(|(known, _)| table.readable.iter().any(|it| Arc::ptr_eq(it, known)));
            self.standbys.pools.reserve_exact(1);
            self.standbys.pools.push((Arc::clone(server), server.pool(self.database(), self.user())));
        }
        let pool = self.standbys.pool_of(server).ok_or(Reason::Connection)?;
        match pool.check_out(worker.id, &self.seat, &self.parameters) {
            Checkout::Granted(grant) => Ok(self.granted(Arc::clone(server), grant, worker)),
            Checkout::Queued => Ok(Attempt::Queued(Arc::clone(server))),
            Checkout::Closed => Err(Reason::Connection),
        }
    }

    /// True if the session sees on this connection what it must see of what it has written: on the primary's, or on a standby's that was
    /// open when that was asked what it has.
    pub(super) fn sees_its_own(&self, held: &mut Held, worker: &Worker) -> bool {
        let Held { server, lease } = held;
        let Some(connection) = lease.connection() else { return false };
        let positions = worker.shared.backends.positions();
        let sees = server.is_primary()
            || positions.allows(&self.standbys.must_see, server.node.id, connection.opened_at);
        if !sees {
            worker.shared.backends.want_positions();
        }
        sees
    }
}

impl Front {
    /// Looks whether a standby may answer what the client has sent. `Err` says why it is to be the primary.
    pub(super) fn looks_elsewhere(&mut self, lookup: Lookup<'_>) -> Result<(), Reason> {
        let (_, (input, _), _) = self.up.uncut();
        if !self.machine.may_read_anywhere(input, lookup) {
            return Err(self.machine.why_on_primary(input, lookup).map_or(Reason::Pinned, Reason::Text));
        }
        if self.machine.opens_block() && self.keeps_blocks() {
            return Err(Reason::Text(Why::Transaction));
        }
        Ok(())
    }
}

impl Session {
    /// A standby for what the client has sent, if it may be read there, and there is one. `Err` says why it is to be the primary.
    pub(super) fn try_standby(&mut self) -> Result<Attempt, Reason> {
        if std::mem::take(&mut self.front.reads) == Reads::OnPrimary {
            return Err(Reason::Text(Why::Refused));
        }
        // Its channels come back to the connection that it gets, and no standby listens.
        if self.listening.is_shared() {
            return Err(Reason::Pinned);
        }
        let policy = self.access.read_policy(&self.worker);
        if let Some(reason) = reads_on_primary(policy) {
            return Err(reason);
        }
        self.heed();
        self.front.looks_elsewhere(self.worker.lookup(&self.access.sequences))?;
        self.access.try_standby(policy, &self.worker)
    }

    /// A standby has refused what the client has sent, which was told nothing of it: it goes to the primary. Or what stood for its unnamed
    /// statement does not fit any more, on whatever server: then it is sent once more. Gives the lease with which it
    /// goes on: that of the primary in a transaction block; or the standby's, where it cannot be sent again: then the refusal is for the client.
    pub(super) async fn on_refused(&mut self, mut held: Held, refusal: Refusal) -> Result<Held, Turn> {
        let is_standby = !held.server.is_primary();
        let Some(connection) = held.lease.connection() else { return Err(Turn::Next) };
        let lookup = self.worker.lookup(&self.access.sequences);
        let in_block = self.front.machine.is_in_standby_block();
        let passage = if in_block { self.front.machine.passage(&[], lookup) } else { Passage::Free };
        // Of a connection that is closed nothing can be asked any more.
        let is_barred = match passage {
            Passage::Free => false,
            Passage::ByDefault => refusal == Refusal::TooLong || self.front.machine.awaits_client(),
            Passage::Barred => true,
        };
        let request = self.front.repeatable(connection);
        match (refusal, &request) {
            (Refusal::ForGood, Some(request)) => self.front.machine.note_refused(request, lookup),
            (Refusal::TooLong, Some(request)) => self.front.machine.note_long(request, lookup),
            _ => {}
        }
        let Some(request) = request.filter(|_| !is_barred) else {
            if in_block {
                self.keep_blocks(refusal);
            }
            self.front.machine.tell_what_it_says();
            return Ok(held);
        };
        let buffers = &self.worker.buffers;
        // The connection goes on: what was read there under settings of this block's own is not for others.
        self.front.machine.detach(&mut connection.state);
        // The rest of the answer comes, but where the server has not got all of what it is to answer; or it is long.
        let is_whole =
            refusal != Refusal::TooLong && self.front.up.is_flushed() && !self.front.machine.awaits_client();
        // It may have been begun with what was refused.
        let has_block = self.front.machine.opens_block();
        let uses_statements = request.first() != Some(&b'Q');
        self.front.up.forget_unsent(buffers);
        let buffer = self.front.down.buffer.take();
        self.front.down.forget_uncut(buffers);
        self.front.send_again(&request, buffers);
        let cleared = if is_whole {
            in_time(clear_up(connection, (buffer, buffers), (has_block, uses_statements))).await
        } else {
            None
        };
        let is_kept = cleared.is_some();
        let ended = cleared.flatten();
        if is_kept {
            held.lease.give_back();
        }
        if in_block {
            let server = held.server.node.to_string();
            return self.go_to_primary(passage, ended, &server).await;
        }
        if is_standby {
            self.front.reads = Reads::OnPrimary;
        }
        Err(Turn::Next)
    }
}

/// Takes what is left of an answer off a standby's connection, and what was sent for it; and ends its block, if it has one, as is told by
/// [`end_block`]. None if the connection is not to be used any more.
async fn clear_up(
    connection: &mut ServerConnection,
    (buffer, buffers): (Option<Buffer>, &Buffers),
    (has_block, uses_statements): (bool, bool),
) -> Option<Option<Ended>> {
    connection.drain(buffer, buffers).await.ok()?;
    // A request that is still on its way must not meet the next client.
    if !connection.cancel.is_clear() && !connection.cancel.cleared().await {
        return None;
    }
    let ended = if has_block { Some(end_block(connection, buffers).await?) } else { None };
    // Which of the statements are there that were sent with it is not known.
    if uses_statements {
        let [dropped] = connection.run_all(["DEALLOCATE ALL"], buffers).await.ok()?;
        dropped.ok()?;
        connection.state.statements.clear();
    }
    Some(ended)
}
