//! The state of one client's session: what its server still owes it, in which transaction it is, and what it has prepared.
//!
//! Messages of both sides go through [`Session`]; it says of each whether it is passed on, replaced or dropped. It never
//! holds bytes of a result, and looks at little more than tags.

mod backend;
mod batch;
mod block;
mod custom;
mod describing;
mod detached;
mod errors;
mod exit;
mod expected;
mod frontend;
mod home;
mod in_band;
mod journal;
mod keeping;
mod loss;
mod migration;
mod names;
mod overtime;
mod parsing;
mod placement;
mod privacy;
mod query;
mod reading;
mod renaming;
mod rerun;
mod sequences;
mod sql;
mod tally;
#[cfg(test)]
mod tests;
mod unnamed;
mod why;

use std::collections::VecDeque;
use std::sync::Arc;

pub use backend::Reply;
pub(crate) use block::Admission;
use block::Block;
pub use block::{Passage, bound_to_standby};
use describing::Describing;
pub use detached::{Detached, Progress};
use exit::Exit;
pub(crate) use expected::Expected;
use expected::{About, Kind, OwnWords, Placed, Undo};
pub use frontend::Pass;
use home::Unread;
use in_band::InBand;
pub use in_band::{NoViews, Views, in_band_answer};
use loss::Answered;
pub use loss::Loss;
use names::Names;
pub use overtime::{Overtime, transaction_timeout};
pub use privacy::OwnRequest;
use privacy::Privacy;
use reading::Reading;
pub use reading::Refusal;
pub(crate) use reading::Verdict;
use rerun::Rerun;
use sequences::Numbers;
pub use sequences::{Drawers, SequencePolicy, Sequences};
use sql::SqlNames;
pub use tally::Tally;
use unnamed::{Held, Kept, Unnamed};

use crate::customs::Customs;
use crate::parameters::Parameters;
use crate::server::ServerState;
use crate::statement::{Effect, Pin, Resets, Rest, Scan, Suspects};

/// What ReadyForQuery said of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    Open,
    /// `E`: in a failed transaction block.
    Failed,
}

impl Transaction {
    /// The byte in ReadyForQuery.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Open),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// How a session uses server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// One server connection for the session's life; names are passed as they are.
    Session,
    /// A server connection for each transaction; statements are prepared where they are missing.
    Transaction,
    /// One server connection for the session's life, but for what is read on standbys meanwhile. What it has left on its own is known as
    /// with [`Pooling::Transaction`], so that others can answer as that would.
    Home,
}

impl Pooling {
    /// True if it is kept track of what the session leaves on its connections, so that others can serve it.
    const fn keeps_track(self) -> bool {
        !matches!(self, Self::Session)
    }

    /// True if its connections are lent to others between its transactions.
    const fn shares(self) -> bool {
        matches!(self, Self::Transaction)
    }
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    pooling: Pooling,
    /// The process id that the client knows.
    pid: u32,
    /// What RESET goes back to.
    startup: Arc<Parameters>,
    /// Others than those are in force.
    carries: bool,
    /// By those that are, a transaction only reads that does not say otherwise.
    reads_by_default: bool,
    altered: Altered,
    migration: Migration,
    /// That may have added what others will use.
    adds: bool,
    /// Stands for the database and the user: the same text may mean other tables there.
    place: u64,
    /// Statements of different scopes are never shared; see [`crate::prepared::Statements::intern`].
    scope: u64,
    transaction: Transaction,
    /// What the server owes, oldest first. The room for it is the connection's.
    expected: VecDeque<Expected>,
    /// Counts what ends a batch: Sync, Query, FunctionCall.
    batch: u64,
    /// How many of the expected replies are to a Parse under a name of pgherd's.
    preparing: usize,
    /// Extended-protocol messages were sent since the last Sync.
    unsynced: bool,
    /// The same when the message came that is looked at now.
    in_batch: bool,
    /// An error was seen before its Sync was sent: the server ignores everything up to it.
    skipping: bool,
    /// The client has asked for what pgherd has to say itself.
    is_flushed: bool,
    /// The server reads CopyData, and ignores Sync.
    copying_in: bool,
    /// Syncs of which it is not known whether the server met them while it read CopyData, and so ignored them, or
    /// behind the failure of the COPY, and answers them.
    copy_syncs: u32,
    /// Why it keeps its server connection until that is undone: what the server can be asked about.
    pin: Option<Pin>,
    /// The same, until the session ends or says DISCARD ALL.
    lasting: Option<Pin>,
    /// It may have left something on the server connection, or undone what it has left there.
    unasked: bool,
    /// It may have set custom parameters there of which nobody knows the names.
    ran_any: bool,
    /// What has run at home before it was known what it names.
    unread: Option<Box<Unread>>,
    /// A library was loaded into the server process: no other session is to have that.
    has_loaded: bool,
    /// What its texts are suspected of.
    suspects: Arc<Suspects>,
    /// The custom parameters that it has set.
    customs: Customs,
    /// Those that functions may set, as they were taken in last.
    suspected: Option<Arc<[Box<str>]>>,
    /// The names of all of those are kept.
    suspected_are_kept: bool,
    /// They may be there where it is served now.
    has_customs_here: bool,
    /// Run-time parameters may not be those of the startup packet, nor the schema what others see.
    alters: bool,
    /// The batch may take run-time parameters back to the server's defaults.
    resets: Resets,
    /// The session keeps a connection on which parameters were taken back to the server's defaults.
    restore_due: bool,
    /// In session mode: a statement was parsed that may do so.
    parsed_reset: bool,
    /// The batch may read CopyData.
    copies: bool,
    /// Shared statements that the server has read under parameters of this session's own.
    misread: Vec<u64>,
    /// A database that a statement wants for itself.
    wants: Option<Box<[u8]>>,
    /// Looks at a text that passes in pieces.
    rest: Option<Box<Rest>>,
    names: Names,
    /// What is kept of the statements that the server is asked about.
    describing: Option<Box<Describing>>,
    /// What the client's message at hand waits for.
    stall: Stall,
    /// What the server has got of the Query at hand, if that ends a failed transaction and goes on.
    exit: Exit,
    numbers: Numbers,
    privacy: Privacy,
    /// What is kept for PREPARE, EXECUTE and DEALLOCATE in SQL.
    sql: Option<Box<SqlNames>>,
    unnamed: Unnamed,
    /// What was bound last to the unnamed portal.
    bound: Scan,
    /// The worst of what was bound to named portals in this transaction.
    bound_by_name: Option<Scan>,
    /// What the server has answered since its last ReadyForQuery.
    answered: Answered,
    rerun: Rerun,
    reading: Reading,
    /// What it reads there is several statements.
    reads_several: bool,
    /// The transaction block that the batch opens which was looked at last: it counts on a standby only.
    block: Option<Block>,
    /// It has run what may have written.
    wrote: bool,
    /// Its transaction block was opened to read, and nothing else was run in it.
    only_reads: bool,
    /// Of a client's message, the server has got a part.
    pub(crate) sends_inside: bool,
    /// Of a server's message, the client has got a part.
    pub(crate) gets_inside: bool,
    /// The server's uses counter when the lease began.
    lease_start: u64,
    rounds: Rounds,
    /// What is under way is being cancelled, since it took longer than the session may.
    overdue: Option<Overtime>,
    /// What it has done since it was asked last.
    tally: Tally,
    /// What it has prepared that is not for servers.
    in_band: Option<Box<InBand>>,
}

/// How far a session has come, for those who look now and then. Both wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Answers that were complete: each ReadyForQuery of its servers.
    pub answers: u32,
    /// Those behind which no transaction was open.
    pub transactions: u32,
}

/// Whether run-time parameters were changed in this lease that are to be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Altered {
    No,
    /// In what the server has not answered yet, or in the open transaction: it ends with that.
    Here,
    /// The client was told that it is done.
    Surely,
}

/// Whether the schema was changed, so that statements that were prepared before may not fit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Migration {
    None,
    /// In a transaction that has not ended.
    Open,
    /// It has ended, and nobody was told yet.
    Over,
}

/// What a client's message waits for that has not been taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    No,
    /// The server says whether its statements are what they were.
    Descriptions,
    /// The session's prepared statements are to be alone on its connection.
    Privacy,
    /// The server says whether the transaction has failed.
    Transaction,
    /// The server says whether it can read it: see [`exit`].
    Exit,
    /// The server answers the batches before: then it is known what a name means.
    Batches,
}

impl Session {
    /// A session that has just been logged in; `place` stands for its database and user, `pid` is what its BackendKeyData said,
    /// and no other session of the process has ever had its `number`, which is not 0.
    #[must_use]
    pub fn new(pooling: Pooling, startup: Arc<Parameters>, place: u64, (pid, number): (u32, u64)) -> Self {
        Self {
            pooling,
            pid,
            place,
            scope: place ^ startup.scope(),
            carries: false,
            reads_by_default: startup.read_by_default(),
            altered: Altered::No,
            migration: Migration::None,
            adds: false,
            transaction: Transaction::Idle,
            expected: VecDeque::new(),
            batch: 0,
            preparing: 0,
            unsynced: false,
            in_batch: false,
            skipping: false,
            is_flushed: false,
            copying_in: false,
            copy_syncs: 0,
            pin: None,
            lasting: (!pooling.keeps_track()).then_some(Pin::SessionMode),
            unasked: false,
            ran_any: false,
            unread: None,
            has_loaded: false,
            suspects: Arc::default(),
            customs: startup.customs().clone(),
            suspected: None,
            suspected_are_kept: false,
            has_customs_here: false,
            alters: false,
            resets: Resets::Nothing,
            restore_due: false,
            parsed_reset: false,
            copies: false,
            misread: Vec::new(),
            wants: None,
            rest: None,
            names: Names::default(),
            describing: None,
            stall: Stall::No,
            exit: Exit::No,
            numbers: Numbers::new(number),
            privacy: Privacy::default(),
            sql: None,
            unnamed: Unnamed::NONE,
            bound: Scan::CURSOR,
            bound_by_name: None,
            answered: Answered::since(Transaction::Idle),
            rerun: Rerun::NOTHING,
            reading: Reading::No,
            reads_several: false,
            block: None,
            wrote: false,
            only_reads: false,
            sends_inside: false,
            gets_inside: false,
            lease_start: 0,
            rounds: Rounds::default(),
            overdue: None,
            tally: Tally::default(),
            in_band: None,
            startup,
        }
    }

    /// How far it has come.
    #[must_use]
    pub const fn rounds(&self) -> Rounds {
        self.rounds
    }

    /// True if the server has nothing left to answer, in or out of a batch of messages.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.expected.is_empty()
    }

    /// The startup packet's parameters.
    #[must_use]
    pub fn startup(&self) -> &Parameters {
        &self.startup
    }

    /// True if the server has to be asked which run-time parameters are in force before its connection can go back.
    #[must_use]
    pub fn is_altered(&self) -> bool {
        self.altered != Altered::No
    }

    /// These parameters are in force from now on, wherever the session is served.
    pub fn carry(&mut self, parameters: &Parameters) {
        self.altered = Altered::No;
        self.carries = !parameters.are_in_force_with(&self.startup);
        self.reads_by_default = parameters.read_by_default();
        self.scope = self.place ^ parameters.scope();
    }

    /// Run-time parameters may have been changed that can be carried.
    fn alter(&mut self) {
        if self.pooling.keeps_track() && self.altered == Altered::No {
            self.altered = Altered::Here;
        }
    }

    /// The database, if any, that a statement wants for itself which was sent since this was asked last.
    pub fn take_wanted_database(&mut self) -> Option<Box<[u8]>> {
        self.wants.take()
    }

    /// Begins a lease of a server connection on which nothing of this session is left but numbers of sequences.
    pub fn attach(&mut self, server: &mut ServerState) {
        // It has the startup packet's parameters.
        self.restore_due = false;
        self.unasked = false;
        self.ran_any = false;
        self.has_customs_here = false;
        self.unnamed.placed = Placed::No;
        if self.expected.is_empty() {
            std::mem::swap(&mut self.expected, &mut server.owed);
        }
        self.lease_start = server.statements.now();
        self.attach_numbers(server);
        self.begin_rerun(server);
        self.note_settings();
    }

    /// Ends a lease: what others could take for their own is not to be used any more.
    pub fn detach(&mut self, server: &mut ServerState) {
        self.alters = false;
        self.reading = Reading::No;
        if self.expected.is_empty() && self.expected.capacity() > 0 {
            self.give_room_back(server);
        }
        self.misread.drain(..).for_each(|id| server.statements.distrust(id));
        self.detach_numbers(server);
        self.leave_customs(server);
    }

    /// True if the server owes nothing and no transaction is open, so that the server connection can go back.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.transaction == Transaction::Idle && self.owes_nothing()
    }

    /// True if the server has answered everything, in or out of a transaction, and no message of the client's waits.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.expected.is_empty() && !self.awaits_client() && self.stall == Stall::No
    }

    /// True if a message of the client's cannot be taken in yet, and nothing behind it.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        match self.stall {
            Stall::No => self.keeps_next_batch(),
            Stall::Descriptions => self.awaits_descriptions(),
            Stall::Privacy => true,
            Stall::Transaction => self.may_fail_unseen(),
            Stall::Exit => !self.expected.is_empty(),
            Stall::Batches => self.owes_batches(),
        }
    }

    /// How many replies are owed to the client.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.expected.len()
    }

    /// True if the server waits for more of the client: the Sync of a batch, the end of a COPY, the rest of a message.
    #[must_use]
    pub const fn awaits_client(&self) -> bool {
        self.unsynced || self.copying_in || self.skipping || self.sends_inside || self.copy_syncs > 0
    }

    /// True if a COMMIT has been sent that the server has not answered.
    #[must_use]
    pub fn commits(&self) -> bool {
        self.expected.iter().any(|e| e.kind.runs() && e.effect == Effect::Commit)
    }

    /// Where it is expected that the client has ended the CopyData that the server reads, if it has.
    fn copy_end(&self) -> Option<usize> {
        let copy = self.expected.iter().position(|e| !matches!(e.kind, Kind::Part(_)))?;
        self.expected.get(copy + 1).filter(|e| e.kind == Kind::CopyEnd).map(|_| copy + 1)
    }

    /// The server, or pgherd in its place, has said ReadyForQuery.
    fn on_transaction(&mut self, transaction: Transaction) {
        self.transaction = transaction;
        self.overdue = None;
        self.rounds.answers = self.rounds.answers.wrapping_add(1);
        self.rounds.transactions =
            self.rounds.transactions.wrapping_add(u32::from(transaction == Transaction::Idle));
        if transaction == Transaction::Idle && self.altered == Altered::Here {
            self.altered = Altered::Surely;
        }
        self.answered = Answered::since(transaction);
    }

    /// The transaction's state as the client was told last.
    #[must_use]
    pub const fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// True for a message that, coming from an idle client, asks nothing of a server: what is left of a COPY
    /// that failed, or a Flush of nothing.
    #[must_use]
    pub const fn is_stray(tag: u8) -> bool {
        matches!(tag, b'd' | b'c' | b'f' | b'H')
    }
}
