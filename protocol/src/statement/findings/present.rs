//! What the words of one statement amount to.

use super::{Draws, Effect, First, Statement, Token, Why};

impl Statement<'_> {
    /// `None` if there is no statement.
    pub(super) fn effect(&self) -> Option<Effect> {
        Some(match self.first? {
            First::Show => Effect::Harmless,
            First::Select | First::With if !self.impure && !self.bearing.calls => Effect::Harmless,
            First::Begin => Effect::Begin,
            First::Rollback if self.prepared => Effect::MayCommit,
            First::Rollback if self.to || self.chain => Effect::Write,
            First::Rollback => Effect::Rollback,
            First::Commit if self.chain || self.prepared => Effect::MayCommit,
            First::Commit => Effect::Commit,
            First::Define if self.immediate => Effect::MayCommit,
            First::PrepareTransaction | First::Do | First::Discard | First::Unknown => Effect::MayCommit,
            First::Select
            | First::With
            | First::Prepare
            | First::Set
            | First::Declare
            | First::Insert
            | First::Define
            | First::Plain
            | First::Work => Effect::Write,
        })
    }

    /// It changes something, and may take numbers in doing so.
    pub(super) fn changes(&mut self, is_so: bool, draws: Draws) {
        if is_so {
            self.impure = true;
            self.draws = self.draws.max(draws);
        }
    }

    /// It calls a function that may change something, and may take numbers in doing so.
    pub(super) fn calls(&mut self, draws: Draws) {
        self.bearing.calls = true;
        self.draws = self.draws.max(draws);
    }

    /// A word that says, behind FOR, that rows are locked.
    pub(super) fn locks(&mut self, is_so: bool) {
        self.impure |= is_so && matches!(self.previous, Some(Token::Word(previous)) if previous.is("for"));
    }

    /// Why it is for the primary, if it is.
    pub(super) fn why(&self, copies: bool) -> Option<Why> {
        self.bearing.why(self.first?, self.impure, copies)
    }

    pub(super) fn changes_into(&mut self, is_so: bool) {
        self.impure |= is_so;
        self.into |= is_so;
    }

    /// It may change the schema, of which others see nothing before its transaction has ended, if ever.
    pub(super) const fn may_define(&self) -> bool {
        match self.first {
            Some(First::Define | First::Do | First::Unknown) => true,
            Some(First::Select | First::With) => self.into,
            _ => false,
        }
    }

    /// It is a COPY of rows into a table.
    pub(super) fn reads_in(&mut self, is_copy: bool) {
        self.changes(is_copy && self.depth == 0, Draws::Likely);
    }

    /// PREPARE does nothing of what it prepares.
    pub(super) fn draws(&self) -> Draws {
        if self.first == Some(First::Prepare) { Draws::No } else { self.draws }
    }

    /// True for what PostgreSQL runs in an aborted transaction.
    pub(super) const fn exits(&self) -> bool {
        match self.first {
            Some(First::Commit | First::Rollback) => !self.prepared,
            Some(First::PrepareTransaction) => true,
            _ => false,
        }
    }
}
