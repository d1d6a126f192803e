//! Places of clients: of all, of each role, and of each database.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::shared::{Counted, Gauge};

/// Clients by a name that they have in common.
#[derive(Debug, Default)]
pub(crate) struct ByName(Mutex<HashMap<Box<str>, Arc<Gauge>>>);

impl ByName {
    /// One more of this name, as long as what is returned lives; none if there are `limit` already.
    pub(crate) fn enter(&self, name: &str, limit: Option<usize>) -> Option<Counted> {
        let mut gauges = self.0.lock();
        if gauges.len() == gauges.capacity() {
            gauges.retain(|_, gauge| Arc::strong_count(gauge) > 1);
        }
        let gauge = match gauges.get(name) {
            Some(gauge) => gauge,
            None => gauges.entry(name.into()).or_default(),
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
        let names = ByName::default();
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
