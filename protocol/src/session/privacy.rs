//! A session that looks at its prepared statements (`pg_prepared_statements`). Its connection then has all of them under its own names,
//! and nobody else's, until it says DISCARD ALL or leaves.

use super::frontend::ESCAPED_PREFIX;
use super::{Pass, Pooling, Session, Stall, Transaction};
use crate::prepared::ServerStatements;
use crate::statement::{Pin, Scan, Sight};
use crate::write;

/// How far a session has its connection's prepared statements for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    /// They are shared.
    Shared,
    /// They are shared, and the message at hand is to be taken in all the same.
    Declined,
    /// They are its own, under its own names.
    Private,
}

/// What is sent for a session that is to have its statements for itself: it ends with a Sync.
#[derive(Debug)]
pub struct OwnRequest {
    /// The messages.
    pub messages: Vec<u8>,
    /// The statement that they prepare must give this: see [`shape`](crate::prepared::shape).
    pub gives: Option<u64>,
}

impl Session {
    /// True if names of statements mean on the server what they mean to the client.
    pub(super) fn has_own_names(&self) -> bool {
        self.pooling == Pooling::Session || self.privacy == Privacy::Private
    }

    /// Has a text wait that looks at the session's statements, until they are alone on its connection. In the midst of a batch,
    /// which may use shared ones, they cannot be.
    pub(super) fn await_privacy(&mut self, findings: Scan, in_batch: bool) -> Option<Pass> {
        let is_seen = match findings.sees {
            Sight::Nothing => false,
            Sight::OfPrepare => self.names.in_order().iter().any(|(_, statement)| statement.source.is_some()),
            Sight::All => true,
        };
        let is_wanted = is_seen && !self.has_own_names();
        let is_possible = !in_batch && !self.copying_in && self.copy_syncs == 0;
        if !is_wanted || !is_possible || self.privacy == Privacy::Declined {
            return None;
        }
        self.unsynced = false;
        self.stall = Stall::Privacy;
        Some(Pass::Wait)
    }

    /// True if a message waits for [`Session::become_private`] or [`Session::stay_shared`], and the server has answered all before it.
    #[must_use]
    pub fn awaits_privacy(&self) -> bool {
        self.stall == Stall::Privacy && self.expected.is_empty()
    }

    /// What has the server drop all statements and prepare the session's own, in the order in which that was done before: requests, each
    /// with one ReadyForQuery. `None` if that cannot be.
    #[must_use]
    pub fn own_statements(&self) -> Option<Vec<OwnRequest>> {
        let mut requests = vec![utility("DEALLOCATE ALL")];
        if self.numbers.may_be_anothers(self.batch) {
            // Later that would take a statement of pgherd's, which the session would see.
            requests.push(utility("DISCARD SEQUENCES"));
        }
        for (name, statement) in self.names.in_order() {
            // As in PostgreSQL, a statement never becomes one that gives something else.
            let known = statement.description();
            let described = known.map(|_| name);
            let messages = match &statement.source {
                Some(source) => utility_message(source, described),
                None if statement.is_kept() => parse(name, &statement.definition_again(), described),
                None => return None,
            };
            requests.push(OwnRequest { messages, gives: known.map(|known| known.shape) });
        }
        match self.transaction {
            Transaction::Idle => {}
            // What goes wrong must not fail it, and no lock on a table may stay.
            Transaction::Open => {
                requests.insert(0, utility("SAVEPOINT pgherd"));
                requests.push(utility("ROLLBACK TO SAVEPOINT pgherd"));
                requests.push(utility("RELEASE SAVEPOINT pgherd"));
            }
            // To look is an error.
            Transaction::Failed => return None,
        }
        Some(requests)
    }

    /// What has the server drop all statements.
    #[must_use]
    pub fn no_statements() -> OwnRequest {
        utility("DEALLOCATE ALL")
    }

    /// The server has done what [`Session::own_statements`] asked for.
    pub fn become_private(&mut self, server: &mut ServerStatements) {
        server.clear();
        self.misread.clear();
        if self.numbers.may_be_anothers(self.batch) {
            self.numbers.forget(false);
        }
        // What they do when they are executed is not looked at any more.
        for (_, statement) in self.names.in_order() {
            let Scan { pin, sets, .. } = statement.scan;
            self.lasting = Pin::worse(self.lasting, pin.filter(|pin| *pin != Pin::Listen));
            self.lasting = Pin::worse(self.lasting, sets.then_some(Pin::Parameter));
        }
        self.names.retain(|_| false);
        self.privacy = Privacy::Private;
        self.keep(Some(Pin::OwnStatements));
        self.stall = Stall::No;
    }

    /// The text that waits is to see what there is.
    pub fn stay_shared(&mut self) {
        self.privacy = Privacy::Declined;
        self.stall = Stall::No;
    }
}

/// A statement without parameters and rows, by the extended protocol: the client's unnamed statement and portal stay what they are.
fn utility(sql: &str) -> OwnRequest {
    OwnRequest { messages: utility_message(sql.as_bytes(), None), gives: None }
}

fn utility_message(sql: &[u8], described: Option<&[u8]>) -> Vec<u8> {
    let name = ESCAPED_PREFIX.as_bytes();
    let mut out = Vec::new();
    let close = |out: &mut Vec<u8>| {
        for kind in *b"PS" {
            write::message(out, b'C', |out| {
                out.push(kind);
                write::cstr(out, name);
            });
        }
    };
    // What has failed before has not come to its end.
    close(&mut out);
    write::message(&mut out, b'P', |out| {
        write::cstr(out, name);
        write::cstr(out, sql);
        out.extend_from_slice(&[0, 0]);
    });
    write::message(&mut out, b'B', |out| {
        write::cstr(out, name);
        write::cstr(out, name);
        out.extend_from_slice(&[0; 6]);
    });
    write::message(&mut out, b'E', |out| {
        write::cstr(out, name);
        out.extend_from_slice(&[0; 4]);
    });
    close(&mut out);
    describe_and_sync(described, &mut out);
    out
}

fn parse(name: &[u8], definition: &[u8], described: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    write::message(&mut out, b'P', |out| {
        write::cstr(out, name);
        out.extend_from_slice(definition);
    });
    describe_and_sync(described, &mut out);
    out
}

fn describe_and_sync(described: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(name) = described {
        write::message(out, b'D', |out| {
            out.push(b'S');
            write::cstr(out, name);
        });
    }
    write::empty(out, b'S');
}
