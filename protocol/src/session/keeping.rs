//! Why a session keeps its server connection between transactions.

use super::{Altered, Held, Placed, Session};
use crate::statement::Pin;

impl Session {
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

    /// Which parameters are in force cannot be told: the session stays where they are.
    pub fn stay(&mut self) {
        self.altered = Altered::No;
        self.keep(Some(Pin::Parameter));
        self.on_own_query();
    }

    /// There is this reason, if any, to keep the server connection.
    pub(super) fn keep(&mut self, pin: Option<Pin>) {
        self.pin = Pin::worse(self.pin, pin);
    }

    /// What would be lost with the server connection, if no transaction is open.
    #[must_use]
    pub fn left_there(&self) -> Option<Pin> {
        self.pin().or((self.altered == Altered::Surely).then_some(Pin::Parameter))
    }

    /// Why the session keeps its server connection, if it does.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        Pin::worse(self.lasting_pin(), self.has_undescribed().then_some(Pin::SqlPrepare))
    }

    /// As [`Session::pin`], but for what is over with the server's next answers.
    #[must_use]
    pub fn lasting_pin(&self) -> Option<Pin> {
        Pin::worse(self.pin, (self.unnamed.held == Held::OnlyThere).then_some(Pin::LongStatement))
    }
}
