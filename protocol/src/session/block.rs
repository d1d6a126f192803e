//! Transaction blocks that only read, on standbys: what may be run there, and how such a block comes to the primary.
//!
//! A block is begun on a standby if its BEGIN says READ ONLY, or the session's default does where that says nothing. Each batch in it is looked at before any of it is taken in. One that any server
//! may answer stays, and so does what the block says of itself ([`Step`]); before any other the block is begun anew on the primary, with all that
//! it has said of itself, unless what it has seen on the standby binds it to that.

use super::batch::{Batch, Class, Extent};
use super::journal::{Journal, Remark, Turn};
use super::{Detached, Reading, Session, Transaction};
use crate::error::ClientError;
use crate::prepared::Lookup;
use crate::server::ServerState;
use crate::statement::{Draws, Effect, InBlock, Modes, Scan};

/// What is known of a block on a standby.
#[derive(Debug)]
pub(super) struct Block {
    /// What its BEGIN asked for, and its SET TRANSACTION.
    modes: Modes,
    /// Something was read in it before the present batch.
    has_read: bool,
    /// Something is read in the present one.
    reads: bool,
    /// A portal of before the present batch may still have something to give.
    has_portal: bool,
    /// The unnamed one may.
    is_open: bool,
    /// What it has said of itself; none if that is nothing.
    journal: Option<Box<Journal>>,
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
    pub(super) fn opened_by(batch: &mut Batch) -> Option<Self> {
        if batch.first != Some(Class::Opens) {
            return None;
        }
        let mut block = Self {
            modes: batch.modes,
            has_read: false,
            reads: false,
            has_portal: false,
            is_open: false,
            journal: None,
        };
        block.send(std::mem::take(&mut batch.remarks));
        Some(block)
    }

    /// These are sent next.
    fn send(&mut self, remarks: Vec<Remark>) {
        if let Some(journal) = &mut self.journal {
            journal.send(remarks);
        } else if !remarks.is_empty() {
            self.journal.insert(Box::default()).send(remarks);
        }
    }

    fn has_room_for(&self, more: usize) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.has_room_for(more))
    }

    /// It has set something for itself.
    fn sets(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.has_settings())
    }

    /// It has failed, and may be gone back to where it had not.
    fn may_revive(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.has_savepoints())
    }

    /// What it has open has its place in its answer on this server.
    fn is_open_here(&self) -> bool {
        self.has_portal || self.journal.as_ref().is_some_and(|journal| journal.has_cursors())
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
        let mut batch = self.look_ahead(input, lookup);
        if batch.extent == Extent::Begun && !full {
            return Admission::Open;
        }
        let has_portal = self.bound_by_name.is_some();
        let Some(block) = &mut self.block else { return Admission::Leaves };
        block.has_read |= std::mem::take(&mut block.reads);
        block.has_portal = block.is_open || has_portal;
        let stays = batch.is_read() && batch.first != Some(Class::Opens);
        if !stays || !block.has_room_for(batch.remarks.len()) {
            return Admission::Leaves;
        }
        block.send(std::mem::take(&mut batch.remarks));
        self.reading = Reading::Open(self.batch);
        self.reads_several = batch.is_several;
        self.begin_rerun_in_block(server);
        Admission::Stays
    }

    /// A statement with these findings is run.
    pub(super) fn note_read(&mut self, findings: Scan) {
        if let Some(block) = &mut self.block {
            let sees_nothing = matches!(findings.effect, Effect::Begin | Effect::Empty)
                || findings.in_block == InBlock::Remarks;
            block.reads |= !sees_nothing;
            block.is_open &= findings.effect == Effect::Empty;
        }
    }

    /// On a standby, a statement has been carried out that has this tag.
    pub(super) fn note_remark(&mut self, tag: &[u8]) {
        if self.reading == Reading::No {
            return;
        }
        let Some(block) = &mut self.block else { return };
        let Some(journal) = &mut block.journal else { return };
        match journal.on_complete(tag) {
            Turn::GoesOn => {}
            Turn::HasModes(modes) => block.modes = block.modes.then(modes),
            // It stands alone in its batch.
            Turn::Chained => {
                (block.has_read, block.reads, block.is_open) = (false, false, false);
                self.bound_by_name = None;
            }
        }
    }

    /// What a text says that is run in this lease. What a block says of itself on a standby calls nothing but by its query, which is known to
    /// only read: whatever else is known of the names in it, and of the catalogue, it takes no number and leaves nothing.
    pub(super) fn as_here(&self, findings: Scan) -> Scan {
        if self.reading == Reading::No || !findings.in_block.is_step() {
            return findings;
        }
        Scan { draws: Draws::No, pin: None, suspect: false, views: false, runs_any: false, ..findings }
    }

    /// The block that is begun anew, if one is, has what it has set for itself.
    pub(super) fn note_settings(&mut self) {
        let sets = self.transaction != Transaction::Idle && self.block.as_ref().is_some_and(Block::sets);
        self.alters |= sets;
        self.has_customs_here |= sets;
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
        let Some(block) = &self.block else { return Passage::Barred };
        match block.modes.level {
            // All is lost in it, or it ends.
            _ if self.transaction == Transaction::Failed && !block.may_revive() => Passage::Free,
            _ if self.look_ahead(input, lookup).ends_first => Passage::Free,
            _ if block.is_open_here() => Passage::Barred,
            _ if !block.has_read => Passage::Free,
            Some(level) if level.is_anew_for_each_statement() => Passage::Free,
            Some(_) => Passage::Barred,
            None => Passage::ByDefault,
        }
    }

    /// How the block is begun anew, and what it has said of itself is said again.
    #[must_use]
    pub fn begin_anew(&self) -> String {
        let modes = self.block.as_ref().map(|block| block.modes).unwrap_or_default();
        let level = modes.level.map(|level| format!("ISOLATION LEVEL {}, ", level.name()));
        let deferrable = match modes.deferrable {
            Some(true) => "DEFERRABLE, ",
            Some(false) => "NOT DEFERRABLE, ",
            None => "",
        };
        let mut sql = format!("BEGIN {}{deferrable}READ ONLY", level.unwrap_or_default());
        if let Some(journal) = self.block.as_ref().and_then(|block| block.journal.as_ref()) {
            journal.write(&mut sql);
        }
        sql
    }

    /// True if a failed block may go back to one of its savepoints.
    pub(super) fn may_revive(&self) -> bool {
        self.block.as_ref().is_some_and(Block::may_revive)
    }

    /// True if the block has a snapshot behind it: what may only be said before any query is refused in it.
    #[must_use]
    pub fn is_past_first_query(&self) -> bool {
        let has_read = self.block.as_ref().is_some_and(|block| block.has_read);
        self.transaction != Transaction::Failed && has_read
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
