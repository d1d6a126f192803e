//! Sequences: which statements may take a number of one, and which ask what number their session has got.

use super::lexer::Word;

/// Whether a statement may take a number of a sequence, which `currval()` and `lastval()` tell its session afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draws {
    /// It does not.
    #[default]
    No,
    /// It may, by a trigger, a default or a function.
    Perhaps,
    /// It is what people use to take one: INSERT, MERGE, COPY FROM, `nextval()`.
    Likely,
}

/// True for the functions that tell a session of its numbers. This is the one place that knows their names: a function of the
/// database's own that calls them would have to be known here, too.
pub(super) fn asks(called: Word<'_>) -> bool {
    called.len() == 7 && asks_by(called.text())
}

/// As [`asks`], of a word that may stand in a literal.
pub(super) const fn asks_by(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"currval") || word.eq_ignore_ascii_case(b"lastval")
}

/// Whether a call of this function may take a number; `in_catalog` if it is one of `pg_catalog`.
pub(super) fn drawn_by(called: Word<'_>, in_catalog: bool) -> Draws {
    let is_catalogs = in_catalog || !called.qualified;
    let is_system = called.text().get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_"));
    if called.is_name("nextval") {
        Draws::Likely
    } else if asks(called) || is_system || (is_catalogs && NEVER.iter().any(|name| called.is_name(name))) {
        Draws::No
    } else {
        Draws::Perhaps
    }
}

/// Functions of PostgreSQL's own that sessions often call outside of queries for data.
const NEVER: &[&str] = &[
    "set_config",
    "current_setting",
    "version",
    "current_schema",
    "current_schemas",
    "current_database",
    "to_regclass",
    "to_regtype",
    "format_type",
    "has_schema_privilege",
    "has_table_privilege",
    "obj_description",
    "col_description",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "txid_current",
];
