//! How much memory the process has, and what becomes of strangers when that is too much.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is known of the memory is no older. Looking takes a few microseconds.
const KNOWN_FOR: Duration = Duration::from_millis(20);

/// The memory of this process.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Option<(Instant, u64)>>);

impl Memory {
    /// True if the process has so much or more. Where nothing says how much it has, it has not.
    pub(crate) fn has_reached(&self, limit: Option<u64>) -> bool {
        let Some(limit) = limit else { return false };
        let mut known = self.0.lock();
        let resident = match *known {
            Some((at, resident)) if at.elapsed() < KNOWN_FOR => resident,
            _ => {
                let resident = resident().unwrap_or(0);
                *known = Some((Instant::now(), resident));
                resident
            }
        };
        resident >= limit
    }
}

/// The resident memory of this process in bytes.
pub(crate) fn resident() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = said.split_whitespace().nth(1)?.parse().ok()?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    pages.checked_mul(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_some_memory_and_not_all_there_is() {
        let memory = Memory::default();
        assert!(memory.has_reached(Some(1 << 20)) && !memory.has_reached(Some(1 << 50)));
        assert!(!memory.has_reached(None));
    }
}
