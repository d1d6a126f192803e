//! What clients and servers have to do with each other, counted by database and user.
//!
//! Each worker has counters of its own, which nobody else writes: an addition is a load and a store, and whoever asks reads them all.

mod routed;
mod times;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
pub(crate) use routed::Reason;
pub(crate) use times::Counts;

use crate::worker::WorkerId;
use times::Times;

/// How often the counters are noted, for averages: as PgBouncer's `stats_period`.
const PERIOD: Duration = Duration::from_secs(60);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    /// Server connections that were lent.
    Assignments,
    /// Transactions.
    Transactions,
    /// Queries: what ends with ReadyForQuery.
    Queries,
    /// Bytes that came from clients.
    Received,
    /// Bytes that came from servers.
    Sent,
    /// Microseconds from the first message of transactions to their ends.
    TransactionTime,
    /// Microseconds in which servers worked.
    QueryTime,
    /// Microseconds that clients waited for a server connection.
    WaitTime,
    /// Parse messages of clients.
    ClientParses,
    /// Parse messages to servers.
    ServerParses,
    /// Bind messages.
    Binds,
    /// Statements that are known to only read: of servers, and not of databases.
    Reads,
}

const COUNTERS: usize = Counter::Reads as usize + 1;

/// Of what it is counted how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Timed {
    /// Queries: see [`Counter::QueryTime`].
    Query,
    /// Transactions: see [`Counter::TransactionTime`].
    Transaction,
    /// Waits for a server connection, of those who had to wait: see [`Counter::WaitTime`].
    Wait,
}

const TIMED: usize = Timed::Wait as usize + 1;

/// The counters of one worker, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    counters: [AtomicU64; COUNTERS],
    /// Queries by why they ran where they did.
    routed: [AtomicU64; Reason::ALL.len()],
    /// Made by the first who needs it: a worker that never serves these clients has none.
    times: OnceLock<Box<[Times; TIMED]>>,
}

impl Shard {
    /// Adds a time to a counter, and counts how long each of so many took. By the worker alone whose shard it is.
    #[inline]
    pub(crate) fn add_time(&self, (counter, timed): (Counter, Timed), micros: u64, things: u64) {
        self.add(counter, micros);
        if things > 0
            && let Some(times) = self.times.get_or_init(Box::default).get(timed as usize)
        {
            times.add(micros, things);
        }
    }

    /// Adds to a counter. By the worker alone whose shard it is.
    #[inline]
    pub(crate) fn add(&self, counter: Counter, amount: u64) {
        add(&self.counters, counter as usize, amount);
    }

    /// Counts queries by why they ran where they did. By the worker alone whose shard it is.
    #[inline]
    pub(crate) fn add_routed(&self, reason: Reason, queries: u64) {
        add(&self.routed, reason.index(), queries);
    }
}

#[inline]
fn add(cells: &[AtomicU64], index: usize, amount: u64) {
    if let Some(cell) = cells.get(index) {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

/// The counters of one database and user. They outlive pools and servers.
#[derive(Debug, Default)]
pub(crate) struct Account {
    shards: Box<[Shard]>,
}

impl Account {
    /// Nothing yet.
    pub(crate) fn new(workers: usize) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Shard::default()).collect() }
    }

    /// The counters of this worker.
    #[inline]
    pub(crate) fn shard(&self, worker: WorkerId) -> Option<&Shard> {
        self.shards.get(worker.0)
    }

    /// The sums over all workers.
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for Shard { counters, .. } in &self.shards {
            for (sum, cell) in sums.0.iter_mut().zip(counters) {
                *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        sums
    }

    /// How long things took, of all workers.
    fn times(&self, timed: Timed) -> Counts {
        let mut counts = Counts::default();
        let there = self.shards.iter().filter_map(|shard| shard.times.get());
        for times in there.filter_map(|times| times.get(timed as usize)) {
            times.sum_into(&mut counts);
        }
        counts
    }

    /// Queries by why they ran where they did, of all workers.
    fn routed(&self) -> impl Iterator<Item = (Reason, u64)> {
        let of = |shard: &Shard, reason: Reason| {
            shard.routed.get(reason.index()).map_or(0, |cell| cell.load(Ordering::Relaxed))
        };
        Reason::ALL.into_iter().map(move |reason| {
            let sum = self.shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(of(shard, reason)));
            (reason, sum)
        })
    }
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums([u64; COUNTERS]);

impl Sums {
    /// One of them.
    pub(crate) fn of(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or_default()
    }

    /// Both together.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
        self
    }

    /// What came since then.
    fn since(mut self, then: &Self) -> Self {
        self.0.iter_mut().zip(then.0).for_each(|(sum, before)| *sum = sum.wrapping_sub(before));
        self
    }
}

/// What is told of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flows {
    /// Since pgherd began.
    pub(crate) total: Sums,
    /// Per second, or per event in the case of times, of late.
    pub(crate) average: Sums,
}

type DatabaseAndUser = (Box<str>, Box<str>);

/// All counters.
#[derive(Debug)]
pub(crate) struct Traffic {
    workers: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    accounts: BTreeMap<DatabaseAndUser, Arc<Account>>,
    /// What there was at the last two rounds, by database: averages are from the older one on.
    older: Noted,
    newer: Noted,
}

#[derive(Clone, Debug)]
struct Noted {
    at: Instant,
    sums: BTreeMap<Box<str>, Sums>,
}

impl Traffic {
    /// Nothing yet.
    pub(crate) fn new(workers: usize, now: Instant) -> Self {
        let noted = Noted { at: now, sums: BTreeMap::new() };
        let inner = Inner { accounts: BTreeMap::new(), older: noted.clone(), newer: noted };
        Self { workers, inner: Mutex::new(inner) }
    }

    /// The counters of this database and user, who have proven to be there: so there are as many as there are pools.
    pub(crate) fn account(&self, database: &str, user: &str) -> Arc<Account> {
        let mut inner = self.inner.lock();
        let account = inner.accounts.entry((database.into(), user.into()));
        Arc::clone(account.or_insert_with(|| Arc::new(Account::new(self.workers))))
    }

    /// Databases and users that clients have logged in to and as.
    pub(crate) fn known(&self) -> Vec<DatabaseAndUser> {
        self.inner.lock().accounts.keys().cloned().collect()
    }

    /// The counters of each database and user.
    pub(crate) fn by_pool(&self) -> Vec<(DatabaseAndUser, Sums)> {
        self.accounts().into_iter().map(|(names, account)| (names, account.sums())).collect()
    }

    /// All accounts. Whoever adds them up does so outside of the lock, for which logins wait.
    fn accounts(&self) -> Vec<(DatabaseAndUser, Arc<Account>)> {
        let inner = self.inner.lock();
        inner.accounts.iter().map(|(names, account)| (names.clone(), Arc::clone(account))).collect()
    }

    /// How long things took for each database and user.
    pub(crate) fn times(&self, timed: Timed) -> Vec<(DatabaseAndUser, Counts)> {
        self.accounts().into_iter().map(|(names, account)| (names, account.times(timed))).collect()
    }

    /// How many queries of each database and user ran where, and why; those that there were.
    pub(crate) fn routed(&self) -> Vec<(DatabaseAndUser, Reason, u64)> {
        let inner = self.inner.lock();
        let of = |(names, account): (&DatabaseAndUser, &Arc<Account>)| {
            let there = account.routed().filter(|(_, queries)| *queries > 0);
            there.map(|(reason, queries)| (names.clone(), reason, queries)).collect::<Vec<_>>()
        };
        inner.accounts.iter().flat_map(of).collect()
    }

    /// Notes the counters for averages, if it is time.
    pub(crate) fn note(&self, now: Instant) {
        let mut inner = self.inner.lock();
        if now.saturating_duration_since(inner.newer.at) >= PERIOD {
            let noted = Noted { at: now, sums: inner.sums() };
            inner.older = std::mem::replace(&mut inner.newer, noted);
        }
    }

    /// The counters of each database.
    pub(crate) fn by_database(&self, now: Instant) -> BTreeMap<Box<str>, Flows> {
        let inner = self.inner.lock();
        let elapsed = now.saturating_duration_since(inner.older.at);
        let flows = |(database, total): (Box<str>, Sums)| {
            let before = inner.older.sums.get(&database).copied().unwrap_or_default();
            (database, Flows { total, average: averages(total.since(&before), elapsed) })
        };
        inner.sums().into_iter().map(flows).collect()
    }
}

impl Inner {
    fn sums(&self) -> BTreeMap<Box<str>, Sums> {
        let mut sums: BTreeMap<Box<str>, Sums> = BTreeMap::new();
        for ((database, _), account) in &self.accounts {
            let sum = sums.entry(database.clone()).or_default();
            *sum = sum.plus(&account.sums());
        }
        sums
    }
}

/// Counts per second; times per what took them.
fn averages(of: Sums, elapsed: Duration) -> Sums {
    let micros = elapsed.as_micros();
    let mut averages = Sums::default();
    for (index, average) in averages.0.iter_mut().enumerate() {
        let sum = of.0.get(index).copied().unwrap_or_default();
        let per = |counter: Counter| sum.checked_div(of.of(counter)).unwrap_or_default();
        *average = match index {
            _ if index == Counter::TransactionTime as usize => per(Counter::Transactions),
            _ if index == Counter::QueryTime as usize => per(Counter::Queries),
            _ if index == Counter::WaitTime as usize => per(Counter::Assignments),
            _ => {
                let rate = (u128::from(sum) * 1_000_000).checked_div(micros).unwrap_or_default();
                u64::try_from(rate).unwrap_or(u64::MAX)
            }
        };
    }
    averages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_and_averages_are_of_late() {
        let began = Instant::now();
        let traffic = Traffic::new(2, began);
        let account = traffic.account("app", "one");
        let add = |account: &Account, worker, counter, amount| {
            account.shard(WorkerId(worker)).unwrap().add(counter, amount);
        };
        add(&account, 0, Counter::Queries, 100);
        add(&account, 1, Counter::Queries, 20);
        add(&traffic.account("app", "other"), 0, Counter::Queries, 3);
        traffic.account("empty", "one");
        for minutes in 1..=2 {
            traffic.note(began + PERIOD * minutes);
        }
        add(&account, 1, Counter::Queries, 600);
        add(&account, 1, Counter::QueryTime, 1200);
        for (worker, queries) in [(0, 2), (1, 3)] {
            account.shard(WorkerId(worker)).unwrap().add_routed(Reason::OwnWrites, queries);
        }
        assert_eq!(traffic.routed(), [(("app".into(), "one".into()), Reason::OwnWrites, 5)]);
        let flows = traffic.by_database(began + PERIOD * 3);
        let app = flows.get("app").unwrap();
        assert_eq!(app.total.of(Counter::Queries), 723);
        assert_eq!(app.average.of(Counter::Queries), 5, "600 in the two minutes since the first note");
        assert_eq!(app.average.of(Counter::QueryTime), 2, "1200 in 600 queries");
        assert_eq!(flows.get("empty"), Some(&Flows::default()));
    }
}
