//! What there is at this moment, for all who show it: the console, the metrics and the manager.

pub(crate) mod servers;

use std::collections::BTreeMap;

use crate::seat::Business;
use crate::server::table::DatabaseAndUser;
use crate::shared::Shared;

/// The clients of one database and user and their connections, whatever servers those are on.
#[derive(Debug, Default)]
pub(crate) struct PoolSurvey {
    /// Clients that wait for nothing of pgherd's: idle, or with a connection.
    pub(crate) clients: usize,
    /// Clients that wait for a connection.
    pub(crate) waiting: usize,
    /// Connections that clients have.
    pub(crate) active: usize,
    /// Connections that a cancel request is on its way to.
    pub(crate) being_cancelled: usize,
    /// Connections that nobody has.
    pub(crate) idle: usize,
    /// Connections that are being opened.
    pub(crate) opening: usize,
    /// How long the client that waits longest has waited, in microseconds.
    pub(crate) longest: u64,
    /// Sessions that keep their connections, by why they do.
    pub(crate) pinned: BTreeMap<String, usize>,
}

/// All databases and users that have clients or connections. `now` is in microseconds since the event loops' epoch.
pub(crate) fn pools(shared: &Shared, now: u64) -> BTreeMap<DatabaseAndUser, PoolSurvey> {
    let mut pools: BTreeMap<DatabaseAndUser, PoolSurvey> = BTreeMap::new();
    for seat in shared.roster.all() {
        let card = seat.card();
        let pool = pools.entry(((&*card.database).into(), (&*card.user).into())).or_default();
        match seat.business().0 {
            Business::Waiting => {
                pool.waiting += 1;
                pool.longest = pool.longest.max(now.saturating_sub(card.asked()));
            }
            Business::Idle | Business::Holding(_) => pool.clients += 1,
        }
    }
    for (_, names, there) in shared.backends.pools(None) {
        let pool = pools.entry(names).or_default();
        for (pin, count) in there.pinned().iter() {
            *pool.pinned.entry(pin.to_string()).or_default() += count;
        }
        let glance = there.glance();
        pool.opening += glance.opening;
        for connection in glance.connections {
            if connection.idle_since.is_some() {
                pool.idle += 1;
            } else if connection.point.is_clear() {
                pool.active += 1;
            } else {
                pool.being_cancelled += 1;
            }
        }
    }
    pools
}
