//! Custom parameters that a session sets.

use std::sync::Arc;

use super::Session;
use crate::customs::Customs;
use crate::server::ServerState;
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

    /// The connection is given up or given back in the middle of a lease: what has been set there may be met by others.
    pub fn leave_customs(&mut self, server: &mut ServerState) {
        if std::mem::take(&mut self.has_customs_here) {
            server.customs.add_all(&self.customs);
        }
    }

    /// Takes in the names in a text, which is run now or later.
    pub(super) fn note_customs(&mut self, findings: Scan, text: &[u8]) {
        if findings.sets_custom == SetsCustom::Nothing {
            return;
        }
        let (mut all_kept, mut is_new) = (true, false);
        custom_names(text, |name| match name {
            Some(name) => {
                is_new |= !self.customs.has(name);
                all_kept &= self.customs.add(name);
            }
            None => {
                self.customs.add_any();
                all_kept = false;
            }
        });
        if !all_kept && findings.sets {
            self.keep(Some(Pin::Parameter));
        }
        if is_new && self.has_home() {
            // From now on it is empty there where it was not before, if no more.
            self.alter();
        }
        // There a Bind does not say what it runs.
        self.has_customs_here |= !self.pooling.keeps_track();
    }

    /// Takes in what a text does that is about to be run. False if functions that it names may set some of which the names are not kept:
    /// nobody can ask for their values.
    pub(super) fn see_customs(&mut self, sets_custom: SetsCustom) -> bool {
        let all_kept = match sets_custom {
            SetsCustom::Nothing => return true,
            SetsCustom::Named => true,
            SetsCustom::Suspected => self.take_in_suspected(),
            SetsCustom::Hidden => {
                self.customs.add_any();
                true
            }
        };
        self.has_customs_here = true;
        // What cannot be asked for is not to be seen by others.
        self.ran_any |= !all_kept;
        all_kept
    }

    /// Takes in all that functions may set. True if the names of all are kept.
    fn take_in_suspected(&mut self) -> bool {
        let parameters = &self.suspects.parameters;
        if self.suspected.as_ref().is_some_and(|known| Arc::ptr_eq(known, parameters)) {
            return self.suspected_are_kept;
        }
        let kept = parameters.iter().filter(|name| self.customs.add(name)).count();
        let all_kept = kept == parameters.len();
        self.suspected = Some(Arc::clone(parameters));
        self.suspected_are_kept = all_kept;
        all_kept
    }
}
