//! How statements begin.

use super::lexer::Word;
use super::sequences::Draws;

/// How a statement begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Show,
    /// SELECT, VALUES, TABLE
    Select,
    With,
    Begin,
    Rollback,
    Commit,
    Prepare,
    PrepareTransaction,
    Set,
    Declare,
    /// INSERT and MERGE: the INTO names their target.
    Insert,
    /// CREATE, ALTER, DROP
    Define,
    /// What cannot commit by itself, and touches no rows.
    Plain,
    /// The same, but it does: UPDATE, DELETE, COPY, FETCH, EXECUTE, EXPLAIN.
    Work,
    Discard,
    Do,
    Unknown,
}

impl First {
    /// Whether such a statement may take a number of a sequence, before its other words are looked at.
    pub(super) const fn draws(self) -> Draws {
        match self {
            Self::Insert => Draws::Likely,
            Self::Work | Self::Declare | Self::Define | Self::Do | Self::Unknown => Draws::Perhaps,
            Self::Show
            | Self::Select
            | Self::With
            | Self::Begin
            | Self::Rollback
            | Self::Commit
            | Self::Prepare
            | Self::PrepareTransaction
            | Self::Set
            | Self::Plain
            | Self::Discard => Draws::No,
        }
    }
}

impl First {
    /// True for words with which what may be said in a block that only reads begins: see [`Step`](super::Step).
    pub(super) fn may_be_step(self, word: Word<'_>) -> bool {
        match self {
            Self::Show | Self::Set | Self::Declare | Self::Rollback | Self::Commit => true,
            Self::Work => word.is("fetch") || word.is("explain"),
            Self::Plain => ["savepoint", "release", "move", "close"].iter().any(|step| word.is(step)),
            _ => false,
        }
    }
}

/// What this first word says.
pub(super) fn first(word: Word<'_>) -> First {
    const FIRST: &[(&str, First)] = &[
        ("select", First::Select),
        ("insert", First::Insert),
        ("update", First::Work),
        ("delete", First::Work),
        ("begin", First::Begin),
        ("commit", First::Commit),
        ("rollback", First::Rollback),
        ("set", First::Set),
        ("with", First::With),
        ("show", First::Show),
        ("values", First::Select),
        ("table", First::Select),
        ("start", First::Begin),
        ("end", First::Commit),
        ("abort", First::Rollback),
        ("prepare", First::Prepare),
        ("do", First::Do),
        ("create", First::Define),
        ("alter", First::Define),
        ("drop", First::Define),
        ("declare", First::Declare),
        ("merge", First::Insert),
        ("savepoint", First::Plain),
        ("release", First::Plain),
        ("copy", First::Work),
        ("fetch", First::Work),
        ("move", First::Plain),
        ("close", First::Plain),
        ("execute", First::Work),
        ("explain", First::Work),
        ("truncate", First::Plain),
        ("lock", First::Plain),
        ("reset", First::Plain),
        ("deallocate", First::Plain),
        ("listen", First::Plain),
        ("unlisten", First::Plain),
        ("notify", First::Plain),
        ("load", First::Plain),
        ("grant", First::Plain),
        ("revoke", First::Plain),
        ("comment", First::Plain),
        // No statement of PostgreSQL's: it is pgpool's, or an error.
        ("pgpool", First::Show),
        ("discard", First::Discard),
    ];
    FIRST.iter().find(|(keyword, _)| word.is(keyword)).map_or(First::Unknown, |(_, first)| *first)
}
