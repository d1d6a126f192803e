//! Places of clients: how many there may be, of all or of those that have something in common.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A count that whoever enters bounds.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    /// One more, as long as what is returned lives; none if there are `limit` already.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Option<Counted> {
        let counted = Counted(Arc::clone(self));
        // One that goes past the limit counts for a moment, so several at once cannot all pass.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of a [`Gauge`].
#[derive(Debug)]
pub(crate) struct Counted(Arc<Gauge>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Clients by something that they have in common.
#[derive(Debug)]
pub(crate) struct By<K>(Mutex<HashMap<K, Arc<Gauge>>>);

impl<K> Default for By<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> By<K> {
    /// One more of this, as long as what is returned lives; none if there are `limit` already.
    pub(crate) fn enter<Q>(&self, what: &Q, limit: Option<usize>) -> Option<Counted>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut gauges = self.0.lock();
        if gauges.len() == gauges.capacity() {
            gauges.retain(|_, gauge| Arc::strong_count(gauge) > 1);
        }
        let gauge = match gauges.get(what) {
            Some(gauge) => gauge,
            None => gauges.entry(what.to_owned()).or_default(),
        };
        gauge.enter(limit.unwrap_or(usize::MAX))
    }
}

/// What a client takes up, as long as this lives.
#[derive(Debug)]
pub(crate) struct Places {
    /// One of `pool.max_clients`.
    pub(crate) _client: Counted,
    /// One of the role's `CONNECTION LIMIT`.
    pub(crate) _role: Counted,
    /// One of the database's.
    pub(crate) _database: Counted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_apart_and_forgotten_when_nobody_has_them() {
        let names = By::<String>::default();
        let first = names.enter("anna", Some(1)).unwrap();
        assert!(names.enter("anna", Some(1)).is_none() && names.enter("bert", Some(1)).is_some());
        let second = names.enter("anna", None).unwrap();
        drop(first);
        assert!(names.enter("anna", Some(1)).is_none());
        drop(second);
        assert!(names.enter("anna", Some(1)).is_some());
        for n in 0..1000 {
            names.enter(&format!("user{n}"), None);
        }
        assert!(names.0.lock().len() < 100);
    }
}
