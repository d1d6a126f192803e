//! What a transaction block that only reads may say on a standby besides its reads: what is shown, marked, set for the block alone, or read by
//! a cursor.

use std::borrow::Cow;

use super::lexer::{Lexer, Token, Word};
use super::{Isolation, Modes};

/// What a statement is in a transaction block that only reads, if it is not such that any server may answer it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InBlock {
    /// Nothing is known of it.
    #[default]
    Other,
    /// It says something of the block, or asks for it, and sees nothing of the data: a [`Step`].
    Remarks,
    /// It is a [`Step`] that reads, or may.
    Reads,
    /// It opens the block, if transactions of the session only read where they do not say otherwise.
    Opens,
}

impl InBlock {
    /// True for a [`Step`].
    #[must_use]
    pub const fn is_step(self) -> bool {
        matches!(self, Self::Remarks | Self::Reads)
    }
}

/// One such statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// SHOW of what the session has, or of what is the same in such a block wherever that is.
    Shows,
    /// SAVEPOINT
    Marks(Cow<'a, [u8]>),
    /// RELEASE
    Releases(Cow<'a, [u8]>),
    /// ROLLBACK TO
    GoesBack(Cow<'a, [u8]>),
    /// SET LOCAL, SET TRANSACTION; what that asks for.
    Sets(Modes),
    /// DECLARE of a cursor that ends with the transaction. Its query begins at this place of the text.
    Declares(Cow<'a, [u8]>, usize),
    /// FETCH, MOVE
    Fetches,
    /// CLOSE; of all, if no name is given.
    Closes(Option<Cow<'a, [u8]>>),
    /// EXPLAIN of what begins at this place.
    Explains(usize),
    /// COMMIT AND CHAIN, ROLLBACK AND CHAIN: another block of its kind is open behind it.
    Chains,
}

impl<'a> Step<'a> {
    /// What a text of one statement is. One that is not plainly a step is none.
    #[must_use]
    pub fn of(text: &'a [u8]) -> Option<Self> {
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        let mut words = Words::new(text);
        let Some(Token::Word(first)) = words.take() else { return None };
        let is = |keyword: &str| first.is(keyword);
        let step = match first.len() {
            3 if is("set") => words.set()?,
            3 | 5 | 6 if is("end") || is("abort") || is("commit") => words.chain()?,
            4 if is("show") => words.show()?,
            4 | 5 if is("move") || is("fetch") => {
                words.skip_to_end();
                Self::Fetches
            }
            5 if is("close") => match words.takes("all") {
                true => Self::Closes(None),
                false => Self::Closes(Some(words.name()?)),
            },
            7 if is("release") => Self::Releases(words.savepoint()?),
            7 if is("declare") => return words.declare(),
            7 if is("explain") => return words.explain(),
            8 if is("rollback") => {
                let _ = words.takes("work") || words.takes("transaction");
                if words.takes("to") { Self::GoesBack(words.savepoint()?) } else { words.chain()? }
            }
            9 if is("savepoint") => Self::Marks(words.name()?),
            _ => return None,
        };
        words.is_at_end().then_some(step)
    }

    /// What it is to the block.
    #[must_use]
    pub const fn in_block(&self) -> InBlock {
        match self {
            Self::Shows
            | Self::Marks(_)
            | Self::Releases(_)
            | Self::GoesBack(_)
            | Self::Sets(_)
            | Self::Chains => InBlock::Remarks,
            // CLOSE sees nothing, but no SET TRANSACTION may stand behind it.
            Self::Declares(..) | Self::Fetches | Self::Closes(_) | Self::Explains(_) => InBlock::Reads,
        }
    }

    /// Where the query begins that it has.
    #[must_use]
    pub const fn query(&self) -> Option<usize> {
        match self {
            Self::Declares(_, at) | Self::Explains(at) => Some(*at),
            _ => None,
        }
    }
}

/// The longest name that PostgreSQL does not cut.
const LONGEST_NAME: usize = 63;

/// What SHOW gives wherever the block is: what the session has brought with it, and what its transaction is. Others may be the server's own.
const SHOWN: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "integer_datetimes",
    "intervalstyle",
    "lock_timeout",
    "max_identifier_length",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "xmlbinary",
    "xmloption",
];

/// What SET LOCAL may not set on a standby: who the session is, and how texts are read; and what has its value on the primary alone.
const NOT_SET: &[&str] = &[
    "authorization",
    "backslash_quote",
    "client_encoding",
    "constraints",
    "role",
    "seed",
    "session",
    "session_authorization",
    "standard_conforming_strings",
    "temp_buffers",
    "transaction",
];

struct Words<'a> {
    lexer: Lexer<'a>,
    len: usize,
    next: Option<Token<'a>>,
    /// Where the next one begins, or what stands before it.
    begins: usize,
}

impl<'a> Words<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut lexer = Lexer::new(text);
        let next = lexer.next();
        Self { lexer, len: text.len(), next, begins: 0 }
    }

    fn take(&mut self) -> Option<Token<'a>> {
        self.begins = self.len - self.lexer.left();
        std::mem::replace(&mut self.next, self.lexer.next())
    }

    /// Takes this word, if it is next.
    fn takes(&mut self, keyword: &str) -> bool {
        let is_it = matches!(self.next, Some(Token::Word(word)) if word.is(keyword));
        if is_it {
            self.take();
        }
        is_it
    }

    fn takes_all(&mut self, keywords: &[&str]) -> bool {
        keywords.iter().all(|keyword| self.takes(keyword))
    }

    fn word(&mut self) -> Option<Word<'a>> {
        match self.take()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// A name of which it is known what it is to the server, whatever the encoding.
    fn name(&mut self) -> Option<Cow<'a, [u8]>> {
        let word = self.word()?;
        let is_plain = !word.qualified && (word.is_quoted() || word.text().is_ascii());
        let name = word.folded();
        (is_plain && !name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
    }

    /// The name of a savepoint, which may be called SAVEPOINT itself.
    fn savepoint(&mut self) -> Option<Cow<'a, [u8]>> {
        let first = self.next?;
        if self.takes("savepoint") && !matches!(self.next, Some(Token::Word(_))) {
            let Token::Word(word) = first else { return None };
            return Some(word.folded());
        }
        self.name()
    }

    fn is_at_end(&mut self) -> bool {
        while self.next == Some(Token::Semicolon) {
            self.take();
        }
        self.next.is_none() && !self.lexer.unclear
    }

    fn skip_to_end(&mut self) {
        while self.next.is_some_and(|token| token != Token::Semicolon) {
            self.take();
        }
    }

    /// The name of a parameter, in small letters.
    fn parameter(&mut self) -> Option<Vec<u8>> {
        let mut name = self.word()?.text().to_ascii_lowercase();
        while self.next == Some(Token::Dot) {
            self.take();
            name.push(b'.');
            name.extend(self.word()?.text().to_ascii_lowercase());
        }
        Some(name)
    }

    fn show(&mut self) -> Option<Step<'a>> {
        let is_known =
            self.takes_all(&["transaction", "isolation", "level"]) || self.takes_all(&["time", "zone"]) || {
                let name = self.parameter()?;
                let is_of_session = name.contains(&b'.') && !name.starts_with(b"pgherd.");
                is_of_session || SHOWN.iter().any(|shown| shown.as_bytes() == name)
            };
        is_known.then_some(Step::Shows)
    }

    /// What stands behind SET.
    fn set(&mut self) -> Option<Step<'a>> {
        if self.takes("transaction") {
            return self.modes();
        }
        if !self.takes("local") {
            return None;
        }
        if self.takes_all(&["time", "zone"]) {
            self.take()?;
            self.skip_to_end();
            return Some(Step::Sets(Modes::default()));
        }
        let name = self.parameter()?;
        let is_known = !NOT_SET.iter().any(|not| not.as_bytes() == name)
            && !name.starts_with(b"transaction_")
            && !name.starts_with(b"pgherd.");
        let is_assigned = self.takes("to") || self.take()? == Token::Other;
        if !is_known || !is_assigned {
            return None;
        }
        self.take()?;
        self.skip_to_end();
        Some(Step::Sets(Modes::default()))
    }

    /// What stands behind SET TRANSACTION.
    fn modes(&mut self) -> Option<Step<'a>> {
        let mut modes = Modes::default();
        loop {
            if self.takes_all(&["isolation", "level"]) {
                modes.level = Some(self.level()?);
            } else if self.takes("read") {
                if !self.takes("only") {
                    return None;
                }
            } else {
                modes.deferrable = Some(!self.takes("not"));
                if !self.takes("deferrable") {
                    return None;
                }
            }
            match self.next {
                Some(Token::Comma) => {
                    self.take();
                }
                None | Some(Token::Semicolon) => return Some(Step::Sets(modes)),
                Some(_) => {}
            }
        }
    }

    /// A level that a standby has.
    fn level(&mut self) -> Option<Isolation> {
        if self.takes_all(&["repeatable", "read"]) {
            return Some(Isolation::RepeatableRead);
        }
        match self.takes("read") {
            true if self.takes("committed") => Some(Isolation::ReadCommitted),
            true if self.takes("uncommitted") => Some(Isolation::ReadUncommitted),
            _ => None,
        }
    }

    /// What stands behind COMMIT or ROLLBACK.
    fn chain(&mut self) -> Option<Step<'a>> {
        let _ = self.takes("work") || self.takes("transaction");
        self.takes_all(&["and", "chain"]).then_some(Step::Chains)
    }

    fn declare(&mut self) -> Option<Step<'a>> {
        let name = self.name()?;
        while ["binary", "asensitive", "insensitive", "no", "scroll"].iter().any(|it| self.takes(it)) {}
        if !self.takes("cursor") {
            return None;
        }
        let is_plain = !self.takes("without") || self.takes("hold");
        (is_plain && self.takes("for")).then_some(Step::Declares(name, self.begins))
    }

    fn explain(&mut self) -> Option<Step<'a>> {
        if self.next != Some(Token::Open) {
            while ["analyze", "analyse", "verbose"].iter().any(|it| self.takes(it)) {}
            return Some(Step::Explains(self.begins));
        }
        let begins = self.begins;
        self.take();
        let is_query = match self.next? {
            Token::Word(word) => ["select", "with", "values", "table"].iter().any(|it| word.is(it)),
            _ => true,
        };
        if is_query {
            return Some(Step::Explains(begins));
        }
        while self.take()? != Token::Close {}
        Some(Step::Explains(self.begins))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::*;

    fn name(name: &str) -> Cow<'_, [u8]> {
        Cow::Borrowed(name.as_bytes())
    }

    #[test]
    fn what_a_block_says_of_itself_is_known() {
        for (text, step) in [
            ("SHOW transaction_isolation", Step::Shows),
            ("show TRANSACTION ISOLATION LEVEL;", Step::Shows),
            ("SHOW Time Zone", Step::Shows),
            ("SHOW app.tenant", Step::Shows),
            ("/* so */ SAVEPOINT a -- b\n;", Step::Marks(name("a"))),
            ("savepoint \"A b\"\"c\"", Step::Marks(name("A b\"c"))),
            ("RELEASE Savepoint", Step::Releases(name("savepoint"))),
            ("RELEASE SAVEPOINT A", Step::Releases(name("a"))),
            ("rollback to b\0", Step::GoesBack(name("b"))),
            ("ROLLBACK WORK TO SAVEPOINT c;\0", Step::GoesBack(name("c"))),
            ("SET LOCAL statement_timeout = '5s'", Step::Sets(Modes::default())),
            ("set local work_mem to 1", Step::Sets(Modes::default())),
            ("SET LOCAL app.tenant = 'x'", Step::Sets(Modes::default())),
            ("SET LOCAL TIME ZONE 'UTC'", Step::Sets(Modes::default())),
            ("SET TRANSACTION READ ONLY", Step::Sets(Modes::default())),
            (
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
                Step::Sets(Modes { level: Some(Isolation::RepeatableRead), deferrable: Some(false) }),
            ),
            (
                "set transaction read only isolation level read committed",
                Step::Sets(Modes { level: Some(Isolation::ReadCommitted), deferrable: None }),
            ),
            ("FETCH FORWARD 10 FROM c", Step::Fetches),
            ("MOVE ALL IN \"c\"", Step::Fetches),
            ("CLOSE c", Step::Closes(Some(name("c")))),
            ("CLOSE ALL", Step::Closes(None)),
            ("COMMIT AND CHAIN", Step::Chains),
            ("abort transaction and chain;", Step::Chains),
            ("ROLLBACK WORK AND CHAIN", Step::Chains),
        ] {
            let found = scan(text.as_bytes()).in_block;
            assert_eq!(Step::of(text.as_bytes()).as_ref(), Some(&step), "{text}");
            assert_eq!(found, step.in_block(), "{text}");
        }
    }

    #[test]
    fn the_query_of_a_cursor_and_of_an_explain_is_found() {
        for (text, query) in [
            ("DECLARE c CURSOR FOR SELECT 1", " SELECT 1"),
            ("declare \"C\" binary insensitive no scroll cursor without hold for select 1;", " select 1;"),
            ("EXPLAIN SELECT 1", " SELECT 1"),
            ("explain analyze verbose select 1", " select 1"),
            ("EXPLAIN (ANALYZE, COSTS off) SELECT 1", " SELECT 1"),
            ("EXPLAIN (SELECT 1)", " (SELECT 1)"),
        ] {
            let at = Step::of(text.as_bytes()).and_then(|step| step.query());
            assert_eq!(at.and_then(|at| text.get(at..)), Some(query), "{text}");
            assert_eq!(scan(text.as_bytes()).in_block, InBlock::Reads, "{text}");
        }
    }

    #[test]
    fn what_is_not_plainly_so_is_none() {
        for text in [
            "",
            "SELECT 1",
            "SHOW work_mem",
            "SHOW pgherd.reads",
            "SHOW POOL_NODES",
            "SAVEPOINT a; SAVEPOINT b",
            "SAVEPOINT U&\"a\"",
            "SAVEPOINT \u{c4}",
            "ROLLBACK",
            "COMMIT AND NO CHAIN",
            "ROLLBACK PREPARED 'a'",
            "/* pgherd: primary */ SAVEPOINT a",
            "SET work_mem = 1",
            "SET LOCAL ROLE app",
            "SET LOCAL SESSION AUTHORIZATION app",
            "SET LOCAL pgherd.reads = 'primary'",
            "SET LOCAL \"pgherd.reads\" = 'primary'",
            "SET LOCAL transaction_read_only = off",
            "SET LOCAL work_mem TO DEFAULT",
            "SET LOCAL search_path = 'pg_temp'",
            "SET LOCAL TRANSACTION READ ONLY",
            "SET TRANSACTION READ WRITE",
            "SET TRANSACTION READ ONLY, READ WRITE",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET TRANSACTION SNAPSHOT 'a'",
            "SET TRANSACTION",
            "SET CONSTRAINTS ALL DEFERRED",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "DECLARE c CURSOR",
            "EXPLAIN EXECUTE s",
            "CLOSE",
        ] {
            assert_eq!(scan(text.as_bytes()).in_block, InBlock::Other, "{text}");
        }
        let long = format!("SAVEPOINT {}", "a".repeat(64));
        assert_eq!(scan(long.as_bytes()).in_block, InBlock::Other);
    }
}
