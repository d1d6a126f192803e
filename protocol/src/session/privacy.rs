//! A session that looks at its prepared statements (`pg_prepared_statements`). Its connection then has all of them under its own names,
//! and nobody else's, until it says DISCARD ALL or leaves. One that does not fit the schema any more cannot be there: it is prepared as all
//! are in other sessions when it is used, and under its own name at the next look, if it fits again.

use super::placement::{Name, write_close_portal, write_run, write_statement_message};
use super::{Pass, Pooling, Session, Stall, Transaction, Undo};
use crate::prepared::ServerStatements;
use crate::statement::{Pin, Scan, Sight};
use crate::write;

/// So long, in milliseconds, the server waits for the locks of tables at the most while it prepares a session's statements: PostgreSQL
/// has them already, and does not wait.
const LOCKS_WITHIN: usize = 1000;
/// So long for one of them.
const LOCK_WITHIN: usize = 100;

/// How far a session has its connection's prepared statements for itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Privacy {
    /// They are its own, under its own names. Those that could not be prepared are not there, and are known by [`Session::names`].
    pub(super) is_private: bool,
    /// The message at hand is to be taken in, whatever it will see.
    pub(super) is_settled: bool,
}

/// What is sent for a session that is to have its statements for itself: it ends with a Sync.
#[derive(Debug)]
pub struct OwnRequest {
    /// The messages.
    pub messages: Vec<u8>,
    /// The statement that they prepare must give this: see [`shape`](crate::prepared::shape).
    pub gives: Option<u64>,
    /// Its name, if they prepare one.
    name: Option<Box<[u8]>>,
}

impl Session {
    /// True if names of statements mean on the server what they mean to the client, but for those that could not be prepared.
    pub(super) fn has_own_names(&self) -> bool {
        !self.pooling.keeps_track() || self.privacy.is_private
    }

    /// True if this name of a statement means on the server what it means to the client.
    pub(super) fn has_own(&self, name: &[u8]) -> bool {
        match self.pooling {
            Pooling::Session => true,
            Pooling::Transaction | Pooling::Home => {
                self.privacy.is_private && !name.is_empty() && self.names.get(name).is_none()
            }
        }
    }

    /// True if a text is to be looked at for names that mean something else on the server, or may turn out to.
    pub(super) fn has_others_names(&self) -> bool {
        !self.has_own_names() || (self.privacy.is_private && self.has_missing())
    }

    /// True if a statement is, or may be, missing under its own name.
    fn has_missing(&self) -> bool {
        self.names.len() > 0 || self.expected.iter().any(|e| e.undo.is_some())
    }

    /// The client gives a name a meaning of its own on the server. How to take that back, if it may have had another.
    pub(super) fn take_over(&mut self, name: &[u8]) -> Option<Box<Undo>> {
        if !self.pooling.keeps_track() || (self.names.get(name).is_none() && !self.is_unsure(name)) {
            return None;
        }
        let before = self.names.remove(name).map(|(_, before)| before);
        Some(Box::new(Undo { name: name.into(), before }))
    }

    /// Has a text wait that looks at the session's statements, until they are alone on its connection. In the midst of a batch,
    /// which may use shared ones, they cannot be.
    pub(super) fn await_privacy(
        &mut self,
        findings: Scan,
        in_batch: bool,
        server: &ServerStatements,
    ) -> Option<Pass> {
        let is_wanted = match findings.sees {
            Sight::Nothing => false,
            Sight::OfPrepare => self.names.in_order().iter().any(|(_, statement)| statement.source.is_some()),
            Sight::All => !self.privacy.is_private || self.has_missing() || server.ids().next().is_some(),
        };
        let is_wanted = is_wanted && self.pooling.keeps_track();
        let is_possible = !in_batch && !self.copying_in && self.copy_syncs == 0;
        if !is_wanted || !is_possible || self.privacy.is_settled {
            return None;
        }
        self.unsynced = false;
        self.stall = Stall::Privacy;
        Some(Pass::Wait)
    }

    /// True if a message waits for [`Session::become_private`] or [`Session::stay_as_it_is`], and the server has answered all before it.
    #[must_use]
    pub fn awaits_privacy(&self) -> bool {
        self.stall == Stall::Privacy && self.expected.is_empty()
    }

    /// What has the server drop all statements that are not the session's own and prepare those that are and are missing, in the order in
    /// which that was done before. `None` if that cannot be.
    #[must_use]
    pub fn own_statements(&self, server: &ServerStatements) -> Option<Vec<OwnRequest>> {
        let in_block = match self.transaction {
            Transaction::Idle => false,
            Transaction::Open => true,
            // To look is an error.
            Transaction::Failed => return None,
        };
        let mut requests = Vec::new();
        let patience = (LOCKS_WITHIN / self.names.len().max(1)).clamp(1, LOCK_WITHIN);
        let patience = format!("SELECT pg_catalog.set_config('lock_timeout', '{patience}ms', true)");
        // What goes wrong must not fail the transaction, and no lock on a table may stay.
        requests.extend(in_block.then(|| utility("SAVEPOINT pgherd")));
        requests.push(if self.privacy.is_private { close_all(server) } else { Self::no_statements() });
        if self.numbers.may_be_anothers(self.batch) {
            // Later that would take a statement of pgherd's, which the session would see.
            requests.push(utility("DISCARD SEQUENCES"));
        }
        for (name, statement) in self.names.in_order() {
            // As in PostgreSQL, a statement never becomes one that gives something else.
            let known = statement.description();
            let described = known.map(|_| name);
            let mut messages = Vec::new();
            write_utility(patience.as_bytes(), &mut messages);
            match &statement.source {
                Some(source) => write_utility(source, &mut messages),
                None if statement.is_kept() => {
                    write_parse(name, &statement.definition_again(), &mut messages);
                }
                None => return None,
            }
            describe_and_sync(described, &mut messages);
            let gives = known.map(|known| known.shape);
            requests.push(OwnRequest { messages, gives, name: Some(name.into()) });
            requests.extend(in_block.then(|| utility("ROLLBACK TO SAVEPOINT pgherd")));
        }
        requests.extend(in_block.then(|| utility("RELEASE SAVEPOINT pgherd")));
        Some(requests)
    }

    /// What has the server drop all statements.
    #[must_use]
    pub fn no_statements() -> OwnRequest {
        utility("DEALLOCATE ALL")
    }

    /// What has the server drop those statements that it has prepared though they give something else by now, if there are such.
    #[must_use]
    pub fn misfits(requests: &[OwnRequest], refused: &[bool]) -> Option<OwnRequest> {
        let refused = requests.iter().zip(refused).filter(|(_, refused)| **refused);
        let mut messages = Vec::new();
        for name in refused.filter_map(|(request, _)| request.name.as_ref()) {
            write::message(&mut messages, b'C', |out| {
                out.push(b'S');
                write::cstr(out, name);
            });
        }
        if messages.is_empty() {
            return None;
        }
        // A PREPARE that was refused has not come to its end.
        write_statement_message(b'C', Name::Escaped(b""), &mut messages);
        write::empty(&mut messages, b'S');
        Some(OwnRequest { messages, gives: None, name: None })
    }

    /// The server has answered what [`Session::own_statements`] asked for; `refused` says of each whether it was refused. A statement that
    /// was is known as before, and prepared under a name of pgherd's when it is used. False, and nothing done, if the others'
    /// are there still.
    pub fn become_private(
        &mut self,
        server: &mut ServerStatements,
        requests: &[OwnRequest],
        refused: &[bool],
    ) -> bool {
        let answered = || requests.iter().zip(refused);
        if answered().all(|(request, refused)| request.name.is_some() || !refused) {
            server.clear();
        } else if self.privacy.is_private {
            server.make_all_stale(|_| false);
        } else {
            return false;
        }
        self.misread.clear();
        if self.numbers.may_be_anothers(self.batch) {
            self.numbers.forget(false);
        }
        for (request, _) in answered().filter(|(_, refused)| !**refused) {
            let Some((_, statement)) = request.name.as_ref().and_then(|name| self.names.remove(name)) else {
                continue;
            };
            // What it does when it is executed is not looked at any more.
            let Scan { pin, sets, .. } = statement.scan;
            self.lasting = Pin::worse(self.lasting, pin.filter(|pin| *pin != Pin::Listen));
            self.lasting = Pin::worse(self.lasting, sets.then_some(Pin::Parameter));
        }
        self.privacy.is_private = true;
        self.keep(Some(Pin::OwnStatements));
        self.stay_as_it_is();
        true
    }

    /// The text that waits is to see what there is.
    pub fn stay_as_it_is(&mut self) {
        self.privacy.is_settled = true;
        self.stall = Stall::No;
    }
}

/// A statement without parameters, by the extended protocol: the client's unnamed statement and portal stay what they are.
fn utility(sql: &str) -> OwnRequest {
    let mut messages = Vec::new();
    write_utility(sql.as_bytes(), &mut messages);
    write::empty(&mut messages, b'S');
    OwnRequest { messages, gives: None, name: None }
}

fn write_utility(sql: &[u8], out: &mut Vec<u8>) {
    let own = || Name::Escaped(b"");
    // What has failed before has not come to its end.
    write_close_portal(out);
    write_statement_message(b'C', own(), out);
    write::message(out, b'P', |out| {
        own().write(out);
        write::cstr(out, sql);
        out.extend_from_slice(&[0, 0]);
    });
    write_run(own(), out);
    write_statement_message(b'C', own(), out);
}

fn write_parse(name: &[u8], definition: &[u8], out: &mut Vec<u8>) {
    write::message(out, b'P', |out| {
        write::cstr(out, name);
        out.extend_from_slice(definition);
    });
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

/// Closes all that are pgherd's.
fn close_all(server: &ServerStatements) -> OwnRequest {
    let mut messages = Vec::new();
    server.ids().for_each(|id| write_statement_message(b'C', Name::Server(id), &mut messages));
    write::empty(&mut messages, b'S');
    OwnRequest { messages, name: None, gives: None }
}
