//! Moments of the monotonic clock as times of day.

use std::time::{Instant, SystemTime};

use pgherd_manager::show_time;

/// Both clocks at one moment. It is kept, so that the same moment is always the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Default for Clock {
    fn default() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

impl Clock {
    /// The time of day of a moment.
    pub(super) fn time_of(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.time + later,
            None => self.time - self.instant.saturating_duration_since(instant),
        }
    }

    /// The same as it is shown: RFC 3339 in UTC, with milliseconds.
    pub(super) fn show(&self, instant: Instant) -> String {
        show_time(self.time_of(instant))
    }
}
