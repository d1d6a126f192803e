//! How statements begin.

use super::lexer::Word;

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
    /// What cannot commit by itself.
    Plain,
    Do,
    Unknown,
}

/// What this first word says.
pub(super) fn first(word: Word<'_>) -> First {
    const FIRST: &[(&str, First)] = &[
        ("select", First::Select),
        ("insert", First::Insert),
        ("update", First::Plain),
        ("delete", First::Plain),
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
        ("copy", First::Plain),
        ("fetch", First::Plain),
        ("move", First::Plain),
        ("close", First::Plain),
        ("execute", First::Plain),
        ("explain", First::Plain),
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
    ];
    FIRST.iter().find(|(keyword, _)| word.is(keyword)).map_or(First::Unknown, |(_, first)| *first)
}
