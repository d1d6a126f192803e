//! Which server takes writes and which may be read: one immutable table behind one atomic pointer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use pgherd_failover::{Clients, Epoch, Routing, Writes};
use pgherd_health::{Node, NodeId};
use tokio::sync::watch;

use super::balance::{Dice, Share, pick};
use super::connection::Cutter;
use super::distance::nearness;
use super::gates::Gates;
use super::marks::{Positions, Wanted};
use super::pool::{Pool, PoolLimits};
use super::quota::QuotaBook;
use crate::config::{self, Consistency, Live, PoolMode, Preferred, ReadPolicy, Reads};
use crate::traffic::{Account, Reason};

/// Whose a pool is.
pub(crate) type DatabaseAndUser = (Box<str>, Box<str>);

/// A server in one role: the primary of one epoch, or a standby.
#[derive(Debug)]
pub(crate) struct Server {
    /// The server.
    pub(crate) node: Node,
    epoch: Option<Epoch>,
    workers: usize,
    /// Of the reads.
    share: Share,
    config: Arc<Live>,
    gates: Arc<Gates>,
    /// What this server has done, in whatever role.
    pub(crate) account: Arc<Account>,
    pools: Mutex<HashMap<DatabaseAndUser, Arc<Pool>>>,
    /// Taken under the lock of `pools`, and under no other.
    quotas: Mutex<QuotaBook>,
    cutters: Mutex<Vec<Weak<Cutter>>>,
    retired: AtomicBool,
    /// Writes wait: nothing more is lent for now.
    withheld: AtomicBool,
    /// It is waited for the end of all transactions.
    quiesces: AtomicBool,
    /// It could not be reached: nobody tries again before this moment.
    retry_at: Mutex<Option<Instant>>,
    /// There is such a moment.
    is_out_of_reach: AtomicBool,
}

impl Server {
    /// The pool of a database and user; sessions remember it.
    pub(crate) fn pool(&self, database: &str, user: &str) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        let pool = pools.entry((database.into(), user.into())).or_insert_with(|| {
            let quotas = self.quotas.lock().of(database, user);
            let limits = self.limits(&self.config.load().pool, database, user);
            let pool = Pool::new((limits, quotas), Arc::clone(&self.share.outstanding), self.workers);
            // Under the lock: who closes the gate afterwards finds the pool.
            if self.gates.is_paused(database) {
                pool.pause();
            }
            if self.withheld.load(Ordering::SeqCst) {
                pool.withhold();
            }
            pool
        });
        if self.retired.load(Ordering::SeqCst) {
            pool.close();
        }
        Arc::clone(pool)
    }

    /// How large its pool of this database and user is, and how long connections live there.
    fn limits(&self, settings: &config::Pool, database: &str, user: &str) -> PoolLimits {
        let limits = PoolLimits::of(settings, database, user);
        // What is lent of a standby is lent for a read, in whatever mode.
        PoolLimits { rests: limits.rests.filter(|_| self.is_primary()), ..limits }
    }

    /// True if it is worth trying to reach it. Where it could not be reached of late, one may try for all.
    pub(crate) fn may_be_tried(&self) -> bool {
        let mut retry_at = self.retry_at.lock();
        let now = Instant::now();
        match *retry_at {
            Some(at) if now < at => false,
            Some(_) => {
                *retry_at = Some(now + self.config.load().pool.server_login_retry);
                true
            }
            None => true,
        }
    }

    /// It could be reached, or could not.
    pub(crate) fn was_tried(&self, reached: bool) {
        let next = || Instant::now() + self.config.load().pool.server_login_retry;
        let mut retry_at = self.retry_at.lock();
        *retry_at = (!reached).then(next);
        self.is_out_of_reach.store(!reached, Ordering::Relaxed);
    }

    /// True while nobody tries to reach it: there may be others.
    fn is_left_out(&self, now: Instant) -> bool {
        self.is_out_of_reach.load(Ordering::Relaxed) && self.retry_at.lock().is_some_and(|at| now < at)
    }

    /// How many of its connections are lent, of all pools.
    pub(crate) fn connections_lent(&self) -> usize {
        self.share.outstanding.lent()
    }

    /// Whose pools there are.
    pub(crate) fn served(&self) -> Vec<DatabaseAndUser> {
        self.pools.lock().keys().cloned().collect()
    }

    /// The pools of this moment, of one database or of all.
    pub(crate) fn pools_of(&self, database: Option<&str>) -> Vec<(DatabaseAndUser, Arc<Pool>)> {
        let pools = self.pools.lock();
        let wanted =
            pools.iter().filter(|((name, _), _)| database.is_none_or(|database| **name == *database));
        wanted.map(|(names, pool)| (names.clone(), Arc::clone(pool))).collect()
    }

    /// True if its connections were cut: another server is to be the primary.
    pub(crate) fn is_cut(&self) -> bool {
        self.epoch.is_some() && self.retired.load(Ordering::SeqCst)
    }

    /// True if writes go to it, or went to it last.
    pub(crate) const fn is_primary(&self) -> bool {
        self.epoch.is_some()
    }

    /// True if it is one of those that are preferred.
    fn is_one_of(&self, preferred: Preferred) -> bool {
        match preferred {
            Preferred::Primary => self.is_primary(),
            Preferred::Standbys => !self.is_primary(),
            Preferred::Node(id) => self.node.id == id,
        }
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
        self.quotas.lock().tidy();
    }

    /// Writes wait, or do so no more. What is lent when they begin to wait comes to its end.
    fn withhold(&self, wait: bool) {
        if self.withheld.swap(wait, Ordering::SeqCst) == wait {
            return;
        }
        let pools: Vec<_> = self.pools.lock().values().cloned().collect();
        for pool in pools {
            if wait { pool.withhold() } else { pool.grant() }
        }
    }

    /// True while a switchover waits for the end of all transactions: nobody begins another there.
    #[inline]
    pub(crate) fn quiesces(&self) -> bool {
        self.quiesces.load(Ordering::Relaxed)
    }

    /// How many connections are lent for transactions, where no more are. Sessions that keep theirs are not counted.
    fn lent(&self) -> Option<usize> {
        let config = self.config.load();
        let pools = self.pools.lock();
        let counted = pools
            .iter()
            .filter(|((database, user), _)| config.pool.mode_for(database, user) != PoolMode::Session);
        counted.map(|(_, pool)| pool.lent()).sum()
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

    /// The server that a read goes to, if that is any but the primary alone; none if no such server may be read. Of standbys only those count that `may` be
    /// read by this session. Those that are near are rather read, unless another is preferred by its number.
    pub(crate) fn choose(
        &self,
        (policy, slow_start): (&ReadPolicy, Duration),
        (now, dice): (Instant, &mut Dice),
        (may, is_near): (impl Fn(&Server) -> bool, impl Fn(&Server) -> bool),
    ) -> Option<&Arc<Server>> {
        if policy.reads == Reads::Primary || policy.consistency == Consistency::Strong {
            return None;
        }
        let standbys = || self.reachable(now).filter(|server| may(server));
        let at = (slow_start, now);
        let wanted = policy.prefer.filter(|preference| dice.even() < preference.ratio);
        match wanted.map(|preference| preference.of) {
            Some(Preferred::Primary) => return None,
            Some(Preferred::Standbys) => {
                return pick_near(standbys(), is_near, at, dice);
            }
            Some(Preferred::Node(id)) => {
                let is_it = |server: &&Arc<Server>| server.node.id == id;
                if let Some(server) =
                    self.primary().into_iter().find(is_it).or_else(|| standbys().find(is_it))
                {
                    return Some(server);
                }
            }
            None => {}
        }
        // What does not go there goes to others.
        let is_other =
            |server: &&Arc<Server>| policy.prefer.is_none_or(|preference| !server.is_one_of(preference.of));
        let primary = match &self.writes {
            Target::Open(server) if policy.reads == Reads::Any => Some(server),
            _ => None,
        };
        let servers = primary.into_iter().chain(standbys()).filter(is_other);
        pick_near(servers, is_near, at, dice)
    }

    fn reachable(&self, now: Instant) -> impl Iterator<Item = &Arc<Server>> + Clone {
        self.readable.iter().filter(move |server| !server.is_left_out(now))
    }

    /// Why [`Table::choose`] has found none, given which standbys are not too far behind, and which have what must be seen.
    pub(crate) fn why_none(
        &self,
        now: Instant,
        is_within: impl Fn(&Server) -> bool,
        has_all: impl Fn(&Server) -> bool,
    ) -> Reason {
        if self.reachable(now).next().is_none() {
            Reason::NoStandby
        } else if !self.reachable(now).any(|server| is_within(server)) {
            Reason::Lag
        } else if !self.reachable(now).any(|server| is_within(server) && has_all(server)) {
            Reason::OwnWrites
        } else {
            Reason::Turn
        }
    }

    /// All servers, the primary first.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.primary().into_iter().chain(&self.readable)
    }
}

/// One of those that are near, if there is one that may be read; else of all.
fn pick_near<'a>(
    servers: impl Iterator<Item = &'a Arc<Server>> + Clone,
    is_near: impl Fn(&Server) -> bool,
    at: (Duration, Instant),
    dice: &mut Dice,
) -> Option<&'a Arc<Server>> {
    let candidate = |server: &'a Arc<Server>| server.share.candidate(server, at);
    let near = servers.clone().filter(|server| is_near(server)).map(candidate);
    pick(near, dice).or_else(|| pick(servers.map(candidate), dice))
}

/// The current table, and the way to the next.
#[derive(Debug)]
pub(crate) struct Backends {
    config: Arc<Live>,
    /// What an operator has closed.
    pub(crate) gates: Arc<Gates>,
    workers: usize,
    accounts: Mutex<BTreeMap<NodeId, Arc<Account>>>,
    current: ArcSwap<Table>,
    positions: ArcSwap<Positions>,
    wanted: Wanted,
    round_trips: ArcSwap<BTreeMap<NodeId, Duration>>,
    changes: watch::Sender<u64>,
}

impl Backends {
    /// Before anything is known of the servers: writes wait.
    pub(crate) fn new(config: Arc<Live>, workers: usize) -> Self {
        let reason: Arc<str> = "the servers have not answered yet".into();
        let table = Table { writes: Target::Held { keep: None, reason }, readable: Vec::new() };
        Self {
            config,
            gates: Arc::default(),
            workers,
            accounts: Mutex::default(),
            current: ArcSwap::from_pointee(table),
            positions: ArcSwap::default(),
            wanted: Wanted::default(),
            round_trips: ArcSwap::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// The table of this moment.
    pub(crate) fn load(&self) -> Guard<Arc<Table>> {
        self.current.load()
    }

    /// The server that takes writes at this moment.
    pub(crate) fn primary(&self) -> Option<Arc<Server>> {
        match &self.load().writes {
            Target::Open(server) => Some(Arc::clone(server)),
            Target::Held { .. } => None,
        }
    }

    /// What the servers are known to have: one atomic load.
    pub(crate) fn positions(&self) -> Guard<Arc<Positions>> {
        self.positions.load()
    }

    /// A session waits for a position that is not known yet.
    pub(crate) fn want_positions(&self) {
        self.wanted.want();
    }

    /// Waits until a session does.
    pub(super) async fn positions_wanted(&self) {
        self.wanted.wait().await;
    }

    /// The probes of the servers take so long, the shortest of the last ones: what is far is read less from now on.
    pub(super) fn set_round_trips(&self, round_trips: BTreeMap<NodeId, Duration>) {
        let is_heeded = self.config.load().routing.latency_aware;
        let nearness: BTreeMap<_, _> = nearness(&round_trips).filter(|_| is_heeded).collect();
        for server in self.load().servers() {
            server.share.set_nearness(nearness.get(&server.node.id).copied().unwrap_or(1.0));
        }
        self.round_trips.store(Arc::new(round_trips));
    }

    /// How long the shortest of a server's last probes took, if that is known.
    pub(crate) fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.round_trips.load().get(&node).copied()
    }

    /// This is known from now on.
    pub(super) fn set_positions(&self, positions: Positions) {
        self.positions.store(Arc::new(positions));
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
            Writes::Held { keep, reason, .. } => Target::Held {
                keep: keep.and_then(|epoch| self.server(known, epoch.primary, Some(epoch))),
                reason: reason.as_str().into(),
            },
        };
        let readable = routing.readable.iter().filter_map(|id| self.server(known, *id, None)).collect();
        let after = Arc::new(Table { writes, readable });
        // Nobody who has seen an older table than this begins anything once writes wait.
        if let Target::Open(server) = &after.writes {
            server.quiesces.store(false, Ordering::Relaxed);
            server.withhold(false);
        }
        self.current.store(Arc::clone(&after));
        if let Target::Held { keep: Some(server), .. } = &after.writes {
            server.withhold(true);
            let quiesces = matches!(&routing.writes, Writes::Held { quiesces: true, .. });
            server.quiesces.store(quiesces, Ordering::Relaxed);
        }
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
            server.share.set_weight(node.weight);
            return Some(Arc::clone(server));
        }
        Some(Arc::new(Server {
            node: node.clone(),
            epoch,
            workers: self.workers,
            share: Share::new(node.weight, epoch.is_none().then(Instant::now)),
            config: Arc::clone(&self.config),
            gates: Arc::clone(&self.gates),
            account: self.account(id),
            pools: Mutex::default(),
            quotas: Mutex::default(),
            cutters: Mutex::default(),
            retired: AtomicBool::new(false),
            withheld: AtomicBool::new(false),
            quiesces: AtomicBool::new(false),
            retry_at: Mutex::default(),
            is_out_of_reach: AtomicBool::new(false),
        }))
    }

    /// The pools are as large as the configuration in force says, and their connections live as long.
    pub(crate) fn resize_pools(&self) {
        let config = self.config.load();
        for server in self.load().servers() {
            // One that is made meanwhile has these limits already.
            for ((database, user), pool) in server.pools.lock().iter() {
                pool.resize(server.limits(&config.pool, database, user));
            }
        }
    }

    /// What is counted of a server, in whatever role.
    pub(crate) fn account(&self, node: NodeId) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        Arc::clone(accounts.entry(node).or_insert_with(|| Arc::new(Account::new(self.workers))))
    }

    /// See [`Server::reap`].
    pub(crate) fn reap(&self, now: Instant) {
        self.load().servers().for_each(|server| server.reap(now));
    }
}

impl Clients for Backends {
    fn lent(&self, primary: NodeId) -> Option<usize> {
        match &self.load().writes {
            Target::Held { keep: Some(server), .. } if server.node.id == primary => server.lent(),
            _ => None,
        }
    }
}
