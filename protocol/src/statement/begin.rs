//! What a BEGIN says of its transaction.

use super::lexer::{Lexer, Token};

/// What a transaction sees of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED, which is READ COMMITTED.
    ReadUncommitted,
    /// Each statement what was committed before it.
    ReadCommitted,
    /// All statements what was committed before the first.
    RepeatableRead,
    /// The same, and no standby has it.
    Serializable,
}

impl Isolation {
    /// The level that a BEGIN asks for, if it asks for one.
    #[must_use]
    pub fn asked_for(text: &[u8]) -> Option<Self> {
        let mut lexer = Lexer::new(text);
        let mut asked_for = None;
        while let Some(token) = lexer.next() {
            let Token::Word(word) = token else { continue };
            let words = [
                ("uncommitted", Self::ReadUncommitted),
                ("committed", Self::ReadCommitted),
                ("repeatable", Self::RepeatableRead),
                ("serializable", Self::Serializable),
            ];
            // Of several the last counts.
            asked_for = words.iter().find(|(keyword, _)| word.is(keyword)).map(|(_, it)| *it).or(asked_for);
        }
        asked_for
    }

    /// As a server calls it.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let all = [Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];
        all.into_iter().find(|level| level.name().as_bytes() == name)
    }

    /// The same.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }

    /// True if each statement sees what was committed before it: then it makes no difference on which of two servers the next one runs, if that
    /// has all that the other has.
    #[must_use]
    pub const fn is_anew_for_each_statement(self) -> bool {
        matches!(self, Self::ReadUncommitted | Self::ReadCommitted)
    }
}

/// Whether a BEGIN asks for a transaction that is DEFERRABLE, or for one that is not; none if for neither.
#[must_use]
pub fn asks_deferrable(text: &[u8]) -> Option<bool> {
    let mut lexer = Lexer::new(text);
    let (mut asked_for, mut is_not) = (None, false);
    while let Some(token) = lexer.next() {
        let is = |keyword: &str| matches!(token, Token::Word(word) if word.is(keyword));
        if is("deferrable") {
            asked_for = Some(!is_not);
        }
        is_not = is("not");
    }
    asked_for
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begin_says_whether_it_may_wait() {
        for (text, asked) in [
            ("BEGIN READ ONLY", None),
            ("BEGIN READ ONLY, DEFERRABLE", Some(true)),
            ("begin not deferrable read only -- deferrable", Some(false)),
            ("begin not deferrable, deferrable", Some(true)),
        ] {
            assert_eq!(asks_deferrable(text.as_bytes()), asked, "{text}");
        }
    }

    #[test]
    fn a_begin_says_what_it_wants_to_see() {
        for (text, level) in [
            ("BEGIN READ ONLY", None),
            ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", Some(Isolation::RepeatableRead)),
            ("begin read only isolation level read committed", Some(Isolation::ReadCommitted)),
            (
                "begin isolation level read uncommitted read only -- serializable",
                Some(Isolation::ReadUncommitted),
            ),
            (
                "BEGIN ISOLATION LEVEL SERIALIZABLE, ISOLATION LEVEL REPEATABLE READ",
                Some(Isolation::RepeatableRead),
            ),
        ] {
            assert_eq!(Isolation::asked_for(text.as_bytes()), level, "{text}");
            assert!(level.is_none_or(|level| Isolation::named(level.name().as_bytes()) == Some(level)));
        }
    }
}
