//! What an operator has closed: databases that are paused, and such as take no more clients.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// The operator's will, which pools that are made later obey, too.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<Closed>);

#[derive(Debug, Default)]
struct Closed {
    all: bool,
    paused: BTreeSet<Box<str>>,
    disabled: BTreeSet<Box<str>>,
}

impl Gates {
    /// True if no server connection of this database is to be lent.
    pub(crate) fn is_paused(&self, database: &str) -> bool {
        let closed = self.0.lock();
        closed.all || closed.paused.contains(database)
    }

    /// True if everything is paused.
    pub(crate) fn is_all_paused(&self) -> bool {
        self.0.lock().all
    }

    /// True if this database was paused by its name.
    pub(crate) fn is_paused_by_name(&self, database: &str) -> bool {
        self.0.lock().paused.contains(database)
    }

    /// True if nobody more is to log in to this database.
    pub(crate) fn is_disabled(&self, database: &str) -> bool {
        self.0.lock().disabled.contains(database)
    }

    /// The databases that are paused or disabled by their names.
    pub(crate) fn named(&self) -> BTreeSet<Box<str>> {
        let closed = self.0.lock();
        closed.paused.union(&closed.disabled).cloned().collect()
    }

    /// Pauses a database, or all; false if that is so already.
    pub(super) fn pause(&self, database: Option<&str>) -> bool {
        let mut closed = self.0.lock();
        match database {
            Some(name) => closed.paused.insert(name.into()),
            None => !std::mem::replace(&mut closed.all, true),
        }
    }

    /// Ends that; false if it was not so.
    pub(super) fn resume(&self, database: Option<&str>) -> bool {
        let mut closed = self.0.lock();
        match database {
            Some(name) => closed.paused.remove(name),
            None => std::mem::take(&mut closed.all),
        }
    }

    /// Lets clients log in to a database, or not.
    pub(crate) fn disable(&self, database: &str, disabled: bool) {
        let mut closed = self.0.lock();
        if disabled {
            closed.disabled.insert(database.into());
        } else {
            closed.disabled.remove(database);
        }
    }
}
