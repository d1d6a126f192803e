//! Of which databases and users sessions ask for the numbers of sequences that they have taken.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_protocol::session::{SequencePolicy, Sequences};

/// So many databases and users are remembered at the most, besides those that have sessions.
const REMEMBERED: usize = 10_000;

/// A database and a user.
type Key = (Arc<str>, Arc<str>);

/// What is known by database and user, also of those that have no session now. Looked up at a login, and kept by the session.
#[derive(Debug, Default)]
pub(crate) struct AllSequences(Mutex<HashMap<Key, Arc<Sequences>>>);

impl AllSequences {
    /// What is known of this database and user. The policy is what is configured for them.
    pub(crate) fn of(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        policy: impl FnOnce() -> SequencePolicy,
    ) -> Arc<Sequences> {
        let key = (Arc::clone(database), Arc::clone(user));
        let mut all = self.0.lock();
        if let Some(known) = all.get(&key) {
            return Arc::clone(known);
        }
        if all.len() >= REMEMBERED {
            // A session that is logged in goes on with what it has.
            all.retain(|_, known| Arc::strong_count(known) > 1);
        }
        // The policy is read under the lock, so that a reload misses none.
        let sequences = Arc::new(Sequences::new(policy()));
        all.insert(key, Arc::clone(&sequences));
        sequences
    }

    /// The configuration has changed.
    pub(crate) fn follow(&self, policy_for: impl Fn(&str, &str) -> SequencePolicy) {
        for ((database, user), sequences) in &*self.0.lock() {
            sequences.follow(policy_for(database, user));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_outlives_the_session_and_a_change_of_the_configuration() {
        let all = AllSequences::default();
        let app: Arc<str> = "app".into();
        let known = all.of(&app, &app, || SequencePolicy::Auto);
        assert!(!known.pin() && known.note_asked() && !known.note_asked() && known.pin());
        drop(known);
        all.follow(|database, user| match (database, user) {
            ("app", "app") => SequencePolicy::Off,
            _ => SequencePolicy::Pin,
        });
        let known = all.of(&app, &app, || SequencePolicy::Auto);
        assert!(!known.pin());
        all.follow(|_, _| SequencePolicy::Auto);
        assert!(known.pin());
    }
}
