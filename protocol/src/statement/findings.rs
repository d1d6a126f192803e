//! What the words of a text amount to.

mod parameters;
mod present;

use super::calls::{Call, Calls};
use super::first::{First, first};
use super::lexer::{Lexer, Token, Word};
use super::pgpool::pool_view;
use super::place::{Bearing, Hint};
use super::rest::Rest;
use super::sequences::{Draws, asks, drawn_by};
use super::words::{has_execute, lists_statements, session_pin, undoes};
use super::{Effect, InBlock, Pin, Place, Resets, Scan, SetsCustom, Sight, Step, Why};

/// Looks at the text of a Query or Parse message.
#[must_use]
pub fn scan(text: &[u8]) -> Scan {
    let (findings, lexer) = look_at(text);
    let view = if findings.shows { pool_view(text) } else { None };
    let may_be_step = findings.may_be_step;
    let scan = findings.conclude(lexer.unclear);
    let hint = Hint::of(text);
    let place = hint.map_or(scan.place, |hint| hint.apply(scan.place));
    let is_plain = scan.may_be_step() && view.is_none() && hint != Some(Hint::Primary);
    let step = if may_be_step && is_plain { Step::of(text) } else { None };
    let in_block = match step {
        Some(step) => step.in_block(),
        None if is_plain => scan.in_block,
        None => InBlock::Other,
    };
    Scan { view, place, in_block, ..scan }
}

/// Looks at the start of a text that is too long to be seen at once; also says what is needed to look at the rest.
#[must_use]
pub fn scan_start(text: &[u8]) -> (Scan, Rest) {
    let (findings, _) = look_at(text);
    let is_do = findings.present.first == Some(First::Do);
    let prepares = findings.present.first == Some(First::Prepare);
    let Scan { pin, names, sets, sets_custom, resets, sees, asks, .. } = findings.conclude(true);
    let pin = pin.or(prepares.then_some(Pin::SqlPrepare));
    let known = Scan { pin, names, sets, sets_custom, resets, sees, asks, ..Scan::UNKNOWN };
    (Scan { suspect: is_do, runs_any: is_do, ..known }, Rest::new(is_do))
}

/// True for the first word of a DO.
pub(super) fn is_do(word: Word<'_>) -> bool {
    word.is("do")
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
    sets_custom: SetsCustom,
    resets: Resets,
    copies: bool,
    exits: bool,
    undoes: bool,
    sees: Sight,
    suspect: bool,
    runs_any: bool,
    views: bool,
    draws: Draws,
    asks: bool,
    only_sets: bool,
    /// SHOW
    shows: bool,
    /// It begins like a [`Step`].
    may_be_step: bool,
    /// It is a BEGIN that does not say whether its transaction may write.
    begins_by_default: bool,
    /// The statements that have ended.
    statements: usize,
    /// The worst of what they do.
    effect: Option<Effect>,
    /// Why they are for the primary.
    why: Option<Why>,
    /// The present one.
    present: Statement<'a>,
}

#[derive(Default)]
struct Statement<'a> {
    first: Option<First>,
    previous: Option<Token<'a>>,
    before_previous: Option<Token<'a>>,
    calls: Calls<'a>,
    bearing: Bearing,
    /// How many parentheses are open.
    depth: usize,
    set: Set,
    config: Config,
    /// The parameter of that call can be carried.
    config_carried: bool,
    /// It may be a custom one.
    config_custom: SetsCustom,
    /// It names search_path.
    path: bool,
    /// Among its arguments is NULL, which stands for the default.
    config_null: bool,
    /// It may write.
    impure: bool,
    /// INTO
    into: bool,
    draws: Draws,
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
    /// SET and a name that is none of those that can be carried, unless it goes on.
    Odd,
    /// SET ROLE, SET SESSION AUTHORIZATION
    Role,
    /// SET LOCAL, SET TRANSACTION or SET CONSTRAINTS, unless it is `local.name`.
    Local,
    /// SET LOCAL and a name.
    LocalNamed,
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
            Token::Literal(text) if has_execute(text) => self.sees = self.sees.max(Sight::OfPrepare),
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
            Token::Backslash if self.present.first == Some(First::Do) => self.pin_hidden(),
            _ => {}
        }
        if self.present.set != Set::No {
            self.see_set(token);
        }
        self.see_call(token);
        self.see_called(token);
        self.present.before_previous = self.present.previous.replace(token);
    }

    fn pin(&mut self, pin: Pin) {
        self.alters |= matches!(pin, Pin::Parameter | Pin::Role);
        self.pin = Pin::worse(self.pin, Some(pin));
    }

    /// It may set any parameter.
    fn pin_hidden(&mut self) {
        self.sets_custom = SetsCustom::Hidden;
        self.pin(Pin::Parameter);
    }

    /// It sets a custom parameter, which has a name.
    fn set_custom(&mut self, sets_custom: SetsCustom) {
        self.sets_custom = self.sets_custom.max(sets_custom);
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
            4 if word.is("drop") => self.undoes = true,
            5 if word.is("close") => self.undoes = true,
            5 if word.is("reset") => {
                self.alters = true;
                self.undoes = true;
                self.resets = Resets::ForSession;
            }
            6 if word.is("listen") => self.pin(Pin::Listen),
            7 if word.is("discard") => self.undoes = true,
            7 if word.is("prepare") || word.is("execute") => self.names = true,
            10 if word.is("deallocate") => {
                self.forgets = true;
                self.names = true;
            }
            _ => {}
        }
        self.views |= word.is("table");
        self.may_be_step |= first.may_be_step(word);
        self.present.draws = first.draws();
        self.present.first = Some(first);
    }

    /// A word behind the first of a statement.
    fn inside(&mut self, word: Word<'a>) {
        self.see_name(word);
        self.views |= word.is("from") || word.is("table");
        let present = &mut self.present;
        if let Some(first) = present.first {
            present.bearing.see_word(first, word, present.previous);
        }
        match word.len() {
            // EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE
            7 => self.names |= word.is("execute"),
            6 | 11 if word.is_name("schema") || word.is_name("search_path") => present.path = true,
            2 => {
                present.to |= word.is("to");
                present.locks(word.is("no"));
            }
            // What else can be discarded leaves statements and parameters as they are.
            3 if present.first == Some(First::Discard) && word.is("all") => {
                self.forgets = true;
                self.resets = Resets::ForSession;
            }
            3 => present.locks(word.is("key")),
            4 if present.first == Some(First::Work) && word.is("from") => present.reads_in(self.copies),
            4 => present.changes_into(word.is("into")),
            5 => {
                present.chain |= word.is("chain");
                present.changes(word.is("merge"), Draws::Likely);
                present.immediate |= word.is("value");
                present.locks(word.is("share"));
            }
            6 => {
                present.changes(word.is("insert"), Draws::Likely);
                present.changes(word.is("update") || word.is("delete"), Draws::Perhaps);
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
            4 if first == Some(First::Declare) && word.is("hold") && !is_behind(&["without"]) => {
                self.pin(Pin::HoldCursor);
            }
            10 if word.is_name("set_config") => {
                self.alters = true;
                match self.present.config {
                    Config::No => self.present.config = Config::Named,
                    Config::Named | Config::Inside(_) => self.pin_hidden(),
                }
            }
            // To update it is to call set_config().
            11 if word.is_name("pg_settings")
                && !matches!(first, Some(First::Select | First::Show | First::Insert)) =>
            {
                self.pin(Pin::Parameter);
            }
            7 if word.is("uescape") => self.pin_hidden(),
            7.. if word.may_be_of_a_session() => {
                if let Some(pin) = session_pin(word.text()) {
                    self.pin(pin);
                }
                self.undoes |= undoes(word.text());
                if lists_statements(word.text()) {
                    self.sees = Sight::All;
                }
            }
            _ => {}
        }
    }

    /// A word where it cannot be told, or does not matter, whether it stands in a literal.
    fn anywhere(&mut self, word: Word<'_>) {
        self.present.immediate = true;
        match word.len() {
            3 if word.is("set") => self.pin_hidden(),
            4 if word.is("temp") => self.pin(Pin::Temporary),
            4 if word.is("hold") => self.pin(Pin::HoldCursor),
            4 if word.is("drop") => self.undoes = true,
            4 if word.is("load") => self.pin(Pin::Load),
            5 if word.is("reset") => {
                self.pin(Pin::Parameter);
                self.resets = Resets::ForSession;
            }
            6 if word.is("listen") => self.pin(Pin::Listen),
            7 if asks(word) => self.asks = true,
            7 if word.is("prepare") => self.pin(Pin::SqlPrepare),
            // What it executes may be made up of parts.
            7 if word.is("execute") => {
                self.suspect = true;
                self.runs_any = true;
                self.sees = self.sees.max(Sight::OfPrepare);
            }
            7 | 10 if word.is("discard") || word.is("deallocate") => self.forgets = true,
            9 if word.is("temporary") => self.pin(Pin::Temporary),
            10 if word.is_name("set_config") => self.pin_hidden(),
            _ => {}
        }
    }

    /// What stands before a parenthesis.
    fn see_called(&mut self, token: Token<'a>) {
        let present = &mut self.present;
        present.bearing.see(present.previous, token);
        match present.calls.see(token) {
            Some(Call::Of(called)) => {
                present.calls(drawn_by(called, present.calls.in_catalog));
                self.asks |= asks(called);
            }
            // It may be any.
            Some(Call::Hidden) => {
                present.calls(Draws::Perhaps);
                self.asks = true;
            }
            None => {}
        }
    }

    fn end_statement(&mut self) {
        let mut statement = std::mem::take(&mut self.present);
        statement.bearing.see(statement.previous, Token::Semicolon);
        if statement.config != Config::No {
            self.pin_hidden();
        }
        // SET NAMES, which is SET NAMES DEFAULT.
        if statement.set == Set::Named {
            self.reset(false);
        }
        let Some(effect) = statement.effect() else { return };
        self.statements += 1;
        self.alters |= statement.may_define();
        self.draws = self.draws.max(statement.draws());
        self.exits = statement.exits();
        self.only_sets = statement.first == Some(First::Set);
        self.begins_by_default =
            statement.first == Some(First::Begin) && statement.bearing.begins_by_default();
        let why = statement.why(self.copies);
        self.why = if self.statements == 1 { why } else { Why::of_both(self.why, why) };
        self.effect = Some(match self.effect {
            None => effect,
            Some(before) if before.max(effect) <= Effect::Write => before.max(effect),
            Some(_) => Effect::MayCommit,
        });
    }

    fn place(&self, unclear: bool) -> Place {
        let is_of_session = self.pin.is_some() || self.alters || self.forgets || self.names || self.undoes;
        let is_several = self.statements > 1;
        match self.why {
            _ if unclear => Place::Primary(Why::Unclear),
            // Transactions begin or end within it.
            _ if is_several && self.effect > Some(Effect::Write) => Place::Primary(Why::Unclear),
            None | Some(Why::Function | Why::Server) if is_of_session => Place::Primary(Why::Session),
            None => Place::Standby,
            Some(why @ (Why::Function | Why::Server)) => Place::Primary(why),
            Some(_) if is_several => Place::Primary(Why::Unclear),
            Some(why) => Place::Primary(why),
        }
    }

    fn conclude(mut self, unclear: bool) -> Scan {
        self.end_statement();
        let effect = if unclear { Effect::MayCommit } else { self.effect.unwrap_or(Effect::Empty) };
        let single = self.statements <= 1 && !unclear;
        let (exits, only_sets) = (self.exits && single, self.only_sets && single);
        let draws = if unclear { self.draws.max(Draws::Perhaps) } else { self.draws };
        let place = self.place(unclear);
        let Self { pin, forgets, names, alters, sets, sets_custom, resets, .. } = self;
        let Self { copies, undoes, suspect, runs_any, views, asks, sees, .. } = self;
        Scan {
            pin,
            effect,
            place,
            forgets,
            names,
            alters,
            sets,
            only_sets,
            sets_custom,
            resets,
            copies,
            exits,
            undoes,
            sees,
            suspect,
            runs_any,
            views,
            draws,
            asks,
            whole: true,
            single,
            view: None,
            in_block: if self.begins_by_default { InBlock::Opens } else { InBlock::Other },
        }
    }
}
