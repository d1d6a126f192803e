//! The connections of one server, database and user.
//!
//! One mutex guards a pool; it is held for a few instructions, never across an await. Every change of a connection between
//! idle, lent and closed happens here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use pgherd_protocol::parameters::Parameters;

use super::connection::ServerConnection;
use super::lease::{Grant, Lease, Permit};
use crate::config;
use crate::reactor;
use crate::seat::{Seat, Ticket, WaitEnd};
use crate::worker::WorkerId;

/// A connection changes threads for a client of another worker only if that has waited this long, and is taken from
/// another worker only if it has not been used for this long: each change costs more than a short query.
const CHANGE_THREADS_AFTER: Duration = Duration::from_millis(1);
/// A client of another worker that has waited this much longer than the longest waiting of this one goes first.
const UNFAIRNESS: Duration = Duration::from_millis(5);
/// PostgreSQL waits for so long for others to leave a database (`CountOtherDBBackends()` in its `procarray.c`).
const VACATED_FOR: Duration = Duration::from_secs(5);
/// So many idle connections are looked at for one with the right parameters.
const LOOKED_AT: usize = 16;
/// How long a pool asks for no more connections than the server took, after it has refused one for want of places.
const CEILING_HOLDS: Duration = Duration::from_secs(1);

/// Boxed, so that a lease takes a pointer and not some hundred bytes.
pub(super) type Connection = Box<ServerConnection>;

/// How large a pool is and how long its connections live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// Connections for transactions.
    pub(crate) size: usize,
    /// Connections for pinned sessions, besides.
    pub(crate) pinned_size: usize,
    /// How long a client waits for one.
    pub(crate) wait_timeout: Option<Duration>,
    /// Idle for longer: closed.
    pub(crate) idle_timeout: Option<Duration>,
    /// Open for longer: closed when it comes back.
    pub(crate) lifetime: Option<Duration>,
}

/// The connections of one server, database and user.
#[derive(Debug)]
pub(crate) struct Pool {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: PoolLimits,
    /// By worker; the last is the one given back last.
    idle: Vec<VecDeque<Connection>>,
    /// By worker; the first waits longest.
    waiters: Vec<VecDeque<Waiter>>,
    /// Lent (not pinned), idle, and being opened.
    regular: usize,
    /// Lent to pinned sessions. Those beyond their allowance take the places of the regular ones.
    pinned: usize,
    /// What the server was found to take.
    ceiling: Option<Ceiling>,
    /// Until then nothing is kept idle.
    vacated_until: Option<Instant>,
    /// The server is out of the table: nothing is lent any more.
    closed: bool,
}

#[derive(Debug)]
struct Ceiling {
    connections: usize,
    until: Instant,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    seat: Arc<Seat>,
    ticket: Ticket,
}

/// The answer to a client that asks for a connection.
#[derive(Debug)]
pub(crate) enum Checkout {
    /// At once.
    Granted(Grant),
    /// When its turn comes: its seat will tell.
    Queued,
    /// The server is out of the table.
    Closed,
}

impl PoolLimits {
    /// Those of the pools of this database and user.
    pub(crate) fn of(settings: &config::Pool, database: &str, user: &str) -> Self {
        Self {
            size: settings.size_for(database, user),
            pinned_size: settings.pinned_size,
            wait_timeout: settings.query_wait_timeout_for(database, user),
            idle_timeout: settings.server_idle_timeout,
            lifetime: settings.server_lifetime,
        }
    }

    fn is_expired(&self, connection: &ServerConnection, now: Instant) -> bool {
        is_older(connection.idle_since, self.idle_timeout, now) || self.has_outlived(connection, now)
    }

    fn has_outlived(&self, connection: &ServerConnection, now: Instant) -> bool {
        is_older(connection.opened_at, self.lifetime, now)
    }
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(limits: PoolLimits, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                limits,
                idle: (0..workers).map(|_| VecDeque::new()).collect(),
                waiters: (0..workers).map(|_| VecDeque::new()).collect(),
                regular: 0,
                pinned: 0,
                ceiling: None,
                vacated_until: None,
                closed: false,
            }),
        })
    }

    /// Asks for a connection for the session on this seat, if possible one on which its parameters are in force.
    pub(crate) fn check_out(
        self: &Arc<Self>,
        worker: WorkerId,
        seat: &Arc<Seat>,
        parameters: &Arc<Parameters>,
    ) -> Checkout {
        // Closed outside of the lock.
        let mut dead = Vec::new();
        let mut inner = self.inner.lock();
        if inner.closed {
            return Checkout::Closed;
        }
        if let Some(connection) = inner.take_own(worker, parameters, &mut dead) {
            drop(inner);
            return Checkout::Granted(Grant::Lease(Lease::new(self, connection)));
        }
        let now = reactor::now();
        match inner.take_place(now.checked_sub(CHANGE_THREADS_AFTER), &mut dead) {
            Some(Place::Free) => Checkout::Granted(Grant::Permit(Permit::new(self))),
            Some(Place::Idle(connection)) => {
                drop(inner);
                Checkout::Granted(Grant::Lease(Lease::new(self, connection)))
            }
            None => match inner.waiters.get_mut(worker.0) {
                Some(waiters) => {
                    let ticket = seat.begin_wait();
                    waiters.push_back(Waiter { since: now, seat: Arc::clone(seat), ticket });
                    Checkout::Queued
                }
                None => Checkout::Closed,
            },
        }
    }

    /// Sees to it that nobody waits on this worker beside a connection that is idle on another, or for longer than it
    /// may.
    pub(crate) fn tend(self: &Arc<Self>, worker: WorkerId) {
        let now = Instant::now();
        while let Some((Waiter { seat, ticket, .. }, end)) = self.end_longest_wait(worker, now) {
            // What was granted to whoever does not wait any more goes to the next.
            drop(seat.end_wait(ticket, end));
        }
    }

    fn end_longest_wait(self: &Arc<Self>, worker: WorkerId, now: Instant) -> Option<(Waiter, WaitEnd)> {
        let mut dead = Vec::new();
        let mut inner = self.inner.lock();
        let since = inner.waiters.get(worker.0)?.front()?.since;
        let waited = now.saturating_duration_since(since);
        let end = if inner.limits.wait_timeout.is_some_and(|timeout| waited >= timeout) {
            WaitEnd::TimedOut
        } else if waited < CHANGE_THREADS_AFTER {
            return None;
        } else {
            WaitEnd::Granted(match inner.take_place(Some(now), &mut dead)? {
                Place::Free => Grant::Permit(Permit::new(self)),
                Place::Idle(connection) => Grant::Lease(Lease::new(self, connection)),
            })
        };
        Some((inner.waiters.get_mut(worker.0)?.pop_front()?, end))
    }

    /// Closes idle connections that have outlived their time.
    pub(crate) fn reap(&self, now: Instant) {
        let mut expired = Vec::new();
        let mut inner = self.inner.lock();
        let Inner { limits, idle, .. } = &mut *inner;
        for idle in idle {
            let (close, keep) = std::mem::take(idle).into_iter().partition(|c| limits.is_expired(c, now));
            *idle = keep;
            expired.extend::<VecDeque<_>>(close);
        }
        inner.regular -= expired.len();
        drop(inner);
        drop(expired);
    }

    /// Has other limits from now on: those that wait get the places that it gains. It shrinks by what is idle at once, and by
    /// what is lent when that comes back.
    pub(crate) fn resize(self: &Arc<Self>, limits: PoolLimits) {
        let mut inner = self.inner.lock();
        inner.limits = limits;
        let mut surplus = Vec::new();
        while inner.taken() > inner.limits.size
            && let Some(connection) = inner.idle.iter_mut().find_map(VecDeque::pop_front)
        {
            inner.regular -= 1;
            surplus.push(connection);
        }
        self.offer_places(inner);
        drop(surplus);
    }

    /// Closes what is idle, and for a while what is given back: somebody wants the database for itself.
    pub(crate) fn vacate(&self) {
        let mut inner = self.inner.lock();
        inner.vacated_until = Some(Instant::now() + VACATED_FOR);
        let idle: Vec<_> = inner.idle.iter_mut().flat_map(std::mem::take).collect();
        inner.regular -= idle.len();
        drop(inner);
        drop(idle);
    }

    /// Lends nothing any more; those that wait are told.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let idle: Vec<_> = inner.idle.iter_mut().flat_map(std::mem::take).collect();
        let waiters: Vec<_> = inner.waiters.iter_mut().flat_map(std::mem::take).collect();
        inner.regular -= idle.len();
        drop(inner);
        drop(idle);
        for Waiter { seat, ticket, .. } in waiters {
            // Who does not wait any more needs not be told.
            let _ = seat.end_wait(ticket, WaitEnd::Closed);
        }
    }

    /// True if one that asks now need not wait for others.
    pub(crate) fn can_serve(&self) -> bool {
        let inner = self.inner.lock();
        !inner.closed && (inner.has_room() || inner.idle.iter().any(|idle| !VecDeque::is_empty(idle)))
    }

    /// True if it has no connection and nobody waits.
    pub(crate) fn is_unused(&self) -> bool {
        let inner = self.inner.lock();
        inner.regular == 0 && inner.pinned == 0 && inner.waiters.iter().all(VecDeque::is_empty)
    }

    /// Takes a connection back that is fit for the next client.
    pub(super) fn check_in(self: &Arc<Self>, mut connection: Connection, pinned: bool) {
        let now = reactor::now();
        connection.idle_since = now;
        let worker = connection.home;
        let mut inner = self.inner.lock();
        if inner.closed
            || inner.limits.has_outlived(&connection, now)
            || (!pinned && inner.taken() > inner.limits.size)
            || inner.vacated_until.is_some_and(|until| now < until)
        {
            drop(inner);
            drop(connection);
            return self.forget(pinned);
        }
        if pinned {
            inner.pinned -= 1;
            inner.regular += 1;
            if inner.taken() > inner.limits.size {
                inner.regular -= 1;
                drop(inner);
                drop(connection);
                return;
            }
        }
        while let Some(Waiter { seat, ticket, .. }) = inner.next_waiter(worker, now) {
            drop(inner);
            let lease = Lease::new(self, connection);
            match seat.end_wait(ticket, WaitEnd::Granted(Grant::Lease(lease))) {
                // It gave up meanwhile.
                Err(WaitEnd::Granted(Grant::Lease(lease))) => match lease.disarm() {
                    Some(taken) => connection = taken,
                    None => return,
                },
                _ => return,
            }
            inner = self.inner.lock();
        }
        if inner.closed {
            drop(inner);
            drop(connection);
            return self.forget(false);
        }
        match inner.idle.get_mut(worker.0) {
            Some(idle) => idle.push_back(connection),
            None => inner.regular -= 1,
        }
    }

    /// A connection is gone: its place goes to whoever waits.
    pub(super) fn forget(self: &Arc<Self>, pinned: bool) {
        let mut inner = self.inner.lock();
        if pinned {
            inner.pinned -= 1;
        } else {
            inner.regular -= 1;
        }
        self.offer_places(inner);
    }

    /// The server has refused one more connection. False if the pool has none that could come free.
    pub(super) fn refused(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.regular -= 1;
        let connections = inner.regular + inner.pinned;
        inner.ceiling = Some(Ceiling { connections, until: Instant::now() + CEILING_HOLDS });
        connections > 0
    }

    /// Moves a lent connection to the allowance of pinned sessions.
    pub(super) fn pin(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.regular -= 1;
        inner.pinned += 1;
        self.offer_places(inner);
    }

    /// Gives free places to those who wait.
    fn offer_places<'a>(self: &'a Arc<Self>, mut inner: MutexGuard<'a, Inner>) {
        while inner.has_room() {
            let Some(Waiter { seat, ticket, .. }) = inner.longest_waiter() else { return };
            inner.regular += 1;
            drop(inner);
            let permit = Permit::new(self);
            let granted = seat.end_wait(ticket, WaitEnd::Granted(Grant::Permit(permit)));
            inner = self.inner.lock();
            if let Err(WaitEnd::Granted(Grant::Permit(permit))) = granted {
                // It gave up meanwhile.
                inner.regular -= 1;
                permit.disarm();
            }
        }
    }
}

impl Inner {
    /// Places that are taken of those for transactions.
    const fn taken(&self) -> usize {
        self.regular + self.pinned.saturating_sub(self.limits.pinned_size)
    }

    /// True if one more may be opened.
    fn has_room(&self) -> bool {
        let is_refused = |ceiling: &Ceiling| {
            self.regular + self.pinned >= ceiling.connections && Instant::now() < ceiling.until
        };
        self.taken() < self.limits.size && !self.ceiling.as_ref().is_some_and(is_refused)
    }

    /// The worker's own that was given back last, since its memory is warm; of those that were used of late, rather one on
    /// which nothing has to be set first.
    fn take_own(
        &mut self,
        worker: WorkerId,
        parameters: &Arc<Parameters>,
        dead: &mut Vec<Connection>,
    ) -> Option<Connection> {
        let idle = self.idle.get_mut(worker.0)?;
        if let Some(place) =
            idle.iter().rev().take(LOOKED_AT).position(|connection| connection.has(parameters))
            && place > 0
            && let Some(connection) = idle.remove(idle.len() - 1 - place)
        {
            idle.push_back(connection);
        }
        while let Some(connection) = idle.pop_back() {
            if connection.is_quiet() {
                return Some(connection);
            }
            self.regular -= 1;
            dead.push(connection);
        }
        None
    }

    /// The place of a connection that may be opened, else a connection of any worker that is idle since `idle_since`.
    fn take_place(&mut self, idle_since: Option<Instant>, dead: &mut Vec<Connection>) -> Option<Place> {
        if !self.has_room() {
            if self.idle.iter().all(VecDeque::is_empty) {
                return None;
            }
            for idle in &mut self.idle {
                let (quiet, ended) = std::mem::take(idle).into_iter().partition(|c| c.is_quiet());
                *idle = quiet;
                self.regular -= VecDeque::len(&ended);
                dead.extend(ended);
            }
        }
        if self.has_room() {
            self.regular += 1;
            return Some(Place::Free);
        }
        let unused = |since: Instant| idle_since.is_some_and(|limit| since <= limit);
        let idle = self.idle.iter_mut().find(|idle| idle.front().is_some_and(|c| unused(c.idle_since)))?;
        idle.pop_front().map(Place::Idle)
    }

    /// Who gets a connection of `worker`: its own client that waits longest, so that nothing must change threads, unless
    /// another's has waited for much longer, or none of its own waits.
    fn next_waiter(&mut self, worker: WorkerId, now: Instant) -> Option<Waiter> {
        let longest = self.longest()?;
        let own = self.waiters.get(worker.0).and_then(VecDeque::front).map(|waiter| waiter.since);
        let chosen = match own {
            Some(own) if own.saturating_duration_since(longest.1) <= UNFAIRNESS => worker.0,
            None if now.saturating_duration_since(longest.1) < CHANGE_THREADS_AFTER => return None,
            _ => longest.0,
        };
        self.waiters.get_mut(chosen)?.pop_front()
    }

    fn longest_waiter(&mut self) -> Option<Waiter> {
        let (chosen, _) = self.longest()?;
        self.waiters.get_mut(chosen)?.pop_front()
    }

    /// The worker of the client that waits longest, and since when that waits.
    fn longest(&self) -> Option<(usize, Instant)> {
        let fronts = self.waiters.iter().enumerate();
        fronts.filter_map(|(worker, waiters)| Some((worker, waiters.front()?.since))).min_by_key(|it| it.1)
    }
}

fn is_older(since: Instant, limit: Option<Duration>, now: Instant) -> bool {
    limit.is_some_and(|limit| now.saturating_duration_since(since) > limit)
}

/// What a pool has to give.
enum Place {
    /// Room for one more connection.
    Free,
    /// A connection.
    Idle(Connection),
}
