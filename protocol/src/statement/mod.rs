//! What the text of a statement says about where it may run and what its loss would mean.
//!
//! One pass over the words, without a parser. It errs on one side only: a text that is not understood may commit, and
//! is not harmless; and where it cannot be told whether words stand in a literal, they count.
//!
//! What no text shows is what views, operators, casts, triggers and functions do. They are taken not to commit, which
//! PostgreSQL does not let them do; and a view, an operator or a cast is taken not to write where the text itself only
//! reads. Which of them may leave something in the session, or are not the same on a standby, has to be known beforehand: [`Suspects`].

mod begin;
mod calls;
mod custom;
mod database;
mod exit;
mod findings;
mod first;
mod functions;
mod lexer;
mod mention;
mod pgpool;
mod place;
mod recent;
mod rest;
mod rules;
mod sequences;
mod step;
mod suspects;
#[cfg(test)]
mod tests;
mod unnamed;
mod words;

pub use begin::{Isolation, Modes};
pub use custom::{SetsCustom, custom_names};
pub use database::wanted_database;
pub use exit::exit_first;
pub use findings::{scan, scan_start};
pub use functions::known_functions;
pub use mention::{Mention, Verb, executed_first, mentions};
pub use pgpool::{PoolParameter, PoolView};
pub use place::{Place, Why, same_everywhere};
pub use recent::RecentScans;
pub use rest::Rest;
pub use rules::FunctionRules;
pub use sequences::Draws;
pub use step::{InBlock, Step};
pub use suspects::{Named, Names, Suspects, Trust};
pub(crate) use unnamed::{Reusable, reusable};
pub use words::untold_functions;

use std::fmt;

/// Why a session keeps its server connection after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A run-time parameter was changed that cannot be carried, such as one of which the name is not known.
    Parameter,
    /// SET ROLE, SET SESSION AUTHORIZATION
    Role,
    /// LISTEN
    Listen,
    /// A temporary object.
    Temporary,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// A PREPARE that cannot be carried: its text is too long, or not understood.
    SqlPrepare,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// LOAD
    Load,
    /// Another function whose effect belongs to the session, such as `dblink_connect()`.
    SessionFunction,
    /// A number of a sequence, for which the session may ask.
    Sequence,
    /// A statement too long to be kept for other servers.
    LongStatement,
    /// Its prepared statements, at which it has looked: no others are there.
    OwnStatements,
    /// Session pooling.
    SessionMode,
}

impl Pin {
    /// Which of two reasons counts: the one that lasts longer, else the first.
    #[must_use]
    pub fn worse(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(this), Some(that)) => Some(if that.lasts() > this.lasts() { that } else { this }),
            (None, it) | (it, None) => it,
        }
    }

    /// How long it may last: what the session listens to can be handed to another connection; of some things the server can
    /// be asked whether they are still there.
    const fn lasts(self) -> u8 {
        match self {
            Self::Listen => 0,
            _ if self.can_be_asked_about() => 1,
            _ => 2,
        }
    }

    /// True for what a server tells of as long as it is there: see [`Leftovers`](crate::leftovers::Leftovers).
    #[must_use]
    pub const fn can_be_asked_about(self) -> bool {
        matches!(self, Self::Listen | Self::Temporary | Self::HoldCursor | Self::AdvisoryLock | Self::Role)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parameter => "a run-time parameter that cannot be carried",
            Self::Role => "another role",
            Self::Listen => "LISTEN",
            Self::Temporary => "a temporary object",
            Self::HoldCursor => "a cursor WITH HOLD",
            Self::SqlPrepare => "PREPARE",
            Self::AdvisoryLock => "a session-level advisory lock",
            Self::Load => "LOAD",
            Self::SessionFunction => "a function whose effect belongs to the session",
            Self::Sequence => "a number that it has taken of a sequence",
            Self::LongStatement => "a prepared statement too long to be kept",
            Self::OwnStatements => "prepared statements of its own",
            Self::SessionMode => "session pooling",
        })
    }
}

/// What it would mean if the server were lost while the statement runs; the worst is last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// There is no statement.
    Empty,
    /// It changes nothing: SHOW, or a SELECT that calls no function but those known to be pure.
    Harmless,
    /// It may change data; inside a transaction block it cannot commit by itself.
    Write,
    /// It opens a transaction block.
    Begin,
    /// It ends the transaction without committing.
    Rollback,
    /// It ends the transaction; it may have committed.
    Commit,
    /// It may change data and may commit by itself: CALL, DO, or several statements with a COMMIT among them.
    MayCommit,
}

impl Effect {
    /// True for what ends the transaction block, committed or not.
    #[must_use]
    pub const fn ends_transaction(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }

    /// True for what may commit the transaction block that it is in, or by itself.
    #[must_use]
    pub const fn may_commit(self) -> bool {
        matches!(self, Self::Commit | Self::MayCommit)
    }
}

/// For how long a statement may take run-time parameters back to their defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resets {
    /// It does not.
    #[default]
    Nothing,
    /// SET LOCAL ... TO DEFAULT
    ForTransaction,
    /// RESET, DISCARD, SET ... TO DEFAULT
    ForSession,
}

/// The findings of one pass over a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The reason to keep the server connection, if there is one.
    pub pin: Option<Pin>,
    /// What its loss would mean.
    pub effect: Effect,
    /// Where it may run.
    pub place: Place,
    /// It may drop prepared statements: DISCARD, DEALLOCATE.
    pub forgets: bool,
    /// It may name prepared statements: see [`mentions`].
    pub names: bool,
    /// It changes run-time parameters, or the schema, if only for its transaction: other texts may mean something else in it than they
    /// do to others.
    pub alters: bool,
    /// It may change run-time parameters for the session, and none but such as [`Parameters`](crate::parameters::Parameters)
    /// can carry.
    pub sets: bool,
    /// It is a SET, and so writes nothing.
    pub only_sets: bool,
    /// It sets custom parameters, if only for its transaction.
    pub sets_custom: SetsCustom,
    /// It may take run-time parameters back to their defaults.
    pub resets: Resets,
    /// It may read CopyData.
    pub copies: bool,
    /// PostgreSQL runs it in an aborted transaction: COMMIT, ROLLBACK, ROLLBACK TO, PREPARE TRANSACTION.
    pub exits: bool,
    /// It may undo what an earlier statement has left in the session.
    pub undoes: bool,
    /// What it may see of the session's prepared statements, beyond those that it names.
    pub sees: Sight,
    /// It may leave something in the session that it does not show: see [`Suspects`].
    pub suspect: bool,
    /// It reads tables, which may be views that leave something: for as long as nothing is known of those.
    pub views: bool,
    /// It may run a text that it does not show, and so set custom parameters of which no server tells, for it has to know their names.
    pub runs_any: bool,
    /// It may take numbers of sequences.
    pub draws: Draws,
    /// It asks which number its session has taken last: `currval()`, `lastval()`.
    pub asks: bool,
    /// The whole text was looked at.
    pub whole: bool,
    /// It is one statement at most.
    pub single: bool,
    /// It asks for something of pgherd itself, and for nothing else.
    pub view: Option<PoolView>,
    /// What it is in a transaction block that only reads.
    pub in_block: InBlock,
}

/// What a text may see of its session's prepared statements, beyond those that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// Nothing.
    #[default]
    Nothing,
    /// Those of PREPARE: a literal in it has the word EXECUTE, which a function may run.
    OfPrepare,
    /// All of them: `pg_prepared_statements`.
    All,
}

impl Scan {
    /// What is assumed of a statement that was not looked at.
    pub const UNKNOWN: Self = Self {
        pin: None,
        effect: Effect::MayCommit,
        place: Place::Primary(Why::Unclear),
        forgets: true,
        names: false,
        alters: true,
        sets: false,
        only_sets: false,
        sets_custom: SetsCustom::Nothing,
        resets: Resets::Nothing,
        copies: false,
        exits: true,
        undoes: true,
        sees: Sight::Nothing,
        suspect: false,
        views: false,
        runs_any: false,
        draws: Draws::Perhaps,
        asks: false,
        whole: false,
        single: false,
        view: None,
        in_block: InBlock::Other,
    };

    /// What is assumed of one statement of which only the server has the text.
    pub const UNSEEN: Self = Self { forgets: false, ..Self::UNKNOWN };

    /// What is assumed of a portal that no Bind message made: it is a cursor, and its query may call functions.
    pub const CURSOR: Self = Self {
        pin: None,
        effect: Effect::Write,
        place: Place::Primary(Why::Unclear),
        forgets: false,
        names: false,
        alters: false,
        sets: false,
        only_sets: false,
        sets_custom: SetsCustom::Nothing,
        resets: Resets::Nothing,
        copies: false,
        exits: false,
        undoes: false,
        sees: Sight::Nothing,
        suspect: false,
        views: false,
        runs_any: false,
        draws: Draws::Perhaps,
        asks: false,
        whole: true,
        single: true,
        view: None,
        in_block: InBlock::Other,
    };

    /// What is to be assumed where it may be this or `other`.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let effect = match self.effect.max(other.effect) {
            worst if self.effect == other.effect || worst <= Effect::Write => worst,
            _ => Effect::MayCommit,
        };
        Self {
            pin: Pin::worse(self.pin, other.pin),
            effect,
            place: if self.place == Place::Standby { other.place } else { self.place },
            forgets: self.forgets || other.forgets,
            names: self.names || other.names,
            alters: self.alters || other.alters,
            sets: self.sets || other.sets,
            only_sets: self.only_sets && other.only_sets,
            sets_custom: self.sets_custom.max(other.sets_custom),
            resets: self.resets.max(other.resets),
            copies: self.copies || other.copies,
            exits: self.exits || other.exits,
            undoes: self.undoes || other.undoes,
            sees: self.sees.max(other.sees),
            suspect: self.suspect || other.suspect,
            views: self.views || other.views,
            runs_any: self.runs_any || other.runs_any,
            draws: self.draws.max(other.draws),
            asks: self.asks || other.asks,
            whole: self.whole && other.whole,
            single: self.single && other.single,
            view: None,
            in_block: if self.in_block == other.in_block { self.in_block } else { InBlock::Other },
        }
    }

    /// True for one statement that leaves nothing behind its transaction block but the names of custom parameters.
    fn may_be_step(&self) -> bool {
        self.single
            && self.whole
            && !self.forgets
            && !self.names
            && !self.sets
            && self.resets == Resets::Nothing
            && self.pin.is_none()
            && !self.suspect
            && !self.runs_any
            && self.sees == Sight::Nothing
            && matches!(self.sets_custom, SetsCustom::Nothing | SetsCustom::Named)
    }

    /// The same, where it may be one that a standby has refused.
    #[must_use]
    pub const fn unless_refused(self, is_refused: bool) -> Self {
        if is_refused { Self { place: Place::Primary(Why::Refused), ..self } } else { self }
    }

    /// True for a statement that ends the transaction block, committed or not, and does nothing else.
    #[must_use]
    pub const fn ends_transaction(&self) -> bool {
        self.effect.ends_transaction()
    }

    /// True for a text that PostgreSQL parses in an aborted transaction.
    #[must_use]
    pub fn is_parsed_when_aborted(&self) -> bool {
        self.exits || self.effect == Effect::Empty
    }
}
