//! What the text of a statement says about where it may run and what its loss would mean.
//!
//! One pass over the words, without a parser. It errs on one side only: a text that is not understood pins, may
//! commit, and is not harmless. Words inside of literals count like any others.

/// Why a session keeps its server connection after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// SET, RESET or `set_config()`: a run-time parameter was changed.
    Parameter,
    /// LISTEN
    Listen,
    /// A temporary object.
    Temporary,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// SQL PREPARE.
    SqlPrepare,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// LOAD
    Load,
    /// A statement too long to be kept for other servers.
    LongStatement,
    /// Session pooling.
    SessionMode,
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

/// The findings of one pass over a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The reason to keep the server connection, if there is one.
    pub pin: Option<Pin>,
    /// What its loss would mean.
    pub effect: Effect,
    /// It may drop prepared statements: DISCARD, DEALLOCATE.
    pub forgets: bool,
    /// PostgreSQL runs it in an aborted transaction: COMMIT, ROLLBACK, ROLLBACK TO, PREPARE TRANSACTION.
    pub exits: bool,
    /// The whole text was looked at.
    pub whole: bool,
}

impl Scan {
    /// What is assumed of a statement that was not looked at.
    pub const UNKNOWN: Self =
        Self { pin: None, effect: Effect::MayCommit, forgets: true, exits: true, whole: false };

    /// What is assumed of one statement of which only the server has the text.
    pub const UNSEEN: Self = Self { forgets: false, ..Self::UNKNOWN };

    /// What is assumed of a portal that no Bind message made: it is a cursor, and its query may call functions.
    pub const CURSOR: Self =
        Self { pin: None, effect: Effect::Write, forgets: false, exits: false, whole: true };

    /// What is to be assumed where it may be this or `other`.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let effect = match self.effect.max(other.effect) {
            worst if self.effect == other.effect || worst <= Effect::Write => worst,
            _ => Effect::MayCommit,
        };
        Self {
            pin: self.pin.or(other.pin),
            effect,
            forgets: self.forgets || other.forgets,
            exits: self.exits || other.exits,
            whole: self.whole && other.whole,
        }
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

/// Looks at the text of a Query or Parse message.
#[must_use]
pub fn scan(text: &[u8]) -> Scan {
    let mut words = Words::new(text);
    let mut findings = Findings::default();
    while let Some(word) = words.next() {
        findings.see(word, &words);
    }
    findings.conclude(words.statements)
}

#[derive(Default)]
struct Findings {
    pin: Option<Pin>,
    first: First,
    may_commit: bool,
    forgets: bool,
    exits: bool,
    impure: bool,
    set_pending: bool,
    qualified_end: bool,
}

/// How the first statement begins.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum First {
    #[default]
    Nothing,
    Harmless,
    Select,
    Begin,
    Rollback,
    Commit,
    Other,
}

impl Findings {
    fn see(&mut self, word: Word<'_>, words: &Words<'_>) {
        if word.begins_statement {
            self.begin(word, words.statements);
        } else {
            self.inside(word);
        }
        if word.is_call && (word.is_qualified || !PURE_BEFORE_PARENTHESIS.iter().any(|pure| word.is(pure))) {
            self.impure = true;
        }
    }

    fn begin(&mut self, word: Word<'_>, statements: usize) {
        let (first, pin) = match word.text.len() {
            3 if word.is("set") => {
                self.set_pending = true;
                (First::Other, None)
            }
            5 if word.is("reset") => (First::Other, Some(Pin::Parameter)),
            6 if word.is("listen") => (First::Other, Some(Pin::Listen)),
            7 | 10 if word.is("discard") || word.is("deallocate") => {
                self.forgets = true;
                (First::Other, None)
            }
            4 if word.is("load") => (First::Other, Some(Pin::Load)),
            7 if word.is("prepare") => {
                self.may_commit = true;
                (First::Other, Some(Pin::SqlPrepare))
            }
            4 if word.is("call") => {
                self.may_commit = true;
                (First::Other, None)
            }
            2 if word.is("do") => {
                self.may_commit = true;
                (First::Other, None)
            }
            3 if word.is("end") => (First::Commit, None),
            6 if word.is("commit") => (First::Commit, None),
            5 if word.is("abort") => (First::Rollback, None),
            8 if word.is("rollback") => (First::Rollback, None),
            5 if word.is("begin") || word.is("start") => (First::Begin, None),
            4 if word.is("show") => (First::Harmless, None),
            6 if word.is("select") || word.is("values") => (First::Select, None),
            5 if word.is("table") => (First::Select, None),
            _ => (First::Other, None),
        };
        self.pin = self.pin.or(pin);
        self.may_commit |= first == First::Commit;
        self.exits |= matches!(first, First::Commit | First::Rollback) || pin == Some(Pin::SqlPrepare);
        if statements == 1 {
            self.first = first;
        }
    }

    fn inside(&mut self, word: Word<'_>) {
        if std::mem::take(&mut self.set_pending) {
            // SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with the transaction.
            let local = word.is("local") || word.is("transaction") || word.is("constraints");
            self.pin = self.pin.or((!local).then_some(Pin::Parameter));
        }
        let pin = match word.text.len() {
            4 if word.is("temp") => Some(Pin::Temporary),
            9 if word.is("temporary") => Some(Pin::Temporary),
            4 if word.is("hold") => Some(Pin::HoldCursor),
            10 if word.is("set_config") => Some(Pin::Parameter),
            7.. if word.starts_with("pg_temp") => Some(Pin::Temporary),
            16.. if word.starts_with("pg_advisory_lock") || word.starts_with("pg_try_advisory_lock") => {
                Some(Pin::AdvisoryLock)
            }
            _ => None,
        };
        self.pin = self.pin.or(pin);
        match word.text.len() {
            2 if word.is("to") => self.qualified_end = true,
            3 if word.is("for") => self.impure = true,
            4 if word.is("into") => self.impure = true,
            5 if word.is("chain") => self.qualified_end = true,
            8 if word.is("prepared") => self.qualified_end = true,
            _ => {}
        }
    }

    fn conclude(self, statements: usize) -> Scan {
        let effect = match (statements, self.first) {
            (0, _) => Effect::Empty,
            (1, First::Harmless) => Effect::Harmless,
            (1, First::Begin) => Effect::Begin,
            (1, First::Select) if !self.impure && self.pin.is_none() => Effect::Harmless,
            (1, First::Rollback) if !self.qualified_end => Effect::Rollback,
            (1, First::Commit) if !self.qualified_end => Effect::Commit,
            _ if self.may_commit || statements > 1 => Effect::MayCommit,
            _ => Effect::Write,
        };
        Scan { pin: self.pin, effect, forgets: self.forgets, exits: self.exits, whole: true }
    }
}

/// Words that stand before a parenthesis without calling a function that could have an effect.
const PURE_BEFORE_PARENTHESIS: &[&str] = &[
    "in",
    "values",
    "as",
    "and",
    "or",
    "not",
    "on",
    "where",
    "any",
    "all",
    "some",
    "exists",
    "select",
    "from",
    "using",
    "over",
    "by",
    "then",
    "else",
    "when",
    "union",
    "except",
    "intersect",
    "limit",
    "offset",
    "having",
    "case",
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "lower",
    "upper",
    "length",
    "abs",
    "now",
    "cast",
    "numeric",
    "varchar",
    "char",
    "decimal",
    "timestamp",
];

/// A run of letters, digits, underscores, dollars and bytes beyond ASCII.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a [u8],
    begins_statement: bool,
    is_call: bool,
    /// It follows a dot or a quotation mark, and so is no keyword.
    is_qualified: bool,
}

impl Word<'_> {
    fn is(&self, lower: &str) -> bool {
        self.text.eq_ignore_ascii_case(lower.as_bytes())
    }

    fn starts_with(&self, lower: &str) -> bool {
        self.text.get(..lower.len()).is_some_and(|start| start.eq_ignore_ascii_case(lower.as_bytes()))
    }
}

struct Words<'a> {
    rest: &'a [u8],
    at_start: bool,
    /// A quotation mark has been seen.
    quotes: bool,
    statements: usize,
}

impl<'a> Words<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { rest: text, at_start: true, quotes: false, statements: 0 }
    }

    fn skip_comment(&mut self) -> bool {
        let end = match self.rest {
            [b'-', b'-', ..] => memchr::memchr(b'\n', self.rest).map(|i| i + 1),
            [b'/', b'*', ..] => comment_len(self.rest),
            _ => return false,
        };
        self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
        true
    }

    fn next(&mut self) -> Option<Word<'a>> {
        let mut qualifies = false;
        loop {
            let (&byte, after) = self.rest.split_first()?;
            if is_word(byte) {
                break;
            }
            // Only before a statement's first word is a comment skipped: elsewhere its words count, which is safe.
            if self.at_start && self.skip_comment() {
                continue;
            }
            if byte == b';' {
                self.at_start = true;
            }
            self.quotes |= byte == b'"';
            qualifies = matches!(byte, b'.' | b'"') || (qualifies && byte.is_ascii_whitespace());
            self.rest = after;
        }
        let len = self.rest.iter().position(|&b| !is_word(b)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at_checked(len)?;
        let is_qualified = std::mem::take(&mut qualifies);
        self.rest = rest;
        let begins_statement = std::mem::take(&mut self.at_start);
        self.statements += usize::from(begins_statement);
        Some(Word { text, begins_statement, is_call: may_be_called(rest, self.quotes), is_qualified })
    }
}

/// True if an opening parenthesis may follow the word before `rest`, be it quoted or followed by a comment.
fn may_be_called(rest: &[u8], in_quotes: bool) -> bool {
    let mut quoted = false;
    for (place, &byte) in rest.iter().enumerate() {
        match byte {
            b'"' => quoted = true,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {}
            b'(' => return true,
            b'/' => return rest.get(place + 1) == Some(&b'*'),
            b'-' => return rest.get(place + 1) == Some(&b'-'),
            // The rest of a quoted name, perhaps.
            _ if in_quotes && !quoted && place == 0 => return closes_quoted_name(rest),
            _ => return false,
        }
    }
    false
}

/// True if a quotation mark and then a parenthesis come before anything that ends a name.
fn closes_quoted_name(rest: &[u8]) -> bool {
    // A name longer than that is taken for a call.
    const NEAR: usize = 256;
    let near = rest.get(..NEAR).unwrap_or(rest);
    let Some(quote) = memchr::memchr(b'"', near) else { return rest.len() > NEAR };
    rest.get(quote + 1..).unwrap_or_default().iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'(')
}

/// The length of the comment at the start of `text`; comments nest. `None` if it has no end.
fn comment_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match text.get(at..at + 2)? {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn pins(text: &str, pin: Option<Pin>) {
        assert_eq!(scan(text.as_bytes()).pin, pin, "{text}");
    }

    #[track_caller]
    fn has_effect(text: &str, effect: Effect) {
        assert_eq!(scan(text.as_bytes()).effect, effect, "{text}");
    }

    #[test]
    fn what_outlives_a_transaction_pins() {
        pins("SET search_path = a", Some(Pin::Parameter));
        pins("/* c */ -- d\n set timezone to 'UTC'", Some(Pin::Parameter));
        pins("select 1; RESET ALL", Some(Pin::Parameter));
        pins("SELECT set_config('a.b', '1', false)", Some(Pin::Parameter));
        pins("listen x", Some(Pin::Listen));
        pins("CREATE TEMP TABLE t (i int)", Some(Pin::Temporary));
        pins("create table pg_temp.t ()", Some(Pin::Temporary));
        pins("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Some(Pin::HoldCursor));
        pins("PREPARE p AS SELECT 1", Some(Pin::SqlPrepare));
        pins("select pg_try_advisory_lock_shared(1)", Some(Pin::AdvisoryLock));
        pins("LOAD 'auto_explain'", Some(Pin::Load));
    }

    #[test]
    fn what_ends_with_the_transaction_does_not_pin() {
        pins("SET LOCAL work_mem = '1MB'", None);
        pins("SET TRANSACTION READ ONLY", None);
        pins("set constraints all deferred", None);
        pins("select pg_advisory_xact_lock(1)", None);
        pins("update t set a = 1", None);
        pins("insert into listen values (1)", None);
    }

    #[test]
    fn only_what_surely_changes_nothing_is_harmless() {
        has_effect("", Effect::Empty);
        has_effect("; -- nothing", Effect::Empty);
        has_effect("BEGIN", Effect::Begin);
        has_effect("SELECT abalance FROM pgbench_accounts WHERE aid = 5;", Effect::Harmless);
        has_effect("select count(*) from t where a in (1, 2)", Effect::Harmless);
        has_effect("SELECT f(1)", Effect::Write);
        has_effect("SELECT \"f\"(1)", Effect::Write);
        has_effect("SELECT s.nextval ('x')", Effect::Write);
        has_effect("SELECT 1 INTO t", Effect::Write);
        has_effect("SELECT * FROM t FOR UPDATE", Effect::Write);
        has_effect("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Effect::Write);
        has_effect("insert into t values (1)", Effect::Write);
        has_effect("explain analyze delete from t", Effect::Write);
    }

    #[test]
    fn ends_of_transactions_are_told_apart() {
        has_effect("COMMIT", Effect::Commit);
        has_effect("end work;", Effect::Commit);
        has_effect("rollback", Effect::Rollback);
        has_effect("ROLLBACK TO SAVEPOINT a", Effect::Write);
        has_effect("COMMIT AND CHAIN", Effect::MayCommit);
        has_effect("COMMIT PREPARED 'x'", Effect::MayCommit);
        has_effect("insert into t values (1); commit", Effect::MayCommit);
        has_effect("CALL p()", Effect::MayCommit);
        has_effect("DO $$ begin end $$", Effect::MayCommit);
        has_effect("select case when a then b end from t", Effect::Harmless);
    }
}
