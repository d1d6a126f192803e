//! Whether the control loop turns, seen from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::RuntimeMetrics;

/// Counts the turns of the control loop, which has one at each tick at least.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    turns: Arc<AtomicU64>,
    runtime: Option<RuntimeMetrics>,
}

impl Pulse {
    /// The loop has turned.
    pub(super) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        #[cfg(debug_assertions)]
        stand_still();
    }

    /// Of a loop that runs in a runtime of its own.
    pub(super) fn within(&mut self, runtime: RuntimeMetrics) {
        self.runtime = Some(runtime);
    }

    /// How often it has turned. What does not grow for longer than a tick stands still.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Tasks of its runtime that have not ended; 0 where it has none of its own.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.runtime.as_ref().map_or(0, RuntimeMetrics::num_alive_tasks)
    }
}

/// What a test has asked for, once: by a file `control` in the directory that `PROVOKE_DEFECTS_IN` names, with a number of seconds. In a release build
/// there is no such thing.
#[cfg(debug_assertions)]
fn stand_still() {
    let Some(directory) = std::env::var_os("PROVOKE_DEFECTS_IN") else { return };
    let order = std::path::Path::new(&directory).join("control");
    let Ok(seconds) = std::fs::read_to_string(&order) else { return };
    if std::fs::remove_file(&order).is_ok() {
        std::thread::sleep(std::time::Duration::from_secs(seconds.trim().parse().unwrap_or_default()));
    }
}
