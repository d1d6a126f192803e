//! What no text shows: which functions and tables of each database may leave something in a session, and which may be read on any server.
//!
//! A session takes what is known when it takes a server connection. Where nothing is known yet, or the schema has changed since,
//! whatever may do more than read is suspect, and the server is asked afterwards.

mod outlook;
mod refresh;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_protocol::statement::{FunctionRules, Names, Scan, Suspects, Trust};
use tokio::sync::Notify;

use crate::config::{Config, HiddenState};
pub(crate) use outlook::Outlook;
pub(crate) use refresh::keep_read;

/// The catalogue of a database that is used is read so often, for what others than pgherd's clients have changed.
const AGE: Duration = Duration::from_secs(60);
/// One that could not be read is tried again after this time, and each further time after twice as long.
const PAUSE: Duration = Duration::from_secs(15);
/// Up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// What is known of a database that nobody has used for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Where no connection is unused for so long, one that is used is taken.
const URGENT_AFTER: Duration = Duration::from_secs(2);
/// The catalogue of a database whose schema changes again and again rests this long after it was read, or so many times as long as
/// reading it took.
const PACE: Duration = Duration::from_secs(1);
const TIMES_AS_LONG: u32 = 20;

/// What is known of the catalogues of all databases.
#[derive(Debug, Default)]
pub(crate) struct Catalogues {
    databases: Mutex<HashMap<Box<str>, Database>>,
    /// What is known of a database before its catalogue was read: what the configuration says. Locked within the above.
    unread: Mutex<Arc<Names>>,
    /// The number of the last set of names.
    last: AtomicU64,
    /// A database is used whose catalogue was not read yet.
    unknown_used: Notify,
}

#[derive(Debug, Default)]
struct Database {
    reading: Option<Reading>,
    /// When the catalogue is to be read.
    due_at: Option<Instant>,
    /// Since when it was to be read, if it is.
    due_since: Option<Instant>,
    /// It is not read before this, whatever changes.
    rests_until: Option<Instant>,
    /// So many times in a row it could not be read.
    failures: u32,
    /// When the database was used last.
    used_at: Option<Instant>,
    /// By user. They outlive sessions: clients that come for one transaction are many.
    outlooks: HashMap<Box<str>, Arc<Outlook>>,
}

/// What is known of a database.
struct Known<'a> {
    reading: Option<&'a Reading>,
    /// What counts where its catalogue was not read.
    unread: &'a Arc<Names>,
}

impl Database {
    fn known<'a>(&'a self, unread: &'a Arc<Names>) -> Known<'a> {
        Known { reading: self.reading.as_ref(), unread }
    }
}

/// What a database's catalogue said when it was read.
#[derive(Clone, Debug)]
struct Reading {
    /// What may leave something in a session.
    names: Arc<Names>,
    /// Custom parameters that functions set.
    parameters: Arc<[Box<str>]>,
    /// That of the schema before it was read.
    generation: u64,
    /// Changes with the catalogue.
    fingerprint: Vec<Box<[u8]>>,
    /// It could not be read anew when it was to be: there may be more by now.
    is_doubtful: bool,
}

/// What a text amounts to, and how far the catalogue is known by which that was said.
pub(crate) struct Judged {
    pub(crate) scan: Scan,
    pub(crate) trust: Trust,
    /// It was read at some time.
    pub(crate) is_read: bool,
}

/// A database whose catalogue is to be read.
struct Due {
    database: Box<str>,
    /// Those who may ask.
    users: Vec<Box<str>>,
    /// What it said last.
    before: Option<Reading>,
    /// It has been due for long, or is needed at once.
    is_urgent: bool,
}

impl Catalogues {
    /// No catalogue was read yet; this is said of functions.
    pub(crate) fn new(rules: &Arc<FunctionRules>) -> Self {
        let catalogues = Self::default();
        *catalogues.unread.lock() = catalogues.ruled(&Arc::default(), rules);
        catalogues
    }

    /// What the sessions of this database and user go by. `wanted` is what is configured for them.
    pub(crate) fn outlook(
        &self,
        database: &str,
        user: &str,
        wanted: impl FnOnce() -> HiddenState,
    ) -> Arc<Outlook> {
        let mut databases = self.databases.lock();
        let known = databases.entry(database.into()).or_default();
        if let Some(outlook) = known.outlooks.get(user) {
            return Arc::clone(outlook);
        }
        // The setting is read under the lock, so that a reload misses none.
        let outlook = Arc::new(Outlook::new(wanted(), &known.known(&self.unread.lock())));
        known.outlooks.insert(user.into(), Arc::clone(&outlook));
        if known.reading.is_none() {
            self.unknown_used.notify_one();
        }
        outlook
    }

    /// What a text amounts to in this database, for this user or whoever uses it. Of no database, by the text alone.
    pub(crate) fn judge(
        &self,
        (database, user): (Option<&str>, Option<&str>),
        generation: u64,
        text: &[u8],
    ) -> Judged {
        let databases = self.databases.lock();
        let known = database.and_then(|database| databases.get(database));
        let outlook = known.and_then(|known| match user {
            Some(user) => known.outlooks.get(user),
            None => known.outlooks.values().next(),
        });
        let suspects = match outlook {
            Some(outlook) => Suspects::clone(&outlook.suspects(generation)),
            None => {
                let trust = if database.is_some() { Trust::Nothing } else { Trust::Blind };
                Suspects { trust, names: Arc::clone(&self.unread.lock()), ..Suspects::default() }
            }
        };
        drop(databases);
        Judged { scan: suspects.scan(text), trust: suspects.trust, is_read: suspects.names.is_read }
    }

    /// The settings have changed.
    pub(crate) fn reconfigure(&self, settings: &Config) {
        let mut databases = self.databases.lock();
        let mut unread = self.unread.lock();
        let rules = &settings.routing.functions;
        *unread = self.ruled(&unread, rules);
        for (name, database) in &mut *databases {
            if let Some(reading) = &mut database.reading {
                reading.names = self.ruled(&reading.names, rules);
            }
            let known = database.known(&unread);
            for (user, outlook) in &database.outlooks {
                outlook.want(settings.pool.hidden_state_for(name, user), &known);
            }
        }
    }

    /// The databases that are used and whose catalogues are to be read, now that the schema is of this generation.
    fn due(&self, now: Instant, generation: u64) -> Vec<Due> {
        let mut databases = self.databases.lock();
        databases.retain(|_, Database { used_at, outlooks, .. }| {
            let has_sessions = |outlook: &Arc<Outlook>| Arc::strong_count(outlook) > 1 || outlook.is_used();
            if outlooks.values().any(has_sessions) {
                *used_at = Some(now);
            }
            used_at.is_none_or(|at| now.saturating_duration_since(at) < FORGOTTEN_AFTER)
        });
        let mut due = Vec::new();
        for (name, Database { reading, due_at, due_since, rests_until, outlooks, .. }) in &mut *databases {
            let is_outdated = reading.as_ref().is_some_and(|reading| reading.generation != generation)
                && rests_until.is_none_or(|until| now >= until);
            let is_due = due_at.is_none_or(|at| now >= at) || is_outdated;
            let wanting = outlooks.iter().filter(|(_, outlook)| outlook.wants_reading());
            let users: Vec<_> = wanting.map(|(user, _)| user.clone()).collect();
            if is_due && !users.is_empty() {
                let since = *due_since.get_or_insert(now);
                let is_late = now.saturating_duration_since(since) >= URGENT_AFTER;
                // Until it is read, or read again, transactions cost a question more.
                let is_urgent = is_late || is_outdated || reading.is_none();
                due.push(Due { database: name.clone(), users, before: reading.clone(), is_urgent });
            }
        }
        due
    }

    /// The catalogue of a database was read, which took so long.
    fn on_read(&self, database: &str, mut reading: Reading, took: Duration) {
        let mut databases = self.databases.lock();
        let Some(entry) = databases.get_mut(database) else { return };
        if std::mem::take(&mut entry.failures) > 0 {
            tracing::info!(database, "the catalogue can be read again");
        }
        let unread = self.unread.lock();
        reading.names = self.ruled(&reading.names, &unread.rules);
        let known = Known { reading: Some(&reading), unread: &unread };
        for outlook in entry.outlooks.values() {
            outlook.begin_anew(&known);
        }
        entry.reading = Some(reading);
        let now = Instant::now();
        entry.due_since = None;
        entry.due_at = Some(now + AGE);
        entry.rests_until = Some(now + PACE.max(took * TIMES_AS_LONG));
    }

    /// There was no connection to read the catalogue over. It is looked for again, but not at once.
    fn on_no_connection(&self, database: &str) {
        if let Some(entry) = self.databases.lock().get_mut(database) {
            let again = Some(Instant::now() + PACE);
            (entry.due_at, entry.rests_until) = (again, again);
        }
    }

    /// The catalogue could not be read: whatever may do more than read is suspect, and still what was so before.
    fn on_failure(&self, database: &str, why: &str) {
        let mut databases = self.databases.lock();
        let Some(entry) = databases.get_mut(database) else { return };
        if let Some(reading) = &mut entry.reading {
            reading.is_doubtful = true;
        }
        let pause = PAUSE.saturating_mul(1 << entry.failures.min(10)).min(LONGEST_PAUSE);
        entry.due_since = None;
        entry.due_at = Some(Instant::now() + pause);
        let unread = self.unread.lock();
        let known = entry.known(&unread);
        for outlook in entry.outlooks.values() {
            outlook.take_in(&known);
        }
        entry.failures += 1;
        if entry.failures == 1 {
            tracing::warn!(
                database,
                why,
                "the catalogue cannot be read: the server is asked after every transaction that may do more than read"
            );
        }
    }

    /// The names with what is said of functions by now.
    fn ruled(&self, names: &Arc<Names>, rules: &Arc<FunctionRules>) -> Arc<Names> {
        if names.rules == *rules {
            return Arc::clone(names);
        }
        Arc::new(Names { number: self.number(), rules: Arc::clone(rules), ..(**names).clone() })
    }

    /// The number of the next set of names.
    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}
