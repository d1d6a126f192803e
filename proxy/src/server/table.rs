//! Which server takes writes and which may be read: one immutable table behind one atomic pointer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use pgherd_failover::{Epoch, Routing, Writes};
use pgherd_health::{Node, NodeId};
use tokio::sync::watch;

use super::connection::Cutter;
use super::pool::{Pool, PoolLimits};
use crate::config::Live;

type DatabaseAndUser = (Box<str>, Box<str>);

/// A server in one role: the primary of one epoch, or a standby.
#[derive(Debug)]
pub(crate) struct Server {
    /// The server.
    pub(crate) node: Node,
    epoch: Option<Epoch>,
    workers: usize,
    config: Arc<Live>,
    pools: Mutex<HashMap<DatabaseAndUser, Arc<Pool>>>,
    cutters: Mutex<Vec<Weak<Cutter>>>,
    retired: AtomicBool,
}

impl Server {
    /// The pool of a database and user; sessions remember it.
    pub(crate) fn pool(&self, database: &str, user: &str) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        let pool = pools.entry((database.into(), user.into())).or_insert_with(|| {
            Pool::new(PoolLimits::of(&self.config.load().pool, database, user), self.workers)
        });
        if self.retired.load(Ordering::SeqCst) {
            pool.close();
        }
        Arc::clone(pool)
    }

    /// Closes a user's idle connections to a database that it wants for itself.
    pub(crate) fn vacate(&self, database: &[u8], user: &str) {
        let pools = self.pools.lock();
        let wanted = pools.iter().filter(|((name, its), _)| name.as_bytes() == database && **its == *user);
        wanted.for_each(|(_, pool)| pool.vacate());
    }

    /// Makes a connection one of those that are cut when the server is fenced.
    pub(crate) fn watch_over(&self, cutter: &Arc<Cutter>) {
        let mut cutters = self.cutters.lock();
        if cutters.len() == cutters.capacity() {
            cutters.retain(|cutter| cutter.strong_count() > 0);
        }
        cutters.push(Arc::downgrade(cutter));
        if self.retired.load(Ordering::SeqCst) && self.epoch.is_some() {
            cutter.cut();
        }
    }

    /// Closes idle connections that have outlived their time, and forgets pools that nobody uses.
    pub(crate) fn reap(&self, now: Instant) {
        let mut pools = self.pools.lock();
        pools.values().for_each(|pool| pool.reap(now));
        pools.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_unused());
    }

    /// The server is out of the table: nothing is lent any more. A former primary's connections are cut, so that nothing
    /// commits there after its epoch; a standby's may finish what they do.
    fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        let pools: Vec<_> = self.pools.lock().values().cloned().collect();
        pools.iter().for_each(|pool| pool.close());
        if self.epoch.is_some() {
            self.cutters.lock().iter().filter_map(Weak::upgrade).for_each(|cutter| cutter.cut());
        }
    }
}

/// Where writes go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// To this server.
    Open(Arc<Server>),
    /// Nowhere for now: new transactions wait.
    Held {
        /// The server whose open transactions may go on.
        keep: Option<Arc<Server>>,
        /// Why, for the log and for the client's error.
        reason: Arc<str>,
    },
}

/// One state of the herd.
#[derive(Debug)]
pub(crate) struct Table {
    /// Where writes go.
    pub(crate) writes: Target,
    /// Standbys that may be read.
    pub(crate) readable: Vec<Arc<Server>>,
}

impl Table {
    fn primary(&self) -> Option<&Arc<Server>> {
        match &self.writes {
            Target::Open(server) => Some(server),
            Target::Held { keep, .. } => keep.as_ref(),
        }
    }

    /// All servers, the primary first.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.primary().into_iter().chain(&self.readable)
    }
}

/// The current table, and the way to the next.
#[derive(Debug)]
pub(crate) struct Backends {
    config: Arc<Live>,
    workers: usize,
    current: ArcSwap<Table>,
    changes: watch::Sender<u64>,
}

impl Backends {
    /// Before anything is known of the servers: writes wait.
    pub(crate) fn new(config: Arc<Live>, workers: usize) -> Self {
        let reason: Arc<str> = "the servers have not answered yet".into();
        let table = Table { writes: Target::Held { keep: None, reason }, readable: Vec::new() };
        Self { config, workers, current: ArcSwap::from_pointee(table), changes: watch::Sender::new(0) }
    }

    /// The table of this moment.
    pub(crate) fn load(&self) -> Guard<Arc<Table>> {
        self.current.load()
    }

    /// Tells when the table changes; subscribe before loading it.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Puts a decision into force: make the new servers' pools, swap, then retire those that are out.
    pub(crate) fn publish(&self, routing: &Routing) {
        let before = self.current.load_full();
        let known = (&*before, routing.nodes.as_slice());
        let writes = match &routing.writes {
            Writes::Open(epoch) => match self.server(known, epoch.primary, Some(*epoch)) {
                Some(server) => Target::Open(server),
                None => Target::Held { keep: None, reason: "the primary is not in backends.nodes".into() },
            },
            Writes::Held { keep, reason } => Target::Held {
                keep: keep.and_then(|epoch| self.server(known, epoch.primary, Some(epoch))),
                reason: reason.as_str().into(),
            },
        };
        let readable = routing.readable.iter().filter_map(|id| self.server(known, *id, None)).collect();
        let after = Arc::new(Table { writes, readable });
        self.current.store(Arc::clone(&after));
        for server in before.servers() {
            if !after.servers().any(|kept| Arc::ptr_eq(kept, server)) {
                server.retire();
            }
        }
        // Nobody is woken for other words of a reason.
        self.changes
            .send_if_modified(|seen| std::mem::replace(seen, routing.generation) != routing.generation);
    }

    /// The server in this role: the one of the table before, if it is the same.
    fn server(
        &self,
        (before, nodes): (&Table, &[Node]),
        id: NodeId,
        epoch: Option<Epoch>,
    ) -> Option<Arc<Server>> {
        let node = nodes.iter().find(|node| node.id == id)?;
        let is_it = |server: &&Arc<Server>| server.node.is_same(node) && server.epoch == epoch;
        if let Some(server) = before.servers().find(is_it) {
            return Some(Arc::clone(server));
        }
        Some(Arc::new(Server {
            node: node.clone(),
            epoch,
            workers: self.workers,
            config: Arc::clone(&self.config),
            pools: Mutex::default(),
            cutters: Mutex::default(),
            retired: AtomicBool::new(false),
        }))
    }

    /// The pools are as large as the configuration in force says, and their connections live as long.
    pub(crate) fn resize_pools(&self) {
        let config = self.config.load();
        for server in self.load().servers() {
            // One that is made meanwhile has these limits already.
            for ((database, user), pool) in server.pools.lock().iter() {
                pool.resize(PoolLimits::of(&config.pool, database, user));
            }
        }
    }

    /// See [`Server::reap`].
    pub(crate) fn reap(&self, now: Instant) {
        self.load().servers().for_each(|server| server.reap(now));
    }
}
