//! What the server owes, and what becomes of it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Session;
use super::renaming::Shifts;
use crate::prepared::Statement;
use crate::server::ServerState;
use crate::statement::Effect;

/// Room for so many replies that are owed stays with a server connection.
const MOST_ROOM: usize = 64;

/// One reply, or run of replies, that the server owes.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(super) kind: Kind,
    /// False for what pgherd asked for itself: the client is not told.
    pub(super) shown: bool,
    pub(super) effect: Effect,
    /// It may drop prepared statements: which of them the server has behind it is not known.
    pub(super) forgets: bool,
    /// It runs a statement of which not the whole text was seen.
    pub(super) unseen: bool,
    /// It runs one statement at most.
    pub(super) single: bool,
    /// Its rows are numbers of a sequence, or are written with such.
    pub(super) takes: bool,
    /// The statement on the server that it is about.
    pub(super) about: About,
    /// How to put the session's statements back if the server never runs this.
    pub(super) undo: Option<Box<Undo>>,
    /// Where places in its text differ from those that the client knows.
    pub(super) shifts: Shifts,
    /// What pgherd says itself.
    pub(super) answer: Option<Box<OwnWords>>,
}

/// What pgherd says itself. Boxed, so that it costs nothing where it does not.
#[derive(Debug)]
pub(super) struct OwnWords(pub(super) Vec<u8>);

impl Expected {
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            shown: true,
            effect: Effect::Harmless,
            forgets: false,
            unseen: false,
            single: true,
            takes: false,
            about: About::Nothing,
            undo: None,
            shifts: None,
            answer: None,
        }
    }

    /// True for a Parse of the unnamed statement, by whomever it is answered.
    pub(super) const fn parses_unnamed(&self) -> bool {
        match self.kind {
            Kind::ParseUnnamed => true,
            Kind::Local(_) => matches!(self.about, About::StandsIn { .. }),
            _ => false,
        }
    }
}

impl Session {
    /// The room for what is owed is the connection's again. Only when nothing is.
    #[inline]
    pub(super) fn give_room_back(&mut self, server: &mut ServerState) {
        std::mem::swap(&mut self.expected, &mut server.owed);
        if self.expected.capacity() > 0 || server.owed.capacity() > MOST_ROOM {
            // What was the session's own, and what a long pipeline has taken.
            self.expected = VecDeque::new();
            server.owed.shrink_to(MOST_ROOM);
        }
    }
}

/// Whether the server's unnamed statement is this session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It may be another session's.
    No,
    /// It is, unless an error makes the server skip the batch of this number.
    InBatch(u64),
    Surely,
}

/// What a message does to a statement on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Nothing,
    Prepares(u64),
    Uses(u64),
    Closes(u64),
    /// By DEALLOCATE.
    Drops(u64),
    /// Has the server forget the numbers of sequences that it knows.
    Numbers,
    /// One of the client's own whose name would be taken for one of pgherd's.
    Escaped,
    /// It is not to be had.
    Denied,
    /// Describes the unnamed one of this number.
    Unnamed(u64),
    /// Parses the unnamed one of this number, for which another stands.
    StandsIn {
        /// Of the unnamed one.
        number: u64,
        /// Of what stands for it.
        id: u64,
    },
}

/// `name` meant `before` until this message.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) name: Box<[u8]>,
    pub(super) before: Option<Arc<Statement>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    /// So many more statements of the Query behind it.
    Part(usize),
    /// A text that the server is to read and to refuse: see [`super::exit`].
    Probe,
    /// The first statement of a Query that is sent as two: see [`super::exit`]. Its answer is told, its ReadyForQuery is not.
    Exit,
    FunctionCall,
    Parse,
    /// Parse of the unnamed statement.
    ParseUnnamed,
    /// Parse of a name that is taken: the server refuses it.
    ParseAgain,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    /// The client ended its CopyData: the server says nothing of its own to it.
    CopyEnd,
    /// A reply that pgherd gives in the server's place when its turn comes: this tag, no body.
    Local(u8),
    /// The same with a reply that has been written already.
    Answer,
    /// The same in answer to a Query: ReadyForQuery follows.
    QueryAnswer,
}

impl Kind {
    /// True for messages whose failure makes the server skip everything up to Sync.
    pub(super) const fn is_extended(self) -> bool {
        !matches!(
            self,
            Self::Query
                | Self::QueryAnswer
                | Self::Probe
                | Self::Exit
                | Self::Part(_)
                | Self::FunctionCall
                | Self::Sync
        )
    }

    /// True for messages behind which the server takes part in the protocol again after an error.
    pub(super) const fn ends_batch(self) -> bool {
        matches!(
            self,
            Self::Query | Self::QueryAnswer | Self::Probe | Self::Exit | Self::FunctionCall | Self::Sync
        )
    }

    /// True for what the server answers, and not pgherd.
    pub(super) const fn is_of_server(self) -> bool {
        !matches!(self, Self::Local(_) | Self::Answer | Self::QueryAnswer | Self::CopyEnd)
    }

    /// True for messages that run a statement.
    pub(super) const fn runs(self) -> bool {
        matches!(self, Self::Query | Self::Exit | Self::FunctionCall | Self::Execute)
    }
}
