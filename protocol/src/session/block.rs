//! Transaction blocks that only read, on standbys: what may be run there, and how such a block comes to the primary.
//!
//! A block is begun on a standby if its BEGIN says READ ONLY. Each batch in it is looked at before any of it is taken in. One that any server
//! may answer stays; before any other the block is begun anew on the primary, unless what it has seen on the standby binds it to that.

use super::batch::{Batch, Class, Extent};
use super::{Detached, Reading, Session, Transaction};
use crate::error::ClientError;
use crate::prepared::Lookup;
use crate::server::ServerState;
use crate::statement::{Effect, Isolation, Scan};

/// What is known of a block on a standby.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The level that its BEGIN asked for, if it did.
    isolation: Option<Isolation>,
    /// Something was read in it before the present batch.
    has_read: bool,
    /// Something is read in the present one.
    reads: bool,
    /// A portal of before the present batch may still have something to give.
    has_portal: bool,
    /// The unnamed one may.
    is_open: bool,
}

/// What becomes of the batch that comes next in a block on a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is run there.
    Stays,
    /// It cannot be told before more of it is there.
    Open,
    /// It is for the primary.
    Leaves,
}

/// Whether a block on a standby can be begun anew on the primary without the client's noticing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It can.
    Free,
    /// If its level, which is the session's default, has each statement see anew what was committed.
    ByDefault,
    /// It cannot.
    Barred,
}

impl Block {
    pub(super) fn opened_by(batch: &Batch) -> Option<Self> {
        let is_open = batch.first == Some(Class::Opens);
        is_open.then_some(Self {
            isolation: batch.isolation,
            has_read: false,
            reads: false,
            has_portal: false,
            is_open: false,
        })
    }
}

impl Session {
    /// True if what an idle client has sent, and any server may answer, opens a transaction block.
    #[must_use]
    pub const fn opens_block(&self) -> bool {
        self.block.is_some()
    }

    /// True in a transaction block on a standby.
    #[inline]
    #[must_use]
    pub fn is_in_standby_block(&self) -> bool {
        self.reading != Reading::No && self.transaction != Transaction::Idle
    }

    /// Looks at what the client has sent in a block on a standby: nothing of it was taken in. `full` says that there will not be more before
    /// some of it is.
    pub(crate) fn admit(
        &mut self,
        (input, full): (&[u8], bool),
        server: &mut ServerState,
        lookup: Lookup<'_>,
    ) -> Admission {
        let batch = self.look_ahead(input, lookup);
        if batch.extent == Extent::Begun && !full {
            return Admission::Open;
        }
        if let Some(block) = &mut self.block {
            block.has_read |= std::mem::take(&mut block.reads);
            block.has_portal = block.is_open || self.bound_by_name.is_some();
        }
        if !batch.is_read() || batch.first == Some(Class::Opens) {
            return Admission::Leaves;
        }
        self.reading = Reading::Open(self.batch);
        self.reads_several = batch.is_several;
        self.begin_rerun_in_block(server);
        Admission::Stays
    }

    /// A statement with these findings is run.
    pub(super) fn note_read(&mut self, findings: Scan) {
        if let Some(block) = &mut self.block {
            block.reads |= findings.effect != Effect::Begin;
            block.is_open &= findings.effect == Effect::Empty;
        }
    }

    /// A portal was bound, or some rows of one were asked for.
    pub(super) const fn note_portal(&mut self) {
        if let Some(block) = &mut self.block {
            block.is_open = true;
        }
    }

    /// How the block that the session has on a standby comes to the primary, where this comes next. What it has read in the present batch the client
    /// was not told.
    #[must_use]
    pub fn passage(&self, input: &[u8], lookup: Lookup<'_>) -> Passage {
        let Some(block) = self.block else { return Passage::Barred };
        match block.isolation {
            // All is lost in it, or it ends.
            _ if self.transaction == Transaction::Failed => Passage::Free,
            _ if self.look_ahead(input, lookup).ends_first => Passage::Free,
            _ if block.has_portal => Passage::Barred,
            _ if !block.has_read => Passage::Free,
            Some(level) if level.is_anew_for_each_statement() => Passage::Free,
            Some(_) => Passage::Barred,
            None => Passage::ByDefault,
        }
    }

    /// How the block is begun anew.
    #[must_use]
    pub fn begin_anew(&self) -> String {
        let level = self.block.and_then(|block| block.isolation);
        let level = level.map(|level| format!("ISOLATION LEVEL {}, ", level.name()));
        format!("BEGIN {}READ ONLY", level.unwrap_or_default())
    }

    /// True if the block has a snapshot behind it: what may only be said before any query is refused in it.
    #[must_use]
    pub fn is_past_first_query(&self) -> bool {
        self.transaction != Transaction::Failed && self.block.is_some_and(|block| block.has_read)
    }

    /// The server of the session's block is left, and the block is not begun on another: its client is told this with the next statement. Nothing
    /// is owed to it.
    #[must_use]
    pub fn abandon_block(&mut self, error: &ClientError) -> Detached {
        self.lose_server(std::collections::VecDeque::new(), Transaction::Failed);
        Detached::after_loss(Transaction::Failed, false, error.clone(), Some(error.clone()), false)
    }
}

/// 40001: a transaction that has one snapshot, on a standby, goes on with what is for the primary.
#[must_use]
pub fn bound_to_standby(server: &str) -> ClientError {
    ClientError::new(
        "40001",
        format!("the READ ONLY transaction was begun on standby {server}, and cannot go on there"),
    )
    .detail("What it has read belongs to that server, and what comes next is for the primary.")
    .hint("Try the transaction again: from now on those of this session are begun on the primary.")
}
