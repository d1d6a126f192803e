//! What a text can name that leaves something in the session without the text's showing it: functions that make temporary
//! tables or take session-level locks, tables with triggers that do, views of such tables. And what it can name that decides where
//! it may run: functions that only read, and what is not the same on a standby.
//!
//! Which these are is for the catalogue of a database to tell. Here it is found out whether a text names one.

use std::collections::HashMap;
use std::sync::Arc;

use super::calls::{Call, Calls};
use super::findings::is_do;
use super::lexer::{Lexer, Token};
use super::rules::FunctionRules;
use super::{Effect, Pin, Place, Scan, SetsCustom, Why};

/// The names, and what using them means.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Tells one such set from others that were or will be in the process; 0 for the empty one.
    pub number: u64,
    /// As PostgreSQL has them in its catalogue, without their schemas.
    pub known: HashMap<Box<[u8]>, Named>,
    /// There are more than are kept: every text may name one.
    pub too_many: bool,
    /// There are more than are kept of what is not the same on a standby.
    pub too_many_apart: bool,
    /// A catalogue was read for them.
    pub is_read: bool,
    /// What an administrator says of functions.
    pub rules: Arc<FunctionRules>,
}

/// What is named, and may leave something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The server is to be asked afterwards.
    pub suspect: bool,
    /// The server does not tell afterwards that this is there, so that naming it is enough.
    pub pin: Option<Pin>,
    /// Custom parameters that it sets, if only for the transaction.
    pub sets_custom: SetsCustom,
    /// It sets run-time parameters, if only for the transaction.
    pub alters: bool,
    /// It runs texts that nobody sees beforehand.
    pub runs_any: bool,
    /// It is the name of functions that only read, and of no others. Of a text: all that it calls are such.
    pub reads: bool,
    /// It is not the same on a standby, or writes where it is read.
    pub apart: bool,
}

impl Names {
    fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.too_many && !self.too_many_apart && self.rules.is_empty()
    }

    /// Looks for names in a text. A word counts wherever it stands but in a literal: it may be a column's of the same name.
    pub(crate) fn find(&self, text: &[u8]) -> Named {
        let mut found = if self.too_many { Named::ANY } else { Named::default() };
        let mut lexer = Lexer::new(text);
        let mut calls = Calls::default();
        let (mut reads, mut apart) = (true, self.too_many_apart);
        let mut is_first = true;
        while let Some(token) = lexer.next() {
            match token {
                Token::Word(word) => {
                    if std::mem::take(&mut is_first) && is_do(word) {
                        lexer.count_everything();
                    }
                    let known = self.known.get(&*word.folded());
                    // Where everything counts, quotation marks do not.
                    let raw = || lexer.counts_everything().then(|| self.known.get(word.text())).flatten();
                    if let Some(named) = known.or_else(raw) {
                        found = found.and(*named);
                    }
                }
                Token::Semicolon => is_first = true,
                // It may be any name.
                Token::Hidden => found = found.and(Named::ANY),
                _ => {}
            }
            apart |= token == Token::Open && self.is_ruled_out(calls.previous);
            reads &= calls.see(token).is_none_or(|call| self.reads(call));
        }
        Named { reads, apart: found.apart || apart, ..found }
    }

    /// The function whose parenthesis follows is for the primary, whatever else is known of it.
    fn is_ruled_out(&self, called: Option<Token<'_>>) -> bool {
        match called {
            Some(Token::Word(word)) if !self.rules.writes.is_empty() => {
                self.rules.reads(&word.folded()) == Some(false)
            }
            _ => false,
        }
    }

    fn reads(&self, call: Call<'_>) -> bool {
        let Call::Of(word) = call else { return false };
        let name = word.folded();
        self.rules.reads(&name).unwrap_or_else(|| self.known.get(&*name).is_some_and(|named| named.reads))
    }
}

impl Named {
    /// Of a text that is not known.
    pub(crate) const ANY: Self = Self {
        suspect: true,
        pin: None,
        sets_custom: SetsCustom::Nothing,
        alters: false,
        runs_any: true,
        reads: false,
        apart: false,
    };

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            suspect: self.suspect || other.suspect,
            pin: Pin::worse(self.pin, other.pin),
            sets_custom: self.sets_custom.max(other.sets_custom),
            alters: self.alters || other.alters,
            runs_any: self.runs_any || other.runs_any,
            reads: self.reads || other.reads,
            apart: self.apart || other.apart,
        }
    }

    /// It says something of sessions.
    #[must_use]
    pub fn is_of_session(&self) -> bool {
        let Self { suspect, pin, sets_custom, alters, runs_any, .. } = *self;
        suspect || pin.is_some() || sets_custom != SetsCustom::Nothing || alters || runs_any
    }

    /// How many bits [`Named::to_bits`] may set.
    pub(crate) const BITS: u32 = 9;

    /// For an atomic number.
    pub(crate) const fn to_bits(self) -> u64 {
        let pin = match self.pin {
            None => 0,
            Some(Pin::Load) => 2,
            Some(Pin::Parameter) => 6,
            Some(_) => 4,
        };
        let sets_custom = match self.sets_custom {
            SetsCustom::Nothing => 0,
            SetsCustom::Named | SetsCustom::Suspected => 8,
            SetsCustom::Hidden => 16,
        };
        ((self.apart as u64) << 8)
            + ((self.reads as u64) << 7)
            + ((self.runs_any as u64) << 6)
            + ((self.alters as u64) << 5)
            + sets_custom
            + pin
            + self.suspect as u64
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        let pin = match bits & 6 {
            0 => None,
            2 => Some(Pin::Load),
            6 => Some(Pin::Parameter),
            _ => Some(Pin::SessionFunction),
        };
        let sets_custom = match bits & 24 {
            0 => SetsCustom::Nothing,
            8 => SetsCustom::Suspected,
            _ => SetsCustom::Hidden,
        };
        Self {
            suspect: bits & 1 == 1,
            pin,
            sets_custom,
            alters: bits & 32 == 32,
            runs_any: bits & 64 == 64,
            reads: bits & 128 == 128,
            apart: bits & 256 == 256,
        }
    }
}

/// How far it is known what texts leave in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nobody is to ask what a session has left: what a text does not show is not there.
    #[default]
    Blind,
    /// The names are known of everything that may leave something.
    Names,
    /// They may not be all: whatever may do more than read is suspect.
    Nothing,
}

/// What texts are suspected of that are said to one database.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    /// How far the names are trusted.
    pub trust: Trust,
    /// The names that are known.
    pub names: Arc<Names>,
    /// What the schema was when they were: see [`Statements::generation`](crate::prepared::Statements::generation).
    pub generation: u64,
    /// Custom parameters that functions may set; a server tells of those only by their names.
    pub parameters: Arc<[Box<str>]>,
}

impl Suspects {
    /// What a text amounts to that is said once.
    #[must_use]
    pub fn scan(&self, text: &[u8]) -> Scan {
        self.judge_text(super::scan(text), text)
    }

    /// What a text says and names. `find` gives what it names, and may know that from before.
    #[inline]
    pub(crate) fn judge(&self, scan: Scan, find: impl FnOnce(&Names) -> Named) -> Scan {
        let named = if self.names.is_empty() { Named::default() } else { find(&self.names) };
        let place = self.place(scan, named);
        if self.trust == Trust::Blind {
            return Scan { suspect: false, views: false, runs_any: false, place, ..scan };
        }
        let acts = self.trust == Trust::Nothing && matches!(scan.effect, Effect::Write | Effect::MayCommit);
        let suspect = scan.suspect || named.suspect || acts;
        let views = scan.views && self.is_unread();
        let sets_custom = scan.sets_custom.max(named.sets_custom);
        let alters = scan.alters || named.alters;
        // Of functions of which nothing is known, each may.
        let runs_any = scan.runs_any || named.runs_any || (acts && !self.names.is_read);
        // A view may write.
        let is_more = named.apart && scan.effect == Effect::Harmless;
        let effect = if is_more { Effect::Write } else { scan.effect };
        let pin = Pin::worse(scan.pin, named.pin);
        Scan { suspect, views, sets_custom, alters, runs_any, pin, place, effect, ..scan }
    }

    /// Where it may run. What was known before the schema changed is believed where it keeps a text on the primary.
    fn place(&self, scan: Scan, named: Named) -> Place {
        match scan.place {
            Place::Standby | Place::Primary(Why::Function) if named.apart => Place::Primary(Why::Name),
            Place::Primary(Why::Function) if !named.reads || self.trust == Trust::Nothing => scan.place,
            Place::Standby | Place::Primary(Why::Function) => match () {
                () if named.is_of_session() && self.trust != Trust::Blind => Place::Primary(Why::Session),
                () if self.is_unread() && matches!(scan.effect, Effect::Harmless | Effect::Write) => {
                    Place::Primary(Why::Unread)
                }
                () => Place::Standby,
            },
            place @ Place::Primary(_) => place,
        }
    }

    fn is_unread(&self) -> bool {
        self.trust == Trust::Nothing && !self.names.is_read
    }

    /// The same of a text that was not looked at before.
    pub(crate) fn judge_text(&self, scan: Scan, text: &[u8]) -> Scan {
        self.judge(scan, |names| names.find(text))
    }

    /// The same of a text that is not all there.
    pub(crate) fn judge_unseen(&self, scan: Scan) -> Scan {
        self.judge(scan, |_| Named::ANY)
    }
}

/// What a text named of a set of names, if it was looked at for that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remembered {
    number: u64,
    named: Named,
}

impl Remembered {
    pub(super) fn recall(&mut self, names: &Names, text: &[u8]) -> Named {
        if self.number != names.number {
            *self = Self { number: names.number, named: names.find(text) };
        }
        self.named
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::*;

    fn suspects(trust: Trust) -> Suspects {
        let custom = Named { sets_custom: SetsCustom::Suspected, ..Named::default() };
        let loads = Named { pin: Some(Pin::Load), ..Named::ANY };
        let known = [
            ("make", Named::ANY),
            ("Odd \"one", Named::ANY),
            ("users", Named::ANY),
            ("loads", loads),
            ("sets", custom),
        ];
        let known = known.map(|(name, named)| (name.as_bytes().into(), named));
        let names = Names { number: 1, known: known.into(), is_read: true, ..Names::default() };
        Suspects { trust, names: Arc::new(names), ..Suspects::default() }
    }

    fn judged(trust: Trust, text: &str) -> (bool, Option<Pin>) {
        let found = suspects(trust).judge_text(scan(text.as_bytes()), text.as_bytes());
        (found.suspect, found.pin)
    }

    #[test]
    fn a_text_that_names_one_is_suspect() {
        for text in [
            "SELECT make()",
            "select s.MAKE ( 1 )",
            "SELECT \"make\"()",
            "SELECT \"Odd \"\"one\"()",
            "SELECT users.id FROM a.users",
            "DO $$ begin perform make(); end $$",
            "SELECT 1; DO 'begin perform make(); end'",
            "DO $$ begin perform \"Odd \"\"one\"(); execute 'x'; end $$",
            "SELECT U&\"m\\0061ke\"()",
        ] {
            assert!(judged(Trust::Names, text).0, "{text}");
            assert!(!judged(Trust::Blind, text).0, "{text}");
        }
        for text in [
            "SELECT maker()",
            "SELECT 'make'",
            "SELECT $$make$$ -- make",
            "SELECT \"Make\"()",
            "UPDATE t SET a = f(1)",
        ] {
            assert!(!judged(Trust::Names, text).0, "{text}");
        }
        assert_eq!(judged(Trust::Names, "SELECT loads()"), (true, Some(Pin::Load)));
        assert_eq!(judged(Trust::Names, "SELECT sets()"), (false, None));
        let sets = suspects(Trust::Names).judge_text(scan(b"SELECT sets()"), b"SELECT sets()");
        assert_eq!(sets.sets_custom, SetsCustom::Suspected);
    }

    #[test]
    fn where_the_names_are_not_known_whatever_does_more_than_read_is_suspect() {
        for (text, suspect) in [
            ("SELECT a FROM t", false),
            ("BEGIN", false),
            ("COMMIT", false),
            ("SELECT f(1)", true),
            ("UPDATE t SET a = 1", true),
            ("CALL p()", true),
            ("SELECT make", true),
        ] {
            assert_eq!(judged(Trust::Nothing, text).0, suspect, "{text}");
        }
    }

    #[test]
    fn before_a_catalogue_was_read_whatever_reads_a_table_may_read_a_view_that_leaves_something() {
        let unread = Suspects { trust: Trust::Nothing, ..Suspects::default() };
        let views = |suspects: &Suspects, text: &str| suspects.scan(text.as_bytes()).views;
        for text in [
            "SELECT a FROM t",
            "table t",
            "SELECT (TABLE t)",
            "WITH w AS (TABLE t) SELECT 1",
            "SELECT 1; TABLE t",
        ] {
            assert!(views(&unread, text), "{text}");
            assert!(!unread.scan(text.as_bytes()).suspect, "{text}");
            assert!(!views(&suspects(Trust::Nothing), text) && !views(&Suspects::default(), text), "{text}");
        }
        for text in ["SELECT 1", "SHOW work_mem", "BEGIN", "VALUES (1)", "SELECT 'from t'"] {
            assert!(!views(&unread, text), "{text}");
        }
    }

    #[test]
    fn what_a_text_names_is_remembered_for_one_set_of_names() {
        let suspects = suspects(Trust::Names);
        let mut remembered = Remembered::default();
        assert!(remembered.recall(&suspects.names, b"SELECT make()").suspect);
        assert!(remembered.recall(&suspects.names, b"not looked at again").suspect);
        let others = Names { number: 2, ..Names::default() };
        assert!(!remembered.recall(&others, b"SELECT make()").suspect);
        for pin in [None, Some(Pin::Load), Some(Pin::SessionFunction), Some(Pin::Parameter)] {
            for sets_custom in [SetsCustom::Nothing, SetsCustom::Suspected, SetsCustom::Hidden] {
                for suspect in [false, true] {
                    let (reads, apart) = (suspect, !suspect);
                    let named =
                        Named { suspect, pin, sets_custom, alters: suspect, runs_any: apart, reads, apart };
                    assert_eq!(Named::from_bits(named.to_bits()), named);
                    assert!(named.to_bits() >> Named::BITS == 0);
                }
            }
        }
    }

    fn places(suspects: &Suspects, text: &str) -> Place {
        suspects.judge_text(scan(text.as_bytes()), text.as_bytes()).place
    }

    /// Where functions `reads()` and `mixed()`, of which the latter has an overload that leaves something, and a view `odd` are known.
    fn readers(trust: Trust, rules: FunctionRules) -> Suspects {
        let reads = Named { reads: true, ..Named::default() };
        let apart = Named { apart: true, ..Named::default() };
        let known = [("reads", reads), ("mixed", reads.and(Named::ANY)), ("odd", apart)];
        let known = known.map(|(name, named)| (name.as_bytes().into(), named)).into();
        let names = Names { number: 2, known, is_read: true, rules: Arc::new(rules), ..Names::default() };
        Suspects { trust, names: Arc::new(names), ..Suspects::default() }
    }

    #[test]
    fn the_catalogue_says_which_functions_only_read() {
        let primary = |why| Place::Primary(why);
        for (text, known, outdated) in [
            ("SELECT lower(a) FROM t", Place::Standby, Place::Standby),
            ("SELECT reads(1), s.READS(2), \"reads\"(3)", Place::Standby, primary(Why::Function)),
            ("SELECT reads(1), other(2)", primary(Why::Function), primary(Why::Function)),
            ("SELECT \"Reads\"(1)", primary(Why::Function), primary(Why::Function)),
            ("SELECT reads(1), pg_backend_pid()", primary(Why::Function), primary(Why::Function)),
            ("SELECT mixed(1)", primary(Why::Session), primary(Why::Function)),
            ("SELECT * FROM odd", primary(Why::Name), primary(Why::Name)),
            ("SELECT reads(1) FROM t FOR UPDATE", primary(Why::Writes), primary(Why::Writes)),
            ("COPY (SELECT reads(a) FROM t) TO STDOUT", Place::Standby, primary(Why::Function)),
        ] {
            assert_eq!(places(&readers(Trust::Names, FunctionRules::default()), text), known, "{text}");
            assert_eq!(places(&readers(Trust::Nothing, FunctionRules::default()), text), outdated, "{text}");
        }
        let unread = Suspects { trust: Trust::Nothing, ..Suspects::default() };
        assert_eq!(places(&unread, "SELECT a FROM t"), primary(Why::Unread));
        assert_eq!(places(&unread, "BEGIN READ ONLY"), Place::Standby);
        assert_eq!(places(&Suspects::default(), "SELECT a FROM t"), Place::Standby);
    }

    #[test]
    fn an_administrator_knows_better() {
        let rules = FunctionRules { reads: vec!["o*".into()], writes: vec!["low*".into(), "reads".into()] };
        for trust in [Trust::Names, Trust::Blind] {
            let suspects = readers(trust, rules.clone());
            assert_eq!(places(&suspects, "SELECT other(1)"), Place::Standby);
            assert_eq!(places(&suspects, "SELECT lower(a), low FROM t"), Place::Primary(Why::Name));
            assert_eq!(places(&suspects, "SELECT lower, reads FROM t"), Place::Standby);
            assert_eq!(places(&suspects, "SELECT pg_catalog.\"reads\"(1)"), Place::Primary(Why::Name));
        }
    }
}
