//! What an operator does to the pools of all servers.

use std::sync::Arc;

use super::pool::Pool;
use super::table::{Backends, DatabaseAndUser, Server};

/// A pool, and whose it is.
pub(crate) type Pooled = (Arc<Server>, DatabaseAndUser, Arc<Pool>);

impl Backends {
    /// The pools of this moment, of one database or of all.
    pub(crate) fn pools(&self, database: Option<&str>) -> Vec<Pooled> {
        let table = self.load();
        let of_server = |server: &Arc<Server>| {
            let pools = server.pools_of(database).into_iter();
            pools.map(|(names, pool)| (Arc::clone(server), names, pool)).collect::<Vec<_>>()
        };
        table.servers().flat_map(of_server).collect()
    }

    /// Lends no server connection of a database, or of any, until it is resumed. False if that is so already.
    pub(crate) fn pause(&self, database: Option<&str>) -> bool {
        // First, so that pools that are made meanwhile are paused, too.
        let paused = self.gates.pause(database);
        self.pools(database).iter().for_each(|(_, _, pool)| pool.pause());
        paused
    }

    /// Ends what [`Backends::pause`] began with the same argument. False if nothing was.
    pub(crate) fn resume(&self, database: Option<&str>) -> bool {
        let resumed = self.gates.resume(database);
        for (_, (name, _), pool) in self.pools(database) {
            if !self.gates.is_paused(&name) {
                pool.resume();
            }
        }
        resumed
    }

    /// Has connections that are open now closed as soon as nobody holds them.
    pub(crate) fn renew(&self, database: Option<&str>) {
        self.pools(database).iter().for_each(|(_, _, pool)| pool.renew());
    }

    /// The same for those of a user.
    pub(crate) fn renew_of_user(&self, user: &str) {
        let pools = self.pools(None);
        pools.iter().filter(|(_, (_, its), _)| **its == *user).for_each(|(.., pool)| pool.renew());
    }

    /// How many connections are open or being opened.
    pub(crate) fn connections(&self, database: Option<&str>) -> usize {
        self.pools(database).iter().map(|(_, _, pool)| pool.connections()).sum()
    }

    /// How many connections are still open of those that [`Backends::renew`] is to close.
    pub(crate) fn stale(&self, database: Option<&str>) -> usize {
        self.pools(database).iter().map(|(_, _, pool)| pool.stale()).sum()
    }
}
