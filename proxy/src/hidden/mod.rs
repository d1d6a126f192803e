//! What no text shows: which functions and tables of each database may leave something in a session.
//!
//! A session takes what is known when it takes a server connection. Where nothing is known yet, or the schema has changed since,
//! whatever may do more than read is suspect, and the server is asked afterwards.

mod catalogue;
mod refresh;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use pgherd_protocol::statement::{Names, Suspects, Trust};

use crate::config::{self, HiddenState};
pub(crate) use refresh::keep_known;

/// The catalogue of a database that is used is looked at so often, for what others than pgherd's clients have changed.
const AGE: Duration = Duration::from_secs(60);
/// One that could not be looked at is tried again after this time, and each further time after twice as long.
const PAUSE: Duration = Duration::from_secs(15);
/// Up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// What is known of a database that nobody has used for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Where no connection is unused for so long, one that is used is taken.
const URGENT_AFTER: Duration = Duration::from_secs(2);
/// One of which the schema changes again and again is looked at no more often than this, and so many times as long after a look
/// as that took.
const PACE: Duration = Duration::from_secs(1);
const TIMES_AS_LONG: u32 = 20;

/// What is known of all databases.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    databases: Mutex<HashMap<Box<str>, Database>>,
    /// Numbers the sets of names.
    last: AtomicU64,
}

#[derive(Debug, Default)]
struct Database {
    known: Option<Known>,
    /// When it is to be looked at.
    due: Option<Instant>,
    /// Since when it is.
    due_since: Option<Instant>,
    /// Not before, whatever changes.
    rests_until: Option<Instant>,
    /// It could not be looked at, so many times.
    failures: u32,
    /// When it was used last.
    used_at: Option<Instant>,
    /// By user. They outlive sessions: clients that come for one transaction are many.
    outlooks: HashMap<Box<str>, Arc<Outlook>>,
}

/// What the catalogue of a database said.
#[derive(Clone, Debug)]
struct Known {
    names: Arc<Names>,
    parameters: Arc<[Box<str>]>,
    /// What the schema was.
    generation: u64,
    /// Changes with the catalogue.
    fingerprint: Vec<Box<[u8]>>,
}

/// What the sessions of a database and user go by.
#[derive(Debug)]
pub(crate) struct Outlook {
    suspects: ArcSwap<Suspects>,
    /// [`HiddenState`] as a number.
    wanted: AtomicU8,
    /// Somebody has asked since the catalogue was looked at.
    is_used: AtomicBool,
}

/// A database whose catalogue is to be looked at.
struct Due {
    database: Box<str>,
    /// Those who may ask.
    users: Vec<Box<str>>,
    known: Option<Known>,
    /// It has been due for long.
    is_urgent: bool,
}

impl Hidden {
    /// What the sessions of this database and user go by.
    pub(crate) fn outlook(&self, settings: &config::Pool, database: &str, user: &str) -> Arc<Outlook> {
        let mut databases = self.databases.lock();
        let known = databases.entry(database.into()).or_default();
        if let Some(outlook) = known.outlooks.get(user) {
            return Arc::clone(outlook);
        }
        let wanted = settings.hidden_state_for(database, user);
        let outlook = Arc::new(Outlook {
            suspects: ArcSwap::from_pointee(suspects(wanted, known.known.as_ref())),
            wanted: AtomicU8::new(wanted as u8),
            is_used: AtomicBool::new(true),
        });
        known.outlooks.insert(user.into(), Arc::clone(&outlook));
        outlook
    }

    /// The settings have changed.
    pub(crate) fn reconfigure(&self, settings: &config::Pool) {
        for (database, Database { known, outlooks, .. }) in &*self.databases.lock() {
            for (user, outlook) in outlooks {
                let wanted = settings.hidden_state_for(database, user);
                outlook.wanted.store(wanted as u8, Ordering::Relaxed);
                outlook.suspects.store(Arc::new(suspects(wanted, known.as_ref())));
            }
        }
    }

    /// The databases that are used and of which it is not known, or not for sure, what is in their catalogues.
    fn due(&self, now: Instant, generation: u64) -> Vec<Due> {
        let mut databases = self.databases.lock();
        databases.retain(|_, Database { used_at, outlooks, .. }| {
            let is_served = |outlook: &Arc<Outlook>| {
                Arc::strong_count(outlook) > 1 || outlook.is_used.load(Ordering::Relaxed)
            };
            if outlooks.values().any(is_served) {
                *used_at = Some(now);
            }
            used_at.is_none_or(|at| now.saturating_duration_since(at) < FORGOTTEN_AFTER)
        });
        let mut due = Vec::new();
        for (name, Database { known, due: at, due_since, rests_until, outlooks, .. }) in &mut *databases {
            let is_outdated = known.as_ref().is_some_and(|known| known.generation != generation)
                && rests_until.is_none_or(|until| now >= until);
            let is_due = at.is_none_or(|at| now >= at) || is_outdated;
            let in_use = outlooks.iter().filter(|(_, outlook)| outlook.is_in_use());
            let users: Vec<_> = in_use.map(|(user, _)| user.clone()).collect();
            if is_due && !users.is_empty() {
                let since = *due_since.get_or_insert(now);
                let is_urgent = now.saturating_duration_since(since) >= URGENT_AFTER;
                due.push(Due { database: name.clone(), users, known: known.clone(), is_urgent });
            }
        }
        due
    }

    /// The catalogue of a database was looked at, which took so long.
    fn learn(&self, database: &str, known: Known, took: Duration) {
        let mut databases = self.databases.lock();
        let Some(entry) = databases.get_mut(database) else { return };
        if std::mem::take(&mut entry.failures) > 0 {
            tracing::info!(database, "the catalogue can be read again");
        }
        for outlook in entry.outlooks.values() {
            outlook.is_used.store(false, Ordering::Relaxed);
            outlook.suspects.store(Arc::new(suspects(outlook.wanted(), Some(&known))));
        }
        entry.known = Some(known);
        let now = Instant::now();
        entry.due_since = None;
        entry.due = Some(now + AGE);
        entry.rests_until = Some(now + PACE.max(took * TIMES_AS_LONG));
    }

    /// It could not be: whatever may do more than read stays suspect.
    fn fail(&self, database: &str, why: &str) {
        let mut databases = self.databases.lock();
        let Some(entry) = databases.get_mut(database) else { return };
        entry.known = None;
        let pause = PAUSE.saturating_mul(1 << entry.failures.min(10)).min(LONGEST_PAUSE);
        entry.due_since = None;
        entry.due = Some(Instant::now() + pause);
        for outlook in entry.outlooks.values() {
            outlook.suspects.store(Arc::new(suspects(outlook.wanted(), None)));
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

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn suspects(wanted: HiddenState, known: Option<&Known>) -> Suspects {
    let trust = match (wanted, known) {
        (HiddenState::Off, _) => Trust::Blind,
        (HiddenState::Auto, Some(_)) => Trust::Names,
        (HiddenState::Auto, None) | (HiddenState::Check, _) => Trust::Nothing,
    };
    match known {
        Some(Known { names, parameters, generation, .. }) => Suspects {
            trust,
            names: Arc::clone(names),
            generation: *generation,
            parameters: Arc::clone(parameters),
        },
        None => Suspects { trust, ..Suspects::default() },
    }
}

impl Outlook {
    /// What texts are suspected of now that the schema is of this generation.
    #[inline]
    pub(crate) fn suspects(&self, generation: u64) -> Guard<Arc<Suspects>> {
        // Most times somebody has been here: what others read is not written to.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        let suspects = self.suspects.load();
        if suspects.trust != Trust::Names || suspects.generation == generation {
            return suspects;
        }
        // What is learned meanwhile counts.
        let outdated = Suspects { trust: Trust::Nothing, ..(**suspects).clone() };
        self.suspects.compare_and_swap(&suspects, Arc::new(outdated));
        self.suspects.load()
    }

    fn wanted(&self) -> HiddenState {
        match self.wanted.load(Ordering::Relaxed) {
            0 => HiddenState::Auto,
            1 => HiddenState::Check,
            _ => HiddenState::Off,
        }
    }

    fn is_in_use(&self) -> bool {
        self.wanted() != HiddenState::Off && self.is_used.load(Ordering::Relaxed)
    }
}
