//! The connections of one server, database and user.
//!
//! One mutex guards a pool; it is held for a few instructions, never across an await. Every change of a connection between
//! idle, lent and closed happens here.

mod choice;
pub(crate) mod glance;
mod limits;
mod numbers;
mod standing;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::statement::Pin;

use super::balance::{Outstanding, Waiting};
use super::connection::ServerConnection;
use super::lease::{Grant, Lease, Permit};
use super::quota::{Quotas, Slot};
use crate::reactor;
use crate::seat::{Seat, Ticket, WaitEnd};
use crate::worker::WorkerId;
use glance::Member;

use choice::Place;
pub(crate) use limits::PoolLimits;
use standing::Pinned;

/// A connection changes threads for a client of another worker only if that has waited this long, and is taken from
/// another worker only if it has not been used for this long: each change costs more than a short query.
const CHANGE_THREADS_AFTER: Duration = Duration::from_millis(1);
/// A client of another worker that has waited this much longer than the longest waiting of this one goes first.
const UNFAIRNESS: Duration = Duration::from_millis(5);
/// PostgreSQL waits for so long for others to leave a database (`CountOtherDBBackends()` in its `procarray.c`).
const VACATED_FOR: Duration = Duration::from_secs(5);
/// How long a pool asks for no more connections than the server took, after it has refused one for want of places.
const CEILING_HOLDS: Duration = Duration::from_secs(1);

/// Boxed, so that a lease takes a pointer and not some hundred bytes.
pub(super) type Connection = Box<ServerConnection>;

/// The connections of one server, database and user.
#[derive(Debug)]
pub(crate) struct Pool {
    /// What the server has to do.
    pub(super) outstanding: Arc<Outstanding>,
    /// By worker: whether it tends this pool. Written by that worker alone, and only when it changes: others' are on the same line of the
    /// cache.
    tended: Box<[AtomicBool]>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: PoolLimits,
    /// What it shares with other pools.
    quotas: Quotas,
    me: Weak<Pool>,
    /// By worker; the last is the one given back last.
    idle: Vec<VecDeque<Connection>>,
    /// By worker; the first waits longest.
    waiters: Vec<VecDeque<Waiter>>,
    /// Lent (not pinned), idle, and being opened.
    regular: usize,
    /// Lent to pinned sessions. Those beyond their allowance take the places of the regular ones.
    pinned: usize,
    pinned_by: Pinned,
    /// What the server was found to take.
    ceiling: Option<Ceiling>,
    /// Until then nothing is kept idle.
    vacated_until: Option<Instant>,
    /// An operator wants those that were opened until then closed.
    renewed_at: Option<Instant>,
    /// An operator wants nothing lent, and nothing kept.
    paused: bool,
    /// Writes wait: nothing more is lent for now.
    withheld: bool,
    /// Those that are open, and some that are not any more.
    members: Vec<Member>,
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
    /// Let go of outside of the pool's lock: it may hold what this pool has granted.
    seat: Arc<Seat>,
    ticket: Ticket,
    /// It counts with what the server has to do.
    _counted: Waiting,
}

/// The answer to a client that asks for a connection.
#[derive(Debug)]
pub(crate) enum Checkout {
    /// At once.
    Granted(Grant),
    /// When its turn comes: its seat will tell.
    Queued,
    /// The server is out of the table, or writes wait.
    Closed,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(
        (limits, quotas): (PoolLimits, Quotas),
        outstanding: Arc<Outstanding>,
        workers: usize,
    ) -> Arc<Self> {
        let pool = Arc::new_cyclic(|me| Self {
            outstanding,
            tended: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            inner: Mutex::new(Inner {
                limits,
                quotas: quotas.clone(),
                me: Weak::clone(me),
                idle: (0..workers).map(|_| VecDeque::new()).collect(),
                waiters: (0..workers).map(|_| VecDeque::new()).collect(),
                regular: 0,
                pinned: 0,
                pinned_by: Pinned::default(),
                ceiling: None,
                vacated_until: None,
                renewed_at: None,
                paused: false,
                withheld: false,
                members: Vec::new(),
                closed: false,
            }),
        });
        quotas.join(&Arc::downgrade(&pool));
        pool
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
        if inner.closed || inner.withheld {
            return Checkout::Closed;
        }
        if let Some(connection) = inner.take_own(worker, parameters, &mut dead) {
            drop(inner);
            return Checkout::Granted(Grant::Lease(Lease::new(self, connection)));
        }
        let now = reactor::now();
        // Who has waited before goes first.
        let size = if inner.longest().is_none() { inner.limits.size } else { 0 };
        let unused = now.checked_sub(CHANGE_THREADS_AFTER);
        match inner.take_place((size, unused), (worker, parameters), &mut dead) {
            Some(Place::Free(slot)) => Checkout::Granted(Grant::Permit(Permit::new(self, slot))),
            Some(Place::Idle(connection)) => {
                drop(inner);
                Checkout::Granted(Grant::Lease(Lease::new(self, connection)))
            }
            None => match inner.waiters.get_mut(worker.0) {
                Some(waiters) => {
                    let gone = if waiters.len() == waiters.capacity() { take_gone(waiters) } else { None };
                    let ticket = seat.begin_wait();
                    waiters.push_back(Waiter {
                        since: now,
                        seat: Arc::clone(seat),
                        ticket,
                        _counted: Waiting::begin(&self.outstanding),
                    });
                    drop(inner);
                    drop(gone);
                    Checkout::Queued
                }
                None => Checkout::Closed,
            },
        }
    }

    /// A session of this worker waits. True if the worker does not [tend](Self::tend) the pool yet, and has to from now on.
    pub(crate) fn begin_tending(&self, worker: WorkerId) -> bool {
        let Some(is_tended) = self.tended.get(worker.0) else { return false };
        let begins = !is_tended.load(Ordering::Relaxed);
        if begins {
            is_tended.store(true, Ordering::Relaxed);
        }
        begins
    }

    /// Sees to it that nobody waits on this worker beside a connection that is idle on another, or for longer than it
    /// may. False if nobody waits any more: then it need not be tended.
    pub(crate) fn tend(self: &Arc<Self>, worker: WorkerId) -> bool {
        let now = Instant::now();
        loop {
            while let Some((Waiter { seat, ticket, .. }, end)) = self.end_longest_wait(worker, now) {
                // What was granted to whoever does not wait any more goes to the next.
                drop(seat.end_wait(ticket, end));
            }
            if !self.make_room(worker, now) {
                break;
            }
        }
        let inner = self.inner.lock();
        let mut waiters = inner.waiters.get(worker.0).into_iter().flatten();
        let is_awaited = waiters.any(|Waiter { seat, ticket, .. }| seat.waits(*ticket));
        if let Some(is_tended) = self.tended.get(worker.0) {
            is_tended.store(is_awaited, Ordering::Relaxed);
        }
        is_awaited
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
            let size = inner.limits.size_after(waited);
            let parameters = inner.waiters.get(worker.0)?.front()?.seat.card().parameters.lock().clone();
            WaitEnd::Granted(match inner.take_place((size, Some(now)), (worker, &parameters), &mut dead)? {
                Place::Free(slot) => Grant::Permit(Permit::new(self, slot)),
                Place::Idle(connection) => Grant::Lease(Lease::new(self, connection)),
            })
        };
        Some((inner.waiters.get_mut(worker.0)?.pop_front()?, end))
    }

    /// Closes what is idle, and for a while what is given back: somebody wants the database for itself.
    pub(crate) fn vacate(&self) {
        let mut inner = self.inner.lock();
        inner.vacated_until = Some(Instant::now() + VACATED_FOR);
        let idle = inner.take_idle();
        drop(inner);
        drop(idle);
    }

    /// Lends nothing any more; those that wait are told.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let idle = inner.take_idle();
        send_away(inner);
        drop(idle);
    }

    /// True if one that asks now need not wait for others.
    pub(crate) fn can_serve(&self) -> bool {
        let inner = self.inner.lock();
        !inner.closed
            && (inner.has_room(inner.limits.size) || inner.idle.iter().any(|idle| !VecDeque::is_empty(idle)))
    }

    /// True if it has no connection and nobody waits.
    pub(crate) fn is_unused(&self) -> bool {
        let inner = self.inner.lock();
        inner.regular == 0 && inner.pinned == 0 && inner.waiters.iter().all(VecDeque::is_empty)
    }

    /// Takes a connection back that is fit for the next client.
    pub(super) fn check_in(self: &Arc<Self>, mut connection: Connection, pinned: Option<Pin>) {
        let now = reactor::now();
        connection.idle_since = now;
        connection.cancel.note_prepared(connection.state.statements.len());
        let worker = connection.home;
        let mut inner = self.inner.lock();
        if inner.refuses(&connection, now) {
            drop(inner);
            drop(connection);
            return self.forget(pinned);
        }
        if let Some(pin) = pinned {
            inner.pinned -= 1;
            inner.pinned_by.remove(pin);
            inner.regular += 1;
        }
        if inner.has_one_too_many(now) {
            drop(inner);
            drop(connection);
            return self.forget(None);
        }
        while let Some(queue) = inner.next_waiter(worker, now) {
            let Some(place) = inner.whom_it_fits(queue, &connection, now) else {
                drop(inner);
                drop(connection);
                return self.forget(None);
            };
            let waiter = inner.waiters.get_mut(queue).and_then(|waiters| waiters.remove(place));
            let Some(Waiter { seat, ticket, .. }) = waiter else { break };
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
            drop(seat);
            inner = self.inner.lock();
        }
        if inner.refuses(&connection, now) {
            drop(inner);
            drop(connection);
            return self.forget(None);
        }
        match inner.idle.get_mut(worker.0) {
            Some(idle) => idle.push_back(connection),
            None => inner.regular -= 1,
        }
    }

    /// A connection is gone: its place goes to whoever waits.
    pub(super) fn forget(self: &Arc<Self>, pinned: Option<Pin>) {
        let mut inner = self.inner.lock();
        match pinned {
            Some(pin) => {
                inner.pinned -= 1;
                inner.pinned_by.remove(pin);
            }
            None => inner.regular -= 1,
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
    pub(super) fn pin(self: &Arc<Self>, pin: Pin) {
        let mut inner = self.inner.lock();
        inner.regular -= 1;
        inner.pinned += 1;
        inner.pinned_by.add(pin);
        self.offer_places(inner);
    }

    /// Gives free places to those who wait.
    fn offer_places<'a>(self: &'a Arc<Self>, mut inner: MutexGuard<'a, Inner>) {
        while let Some((_, since)) = inner.longest() {
            let size = inner.limits.size_after(reactor::now().saturating_duration_since(since));
            let Some(slot) = inner.enter(size) else { return };
            let Some(Waiter { seat, ticket, .. }) = inner.longest_waiter() else {
                inner.regular -= 1;
                return;
            };
            drop(inner);
            let permit = Permit::new(self, slot);
            let granted = seat.end_wait(ticket, WaitEnd::Granted(Grant::Permit(permit)));
            drop(seat);
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

    /// True if a connection that comes back is to be closed.
    fn refuses(&self, connection: &ServerConnection, now: Instant) -> bool {
        self.closed
            || self.paused
            || self.limits.has_outlived(connection, now)
            || self.vacated_until.is_some_and(|until| now < until)
            || self.renewed_at.is_some_and(|at| connection.opened_at <= at)
    }

    /// True if a connection that has come back is to be closed, for it is beyond a bound or another pool needs its place more.
    fn has_one_too_many(&self, now: Instant) -> bool {
        let limits = &self.limits;
        let surplus = self.taken().saturating_sub(limits.size);
        if surplus == 0 && !limits.shared.is_any() {
            return false;
        }
        let longest = self.longest().map(|(_, since)| since);
        surplus > limits.reserve_size
            || surplus > 0 && longest.is_none()
            || self.quotas.are_wanted(limits.shared, &self.me, longest, now)
    }

    /// True if one more may be opened, `size` being the most.
    fn has_room(&self, size: usize) -> bool {
        self.has_own_room(size) && self.quotas.has_room(self.limits.shared, &self.me)
    }

    /// Takes the place of one more.
    fn enter(&mut self, size: usize) -> Option<Slot> {
        if !self.has_own_room(size) {
            return None;
        }
        let slot = self.quotas.enter(self.limits.shared, &self.me)?;
        self.regular += 1;
        Some(slot)
    }

    /// As [`Inner::has_room`], whatever other pools have.
    fn has_own_room(&self, size: usize) -> bool {
        let is_refused = |ceiling: &Ceiling| {
            self.regular + self.pinned >= ceiling.connections && Instant::now() < ceiling.until
        };
        self.taken() < size && !self.paused && !self.ceiling.as_ref().is_some_and(is_refused)
    }

    /// The worker of the client that waits longest, and since when that waits.
    fn longest(&self) -> Option<(usize, Instant)> {
        let fronts = self.waiters.iter().enumerate();
        fronts.filter_map(|(worker, waiters)| Some((worker, waiters.front()?.since))).min_by_key(|it| it.1)
    }
}

/// Tells those that wait that there is nothing to wait for here.
fn send_away(mut inner: MutexGuard<'_, Inner>) {
    let waiters: Vec<_> = inner.waiters.iter_mut().flat_map(std::mem::take).collect();
    drop(inner);
    for Waiter { seat, ticket, .. } in waiters {
        // Who does not wait any more needs not be told.
        let _ = seat.end_wait(ticket, WaitEnd::Closed);
    }
}

/// Takes those out that do not wait any more: where nobody's turn comes for long, clients that come and go would pile up.
fn take_gone(waiters: &mut VecDeque<Waiter>) -> Option<VecDeque<Waiter>> {
    let all = std::mem::take(waiters).into_iter();
    let (here, gone) = all.partition(|waiter| waiter.seat.waits(waiter.ticket));
    *waiters = here;
    Some(gone)
}
