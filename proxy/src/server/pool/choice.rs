//! Which connection a client gets, and which client a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pgherd_protocol::parameters::Parameters;

use super::{CHANGE_THREADS_AFTER, Connection, Inner, UNFAIRNESS, Waiter};
use crate::reactor;
use crate::server::quota::Slot;
use crate::worker::WorkerId;

/// So many idle connections are looked at for one with the right parameters.
const LOOKED_AT: usize = 16;

/// What a pool has to give.
pub(super) enum Place {
    /// Room for one more connection.
    Free(Slot),
    /// A connection.
    Idle(Connection),
}

impl Inner {
    /// True if idle connections are to rest, since one more may be opened instead.
    fn lets_rest(&self, connection: &Connection, now: Instant) -> bool {
        self.limits.rests.is_some_and(|rests| now.saturating_duration_since(connection.idle_since) < rests)
            && self.has_room(self.limits.size)
    }

    /// The worker's own that was given back last, since its memory is warm; of those that were used of late, rather one on
    /// which nothing has to be set first.
    pub(super) fn take_own(
        &mut self,
        worker: WorkerId,
        parameters: &Arc<Parameters>,
        dead: &mut Vec<Connection>,
    ) -> Option<Connection> {
        if self.idle.get(worker.0)?.front().is_some_and(|first| self.lets_rest(first, reactor::now())) {
            return None;
        }
        let idle = self.idle.get_mut(worker.0)?;
        if !self.limits.round_robin
            && let Some(place) =
                idle.iter().rev().take(LOOKED_AT).position(|connection| connection.has(parameters))
            && place > 0
            && let Some(connection) = idle.remove(idle.len() - 1 - place)
        {
            idle.push_back(connection);
        }
        let round_robin = self.limits.round_robin;
        while let Some(connection) = if round_robin { idle.pop_front() } else { idle.pop_back() } {
            if connection.is_quiet() {
                return Some(connection);
            }
            self.regular -= 1;
            dead.push(connection);
        }
        None
    }

    /// The place of a connection that may be opened, else a connection of any worker that is idle since `idle_since`.
    pub(super) fn take_place(
        &mut self,
        size: usize,
        idle_since: Option<Instant>,
        dead: &mut Vec<Connection>,
    ) -> Option<Place> {
        if !self.has_room(size) {
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
        if let Some(slot) = self.enter(size) {
            return Some(Place::Free(slot));
        }
        let unused = |since: Instant| idle_since.is_some_and(|limit| since <= limit);
        let idle = self.idle.iter_mut().find(|idle| idle.front().is_some_and(|c| unused(c.idle_since)))?;
        idle.pop_front().map(Place::Idle)
    }

    /// Who gets a connection of `worker`: its own client that waits longest, so that nothing must change threads, unless
    /// another's has waited for much longer, or none of its own waits.
    pub(super) fn next_waiter(&mut self, worker: WorkerId, now: Instant) -> Option<Waiter> {
        let longest = self.longest()?;
        let own = self.waiters.get(worker.0).and_then(VecDeque::front).map(|waiter| waiter.since);
        let chosen = match own {
            Some(own) if own.saturating_duration_since(longest.1) <= UNFAIRNESS => worker.0,
            None if now.saturating_duration_since(longest.1) < CHANGE_THREADS_AFTER => return None,
            _ => longest.0,
        };
        self.waiters.get_mut(chosen)?.pop_front()
    }

    pub(super) fn longest_waiter(&mut self) -> Option<Waiter> {
        let (chosen, _) = self.longest()?;
        self.waiters.get_mut(chosen)?.pop_front()
    }
}
