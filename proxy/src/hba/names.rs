//! Databases and users that a rule is for.

use regex::{Regex, RegexBuilder};

use super::Question;
use super::tokens::{Field, Token};

/// A regular expression of a file. In PostgreSQL such may match anywhere in a name; so here.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(super) Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Pattern {
    /// The expression of this text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        // One line is enough: the crate's own text of an error shows the expression over several.
        // As in PostgreSQL's, a dot is any character.
        RegexBuilder::new(text).dot_matches_new_line(true).build().map(Self).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("invalid regular expression \"{text}\": {why}")
        })
    }

    /// True if it matches in this name.
    pub(crate) fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A database in a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Database {
    All,
    /// `sameuser`: the one that is named as the user.
    SameUser,
    /// `samerole`: the one that is named as a role that the user is a member of.
    SameRole,
    /// `replication`: none, but the server itself.
    Replication,
    Named(Box<str>),
    Matching(Pattern),
}

impl Database {
    pub(super) fn parse(token: &Token) -> Result<Self, String> {
        if let Some(expression) = token.expression() {
            return Pattern::new(expression).map(Self::Matching);
        }
        Ok(match token.text.as_str() {
            text if token.quoted => Self::Named(text.into()),
            "all" => Self::All,
            "sameuser" => Self::SameUser,
            "samerole" | "samegroup" => Self::SameRole,
            "replication" => Self::Replication,
            text => Self::Named(text.into()),
        })
    }

    pub(super) fn is_that_of(&self, question: &Question<'_>) -> bool {
        let Question { database, user, .. } = *question;
        match self {
            Self::Replication => question.is_replication,
            _ if question.is_replication => false,
            Self::All => true,
            Self::SameUser => database == user,
            Self::SameRole => question.member_of.iter().any(|role| **role == *database),
            Self::Named(name) => **name == *database,
            Self::Matching(pattern) => pattern.0.is_match(database),
        }
    }
}

/// A user in a rule, or in a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum User {
    All,
    /// `+role`: its members.
    MemberOf(Box<str>),
    Named(Box<str>),
    Matching(Pattern),
}

impl User {
    pub(super) fn parse(token: &Token) -> Result<Self, String> {
        if token.is("all") {
            return Ok(Self::All);
        }
        if let Some(role) = token.after('+').filter(|role| !role.is_empty()) {
            return Ok(Self::MemberOf(role.into()));
        }
        match token.expression() {
            Some(expression) => Pattern::new(expression).map(Self::Matching),
            None => Ok(Self::Named(token.text.as_str().into())),
        }
    }

    pub(super) fn is(&self, user: &str, member_of: &[Box<str>]) -> bool {
        match self {
            Self::All => true,
            Self::MemberOf(role) => member_of.contains(role),
            Self::Named(name) => **name == *user,
            Self::Matching(pattern) => pattern.0.is_match(user),
        }
    }
}

/// Reads a whole field.
pub(super) fn parse<T>(field: &Field, one: impl Fn(&Token) -> Result<T, String>) -> Result<Vec<T>, String> {
    field.iter().map(one).collect()
}
