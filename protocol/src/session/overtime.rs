//! What is cancelled because it takes longer than the session may, and what the client is told of it.

use std::time::Duration;

use super::Session;
use super::backend::Reply;
use crate::error::{ClientError, ErrorFields, Severity};
use crate::frame::Frame;

/// Why what is under way is being cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overtime {
    /// The statement takes longer than this. The session goes on.
    Statement(Duration),
    /// The transaction does. The session ends with it.
    Transaction,
}

impl Session {
    /// What is under way takes too long, and a cancel request is sent for it: of this the client is told, and not that it had asked
    /// for it itself.
    pub const fn on_overdue(&mut self, why: Overtime) {
        self.overdue = Some(why);
        self.rerun.give_up();
    }

    /// Says, in place of the server, why it has cancelled a statement: it knows only that somebody asked for it.
    pub(super) fn says_overdue(
        &self,
        frame: &Frame<'_>,
        fields: ErrorFields<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        match self.overdue.filter(|_| frame.is_complete() && fields.sqlstate == b"57014")? {
            Overtime::Statement(limit) => {
                ClientError::new("57014", "canceling statement due to statement timeout")
                    .detail(format!("pool.query_timeout of pgherd is {limit:?}."))
                    .write(out, Severity::Error);
                Some(Reply::Replaced)
            }
            Overtime::Transaction => {
                transaction_timeout().write(out, Severity::Fatal);
                Some(Reply::SentAway)
            }
        }
    }
}

/// What PostgreSQL says to a client whose transaction takes too long, before it closes the connection.
#[must_use]
pub fn transaction_timeout() -> ClientError {
    ClientError::new("25P04", "terminating connection due to transaction timeout")
}
