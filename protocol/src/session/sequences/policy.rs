//! What is done about sequences for a database and user, and what is known of their sessions.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What is done about sequences for a database and user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SequencePolicy {
    /// Sessions keep their connections for the numbers that they have taken once one of them has asked for such a number.
    #[default]
    Auto = 0,
    /// They do so from the beginning.
    Pin = 1,
    /// Nothing: a session may be told another's number.
    Off = 2,
}

/// What is known of the sessions of a database and user. They share it; a look at it takes no lock.
#[derive(Debug, Default)]
pub struct Sequences {
    policy: AtomicU8,
    /// One of them has asked.
    asked: AtomicBool,
}

impl Sequences {
    /// Of sessions none of which has asked.
    #[must_use]
    pub fn new(policy: SequencePolicy) -> Self {
        Self { policy: AtomicU8::new(policy as u8), asked: AtomicBool::new(false) }
    }

    /// What is done from now on.
    pub fn follow(&self, policy: SequencePolicy) {
        self.policy.store(policy as u8, Ordering::Relaxed);
    }

    /// True if sessions keep their connections for the numbers that they have taken.
    #[must_use]
    pub fn pin(&self) -> bool {
        match self.policy.load(Ordering::Relaxed) {
            policy if policy == SequencePolicy::Off as u8 => false,
            policy => policy == SequencePolicy::Pin as u8 || self.has_asked(),
        }
    }

    /// True if one of the sessions has asked.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// True if nothing is done.
    pub(super) fn is_off(&self) -> bool {
        self.policy.load(Ordering::Relaxed) == SequencePolicy::Off as u8
    }

    /// A session asks. Also called for those of which it is known otherwise that they will. True for the first.
    pub fn note_asked(&self) -> bool {
        !self.has_asked() && !self.asked.swap(true, Ordering::Relaxed)
    }
}
