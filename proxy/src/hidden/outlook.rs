//! What the sessions of one database and user go by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::{ArcSwap, Guard};
use pgherd_protocol::statement::{Suspects, Trust};

use super::{Known, Reading};
use crate::config::HiddenState;

/// What the sessions of a database and user go by.
#[derive(Debug)]
pub(crate) struct Outlook {
    suspects: ArcSwap<Suspects>,
    /// [`HiddenState`] as a number.
    wanted: AtomicU8,
    /// Somebody has asked since the catalogue was read.
    is_used: AtomicBool,
}

impl Outlook {
    pub(super) fn new(wanted: HiddenState, known: &Known<'_>) -> Self {
        Self {
            suspects: ArcSwap::from_pointee(suspects(wanted, known)),
            wanted: AtomicU8::new(wanted as u8),
            is_used: AtomicBool::new(true),
        }
    }

    /// What texts are suspected of now that the schema is of this generation.
    #[inline]
    pub(crate) fn suspects(&self, generation: u64) -> Guard<Arc<Suspects>> {
        // Most times somebody has been here: what others read is not written to.
        if !self.is_used() {
            self.is_used.store(true, Ordering::Relaxed);
        }
        let suspects = self.suspects.load();
        if suspects.trust != Trust::Names || suspects.generation == generation {
            return suspects;
        }
        // What is learned meanwhile counts.
        let outdated = Suspects { trust: Trust::Nothing, ..(**suspects).clone() };
        self.suspects.compare_and_swap(&suspects, Arc::new(outdated));
        self.suspects.load()
    }

    /// This is what is configured from now on.
    pub(super) fn want(&self, wanted: HiddenState, known: &Known<'_>) {
        self.wanted.store(wanted as u8, Ordering::Relaxed);
        self.take_in(known);
    }

    /// The catalogue was read. Whether anybody uses this is found out anew.
    pub(super) fn begin_anew(&self, known: &Known<'_>) {
        self.is_used.store(false, Ordering::Relaxed);
        self.take_in(known);
    }

    /// This is what is known of the catalogue from now on.
    pub(super) fn take_in(&self, known: &Known<'_>) {
        self.suspects.store(Arc::new(suspects(self.wanted(), known)));
    }

    /// True if somebody has asked since the catalogue was read.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// True if the catalogue is to be read for it.
    pub(super) fn wants_reading(&self) -> bool {
        self.wanted() != HiddenState::Off && self.is_used()
    }

    fn wanted(&self) -> HiddenState {
        match self.wanted.load(Ordering::Relaxed) {
            0 => HiddenState::Auto,
            1 => HiddenState::Check,
            _ => HiddenState::Off,
        }
    }
}

fn suspects(wanted: HiddenState, known: &Known<'_>) -> Suspects {
    let trust = match (wanted, known.reading) {
        (HiddenState::Off, _) => Trust::Blind,
        (HiddenState::Auto, Some(reading)) if !reading.is_doubtful => Trust::Names,
        (HiddenState::Auto | HiddenState::Check, _) => Trust::Nothing,
    };
    match known.reading {
        Some(Reading { names, parameters, generation, .. }) => Suspects {
            trust,
            names: Arc::clone(names),
            generation: *generation,
            parameters: Arc::clone(parameters),
        },
        None => Suspects { trust, names: Arc::clone(known.unread), ..Suspects::default() },
    }
}
