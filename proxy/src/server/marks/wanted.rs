//! Whether somebody waits for a position.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a session waits for a position that is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    is_wanted: AtomicBool,
    told: Notify,
}

impl Wanted {
    /// A session does. Where others do already, what they share is only read.
    pub(crate) fn want(&self) {
        if !self.is_wanted.load(Ordering::Relaxed) && !self.is_wanted.swap(true, Ordering::Relaxed) {
            self.told.notify_one();
        }
    }

    /// Waits until one does. One that comes behind this is told of at the next call.
    pub(crate) async fn wait(&self) {
        self.told.notified().await;
        self.is_wanted.store(false, Ordering::Relaxed);
    }
}
