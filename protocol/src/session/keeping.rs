//! Why a session keeps its server connection between transactions.

use std::sync::Arc;

use super::{Altered, Held, Placed, Privacy, Session};
use crate::frame::split_cstr;
use crate::parameters::Parameters;
use crate::statement::{Pin, Scan, Suspects, Trust};

impl Session {
    /// These are the suspects from now on.
    pub fn heed(&mut self, suspects: &Arc<Suspects>) {
        if !self.pooling.keeps_track() || Arc::ptr_eq(&self.suspects, suspects) {
            return;
        }
        self.suspects = Arc::clone(suspects);
        self.judge_unread();
        if self.unnamed.held == Held::Here {
            let scan = self.unnamed.scan;
            let text = split_cstr(&self.unnamed.definition).map_or(&[][..], |(text, _)| text);
            self.unnamed.scan = suspects.judge_text(scan, text);
        }
    }

    /// Custom parameters that functions may have set.
    #[must_use]
    pub fn suspected_parameters(&self) -> &[Box<str>] {
        &self.suspects.parameters
    }

    /// What the session listens to is listened to by another connection: this one is not kept for it.
    pub fn listens_elsewhere(&mut self) {
        self.pin = self.pin.filter(|pin| *pin != Pin::Listen);
    }

    /// pgherd has said a Query of its own on the session's connection, which destroys the unnamed statement there.
    pub fn on_own_query(&mut self) {
        if self.unnamed.held == Held::Here {
            self.unnamed.placed = Placed::No;
        }
    }

    /// The session's connection listens for it.
    pub fn listens_here(&mut self) {
        self.keep(Some(Pin::Listen));
    }

    /// What the session has left cannot be told: it stays where it is.
    pub fn stay(&mut self) {
        self.altered = Altered::No;
        self.unasked = false;
        self.keep(Some(Pin::Parameter));
        self.on_own_query();
    }

    /// The server has told what the session has left there, if it has left anything that other connections do not have, and
    /// that these run-time parameters are in force. True if they are to be in force wherever the session is served.
    pub fn on_leftovers(&mut self, left: Option<Pin>, parameters: &Parameters) -> bool {
        self.unasked = false;
        self.pin = self.beyond_home(left);
        if self.has_home() && self.ran_any {
            // Standbys would not have them, and nobody can tell which they are.
            self.keep(Some(Pin::Parameter));
        }
        self.on_own_query();
        if self.pin().is_some() {
            return false;
        }
        self.carry(parameters);
        true
    }

    /// True if custom parameters may have values on the connection of which neither the session nor the server can tell: it needs
    /// RESET ALL before anybody else sees it.
    #[must_use]
    pub const fn may_hide_parameters(&self) -> bool {
        self.ran_any
    }

    /// There is this reason, if any, to keep the server connection.
    pub(super) fn keep(&mut self, pin: Option<Pin>) {
        let pin = self.beyond_home(pin);
        let Some(it) = pin else { return };
        self.has_loaded |= it == Pin::Load;
        if it.can_be_asked_about() {
            self.pin = Pin::worse(self.pin, pin);
        } else {
            self.lasting = Pin::worse(self.lasting, pin);
        }
    }

    /// Takes in what a text says that is about to be run, as to what it leaves.
    pub(super) fn note_leftovers(&mut self, findings: Scan) {
        self.keep(findings.pin);
        // Whether it still listens is found out when it has done nothing else for a while.
        let leaves = findings.pin.is_some_and(|pin| pin.can_be_asked_about() && pin != Pin::Listen);
        self.ran_any |= findings.runs_any && self.unread.is_none();
        self.unasked |=
            leaves || findings.suspect || findings.views || (findings.undoes && self.pin.is_some());
    }

    /// The session has left nothing any more, but for the library that it has loaded.
    pub(super) fn forget_leftovers(&mut self) {
        self.pin = None;
        self.forget_what_ran_at_home();
        self.privacy = Privacy::default();
        self.lasting = self.has_loaded.then_some(Pin::Load);
    }

    /// True if the server is to be asked what the session has left there, now that it is at rest, before its connection can go
    /// back, or because it may.
    #[must_use]
    pub fn is_to_be_asked(&self) -> bool {
        let may_go_back = self.lasting.is_none()
            && self.numbers.pin().is_none()
            && self.unnamed.held != Held::OnlyThere
            && !self.has_undescribed();
        may_go_back && ((self.unasked && self.suspects.trust != Trust::Blind) || self.is_altered_only())
    }

    fn is_altered_only(&self) -> bool {
        self.pin.is_none() && self.is_altered()
    }

    /// True if it may have left something that no text has shown.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.unasked && self.suspects.trust != Trust::Blind
    }

    /// True if it has loaded a library, which stays until the server process ends.
    #[must_use]
    pub const fn has_loaded(&self) -> bool {
        self.has_loaded
    }

    /// What would be lost with the server connection, if no transaction is open.
    #[must_use]
    pub fn left_there(&self) -> Option<Pin> {
        let of_mode = || self.is_at_home().then_some(Pin::SessionMode);
        self.pin().or_else(of_mode).or((self.altered == Altered::Surely).then_some(Pin::Parameter))
    }

    /// Why the session keeps its server connection, if it would not do so in any case.
    #[must_use]
    pub fn pin_beyond_mode(&self) -> Option<Pin> {
        if self.pooling.shares() { self.lasting_pin() } else { None }
    }

    /// Why the session keeps its server connection, if it does.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        Pin::worse(self.lasting_pin(), self.has_undescribed().then_some(Pin::SqlPrepare))
    }

    /// As [`Session::pin`], but for what is over with the server's next answers.
    #[must_use]
    pub fn lasting_pin(&self) -> Option<Pin> {
        let known = Pin::worse(Pin::worse(self.lasting, self.pin), self.numbers.pin());
        Pin::worse(known, (self.unnamed.held == Held::OnlyThere).then_some(Pin::LongStatement))
    }
}
