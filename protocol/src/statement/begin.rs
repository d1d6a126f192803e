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

/// What a BEGIN or a SET TRANSACTION asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// The level, if it asks for one.
    pub level: Option<Isolation>,
    /// Whether it asks for a transaction that is DEFERRABLE, or for one that is not; none if for neither.
    pub deferrable: Option<bool>,
}

impl Modes {
    /// What a BEGIN asks for. Of several the last counts.
    #[must_use]
    pub fn asked_for(text: &[u8]) -> Self {
        let levels = [
            ("uncommitted", Isolation::ReadUncommitted),
            ("committed", Isolation::ReadCommitted),
            ("repeatable", Isolation::RepeatableRead),
            ("serializable", Isolation::Serializable),
        ];
        let mut lexer = Lexer::new(text);
        let (mut asked_for, mut is_not) = (Self::default(), false);
        while let Some(token) = lexer.next() {
            let is = |keyword: &str| matches!(token, Token::Word(word) if word.is(keyword));
            if let Some((_, level)) = levels.iter().find(|(keyword, _)| is(keyword)) {
                asked_for.level = Some(*level);
            }
            if is("deferrable") {
                asked_for.deferrable = Some(!is_not);
            }
            is_not = is("not");
        }
        asked_for
    }

    /// What holds when these are asked for later.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        Self { level: later.level.or(self.level), deferrable: later.deferrable.or(self.deferrable) }
    }
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
            assert_eq!(Modes::asked_for(text.as_bytes()).deferrable, asked, "{text}");
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
            assert_eq!(Modes::asked_for(text.as_bytes()).level, level, "{text}");
            assert!(level.is_none_or(|level| Isolation::named(level.name().as_bytes()) == Some(level)));
        }
    }
}
