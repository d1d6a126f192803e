//! Which functions a statement calls, by what stands before its parentheses.

use super::functions::only_reads;
use super::lexer::{Token, Word};

/// A call of a function that is not known to only read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call<'a> {
    /// Of this name.
    Of(Word<'a>),
    /// Of a name with Unicode escapes.
    Hidden,
}

/// Finds calls in a statement, token by token.
#[derive(Debug, Default)]
pub(super) struct Calls<'a> {
    pub(super) previous: Option<Token<'a>>,
    before_previous: Option<Token<'a>>,
    /// How many parentheses are open.
    depth: usize,
    /// Of the open ones, those behind ON and OPERATOR, which a function may follow: the outermost is the lowest bit.
    behind: u64,
    /// The last one that was closed was one of those.
    was_behind: bool,
    begins: Begins,
    /// The last dot stands behind `pg_catalog`.
    pub(super) in_catalog: bool,
    /// The name of the setting is next that `current_setting()` is asked for.
    setting: Option<Word<'a>>,
}

/// How the statement begins, as far as that says what a name before a parenthesis is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begins {
    #[default]
    Not,
    /// COPY, and what follows is a table with its columns.
    Copy,
    /// WITH, and the query that uses its list has not come yet.
    With,
    Otherwise,
}

impl<'a> Calls<'a> {
    /// Takes in the next token; the call that it shows, if it is not of one of PostgreSQL's own functions that only read.
    pub(super) fn see(&mut self, token: Token<'a>) -> Option<Call<'a>> {
        // A setting with a dot in its name is the session's own.
        let setting =
            self.setting.take().filter(|_| !matches!(token, Token::Literal(name) if name.contains(&b'.')));
        let mut call = setting.map(Call::Of);
        match token {
            Token::Semicolon => *self = Self::default(),
            Token::Open => {
                call = call.or_else(|| self.see_opened());
                self.open();
            }
            Token::Close => self.close(),
            Token::Dot => {
                self.in_catalog =
                    matches!(self.previous, Some(Token::Word(word)) if word.is_name("pg_catalog"));
            }
            Token::Word(word) if self.depth == 0 => self.see_word(word),
            _ => {}
        }
        self.before_previous = self.previous.replace(token);
        call
    }

    fn open(&mut self) {
        let is_behind =
            matches!(self.previous, Some(Token::Word(word)) if word.is("on") || word.is("operator"));
        let bit = self.bit();
        self.behind = if is_behind { self.behind | bit } else { self.behind & !bit };
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        // Of what is too deep, anything is taken to be possible.
        let bit = self.bit();
        self.was_behind = bit == 0 || self.behind & bit != 0;
    }

    fn bit(&self) -> u64 {
        u32::try_from(self.depth).ok().and_then(|depth| 1_u64.checked_shl(depth)).unwrap_or(0)
    }

    fn see_word(&mut self, word: Word<'a>) {
        self.begins = match self.begins {
            Begins::Not if word.is("with") => Begins::With,
            Begins::Not if word.is("copy") => Begins::Copy,
            Begins::With if !is_query(word) => Begins::With,
            Begins::Copy => Begins::Copy,
            _ => Begins::Otherwise,
        };
    }

    fn see_opened(&mut self) -> Option<Call<'a>> {
        let is_copy = self.depth == 0 && self.begins == Begins::Copy;
        if is_copy {
            self.begins = Begins::Otherwise;
        }
        match self.previous? {
            Token::Hidden => Some(Call::Hidden),
            Token::Word(word) if is_copy || self.is_alias() || only_reads(word, self.in_catalog) => None,
            Token::Word(word) if word.is_name("current_setting") => {
                self.setting = Some(word);
                None
            }
            Token::Word(word) => Some(Call::Of(word)),
            _ => None,
        }
    }

    /// The word before the parenthesis names what columns, or a type's length, follow of.
    fn is_alias(&self) -> bool {
        match self.before_previous {
            Some(Token::Word(before)) => before.is("as") || before.is("with") || before.is("recursive"),
            // FROM f(1) x(a, b)
            Some(Token::Close) => !self.was_behind,
            Some(Token::Comma) => self.begins == Begins::With && self.depth == 0,
            _ => false,
        }
    }
}

/// How a query begins, or what stands in its place.
fn is_query(word: Word<'_>) -> bool {
    ["select", "values", "table", "insert", "update", "delete", "merge"].iter().any(|first| word.is(first))
}

#[cfg(test)]
mod tests {
    use super::super::lexer::Lexer;
    use super::*;

    fn called(text: &str) -> Vec<String> {
        let (mut lexer, mut calls) = (Lexer::new(text.as_bytes()), Calls::default());
        std::iter::from_fn(|| lexer.next())
            .filter_map(|token| calls.see(token))
            .map(|call| match call {
                Call::Of(word) => String::from_utf8_lossy(word.text()).into_owned(),
                Call::Hidden => "?".to_owned(),
            })
            .collect()
    }

    #[test]
    fn names_before_parentheses_are_calls() {
        for (text, names) in [
            ("SELECT f(1), G (h(2))", "f G h"),
            ("SELECT s.f(1), s.lower('a')", "f lower"),
            ("SELECT \"lower\"('a')", "lower"),
            ("SELECT U&\"f\"(1)", "?"),
            ("SELECT * FROM f(1) WHERE g(a) AND NOT h(b)", "f g h"),
            ("SELECT DISTINCT ON (a, (b)) f(b) FROM t", "f"),
            ("SELECT 1 OPERATOR(pg_catalog.+) f(b) FROM (SELECT 1) t", "f"),
            ("WITH a (b) AS (SELECT f(1)), c(d) AS (SELECT 1) SELECT g(1), h(2) FROM a", "f g h"),
            (
                "SELECT current_setting('work_mem'), current_setting(a), current_setting((f(1)))",
                "current_setting current_setting current_setting f",
            ),
            ("COPY t (a) FROM STDIN WHERE f(a)", "f"),
            ("COPY (SELECT f(a) FROM t) TO STDOUT", "f"),
        ] {
            assert_eq!(called(text).join(" "), names, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_call_is_none() {
        for text in [
            "SELECT count(*), pg_catalog.lower('A') FROM t WHERE a IN (1) AND (b OR NOT (c))",
            "SELECT a::numeric(10, 2), CAST(b AS character varying(3)) FROM t",
            "SELECT * FROM (VALUES (1, 2)) AS v(a, b) JOIN u USING (a)",
            "SELECT * FROM generate_series(1, (2)) g(i) JOIN (VALUES (1)) v(j) ON (i = j)",
            "WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r) TABLE r",
            "WITH a AS MATERIALIZED (SELECT 1), b(c) AS (SELECT 2) SELECT * FROM a, b",
            "SELECT sum(a) FILTER (WHERE b) OVER (PARTITION BY c ORDER BY (d)) FROM t",
            "SELECT current_setting('app.tenant')",
            "COPY s.t (a, b) TO STDOUT (FORMAT csv)",
        ] {
            assert!(called(text).is_empty(), "{text}: {:?}", called(text));
        }
    }
}
