//! What a client is told when the server is lost under its session, and never anything that is not known to be true.

use super::{Detached, Kind, Session, Transaction};
use crate::error::{ClientError, Severity};
use crate::statement::Effect;
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
        let mut transaction = self.transaction;
        let mut batch = Batch::default();
        for owed in std::mem::take(&mut self.expected) {
            match owed.kind {
                Kind::Query | Kind::FunctionCall => {
                    transaction = answer(loss, transaction, owed.effect, Some(owed.kind), out);
                }
                Kind::Sync => {
                    if let Some(effect) = std::mem::take(&mut batch).effect {
                        transaction = answer(loss, transaction, effect, None, out);
                    } else {
                        write::ready_for_query(out, transaction.byte());
                    }
                }
                Kind::Execute => batch.add(owed.effect),
                _ => batch.add(Effect::Harmless),
            }
        }
        let cut = self.unsynced && !self.skipping;
        if cut {
            // Without its Sync the batch cannot have committed, unless it did so by itself.
            let error = match batch.effect.unwrap_or(Effect::Harmless) {
                Effect::Commit | Effect::MayCommit => loss.unknown(),
                _ => loss.rolled_back(),
            };
            error.write(out, Severity::Error);
        }
        let skipping = cut || self.skipping;
        let pending_error = (transaction == Transaction::Open).then(|| loss.rolled_back()).filter(|_| !cut);
        if transaction != Transaction::Idle {
            transaction = Transaction::Failed;
        }
        self.transaction = transaction;
        self.unsynced = false;
        self.skipping = false;
        self.copying_in = false;
        self.unnamed.on_server = false;
        (skipping || transaction == Transaction::Failed)
            .then(|| Detached::after_loss(transaction, skipping, pending_error))
    }
}

#[derive(Default)]
struct Batch {
    effect: Option<Effect>,
}

impl Batch {
    fn add(&mut self, effect: Effect) {
        let rank = |e: Effect| match e {
            Effect::Harmless => 0,
            Effect::Write => 1,
            Effect::Rollback => 2,
            Effect::Commit => 3,
            Effect::MayCommit => 4,
        };
        if self.effect.is_none_or(|worst| rank(effect) > rank(worst)) {
            self.effect = Some(effect);
        }
    }
}

/// Answers one Query, or one batch that its Sync has ended, and tells the state of the transaction afterwards.
fn answer(
    loss: &Loss,
    transaction: Transaction,
    effect: Effect,
    simple: Option<Kind>,
    out: &mut Vec<u8>,
) -> Transaction {
    let after = match (transaction, effect) {
        (Transaction::Idle, _) => Transaction::Idle,
        (_, Effect::Commit | Effect::Rollback) => Transaction::Idle,
        _ => Transaction::Failed,
    };
    let rolls_back =
        effect == Effect::Rollback || (effect == Effect::Commit && transaction == Transaction::Failed);
    if rolls_back && transaction != Transaction::Idle && simple.is_some() {
        write::command_complete(out, "ROLLBACK");
    } else {
        let never_committed = match effect {
            Effect::Harmless | Effect::Rollback => true,
            Effect::Write => transaction != Transaction::Idle,
            Effect::Commit => transaction == Transaction::Failed,
            Effect::MayCommit => false,
        };
        let error = if never_committed { loss.rolled_back() } else { loss.unknown() };
        error.write(out, Severity::Error);
    }
    write::ready_for_query(out, after.byte());
    after
}
