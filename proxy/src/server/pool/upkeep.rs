//! What is done to a pool beside lending: connections that are closed for their age, for want of use, for another pool or because an
//! operator wants it, and those that are opened before anybody asks for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CHANGE_THREADS_AFTER, Connection, Inner, Pool, PoolLimits, send_away};
use crate::server::lease::{Lease, Permit};
use crate::worker::WorkerId;

impl Pool {
    /// Lends nothing any more; who asks waits. What is idle is closed, and the rest when it comes back.
    pub(crate) fn pause(&self) {
        let mut inner = self.inner.lock();
        inner.paused = true;
        let idle = inner.take_idle();
        drop(inner);
        drop(idle);
    }

    /// Lends nothing more as long as writes wait: who has a connection ends what it does with it. What is idle stays.
    pub(crate) fn withhold(&self) {
        let mut inner = self.inner.lock();
        inner.withheld = true;
        send_away(inner);
    }

    /// Ends [`Pool::withhold`].
    pub(crate) fn grant(&self) {
        self.inner.lock().withheld = false;
    }

    /// How many connections are lent, or being opened, but for those of pinned sessions, where no more are; none where more
    /// may be.
    pub(crate) fn lent(&self) -> Option<usize> {
        let inner = self.inner.lock();
        let idle: usize = inner.idle.iter().map(VecDeque::len).sum();
        inner.withheld.then(|| inner.regular.saturating_sub(idle))
    }

    /// Lends again.
    pub(crate) fn resume(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.paused = false;
        self.offer_places(inner);
    }

    /// Connections that are open now serve nobody after the one whom they serve.
    pub(crate) fn renew(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.renewed_at = Some(Instant::now());
        let idle = inner.take_idle();
        drop(inner);
        // Closed before others are opened in their places.
        drop(idle);
        self.offer_places(self.inner.lock());
    }

    /// Closes idle connections that have outlived their time, are not needed, or were ended by the server.
    pub(crate) fn reap(&self, now: Instant) {
        let mut inner = self.inner.lock();
        let Inner { limits, idle, regular, pinned, .. } = &mut *inner;
        let mut closed = Vec::new();
        for idle in idle {
            let mut kept = VecDeque::new();
            // The first was given back first.
            for connection in std::mem::take(idle) {
                let is_spare = *regular + *pinned > limits.min_size && limits.is_unused(&connection, now);
                if is_spare || limits.has_outlived(&connection, now) || !connection.is_quiet() {
                    *regular -= 1;
                    closed.push(connection);
                } else {
                    kept.push_back(connection);
                }
            }
            *idle = kept;
        }
        drop(inner);
        drop(closed);
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

    /// The right to open a connection that the pool is to have and has not. Who waits is served from it, too.
    pub(crate) fn lack(self: &Arc<Self>) -> Option<Permit> {
        let mut inner = self.inner.lock();
        // Somebody wants the database for itself.
        let is_vacated = inner.vacated_until.is_some_and(|until| Instant::now() < until);
        if inner.closed || is_vacated || inner.regular + inner.pinned >= inner.limits.min_size {
            return None;
        }
        let size = inner.limits.size;
        let slot = inner.enter(size)?;
        drop(inner);
        Some(Permit::new(self, slot))
    }

    /// Lends a connection that nobody has used for so long, if nobody waits for one.
    pub(crate) fn lend_rested(self: &Arc<Self>, rested: Duration) -> Option<Lease> {
        let mut dead = Vec::new();
        let mut inner = self.inner.lock();
        if inner.closed || inner.paused || inner.withheld || inner.longest().is_some() {
            return None;
        }
        let now = Instant::now();
        let is_rested = |c: &Connection| now.saturating_duration_since(c.idle_since) >= rested;
        loop {
            let at = inner.idle.iter().position(|idle| idle.front().is_some_and(is_rested))?;
            if let Some(connection) = inner.take_quiet((at, 0), &mut dead) {
                return Some(Lease::new(self, connection));
            }
        }
    }

    /// Since when the connection is idle that has been for the longest time.
    pub(in crate::server) fn idle_since(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        inner.idle.iter().filter_map(|idle| Some(idle.front()?.idle_since)).min()
    }

    /// Closes that connection for the sake of another pool; false if there is none any more.
    pub(in crate::server) fn evict(&self) -> bool {
        let mut inner = self.inner.lock();
        let oldest = inner.idle.iter_mut().filter_map(|idle| Some((idle.front()?.idle_since, idle)));
        let evicted = oldest.min_by_key(|(since, _)| *since).and_then(|(_, idle)| idle.pop_front());
        inner.regular -= usize::from(evicted.is_some());
        drop(inner);
        evicted.is_some()
    }

    /// Has other pools make room for this one, if it is they who keep this worker's clients waiting. True if there may be some
    /// now.
    pub(super) fn make_room(&self, worker: WorkerId, now: Instant) -> bool {
        let (quotas, shared, me, since) = {
            let inner = self.inner.lock();
            let Some(since) = inner.waiters.get(worker.0).and_then(|waiters| Some(waiters.front()?.since))
            else {
                return false;
            };
            let waited = now.saturating_duration_since(since);
            let may_grow = inner.has_own_room(inner.limits.size_after(waited));
            if waited < CHANGE_THREADS_AFTER || !inner.limits.shared.is_any() || !may_grow {
                return false;
            }
            (inner.quotas.clone(), inner.limits.shared, inner.me.clone(), since)
        };
        // Without the lock: others' are taken.
        quotas.make_room(shared, (&me, since), now)
    }
}

impl Inner {
    /// Takes out what is idle.
    pub(super) fn take_idle(&mut self) -> Vec<Connection> {
        let idle: Vec<_> = self.idle.iter_mut().flat_map(std::mem::take).collect();
        self.regular -= idle.len();
        idle
    }
}
