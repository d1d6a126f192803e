//! pgherd itself may hang: its process is stopped, its machine is moved or has no time for it. What it has seen before is old when it goes
//! on, and so is what it hears first.

use std::time::{Duration, Instant};

use crate::state::State;
use crate::transition::{On, Transition};
use crate::{Machine, StateName};

/// Ticks come at least ten times a second.
const HANGS: Duration = Duration::from_secs(2);

/// The row for an attempt that is in this state when pgherd goes on.
pub(crate) const fn hung(name: &'static str, from: StateName, commands: &'static str) -> Transition {
    Transition {
        name,
        from,
        on: On::Any,
        guard: "pgherd itself hung since the attempt was begun, and nobody was told to promote",
        to: StateName::Confirm,
        commands,
        reason: "what was seen before is old: the guards are tried anew",
        when: |machine, _| machine.is_overtaken(),
        then: |machine, now, _| machine.begin_anew(now),
    }
}

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

    /// The present attempt was begun before pgherd hung, and nobody was told to promote.
    fn is_overtaken(&self) -> Option<String> {
        let is_ordered = matches!(&self.state, State::Promote { stage, .. } if stage.is_ordered());
        self.has_hung(self.state.attempt().filter(|_| !is_ordered)?.began)
    }

    /// The attempt begins anew, with its guards.
    fn begin_anew(&mut self, now: Instant) {
        if let Some(attempt) = self.state.attempt().cloned() {
            self.state = State::Confirm(self.take_back(now, &attempt));
            self.look_at_once();
        }
    }
}
