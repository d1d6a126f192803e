//! pgherd itself may hang: its process is stopped, its machine is moved or has no time for it. What it has seen before is old when it goes
//! on, and so is what it hears first.

use std::time::{Duration, Instant};

use crate::state::State;
use crate::{Machine, StateName};

/// Ticks come at least ten times a second.
const HANGS: Duration = Duration::from_secs(2);

impl Machine {
    /// Notes that it is this time now.
    pub(crate) fn note_time(&mut self, now: Instant) {
        if now > self.stepped_at + HANGS {
            self.awake_since = now;
            self.look_at_once();
        }
        self.stepped_at = now;
    }

    /// Why nothing can be built on what was begun at `began`, if so.
    pub(crate) fn has_hung(&self, began: Instant) -> Option<String> {
        (began < self.awake_since).then(|| "pgherd itself has hung: what it saw before is old".to_owned())
    }

    /// The attempt of this state was begun before pgherd hung.
    pub(crate) fn is_overtaken(&self, name: StateName) -> Option<String> {
        let attempt = self.state.attempt().filter(|_| self.state.name() == name)?;
        self.has_hung(attempt.began)
    }

    /// The attempt begins anew, with its guards.
    pub(crate) fn begin_anew(&mut self, now: Instant) {
        if let Some(attempt) = self.state.attempt().cloned() {
            self.state = State::Confirm(self.take_back(now, &attempt));
            self.look_at_once();
        }
    }
}
