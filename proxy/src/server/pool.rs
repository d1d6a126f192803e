//! The connections of one server, database and user.
//!
//! One mutex guards a pool; it is held for a few instructions, never across an await. Every change of a connection between
//! idle, lent and closed happens here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::connection::ServerConnection;
use crate::worker::WorkerId;

/// A client of another worker that has waited this much longer than the longest waiting of this one goes first.
const UNFAIRNESS: Duration = Duration::from_millis(1);

/// How large a pool is and how long its connections live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// Connections for transactions.
    pub(crate) size: usize,
    /// Connections for pinned sessions, besides.
    pub(crate) pinned_size: usize,
    /// Idle for longer: closed.
    pub(crate) idle_timeout: Option<Duration>,
    /// Open for longer: closed when it comes back.
    pub(crate) lifetime: Option<Duration>,
}

/// The connections of one server, database and user.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: PoolLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
#[expect(clippy::vec_box, reason = "a lease takes a pointer, not some hundred bytes")]
struct Inner {
    /// By worker; the last is the one given back last.
    idle: Vec<Vec<Box<ServerConnection>>>,
    /// By worker; the first waits longest.
    waiters: Vec<VecDeque<Waiter>>,
    /// Lent (not pinned), idle, and being opened.
    regular: usize,
    /// Lent to pinned sessions.
    pinned: usize,
    /// The server is out of the table: nothing is lent any more.
    closed: bool,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    grant: oneshot::Sender<Grant>,
}

/// What a client gets from a pool.
#[derive(Debug)]
pub(crate) enum Grant {
    /// An idle connection.
    Lease(Lease),
    /// The right to open one.
    Permit(Permit),
}

/// The answer to a client that asks for a connection.
#[derive(Debug)]
pub(crate) enum Checkout {
    /// At once.
    Granted(Grant),
    /// When its turn comes; an error means that the pool was closed.
    Queued(oneshot::Receiver<Grant>),
    /// The server is out of the table.
    Closed,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(limits: PoolLimits, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inner: Mutex::new(Inner {
                idle: (0..workers).map(|_| Vec::new()).collect(),
                waiters: (0..workers).map(|_| VecDeque::new()).collect(),
                regular: 0,
                pinned: 0,
                closed: false,
            }),
        })
    }

    /// Asks for a connection.
    pub(crate) fn check_out(self: &Arc<Self>, worker: WorkerId) -> Checkout {
        let mut dead = Vec::new();
        let mut inner = self.inner.lock();
        if inner.closed {
            return Checkout::Closed;
        }
        while let Some(connection) = inner.take_idle(worker) {
            if connection.is_quiet() {
                drop(inner);
                return Checkout::Granted(Grant::Lease(Lease::new(self, connection)));
            }
            inner.regular -= 1;
            dead.push(connection);
        }
        if inner.regular < self.limits.size {
            inner.regular += 1;
            return Checkout::Granted(Grant::Permit(Permit { pool: Some(Arc::clone(self)) }));
        }
        let (grant, receiver) = oneshot::channel();
        match inner.waiters.get_mut(worker.0) {
            Some(waiters) => waiters.push_back(Waiter { since: Instant::now(), grant }),
            None => return Checkout::Closed,
        }
        Checkout::Queued(receiver)
    }

    /// Closes idle connections that have outlived their time.
    pub(crate) fn reap(&self, now: Instant) {
        let mut expired = Vec::new();
        let mut inner = self.inner.lock();
        for idle in &mut inner.idle {
            let (keep, close) = std::mem::take(idle).into_iter().partition(|c| !self.is_expired(c, now));
            *idle = keep;
            expired.extend::<Vec<_>>(close);
        }
        inner.regular -= expired.len();
        drop(inner);
        drop(expired);
    }

    /// Lends nothing any more; those that wait are told by the loss of their grant.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let idle: Vec<_> = inner.idle.iter_mut().flat_map(std::mem::take).collect();
        let waiters: Vec<_> = inner.waiters.iter_mut().flat_map(std::mem::take).collect();
        inner.regular -= idle.len();
        drop(inner);
        drop((idle, waiters));
    }

    /// True if it has no connection and nobody waits.
    pub(crate) fn is_unused(&self) -> bool {
        let inner = self.inner.lock();
        inner.regular == 0 && inner.pinned == 0 && inner.waiters.iter().all(VecDeque::is_empty)
    }

    fn is_expired(&self, connection: &ServerConnection, now: Instant) -> bool {
        let older = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) > limit)
        };
        older(connection.idle_since, self.limits.idle_timeout)
            || older(connection.opened_at, self.limits.lifetime)
    }

    /// Takes a connection back that is fit for the next client.
    fn check_in(self: &Arc<Self>, mut connection: Box<ServerConnection>, pinned: bool) {
        let now = Instant::now();
        connection.idle_since = now;
        let worker = connection.home;
        let mut inner = self.inner.lock();
        if inner.closed || self.is_expired(&connection, now) {
            drop(inner);
            drop(connection);
            return self.forget(pinned);
        }
        if pinned {
            inner.pinned -= 1;
            if inner.regular >= self.limits.size {
                drop(inner);
                drop(connection);
                return;
            }
            inner.regular += 1;
        }
        while let Some(waiter) = inner.next_waiter(worker) {
            drop(inner);
            let lease = Lease::new(self, connection);
            match waiter.grant.send(Grant::Lease(lease)) {
                Ok(()) => return,
                // It gave up meanwhile.
                Err(Grant::Lease(lease)) => match lease.disarm() {
                    Some(taken) => connection = taken,
                    None => return,
                },
                Err(Grant::Permit(_)) => return,
            }
            inner = self.inner.lock();
        }
        if inner.closed {
            drop(inner);
            drop(connection);
            return self.forget(false);
        }
        match inner.idle.get_mut(worker.0) {
            Some(idle) => idle.push(connection),
            None => inner.regular -= 1,
        }
    }

    /// A connection is gone: its place goes to whoever waits.
    fn forget(self: &Arc<Self>, pinned: bool) {
        let mut inner = self.inner.lock();
        if pinned {
            inner.pinned -= 1;
            return;
        }
        while let Some(waiter) = inner.next_waiter(WorkerId(0)) {
            drop(inner);
            let permit = Permit { pool: Some(Arc::clone(self)) };
            match waiter.grant.send(Grant::Permit(permit)) {
                Ok(()) => return,
                Err(Grant::Permit(mut permit)) => drop(permit.pool.take()),
                Err(Grant::Lease(_)) => return,
            }
            inner = self.inner.lock();
        }
        inner.regular -= 1;
    }

    /// Moves a lent connection to the allowance of pinned sessions. False if that is used up.
    fn pin(self: &Arc<Self>) -> bool {
        let mut inner = self.inner.lock();
        if inner.pinned >= self.limits.pinned_size {
            return false;
        }
        inner.pinned += 1;
        drop(inner);
        self.forget(false);
        true
    }
}

impl Inner {
    /// One of this worker's own, else one of another's.
    fn take_idle(&mut self, worker: WorkerId) -> Option<Box<ServerConnection>> {
        if let Some(connection) = self.idle.get_mut(worker.0).and_then(Vec::pop) {
            return Some(connection);
        }
        self.idle.iter_mut().find_map(Vec::pop)
    }

    /// The one that waits longest, unless one of `worker` has waited almost as long: then nothing must change threads.
    fn next_waiter(&mut self, worker: WorkerId) -> Option<Waiter> {
        let since = |waiters: &VecDeque<Waiter>| waiters.front().map(|waiter| waiter.since);
        let (oldest, oldest_since) = self
            .waiters
            .iter()
            .enumerate()
            .filter_map(|(index, waiters)| Some((index, since(waiters)?)))
            .min_by_key(|(_, since)| *since)?;
        let own = self.waiters.get(worker.0).and_then(since);
        let chosen = match own {
            Some(own) if own.saturating_duration_since(oldest_since) <= UNFAIRNESS => worker.0,
            _ => oldest,
        };
        self.waiters.get_mut(chosen)?.pop_front()
    }
}

/// The right to open a connection. Dropped, it goes to whoever waits.
#[derive(Debug)]
pub(crate) struct Permit {
    pool: Option<Arc<Pool>>,
}

impl Permit {
    /// The connection was opened.
    pub(crate) fn fill(mut self, connection: Box<ServerConnection>) -> Option<Lease> {
        self.pool.take().map(|pool| Lease {
            pool,
            connection: Some(connection),
            pinned: false,
            clean: false,
            counted: true,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.forget(false);
        }
    }
}

/// A connection lent to one session. Dropped, it is closed, unless it was marked clean.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    /// `None` once it is given back or lost.
    connection: Option<Box<ServerConnection>>,
    pinned: bool,
    clean: bool,
    /// False once the pool needs not be told of its end.
    counted: bool,
}

impl Lease {
    fn new(pool: &Arc<Pool>, connection: Box<ServerConnection>) -> Self {
        Self {
            pool: Arc::clone(pool),
            connection: Some(connection),
            pinned: false,
            clean: true,
            counted: true,
        }
    }

    /// The connection; from now on it is closed when the lease is dropped. `None` only after it was lost in a move.
    pub(crate) fn connection(&mut self) -> Option<&mut ServerConnection> {
        self.clean = false;
        self.connection.as_deref_mut()
    }

    /// Takes the connection out without the pool being told.
    fn disarm(mut self) -> Option<Box<ServerConnection>> {
        self.counted = false;
        self.connection.take()
    }

    /// Brings the connection to the worker that runs this.
    ///
    /// # Errors
    /// When the event loop refuses it.
    pub(crate) fn move_to(&mut self, worker: WorkerId) -> std::io::Result<()> {
        if let Some(connection) = self.connection.take() {
            self.clean = false;
            self.connection = Some(connection.move_to(worker)?);
        }
        Ok(())
    }

    /// Nothing of the session is left on the connection: the next client may have it.
    pub(crate) fn give_back(mut self) {
        self.clean = true;
    }

    /// The session keeps the connection beyond its transaction: it counts with the pinned ones, if there is room.
    pub(crate) fn pin(&mut self) {
        self.pinned = self.pinned || self.pool.pin();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(connection) if self.clean => self.pool.check_in(connection, self.pinned),
            connection => {
                drop(connection);
                if self.counted {
                    self.pool.forget(self.pinned);
                }
            }
        }
    }
}
