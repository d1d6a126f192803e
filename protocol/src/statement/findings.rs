//! What the words of a text amount to.

use super::first::{First, first};
use super::lexer::{Lexer, Token, Word};
use super::pgpool::pool_view;
use super::rest::Rest;
use super::words::{is_pure, session_pin};
use super::{Effect, Pin, Resets, Scan};

/// Looks at the text of a Query or Parse message.
#[must_use]
pub fn scan(text: &[u8]) -> Scan {
    let (findings, lexer) = look_at(text);
    let view = if findings.shows { pool_view(text) } else { None };
    Scan { view, ..findings.conclude(lexer.unclear) }
}

/// Looks at the start of a text that is too long to be seen at once; also says what is needed to look at the rest.
#[must_use]
pub fn scan_start(text: &[u8]) -> (Scan, Rest) {
    let (findings, _) = look_at(text);
    let rest = Rest::new(findings.present.first == Some(First::Do));
    let prepares = findings.present.first == Some(First::Prepare);
    let Scan { pin, names, sets, resets, .. } = findings.conclude(true);
    let pin = pin.or(prepares.then_some(Pin::SqlPrepare));
    (Scan { pin, names, sets, resets, ..Scan::UNKNOWN }, rest)
}

fn look_at(text: &[u8]) -> (Findings<'_>, Lexer<'_>) {
    let mut lexer = Lexer::new(text);
    let mut findings = Findings::default();
    while let Some(token) = lexer.next() {
        findings.see(token, &mut lexer);
    }
    (findings, lexer)
}

#[derive(Default)]
struct Findings<'a> {
    pin: Option<Pin>,
    forgets: bool,
    names: bool,
    alters: bool,
    sets: bool,
    resets: Resets,
    copies: bool,
    exits: bool,
    /// SHOW
    shows: bool,
    /// The statements that have ended.
    statements: usize,
    /// The worst of what they do.
    effect: Option<Effect>,
    /// The present one.
    present: Statement<'a>,
}

#[derive(Default)]
struct Statement<'a> {
    first: Option<First>,
    previous: Option<Token<'a>>,
    before_previous: Option<Token<'a>>,
    /// How many parentheses are open.
    depth: usize,
    set: Set,
    config: Config,
    /// The parameter of that call can be carried.
    config_carried: bool,
    /// It names search_path.
    path: bool,
    /// Among its arguments is NULL, which stands for the default.
    config_null: bool,
    /// It may write.
    impure: bool,
    /// It may commit by itself: CREATE DATABASE and the like.
    immediate: bool,
    /// TO
    to: bool,
    /// CHAIN
    chain: bool,
    /// PREPARED
    prepared: bool,
}

/// How far a SET has been read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Set {
    #[default]
    No,
    /// SET or SET SESSION
    Pending,
    /// SET and a name.
    Named,
    /// SET LOCAL, SET TRANSACTION or SET CONSTRAINTS, unless it is `local.name`.
    Local,
    /// It ends with the transaction.
    InTransaction,
    Decided,
}

/// How far a call of `set_config()` has been read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Config {
    #[default]
    No,
    Named,
    /// Its arguments, in so many parentheses.
    Inside(usize),
}

impl<'a> Findings<'a> {
    fn see(&mut self, token: Token<'a>, lexer: &mut Lexer<'a>) {
        match token {
            Token::Semicolon => return self.end_statement(),
            Token::Word(word) => {
                if self.present.first.is_none() {
                    self.begin(word, lexer);
                } else {
                    self.inside(word);
                }
                if lexer.counts_everything() {
                    self.anywhere(word);
                }
            }
            // The words of a DO may be spelt in other ways.
            Token::Backslash if self.present.first == Some(First::Do) => self.pin(Pin::Parameter),
            _ => {}
        }
        if self.present.set != Set::No {
            self.see_set(token);
        }
        self.see_call(token);
        self.present.before_previous = self.present.previous.replace(token);
    }

    fn pin(&mut self, pin: Pin) {
        self.alters |= pin == Pin::Parameter;
        self.pin = Pin::worse(self.pin, Some(pin));
    }

    fn reset(&mut self, is_local: bool) {
        let resets = if is_local { Resets::ForTransaction } else { Resets::ForSession };
        self.resets = self.resets.max(resets);
    }

    fn begin(&mut self, word: Word<'_>, lexer: &mut Lexer<'_>) {
        let first = first(word);
        match first {
            First::Set => {
                self.present.set = Set::Pending;
                self.alters = true;
            }
            First::Do => lexer.count_everything(),
            First::Show => self.shows = true,
            _ => {}
        }
        match word.len() {
            4 if word.is("load") => self.pin(Pin::Load),
            4 if word.is("copy") => self.copies = true,
            5 if word.is("reset") => {
                self.alters = true;
                self.resets = Resets::ForSession;
            }
            6 if word.is("listen") => self.pin(Pin::Listen),
            7 if word.is("discard") => {
                self.forgets = true;
                self.resets = Resets::ForSession;
            }
            7 if word.is("prepare") || word.is("execute") => self.names = true,
            10 if word.is("deallocate") => {
                self.forgets = true;
                self.names = true;
            }
            _ => {}
        }
        self.present.first = Some(first);
    }

    /// A word behind the first of a statement.
    fn inside(&mut self, word: Word<'a>) {
        self.see_name(word);
        let present = &mut self.present;
        match word.len() {
            // EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE
            7 => self.names |= word.is("execute"),
            6 | 11 if word.is_name("schema") || word.is_name("search_path") => present.path = true,
            2 => present.to |= word.is("to"),
            3 => present.impure |= word.is("for"),
            4 => present.impure |= word.is("into"),
            5 => {
                present.chain |= word.is("chain");
                present.impure |= word.is("merge");
                present.immediate |= word.is("value");
            }
            6 => {
                present.impure |= word.is("insert") || word.is("update") || word.is("delete");
                present.immediate |= word.is("system");
            }
            8 => {
                present.prepared |= word.is("prepared");
                present.immediate |= word.is("database");
            }
            10 => present.immediate |= word.is("tablespace"),
            11 if present.first == Some(First::Prepare) && word.is("transaction") => {
                present.first = Some(First::PrepareTransaction);
            }
            12 => present.immediate |= word.is("concurrently") || word.is("subscription"),
            _ => {}
        }
    }

    /// What leaves something behind when its transaction has ended.
    fn see_name(&mut self, word: Word<'a>) {
        let first = self.present.first;
        let is_behind = |keywords: &[&str]| match self.present.previous {
            Some(Token::Word(previous)) => keywords.iter().any(|keyword| previous.is(keyword)),
            _ => false,
        };
        match word.len() {
            4 | 9 if word.is("temp") || word.is("temporary") => {
                let makes = is_behind(&["create", "replace", "local", "global"])
                    || (is_behind(&["into"]) && first != Some(First::Insert));
                if makes {
                    self.pin(Pin::Temporary);
                }
            }
            4 if first == Some(First::Declare) && word.is("hold") => self.pin(Pin::HoldCursor),
            10 if word.is_name("set_config") => {
                self.alters = true;
                match self.present.config {
                    Config::No => self.present.config = Config::Named,
                    Config::Named | Config::Inside(_) => self.pin(Pin::Parameter),
                }
            }
            // To update it is to call set_config().
            11 if word.is_name("pg_settings")
                && !matches!(first, Some(First::Select | First::Show | First::Insert)) =>
            {
                self.pin(Pin::Parameter);
            }
            7 if word.is("uescape") => self.pin(Pin::Parameter),
            7.. if word.may_be_of_a_session() => {
                if let Some(pin) = session_pin(word.text()) {
                    self.pin(pin);
                }
            }
            _ => {}
        }
    }

    /// A word where it cannot be told, or does not matter, whether it stands in a literal.
    fn anywhere(&mut self, word: Word<'_>) {
        self.present.immediate = true;
        match word.len() {
            3 if word.is("set") => self.pin(Pin::Parameter),
            4 if word.is("temp") => self.pin(Pin::Temporary),
            4 if word.is("hold") => self.pin(Pin::HoldCursor),
            4 if word.is("load") => self.pin(Pin::Load),
            5 if word.is("reset") => {
                self.pin(Pin::Parameter);
                self.resets = Resets::ForSession;
            }
            6 if word.is("listen") => self.pin(Pin::Listen),
            7 if word.is("prepare") => self.pin(Pin::SqlPrepare),
            7 | 10 if word.is("discard") || word.is("deallocate") => self.forgets = true,
            9 if word.is("temporary") => self.pin(Pin::Temporary),
            10 if word.is_name("set_config") => self.pin(Pin::Parameter),
            _ => {}
        }
    }

    fn see_set(&mut self, token: Token<'_>) {
        match (self.present.set, token) {
            (Set::No, _) => {}
            (Set::Pending, Token::Word(word)) if word.is("set") || word.is("session") => {}
            (Set::Pending, Token::Word(word))
                if word.is("local") || word.is("transaction") || word.is("constraints") =>
            {
                self.present.set = Set::Local;
            }
            (Set::Pending, Token::Word(word)) if can_be_carried(word.text()) => {
                self.present.set = Set::Named;
                self.sets = true;
            }
            (Set::Pending, _) | (Set::Local | Set::Named, Token::Dot) => {
                self.present.set = Set::Decided;
                self.pin(Pin::Parameter);
            }
            (Set::Named, _) => {
                self.present.set = Set::Decided;
                self.see_value(token);
                // SET NAMES DEFAULT
                if matches!(token, Token::Word(word) if word.is("default")) {
                    self.reset(false);
                }
            }
            (Set::Local | Set::InTransaction | Set::Decided, Token::Literal(_)) => {
                if self.present.set == Set::Local {
                    self.present.set = Set::InTransaction;
                }
                self.see_value(token);
            }
            (Set::Local, _) => self.present.set = Set::InTransaction,
            // SET TIME ZONE LOCAL is the default, too.
            (Set::InTransaction | Set::Decided, Token::Word(word))
                if word.is("default") || word.is("local") =>
            {
                let is_local = self.present.set == Set::InTransaction;
                self.reset(is_local);
            }
            (Set::InTransaction | Set::Decided, _) => {}
        }
    }

    /// The value of a parameter: `SET LOCAL search_path = 'pg_temp'` makes the next table a temporary one.
    fn see_value(&mut self, token: Token<'_>) {
        let Token::Literal(text) = token else { return };
        // Depending on the settings, a backslash may stand for any letter.
        let may_be_path =
            self.present.path || (self.present.config != Config::No && !self.present.config_carried);
        // Literals that follow each other are one.
        let is_continued = matches!(self.present.previous, Some(Token::Literal(_)));
        if contains(text, b"pg_temp") || (may_be_path && (is_continued || text.contains(&b'\\'))) {
            self.pin(Pin::Temporary);
        }
        self.present.path |= contains(text, b"search_path");
    }

    fn see_call(&mut self, token: Token<'_>) {
        if self.present.config != Config::No {
            self.see_value(token);
        }
        let present = &mut self.present;
        let is_known = match token {
            Token::Literal(_) | Token::Comma | Token::Close => true,
            Token::Word(word) => word.is("true") || word.is("false"),
            _ => false,
        };
        if (present.before_previous == Some(Token::Open) && token != Token::Comma)
            || (present.path && !is_known)
        {
            // Not the name alone; or a search_path that may turn out to be pg_temp.
            present.config_carried = false;
        }
        if present.config == Config::Named && token != Token::Open {
            let is_itself = matches!(token, Token::Word(word) if word.is_name("set_config"));
            if !is_itself {
                present.config = Config::No;
                self.pin(Pin::Parameter);
            }
            return;
        }
        match token {
            Token::Open => {
                present.depth += 1;
                if present.config == Config::Named {
                    present.config = Config::Inside(present.depth);
                    present.config_carried = false;
                }
                if let Some(Token::Word(called)) = present.previous {
                    present.impure |= !is_pure(called);
                }
            }
            Token::Close => {
                if present.config == Config::Inside(present.depth) {
                    present.config = Config::No;
                    // With `true` for its last argument it ends with the transaction.
                    let is_local = present.before_previous == Some(Token::Comma)
                        && matches!(present.previous, Some(Token::Word(word)) if word.is("true"));
                    let is_null = std::mem::take(&mut present.config_null);
                    match is_local {
                        true => {}
                        false if self.present.config_carried => self.sets = true,
                        false => self.pin(Pin::Parameter),
                    }
                    if is_null {
                        self.reset(is_local);
                    }
                }
                self.present.depth = self.present.depth.saturating_sub(1);
            }
            Token::Literal(name)
                if present.previous == Some(Token::Open)
                    && present.config == Config::Inside(present.depth) =>
            {
                present.config_carried = can_be_carried(name);
            }
            Token::Word(word) if word.is("null") => present.config_null |= present.config != Config::No,
            Token::Hidden => {
                present.impure = true;
                self.pin(Pin::Parameter);
            }
            _ => {}
        }
    }

    fn end_statement(&mut self) {
        let statement = std::mem::take(&mut self.present);
        if statement.config != Config::No {
            self.pin(Pin::Parameter);
        }
        // SET NAMES, which is SET NAMES DEFAULT.
        if statement.set == Set::Named {
            self.reset(false);
        }
        let Some(effect) = statement.effect() else { return };
        self.statements += 1;
        self.exits = statement.exits();
        self.effect = Some(match self.effect {
            None => effect,
            Some(before) if before.max(effect) <= Effect::Write => before.max(effect),
            Some(_) => Effect::MayCommit,
        });
    }

    fn conclude(mut self, unclear: bool) -> Scan {
        self.end_statement();
        let effect = if unclear { Effect::MayCommit } else { self.effect.unwrap_or(Effect::Empty) };
        let single = self.statements <= 1 && !unclear;
        let exits = self.exits && single;
        let Self { pin, forgets, names, alters, sets, resets, copies, .. } = self;
        Scan {
            pin,
            effect,
            forgets,
            names,
            alters,
            sets,
            resets,
            copies,
            exits,
            whole: true,
            single,
            view: None,
        }
    }
}

impl Statement<'_> {
    /// `None` if there is no statement.
    fn effect(&self) -> Option<Effect> {
        Some(match self.first? {
            First::Show => Effect::Harmless,
            First::Select | First::With if !self.impure => Effect::Harmless,
            First::Begin => Effect::Begin,
            First::Rollback if self.prepared => Effect::MayCommit,
            First::Rollback if self.to || self.chain => Effect::Write,
            First::Rollback => Effect::Rollback,
            First::Commit if self.chain || self.prepared => Effect::MayCommit,
            First::Commit => Effect::Commit,
            First::Define if self.immediate => Effect::MayCommit,
            First::PrepareTransaction | First::Do | First::Unknown => Effect::MayCommit,
            First::Select
            | First::With
            | First::Prepare
            | First::Set
            | First::Declare
            | First::Insert
            | First::Define
            | First::Plain => Effect::Write,
        })
    }

    /// True for what PostgreSQL runs in an aborted transaction.
    const fn exits(&self) -> bool {
        match self.first {
            Some(First::Commit | First::Rollback) => !self.prepared,
            Some(First::PrepareTransaction) => true,
            _ => false,
        }
    }
}

/// True for the names of the parameters that a server tells of, and that another server can be given: none that is made up
/// (`app.x`), nor who the session is, nor the state of `random()`.
fn can_be_carried(name: &[u8]) -> bool {
    // PostgreSQL refuses temp_buffers where temporary tables have been used.
    const NOT: [&[u8]; 5] = [b"role", b"authorization", b"session_authorization", b"seed", b"temp_buffers"];
    name.iter().all(|&byte| byte.is_ascii_alphabetic() || byte == b'_')
        && !NOT.iter().any(|not| name.eq_ignore_ascii_case(not))
}

/// True if `lower` is in `text`, in upper or lower case.
fn contains(text: &[u8], lower: &[u8]) -> bool {
    text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower))
}
