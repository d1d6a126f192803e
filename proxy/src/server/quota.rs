//! What pools of one server may have together: those of a database, and those of a user.
//!
//! A pool that may have one more by its own size, and not by these bounds, closes an idle connection of another; if none is
//! idle, the next one that is given back by a pool whose clients have waited less is closed in its favour.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::pool::Pool;

/// A pool waits so long for others to give something back, before they give it up: each change costs a login.
const STARVES_AFTER: Duration = Duration::from_millis(50);
/// A pool that does not say again within this time that it wants something does not want it any more.
const WANT_HOLDS: Duration = Duration::from_millis(100);

/// Which bound.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) enum Whose {
    Database(Box<str>),
    User(Box<str>),
}

/// The bounds of all databases and users of one server.
#[derive(Debug, Default)]
pub(super) struct QuotaBook(HashMap<Whose, Arc<Quota>>);

impl QuotaBook {
    /// Those that a pool of this database and user shares in.
    pub(super) fn of(&mut self, database: &str, user: &str) -> Quotas {
        let mut find = |whose| Arc::clone(self.0.entry(whose).or_default());
        Quotas { database: find(Whose::Database(database.into())), user: find(Whose::User(user.into())) }
    }

    /// Forgets those that no pool shares in.
    pub(super) fn tidy(&mut self) {
        self.0.retain(|_, quota| Arc::strong_count(quota) > 1);
    }
}

/// What a pool shares in.
#[derive(Clone, Debug)]
pub(crate) struct Quotas {
    database: Arc<Quota>,
    user: Arc<Quota>,
}

/// How many connections the pools of a database, and those of a user, may have; without bound if none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedLimits {
    /// All pools of the database.
    pub(crate) database: Option<usize>,
    /// All pools of the user.
    pub(crate) user: Option<usize>,
}

impl SharedLimits {
    /// True if there is a bound.
    pub(crate) const fn is_any(self) -> bool {
        self.database.is_some() || self.user.is_some()
    }
}

impl Quotas {
    /// A pool shares in them from now on.
    pub(super) fn join(&self, pool: &Weak<Pool>) {
        for quota in [&self.database, &self.user] {
            let mut state = quota.state.lock();
            state.members.retain(|member| member.strong_count() > 0);
            state.members.push(Weak::clone(pool));
        }
    }

    /// One connection more for `pool`; none if that is one too many.
    pub(super) fn enter(&self, limits: SharedLimits, pool: &Weak<Pool>) -> Option<Slot> {
        let database = self.database.enter(limits.database, pool)?;
        let user = self.user.enter(limits.user, pool)?;
        Some(Slot { _database: database, _user: user })
    }

    /// True if `pool` might have one more.
    pub(super) fn has_room(&self, limits: SharedLimits, pool: &Weak<Pool>) -> bool {
        self.bounds(limits).all(|(quota, limit)| quota.has_room(&quota.state.lock(), limit, pool))
    }

    /// Closes an idle connection of another pool where that makes room for `pool`, whose client has waited since `since`;
    /// else has the others give up one of theirs. True if one was closed.
    pub(super) fn make_room(
        &self,
        limits: SharedLimits,
        (pool, since): (&Weak<Pool>, Instant),
        now: Instant,
    ) -> bool {
        let mut closed = false;
        for (quota, limit) in self.bounds(limits) {
            if quota.has_room(&quota.state.lock(), limit, pool) {
                continue;
            }
            // Where there is room, but for another pool, nothing that is closed would help.
            if quota.taken.load(Ordering::Relaxed) < limit {
                return false;
            }
            if !quota.evict(pool) {
                quota.want(pool, since, now);
                return false;
            }
            closed = true;
        }
        closed
    }

    /// True if `pool` is to give up the connection that it has got back: there are more than there may be by now, or another
    /// pool wants it whose client has waited for longer than those of `pool`, of which the first has waited since `since`.
    pub(super) fn are_wanted(
        &self,
        limits: SharedLimits,
        pool: &Weak<Pool>,
        since: Option<Instant>,
        now: Instant,
    ) -> bool {
        self.bounds(limits).any(|(quota, limit)| {
            quota.taken.load(Ordering::Relaxed) > limit
                || quota.is_wanted.load(Ordering::Relaxed) && quota.state.lock().is_wanted(pool, since, now)
        })
    }

    /// The bounds that are reached, in words.
    pub(super) fn reached(&self, limits: SharedLimits) -> Vec<String> {
        let names = [
            (&self.database, limits.database, "of the database together (pool.max_db_connections"),
            (&self.user, limits.user, "of the user together (pool.max_user_connections"),
        ];
        let reached = names.into_iter().filter_map(|(quota, limit, name)| {
            limit
                .filter(|limit| quota.taken.load(Ordering::Relaxed) >= *limit)
                .map(|limit| format!("{name} = {limit})"))
        });
        reached.collect()
    }

    fn bounds(&self, limits: SharedLimits) -> impl Iterator<Item = (&Arc<Quota>, usize)> {
        let bounds = [(&self.database, limits.database), (&self.user, limits.user)];
        bounds.into_iter().filter_map(|(quota, limit)| limit.map(|limit| (quota, limit)))
    }
}

/// One bound. Its lock may be taken under that of a pool, and never the other way round.
#[derive(Debug, Default)]
struct Quota {
    state: Mutex<State>,
    /// Changed under the lock.
    taken: AtomicUsize,
    /// Some pool may want a connection of another's: a look that costs little.
    is_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Weak<Pool>>,
    want: Option<Want>,
}

/// The next place is for this pool.
#[derive(Debug)]
struct Want {
    pool: Weak<Pool>,
    since: Instant,
    until: Instant,
}

impl Quota {
    fn enter(self: &Arc<Self>, limit: Option<usize>, pool: &Weak<Pool>) -> Option<Place> {
        let mut state = self.state.lock();
        if limit.is_some_and(|limit| !self.has_room(&state, limit, pool)) {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        if state.want.as_ref().is_some_and(|want| Weak::ptr_eq(&want.pool, pool)) {
            state.want = None;
            self.is_wanted.store(false, Ordering::Relaxed);
        }
        Some(Place(Arc::clone(self)))
    }

    fn has_room(&self, state: &State, limit: usize, pool: &Weak<Pool>) -> bool {
        let is_for_another = |want: &Want| !Weak::ptr_eq(&want.pool, pool) && Instant::now() < want.until;
        self.taken.load(Ordering::Relaxed) < limit && !state.want.as_ref().is_some_and(is_for_another)
    }

    /// Closes the connection of another pool that has been idle for the longest time.
    fn evict(&self, pool: &Weak<Pool>) -> bool {
        let others: Vec<_> = {
            let state = self.state.lock();
            let others = state.members.iter().filter(|member| !Weak::ptr_eq(member, pool));
            others.filter_map(Weak::upgrade).collect()
        };
        let idle = others.iter().filter_map(|pool| Some((pool.idle_since()?, pool)));
        idle.min_by_key(|(since, _)| *since).is_some_and(|(_, pool)| pool.evict())
    }

    fn want(&self, pool: &Weak<Pool>, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) < STARVES_AFTER {
            return;
        }
        let mut state = self.state.lock();
        let is_first = state
            .want
            .as_ref()
            .is_none_or(|want| Weak::ptr_eq(&want.pool, pool) || want.until <= now || since < want.since);
        if is_first {
            state.want = Some(Want { pool: Weak::clone(pool), since, until: now + WANT_HOLDS });
            self.is_wanted.store(true, Ordering::Relaxed);
        }
    }
}

impl State {
    fn is_wanted(&self, pool: &Weak<Pool>, since: Option<Instant>, now: Instant) -> bool {
        self.want.as_ref().is_some_and(|want| {
            !Weak::ptr_eq(&want.pool, pool)
                && now < want.until
                && since.is_none_or(|since| want.since < since)
        })
    }
}

/// One connection that counts, as long as this lives.
#[derive(Debug)]
pub(crate) struct Slot {
    _database: Place,
    _user: Place,
}

#[derive(Debug)]
struct Place(Arc<Quota>);

impl Drop for Place {
    fn drop(&mut self) {
        let _state = self.0.state.lock();
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
