//! What a client is told when the server is lost under its session, and never anything that is not known to be true.

use std::collections::VecDeque;

use super::exit::Exit;
use super::{Altered, Detached, Expected, Held, Kind, Placed, Reading, Rerun, Session, Stall, Transaction};
use crate::error::{ClientError, Severity};
use crate::statement::{Effect, Resets, Scan};
use crate::write;

/// A server connection that was lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The server, as an operator knows it.
    pub server: String,
    /// What was seen.
    pub cause: String,
}

impl Loss {
    /// 40001: nothing of the transaction was kept; it can be tried again.
    #[must_use]
    pub fn rolled_back(&self) -> ClientError {
        ClientError::new(
            "40001",
            format!("connection to {} was lost; the transaction was rolled back", self.server),
        )
        .detail(self.cause.clone())
        .hint("Try the transaction again.")
    }

    /// 08007: it may have committed.
    #[must_use]
    pub fn unknown(&self) -> ClientError {
        ClientError::new(
            "08007",
            format!("connection to {} was lost; whether the transaction committed is not known", self.server),
        )
        .detail(self.cause.clone())
        .hint("Look whether its changes are there before you try it again.")
    }
}

impl Session {
    /// Answers everything that the lost server still owed. Afterwards the session needs no server, except that the
    /// returned state, if any, answers the client until its transaction or its batch of messages has ended.
    pub fn on_loss(&mut self, loss: &Loss, out: &mut Vec<u8>) -> Option<Detached> {
        let owed = std::mem::take(&mut self.expected);
        let mut aftermath = Aftermath::new(self.answered, &owed);
        for owed in owed.iter().filter(|owed| owed.shown || owed.kind == Kind::Exit) {
            aftermath.answer(owed.kind, owed.effect, loss, out);
        }
        // What waits for an answer is told now; where nothing does, what comes next.
        let is_cut = self.unsynced && !self.skipping;
        let error = aftermath.error(loss);
        if aftermath.pending {
            error.write(out, Severity::Error);
        }
        let skipping = aftermath.pending || self.skipping;
        let transaction = aftermath.told_at_end();
        let at_sync = is_cut && aftermath.ends_in_doubt();
        let untold = ((transaction == Transaction::Open || is_cut) && !skipping).then_some(error);
        let transaction =
            if transaction == Transaction::Idle { Transaction::Idle } else { Transaction::Failed };
        self.lose_server(owed, transaction);
        (skipping || is_cut || transaction == Transaction::Failed)
            .then(|| Detached::after_loss(transaction, skipping, loss.rolled_back(), untold, at_sync))
    }

    /// Nothing comes any more of what the server owed.
    pub(super) fn lose_server(&mut self, owed: VecDeque<Expected>, transaction: Transaction) {
        self.undo(owed);
        self.rerun = Rerun::NOTHING;
        self.reading = Reading::No;
        self.sql = None;
        self.describe_no_more();
        self.stall = Stall::No;
        if !matches!(self.exit, Exit::Sent) {
            self.exit = Exit::No;
        }
        self.altered = Altered::No;
        self.on_transaction(transaction);
        self.preparing = 0;
        self.unsynced = false;
        self.skipping = false;
        self.copying_in = false;
        self.copy_syncs = 0;
        self.sends_inside = false;
        self.gets_inside = false;
        self.alters = false;
        self.resets = Resets::Nothing;
        self.restore_due = false;
        self.copies = false;
        self.misread.clear();
        self.numbers.on_loss();
        self.rest = None;
        self.bound = Scan::CURSOR;
        self.bound_by_name = None;
        self.unnamed.placed = Placed::No;
        if self.unnamed.held == Held::OnlyThere {
            self.unnamed.held = Held::Nowhere;
        }
    }
}

/// What the server has answered since its last ReadyForQuery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// The transaction as the client has to see it after these answers.
    transaction: Transaction,
    fate: Fate,
    /// It answered with an error.
    failed: bool,
    /// A transaction has ended.
    ended: bool,
}

impl Answered {
    pub(super) const fn since(transaction: Transaction) -> Self {
        let fate = Fate { transaction, writes: false, doubt: false };
        Self { transaction, fate, failed: false, ended: false }
    }

    /// An Execute message was answered with this command tag, or none.
    pub(super) fn on_executed(&mut self, effect: Effect, tag: &[u8]) {
        let doubt = self.fate.doubt || effect == Effect::MayCommit;
        self.fate.run(effect);
        // What was said to be committed is not in doubt.
        self.fate.doubt = doubt;
        if effect.ends_transaction() {
            self.transaction = Transaction::Idle;
            self.ended = true;
        } else if self.transaction == Transaction::Failed && tag == b"ROLLBACK\0" {
            // ROLLBACK TO, or AND CHAIN.
            self.transaction = Transaction::Open;
        }
        if matches!(tag, b"BEGIN\0" | b"START TRANSACTION\0") && self.transaction == Transaction::Idle {
            // What ran before it belongs to the block.
            self.transaction = Transaction::Open;
            self.fate.transaction = Transaction::Open;
            self.fate.writes = false;
        }
    }

    /// The one statement of a Query message was answered with this command tag, or none: what it was to commit is
    /// committed.
    pub(super) fn on_query(&mut self, effect: Effect, tag: &[u8]) {
        self.on_executed(effect, tag);
        if self.transaction == Transaction::Idle {
            self.fate.writes = false;
            self.fate.doubt = false;
        }
    }

    pub(super) fn on_error(&mut self) {
        self.failed = true;
        self.on_hidden_error();
    }

    /// The client will be told with a later answer.
    pub(super) fn on_hidden_error(&mut self) {
        self.fate.writes = false;
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    /// The transaction as far as the server has answered.
    pub(super) const fn transaction(&self) -> Transaction {
        self.transaction
    }
}

/// What may have become of the work of a session on a server that answers no more.
#[derive(Clone, Copy, Debug)]
struct Fate {
    transaction: Transaction,
    /// There are changes that the end of the batch commits.
    writes: bool,
    /// Something may have been committed without the client's being told.
    doubt: bool,
}

impl Fate {
    const fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Empty | Effect::Harmless | Effect::Begin => {}
            Effect::Write => match self.transaction {
                Transaction::Idle => self.writes = true,
                // It may be ROLLBACK TO SAVEPOINT.
                Transaction::Failed | Transaction::Open => self.transaction = Transaction::Open,
            },
            Effect::Commit => {
                self.doubt |= !matches!(self.transaction, Transaction::Failed);
                self.end();
            }
            Effect::Rollback => self.end(),
            Effect::MayCommit => {
                self.doubt = true;
                self.writes = true;
            }
        }
    }

    const fn end(&mut self) {
        self.transaction = Transaction::Idle;
        self.writes = false;
    }

    const fn end_batch(&mut self) {
        self.doubt |= self.writes && matches!(self.transaction, Transaction::Idle);
        self.writes = false;
    }
}

/// Answers, one by one, what the lost server owed.
struct Aftermath {
    answered: Answered,
    /// Something of the batch has not been answered.
    pending: bool,
    /// Among it is what ends a transaction.
    ends: bool,
    /// How many messages that may commit are still to come.
    commits_ahead: usize,
}

impl Aftermath {
    fn new(answered: Answered, owed: &VecDeque<Expected>) -> Self {
        let commits_ahead = owed.iter().filter(|e| e.kind.runs() && e.effect.may_commit()).count();
        Self { answered, pending: false, ends: false, commits_ahead }
    }

    fn answer(&mut self, kind: Kind, effect: Effect, loss: &Loss, out: &mut Vec<u8>) {
        if matches!(kind, Kind::CopyEnd | Kind::Part(_)) {
            return;
        }
        if kind == Kind::Exit {
            // With the server it has ended in any case.
            if self.answered.transaction != Transaction::Idle {
                write::command_complete(out, "ROLLBACK");
            }
            self.answered = Answered::since(Transaction::Idle);
            return;
        }
        let before = self.answered.fate.transaction;
        if kind.runs() {
            self.commits_ahead -= usize::from(effect.may_commit());
            self.answered.fate.run(effect);
            self.ends |= effect.ends_transaction();
        }
        if kind.ends_batch() {
            self.answered.fate.end_batch();
        }
        if kind.is_extended() || (self.pending && kind != Kind::Sync) {
            // The client takes the error for that of the first message without an answer, and then everything up to
            // Sync for ignored.
            self.pending = true;
            return;
        }
        let doubt = self.answered.fate.doubt;
        let rolls_back =
            effect == Effect::Rollback || (effect == Effect::Commit && before == Transaction::Failed);
        let is_in_block = self.answered.transaction != Transaction::Idle;
        if self.answered.failed || (kind == Kind::Sync && !self.pending && !doubt) {
            // Nothing is left to be said, but that the batch has ended.
        } else if kind == Kind::Query && rolls_back && is_in_block && !doubt {
            write::command_complete(out, "ROLLBACK");
        } else {
            self.error(loss).write(out, Severity::Error);
            self.answered.on_error();
        }
        self.end_batch(out);
    }

    fn end_batch(&mut self, out: &mut Vec<u8>) {
        if self.ends {
            self.answered.transaction = Transaction::Idle;
        }
        write::ready_for_query(out, self.answered.transaction.byte());
        let fate = &mut self.answered.fate;
        if self.answered.failed && fate.transaction == Transaction::Open {
            fate.transaction = Transaction::Failed;
        }
        fate.doubt &= self.answered.transaction != Transaction::Idle;
        self.answered.failed = false;
        self.answered.ended = false;
        self.pending = false;
        self.ends = false;
    }

    /// What is known of the work that was not answered.
    fn error(&self, loss: &Loss) -> ClientError {
        let may_have_committed =
            self.answered.fate.doubt || self.answered.ended || self.ends || self.commits_ahead > 0;
        if may_have_committed { loss.unknown() } else { loss.rolled_back() }
    }

    /// True if a Sync would commit what has been answered.
    const fn ends_in_doubt(&self) -> bool {
        let mut fate = self.answered.fate;
        fate.end_batch();
        fate.doubt
    }

    fn told_at_end(&self) -> Transaction {
        if self.ends { Transaction::Idle } else { self.answered.transaction }
    }
}
