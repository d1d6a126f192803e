//! Having a connection forget the numbers of others: what is sent for that, and what becomes of it.

use super::super::errors::refusal;
use super::super::placement::{Name, write_run};
use super::super::{About, Expected, Kind, OwnWords, Pass, Placed, Reply, Session, Stall, Transaction};
use crate::prepared::{Lookup, ServerStatements};
use crate::statement::Scan;
use crate::write;

/// What is to be done where numbers cannot be forgotten.
const HINT: &str = "End the transaction in a message of its own before asking for currval() or lastval().";

/// For messages of the same batch, which are skipped together with it, it is as good as done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forgetting {
    pub(super) batch: u64,
    /// Behind it, numbers may have been taken.
    pub(super) draws: bool,
}

/// Sending it.
impl Session {
    /// Has the server forget all numbers. Within the client's batch it shares its fate; else it has a Sync of its own, and if
    /// nothing stands before it, it is sure: should it fail, the connection is not used any more.
    pub(super) fn have_forgotten(
        &mut self,
        in_batch: bool,
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) {
        let in_batch = self.is_in_batch(in_batch);
        let is_sure = !in_batch && self.expected.is_empty();
        let statement = lookup.statements.discard_sequences();
        if self.expected.iter().any(|e| e.forgets) {
            // It may be dropped by then.
            server.distrust(statement.id);
        }
        if !self.find_prepared(statement.id, b"", server) {
            self.prepare(&statement, statement.definition(), server, out);
            self.expect_hidden(Kind::Parse, About::Prepares(statement.id));
            self.evict(server, out);
        }
        write_run(Name::Server(statement.id), out);
        self.expect_hidden(Kind::Bind, About::Uses(statement.id));
        self.expect_hidden(Kind::Execute, About::Numbers);
        self.expect_hidden(Kind::Close, About::Nothing);
        if !in_batch {
            write::empty(out, b'S');
            self.expect_hidden(Kind::Sync, About::Nothing);
        }
        if is_sure {
            self.numbers.forget(false);
        } else {
            self.numbers.forgetting = Some(Forgetting { batch: self.batch, draws: false });
        }
    }

    /// True if what is sent with these findings may ask for numbers that are another's, so that the connection is to forget those before
    /// it. `batch` is what it belongs to.
    pub(in crate::session) fn is_to_forget(&self, findings: Scan, batch: u64, lookup: Lookup<'_>) -> bool {
        self.pooling.shares()
            && (findings.asks || !findings.whole)
            && !lookup.sequences.is_off()
            && self.numbers.may_be_anothers(batch)
    }

    /// Has a message wait before which the connection is to forget, until it is known whether the transaction has failed: if it has, the
    /// server refuses to forget, and would skip what it answers else, or tell others' numbers once the message has ended the transaction.
    pub(in crate::session) fn await_transaction(
        &mut self,
        (findings, in_batch): (Scan, bool),
        batch: u64,
        lookup: Lookup<'_>,
    ) -> Option<Pass> {
        let is_to_wait = self.is_to_forget(findings, batch, lookup)
            && (!findings.single || self.is_in_batch(in_batch))
            && self.may_fail_unseen();
        if !is_to_wait {
            return None;
        }
        self.stall = Stall::Transaction;
        Some(Pass::Wait)
    }

    /// True if a Sync would end what the server may be skipping. `in_batch`: messages of the client have had no Sync.
    pub(in crate::session) fn is_in_batch(&self, in_batch: bool) -> bool {
        let mut unsynced = self.expected.iter().rev().take_while(|e| e.kind != Kind::Sync);
        in_batch || unsynced.any(|e| e.kind.is_extended() && e.kind != Kind::CopyEnd)
    }

    /// As [`Session::see_numbers`], for a Query. If it cannot be run it is refused here, as PostgreSQL refuses most in a failed
    /// transaction.
    pub(in crate::session) fn see_numbers_of_query(
        &mut self,
        findings: Scan,
        in_batch: bool,
        server: (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Option<Pass> {
        if self.see_numbers(findings, in_batch, server, out) {
            return None;
        }
        Some(self.refuse(Some(HINT), out))
    }

    /// The rest of a long text asks. True if the server must not be able to read it: it will be refused, and the client is told why.
    pub(in crate::session) fn note_late(&mut self) -> bool {
        self.numbers.asks_late = true;
        if self.numbers.must_not_ask
            && let Some(query) = self.expected.iter_mut().rfind(|e| e.kind == Kind::Query)
        {
            query.answer = Some(Box::new(OwnWords(refusal(Some(HINT)))));
            // It is not replaced by a text that is not read.
            self.unnamed.placed = Placed::No;
        }
        self.numbers.must_not_ask
    }
}

/// Answers of the server.
impl Session {
    /// True if what comes next is the end of what [`Session::have_forgotten`] has sent.
    pub(in crate::session) fn forgets_now(&self) -> bool {
        self.expected.front().is_some_and(|e| e.about == About::Numbers)
    }

    /// True if the server was told to forget, in a batch of its own that has failed with this.
    pub(in crate::session) fn fails_to_forget(&self, failed: &Expected) -> bool {
        let mut skipped = self.expected.iter().take_while(|e| e.kind != Kind::Sync);
        failed.about == About::Numbers || skipped.any(|e| e.about == About::Numbers)
    }

    /// It does not forget. In a failed transaction it will not tell anything either; else others' numbers could be told.
    pub(in crate::session) fn on_unforgotten(
        &mut self,
        failed: Expected,
        server: &mut ServerStatements,
    ) -> Reply {
        if self.answered.transaction() != Transaction::Failed {
            return Reply::OutOfStep;
        }
        self.expected.push_front(failed);
        self.skip_to_sync(server);
        Reply::Drop
    }

    /// The server has forgotten, or will not.
    pub(in crate::session) fn on_forgotten(&mut self, is_done: bool) {
        let Some(forgetting) = self.numbers.forgetting else { return };
        if is_done {
            self.numbers.forget(forgetting.draws);
        }
        if !self.expected.iter().any(|e| e.about == About::Numbers) {
            self.numbers.forgetting = None;
        }
    }
}
