//! How large a pool is and how long its connections live.

use std::time::{Duration, Instant};

use crate::config::{self, PoolMode};
use crate::server::connection::ServerConnection;
use crate::server::quota::SharedLimits;

/// How long a connection rests after a session in session mode.
const RESTS: Duration = Duration::from_secs(1);

/// How large a pool is and how long its connections live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// Connections for transactions.
    pub(crate) size: usize,
    /// Connections that are kept open where nobody needs them.
    pub(crate) min_size: usize,
    /// More of them, for clients that have waited for `reserve_after`.
    pub(crate) reserve_size: usize,
    /// When the reserve is used; never if none.
    pub(crate) reserve_after: Option<Duration>,
    /// Connections for pinned sessions, besides.
    pub(crate) pinned_size: usize,
    /// What it shares with other pools.
    pub(crate) shared: SharedLimits,
    /// How long a client waits for one.
    pub(crate) wait_timeout: Option<Duration>,
    /// Idle for longer: closed.
    pub(crate) idle_timeout: Option<Duration>,
    /// Open for longer: closed when it comes back.
    pub(crate) lifetime: Option<Duration>,
    /// The one that was given back first is lent first, and not the one that was given back last.
    pub(crate) round_robin: bool,
    /// One that was used until so short a while ago is lent only if no other may be opened: who has closed a session and begins
    /// another expects another server process.
    pub(crate) rests: Option<Duration>,
}

impl PoolLimits {
    /// Those of the pools of this database and user.
    pub(crate) fn of(settings: &config::Pool, database: &str, user: &str) -> Self {
        let sizes = settings.sizes_for(database, user);
        let most = |limit: usize| (limit > 0).then_some(limit);
        let by_session = settings.mode_for(database, user) == PoolMode::Session;
        Self {
            size: sizes.size,
            min_size: sizes.min_size.min(sizes.size),
            reserve_size: sizes.reserve_size,
            reserve_after: settings.reserve_pool_timeout,
            pinned_size: settings.pinned_size,
            shared: SharedLimits {
                database: most(sizes.max_db_connections),
                user: most(sizes.max_user_connections),
            },
            wait_timeout: settings.query_wait_timeout_for(database, user),
            idle_timeout: settings.server_idle_timeout,
            lifetime: settings.server_lifetime_for(database, user),
            round_robin: settings.server_round_robin,
            rests: by_session.then_some(RESTS),
        }
    }

    /// Connections that there may be for transactions while a client waits that has waited for so long.
    pub(super) fn size_after(&self, waited: Duration) -> usize {
        let reserve = self.reserve_after.filter(|after| waited >= *after).map_or(0, |_| self.reserve_size);
        self.size + reserve
    }

    /// True if it was idle for too long.
    pub(super) fn is_unused(&self, connection: &ServerConnection, now: Instant) -> bool {
        is_older(connection.idle_since, self.idle_timeout, now)
    }

    /// True if it is too old.
    pub(super) fn has_outlived(&self, connection: &ServerConnection, now: Instant) -> bool {
        is_older(connection.ages_from, self.lifetime, now)
    }
}

fn is_older(since: Instant, limit: Option<Duration>, now: Instant) -> bool {
    limit.is_some_and(|limit| now.saturating_duration_since(since) > limit)
}
