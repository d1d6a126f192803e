//! The configuration that is in force now.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::Config;

/// The configuration in force: immutable, and replaced as a whole. What is read from it is good for one decision; whoever
/// keeps a value for longer does so on purpose.
#[derive(Debug)]
pub(crate) struct Live(ArcSwap<Config>);

impl Live {
    /// In force from now on.
    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(config)))
    }

    /// What is in force at this moment: one atomic load. Not to be held across an await.
    pub(crate) fn load(&self) -> Guard<Arc<Config>> {
        self.0.load()
    }

    /// In force from now on, instead of what was.
    pub(crate) fn replace(&self, config: Config) {
        self.0.store(Arc::new(config));
    }

    /// As [`Live::load`], to be held across an await.
    pub(crate) fn load_full(&self) -> Arc<Config> {
        self.0.load_full()
    }
}
