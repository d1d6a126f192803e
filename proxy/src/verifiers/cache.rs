//! What the servers said last, bounded: for the time when none of them answers. Written by the reader only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use pgherd_protocol::auth::mock_secret;

use super::{Database, Databases, Role};

pub(super) struct Cache {
    max_known: usize,
    known: RwLock<HashMap<Box<str>, Arc<Role>>>,
    databases: ArcSwap<Databases>,
    mock_secret: ArcSwap<[u8; 32]>,
    cluster: AtomicU64,
}

impl Cache {
    pub(super) fn new(max_known: usize) -> Self {
        Self {
            max_known,
            known: RwLock::default(),
            databases: ArcSwap::default(),
            mock_secret: ArcSwap::from_pointee(rand::random()),
            cluster: AtomicU64::new(0),
        }
    }

    /// What was said last of a role.
    pub(super) fn find(&self, user: &str) -> Option<Arc<Role>> {
        self.known.read().get(user).cloned()
    }

    /// A server said this of a role.
    pub(super) fn insert(&self, user: &str, mut role: Role) -> Arc<Role> {
        let mut known = self.known.write();
        match known.get(user) {
            Some(before) => role.inherit(before),
            None if known.len() >= self.max_known => evict_oldest(&mut known),
            None => {}
        }
        let role = Arc::new(role);
        known.insert(user.into(), Arc::clone(&role));
        role
    }

    /// A server said that there is no such role.
    pub(super) fn remove(&self, user: &str) {
        // Most names that nobody has were never known: no need to keep others out for them.
        if self.known.read().contains_key(user) {
            self.known.write().remove(user);
        }
    }

    /// What was said last of a database; none if it takes whoever comes.
    pub(super) fn database(&self, name: &str) -> Option<Database> {
        self.databases.load().get(name).copied()
    }

    /// See [`super::Verifiers::mock_secret`].
    pub(super) fn mock_secret(&self) -> [u8; 32] {
        **self.mock_secret.load()
    }

    /// A server said that it belongs to this cluster.
    pub(super) fn set_cluster(&self, system_identifier: u64) {
        if self.cluster.swap(system_identifier, Ordering::Relaxed) != system_identifier {
            self.mock_secret.store(Arc::new(mock_secret(system_identifier)));
        }
    }

    /// A server said this of all databases.
    pub(super) fn set_databases(&self, databases: Databases) {
        if **self.databases.load() != databases {
            self.databases.store(Arc::new(databases));
        }
    }
}

/// Scans all: only a full cache pays for it, and next to a query it is little.
fn evict_oldest(known: &mut HashMap<Box<str>, Arc<Role>>) {
    let oldest = known.iter().min_by_key(|(_, role)| role.fetched_at).map(|(user, _)| user.clone());
    if let Some(user) = oldest {
        known.remove(&user);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::verifiers::Stored;

    fn role(fetched_at: Instant) -> Role {
        Role { stored: Stored::parse("in the clear"), ..Role::unknown_to_servers(fetched_at) }
    }

    #[test]
    fn a_full_cache_forgets_the_role_read_longest_ago() {
        let (cache, start) = (Cache::new(3), Instant::now());
        for (second, user) in (0..).zip(["a", "b", "a", "c", "d"]) {
            cache.insert(user, role(start + Duration::from_secs(second)));
        }
        assert!(cache.find("b").is_none(), "a was read again");
        assert!(["a", "c", "d"].iter().all(|user| cache.find(user).is_some()));
        cache.remove("a");
        cache.remove("nobody");
        assert!(cache.find("a").is_none() && cache.find("c").is_some());
    }

    #[test]
    fn what_was_computed_of_a_password_is_kept_while_it_is_the_same() {
        let (cache, start) = (Cache::new(3), Instant::now());
        let plain = |role: &Arc<Role>| match &role.stored {
            Some(Stored::Plain(plain)) => Arc::clone(plain),
            other => panic!("{other:?}"),
        };
        let first = plain(&cache.insert("anna", role(start)));
        assert!(Arc::ptr_eq(&first, &plain(&cache.insert("anna", role(start)))));
        let changed = Role { stored: Stored::parse("another"), ..role(start) };
        assert!(!Arc::ptr_eq(&first, &plain(&cache.insert("anna", changed))));
    }
}
