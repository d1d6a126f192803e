//! Whether a text that is parsed without a name means the same when it is executed later.

use super::lexer::{Lexer, Token};

/// What PostgreSQL's types for dates and times take for a moment, which is that of the parse: the text would give an older one when it is
/// executed again. See `datetktbl` in PostgreSQL's `datetime.c`.
const MOMENTS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// What a text is as a statement that is prepared once and executed again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reusable {
    /// It gives rows.
    pub(crate) gives_rows: bool,
    /// There may be better plans for some of its parameters' values than for others.
    pub(crate) has_plans: bool,
}

/// None for a text that may mean something else when it is executed than when it was parsed, or of which the server has nothing to
/// gain: what is neither a query nor INSERT, UPDATE or DELETE.
pub(crate) fn reusable(text: &[u8]) -> Option<Reusable> {
    let mut lexer = Lexer::new(text);
    let first = match lexer.next()? {
        Token::Word(word) => word,
        _ => return None,
    };
    let reads = ["select", "with", "values"].iter().any(|keyword| first.is(keyword));
    let inserts = first.is("insert");
    if !reads && !inserts && !first.is("update") && !first.is("delete") {
        return None;
    }
    let (mut gives_rows, mut selects) = (reads, reads);
    let (mut follows_literal, mut follows_u, mut follows_mark_behind_u) = (false, false, false);
    while let Some(token) = lexer.next() {
        match token {
            // Parts of a literal, on lines of their own, are one; and behind U& it may say anything.
            Token::Literal(_) if follows_literal || follows_mark_behind_u => return None,
            Token::Literal(said) if names_moment(said) => return None,
            Token::Backslash | Token::Hidden => return None,
            // It makes a table.
            Token::Word(word) if reads && word.is("into") => return None,
            Token::Word(word) => {
                gives_rows |= word.is("returning");
                selects |= word.is("select");
            }
            _ => {}
        }
        follows_literal = matches!(token, Token::Literal(_));
        follows_mark_behind_u = follows_u && token == Token::Other;
        follows_u = matches!(token, Token::Word(word) if word.is("u"));
    }
    if lexer.counts_everything() {
        return None;
    }
    // Dollars around a literal count, too: then it is planned once more than it need be.
    let has_parameters = memchr::memchr(b'$', text).is_some();
    Some(Reusable { gives_rows, has_plans: has_parameters && (selects || !inserts) })
}

fn names_moment(literal: &[u8]) -> bool {
    let lower = literal.to_ascii_lowercase();
    // With a backslash in it, it may say anything.
    lower.contains(&b'\\') || MOMENTS.iter().any(|moment| memchr::memmem::find(&lower, moment).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_changes_of_rows_can_be_executed_again() {
        let is = |text: &str, gives_rows, has_plans| {
            assert_eq!(reusable(text.as_bytes()), Some(Reusable { gives_rows, has_plans }), "{text}");
        };
        is("SELECT a FROM t WHERE b = $1", true, true);
        is("select now() - interval '1 day'", true, false);
        is("with a as (select 1) select * from a where b = $1", true, true);
        is("values (1)", true, false);
        is("INSERT INTO t VALUES ($1, $2)", false, false);
        is("INSERT INTO t SELECT a FROM u WHERE b = $1", false, true);
        is("INSERT INTO t VALUES ($1) RETURNING a", true, false);
        is("UPDATE t SET a = $1 WHERE b = $2", false, true);
        is("delete from t where a = 'given'", false, false);
    }

    #[test]
    fn what_may_mean_something_else_later_cannot() {
        for text in [
            "SELECT 'now'::timestamptz",
            "SELECT * FROM t WHERE d > 'Yesterday'",
            "SELECT timestamp 'now()'",
            "SELECT $$today$$::date",
            "SELECT 'to'\n'day'::date",
            r"SELECT E'n\x6fw'::timestamp",
            r"SELECT U&'n\006fw'::timestamp",
            "SELECT u&'n!006fw' uescape '!'",
            r"SELECT 'n\ow'",
            "SELECT 1 INTO t",
            "SHOW work_mem",
            "BEGIN",
            "CREATE TABLE t (a int)",
            "EXECUTE s",
            "-- nothing",
            "",
            "SELECT 'open",
            "\"select\" 1",
        ] {
            assert_eq!(reusable(text.as_bytes()), None, "{text}");
        }
    }
}
