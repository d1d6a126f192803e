//! Custom parameters that a session sets.

use super::{Pooling, Session};
use crate::customs::Customs;
use crate::statement::{Pin, Scan, SetsCustom, custom_names};

impl Session {
    /// The custom parameters that the session has set.
    #[must_use]
    pub const fn customs(&self) -> &Customs {
        &self.customs
    }

    /// Custom parameters that may be there by what a function has done.
    pub fn finds_customs(&mut self, customs: &Customs) {
        if !customs.are_all_in(&self.customs) {
            self.customs.add_all(customs);
            self.has_customs_here = true;
        }
    }

    /// Takes in the names in a text, which is run now or later.
    pub(super) fn note_customs(&mut self, findings: Scan, text: &[u8]) {
        if findings.sets_custom == SetsCustom::Nothing {
            return;
        }
        let mut all_kept = true;
        custom_names(text, |name| match name {
            Some(name) => all_kept &= self.customs.add(name),
            None => {
                self.customs.add_any();
                all_kept = false;
            }
        });
        if !all_kept && findings.sets {
            self.keep(Some(Pin::Parameter));
        }
        // There a Bind does not say what it runs.
        self.has_customs_here |= self.pooling == Pooling::Session;
    }

    /// Takes in what a text does that is about to be run.
    pub(super) fn see_customs(&mut self, sets_custom: SetsCustom) {
        match sets_custom {
            SetsCustom::Nothing => {}
            SetsCustom::Named => self.has_customs_here = true,
            SetsCustom::Suspected => {
                for name in &*self.suspects.parameters {
                    // What cannot be asked for is not to be seen by others.
                    self.ran_any |= !self.customs.add(name);
                }
                self.has_customs_here = true;
            }
            SetsCustom::Hidden => {
                self.customs.add_any();
                self.has_customs_here = true;
            }
        }
    }
}
