//! What a session does, counted.

use super::Session;

/// What a session has done since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// ReadyForQuery outside of a transaction block.
    pub transactions: u32,
    /// ReadyForQuery.
    pub queries: u32,
    /// Statements that were sent and are known to only read.
    pub reads: u32,
    /// Parse messages of the client.
    pub client_parses: u32,
    /// Parse messages that a server got.
    pub server_parses: u32,
    /// Bind messages.
    pub binds: u32,
}

impl Session {
    /// What it has done since this was asked last.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// True if a transaction has ended since [`Session::take_tally`] was asked last.
    #[must_use]
    pub const fn has_ended_transaction(&self) -> bool {
        self.tally.transactions > 0
    }

    /// Prepared statements that it has under names.
    #[must_use]
    pub fn prepared(&self) -> usize {
        self.names.len()
    }
}
