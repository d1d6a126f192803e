//! What a text can name that leaves something in the session without the text's showing it: functions that make temporary
//! tables or take session-level locks, tables with triggers that do, views of such tables.
//!
//! Which these are is for the catalogue of a database to tell. Here it is found out whether a text names one.

use std::collections::HashMap;
use std::sync::Arc;

use super::findings::is_do;
use super::lexer::{Lexer, Token};
use super::{Effect, Pin, Scan, SetsCustom};

/// The names, and what using them means.
#[derive(Debug, Default)]
pub struct Names {
    /// Tells one such set from others that were or will be in the process; 0 for the empty one.
    pub number: u64,
    /// As PostgreSQL has them in its catalogue, without their schemas.
    pub known: HashMap<Box<[u8]>, Named>,
    /// There are more than are kept: every text may name one.
    pub too_many: bool,
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
}

impl Names {
    fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.too_many
    }

    /// Looks for names in a text. A word counts wherever it stands but in a literal: it may be a column's of the same name.
    pub(crate) fn find(&self, text: &[u8]) -> Named {
        let mut found = if self.too_many { Named::ANY } else { Named::default() };
        let mut lexer = Lexer::new(text);
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
        }
        found
    }
}

impl Named {
    /// Of a text that is not known.
    pub(crate) const ANY: Self =
        Self { suspect: true, pin: None, sets_custom: SetsCustom::Nothing, alters: false, runs_any: true };

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            suspect: self.suspect || other.suspect,
            pin: Pin::worse(self.pin, other.pin),
            sets_custom: self.sets_custom.max(other.sets_custom),
            alters: self.alters || other.alters,
            runs_any: self.runs_any || other.runs_any,
        }
    }

    /// How many bits [`Named::to_bits`] may set.
    pub(crate) const BITS: u32 = 7;

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
        ((self.runs_any as u64) << 6) + ((self.alters as u64) << 5) + sets_custom + pin + self.suspect as u64
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
        Self { suspect: bits & 1 == 1, pin, sets_custom, alters: bits & 32 == 32, runs_any: bits & 64 == 64 }
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
    /// What a text says and names. `find` gives what it names, and may know that from before.
    #[inline]
    pub(crate) fn judge(&self, scan: Scan, find: impl FnOnce(&Names) -> Named) -> Scan {
        if self.trust == Trust::Blind {
            return Scan { suspect: false, runs_any: false, ..scan };
        }
        let named = if self.names.is_empty() { Named::default() } else { find(&self.names) };
        let acts = self.trust == Trust::Nothing && matches!(scan.effect, Effect::Write | Effect::MayCommit);
        let suspect = scan.suspect || named.suspect || acts;
        let sets_custom = scan.sets_custom.max(named.sets_custom);
        let alters = scan.alters || named.alters;
        // Of functions of which nothing is known, each may.
        let runs_any = scan.runs_any || named.runs_any || (acts && self.names.number == 0);
        Scan { suspect, sets_custom, alters, runs_any, pin: Pin::worse(scan.pin, named.pin), ..scan }
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
        let names = Names { number: 1, known: known.into(), too_many: false };
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
                    let named = Named { suspect, pin, sets_custom, alters: suspect, runs_any: !suspect };
                    assert_eq!(Named::from_bits(named.to_bits()), named);
                    assert!(named.to_bits() >> Named::BITS == 0);
                }
            }
        }
    }
}
