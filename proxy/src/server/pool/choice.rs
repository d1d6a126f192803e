//! Which connection a client gets, and which client a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_protocol::parameters::Parameters;

use super::{CHANGE_THREADS_AFTER, Connection, Inner, UNFAIRNESS, Waiter};
use crate::reactor;
use crate::server::quota::Slot;
use crate::worker::WorkerId;

/// So many idle connections are looked at for one with the right parameters.
const LOOKED_AT: usize = 16;
/// Who has waited for so long gets a new connection in the place of one that does not fit it, though there are others whom that
/// fits.
const GIVES_WAY_AFTER: Duration = Duration::from_millis(100);

/// What a pool has to give.
pub(super) enum Place {
    /// Room for one more connection.
    Free(Slot),
    /// A connection.
    Idle(Connection),
}

impl Inner {
    /// In session mode: the one that was idle for the longest time, on whatever worker, since beside a login a change of threads is
    /// nothing. None as long as they are to rest and one more may be opened instead.
    fn take_rested(
        &mut self,
        rests: Duration,
        parameters: &Parameters,
        dead: &mut Vec<Connection>,
    ) -> Option<Connection> {
        loop {
            let fitting = self.idle.iter().enumerate().filter_map(|(at, idle)| {
                let place = idle.iter().take(LOOKED_AT).position(|connection| connection.fits(parameters))?;
                Some((idle.get(place)?.idle_since, at, place))
            });
            let (since, at, place) = fitting.min()?;
            let is_resting = reactor::now().saturating_duration_since(since) < rests;
            if is_resting && self.has_room(self.limits.size) {
                return None;
            }
            if let Some(connection) = self.take_quiet((at, place), dead) {
                return Some(connection);
            }
        }
    }

    /// The idle connection at this place, unless the server has ended it.
    pub(super) fn take_quiet(
        &mut self,
        (worker, place): (usize, usize),
        dead: &mut Vec<Connection>,
    ) -> Option<Connection> {
        let connection = self.idle.get_mut(worker)?.remove(place)?;
        if connection.is_quiet() {
            return Some(connection);
        }
        self.regular -= 1;
        dead.push(connection);
        None
    }

    /// The worker's own that was given back last, since its memory is warm; of those that were used of late, rather one on
    /// which nothing has to be set first. None on which there may be custom parameters of others.
    pub(super) fn take_own(
        &mut self,
        worker: WorkerId,
        parameters: &Arc<Parameters>,
        dead: &mut Vec<Connection>,
    ) -> Option<Connection> {
        if let Some(rests) = self.limits.rests {
            return self.take_rested(rests, parameters, dead);
        }
        let round_robin = self.limits.round_robin;
        loop {
            let idle = self.idle.get(worker.0)?;
            let place = if round_robin {
                idle.iter().take(LOOKED_AT).position(|connection| connection.fits(parameters))?
            } else {
                let place = latest(idle, |it| it.fits(parameters) && it.has(parameters));
                place.or_else(|| latest(idle, |it| it.fits(parameters)))?
            };
            if let Some(connection) = self.take_quiet((worker.0, place), dead) {
                return Some(connection);
            }
        }
    }

    /// The place of a connection that may be opened, else a connection of any worker that is idle since `idle_since`. One that
    /// does not fit the session makes place for another.
    pub(super) fn take_place(
        &mut self,
        (size, idle_since): (usize, Option<Instant>),
        (worker, parameters): (WorkerId, &Parameters),
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
        let unused = |c: &Connection| idle_since.is_some_and(|limit| c.idle_since <= limit);
        for idle in &mut self.idle {
            let fitting = idle.iter().take_while(|c| unused(c)).position(|c| c.fits(parameters));
            if let Some(connection) = fitting.and_then(|place| idle.remove(place)) {
                return Some(Place::Idle(connection));
            }
        }
        // None fits of those that are left.
        let is_own = |at: usize| at == worker.0;
        let mut in_the_way = self.idle.iter_mut().enumerate();
        let (_, idle) = in_the_way.find(|(at, idle)| {
            idle.front().is_some_and(|c| !c.fits(parameters) && (is_own(*at) || unused(c)))
        })?;
        let mut connection = idle.pop_front()?;
        // It is closed before another is opened.
        connection.slot = None;
        dead.push(connection);
        self.regular -= 1;
        self.enter(size).map(Place::Free)
    }

    /// Who gets a connection of `worker`: its own client that waits longest, so that nothing must change threads, unless
    /// another's has waited for much longer, or none of its own waits.
    pub(super) fn next_waiter(&self, worker: WorkerId, now: Instant) -> Option<usize> {
        let longest = self.longest()?;
        let own = self.waiters.get(worker.0).and_then(VecDeque::front).map(|waiter| waiter.since);
        match own {
            Some(own) if own.saturating_duration_since(longest.1) <= UNFAIRNESS => Some(worker.0),
            None if now.saturating_duration_since(longest.1) < CHANGE_THREADS_AFTER => None,
            _ => Some(longest.0),
        }
    }

    /// Who of those that wait in this queue gets this connection. None if there may be custom parameters on it that are nobody's
    /// of them, or not those of one who has waited for long: then it makes place for another.
    pub(super) fn whom_it_fits(&self, queue: usize, connection: &Connection, now: Instant) -> Option<usize> {
        let waiters = self.waiters.get(queue)?;
        if connection.state.customs.is_empty() {
            return Some(0);
        }
        let fits = |waiter: &Waiter| connection.fits(&waiter.seat.card().parameters.lock());
        let place = waiters.iter().take(LOOKED_AT).position(fits)?;
        let is_urgent = |first: &Waiter| now.saturating_duration_since(first.since) >= GIVES_WAY_AFTER;
        (place == 0 || !waiters.front().is_some_and(is_urgent)).then_some(place)
    }

    pub(super) fn longest_waiter(&mut self) -> Option<Waiter> {
        let (chosen, _) = self.longest()?;
        self.waiters.get_mut(chosen)?.pop_front()
    }
}

/// The place of the connection given back last for which `is_it` holds, among some of those given back last.
fn latest(idle: &VecDeque<Connection>, is_it: impl Fn(&Connection) -> bool) -> Option<usize> {
    let behind = idle.iter().rev().take(LOOKED_AT).position(is_it)?;
    Some(idle.len() - 1 - behind)
}
