//! `pg_ident.conf`: which users a name of the system, or of a certificate, may log in as.

use std::path::Path;

use super::names::{Pattern, User};
use super::tokens::{self, Line, Token};
use super::{Mistake, ReadFile};

/// All maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Maps(Vec<Entry>);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    map: Box<str>,
    system: System,
    user: User,
}

#[derive(Clone, Debug, PartialEq)]
enum System {
    Named(Box<str>),
    Matching(Pattern),
}

impl Maps {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// All mistakes, by file and line.
    pub(crate) fn read(path: &Path, read: ReadFile<'_>) -> Result<Self, Vec<Mistake>> {
        let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
        for line in tokens::lines(path, read)? {
            match parse(&line) {
                Ok(entry) => entries.push(entry),
                Err(message) => {
                    mistakes.push(Mistake { path: path.into(), line: line.number, message });
                }
            }
        }
        if mistakes.is_empty() { Ok(Self(entries)) } else { Err(mistakes) }
    }

    /// Whether who is called `system` by the operating system or by a certificate may be `user`: by this map, or, without one,
    /// if both names are the same.
    pub(crate) fn allow(&self, map: Option<&str>, system: &str, user: &str, member_of: &[Box<str>]) -> bool {
        match map {
            None => system == user,
            Some(map) => {
                let mut entries = self.0.iter().filter(|entry| *entry.map == *map);
                entries.any(|entry| entry.allows(system, user, member_of))
            }
        }
    }

    /// True if there is a map of this name.
    pub(crate) fn has(&self, map: &str) -> bool {
        self.0.iter().any(|entry| *entry.map == *map)
    }

    /// True if an entry asks what the user is a member of.
    pub(crate) fn asks_for_memberships(&self) -> bool {
        self.0.iter().any(|entry| matches!(entry.user, User::MemberOf(_)))
    }
}

impl Entry {
    fn allows(&self, system: &str, user: &str, member_of: &[Box<str>]) -> bool {
        match &self.system {
            System::Named(name) => **name == *system && self.user.is(user, member_of),
            System::Matching(Pattern(expression)) => match (expression.captures(system), &self.user) {
                (None, _) => false,
                (Some(found), User::Named(name)) => {
                    // As in PostgreSQL, a group that has no part in the match lets nobody in.
                    found.get(1).map(|part| part.as_str()).map_or_else(
                        || !name.contains(r"\1") && **name == *user,
                        |part| name.replacen(r"\1", part, 1) == user,
                    )
                }
                (Some(_), other) => other.is(user, member_of),
            },
        }
    }
}

fn parse(line: &Line) -> Result<Entry, String> {
    let [map, system, user] = line.fields.as_slice() else {
        return Err("takes three fields: the map, the name of the system, the user".to_owned());
    };
    let map = super::rule::only(map, "map name", "map name")?;
    let system = super::rule::only(system, "system user name", "name")?;
    let user = super::rule::only(user, "database user name", "name")?;
    let entry =
        Entry { map: map.text.as_str().into(), system: parse_system(system)?, user: User::parse(user)? };
    if let (System::Matching(Pattern(expression)), User::Named(name)) = (&entry.system, &entry.user)
        && name.contains(r"\1")
        && expression.captures_len() < 2
    {
        return Err(format!(
            "regular expression \"{}\" has no subexpressions as requested by backreference in \"{name}\"",
            expression.as_str()
        ));
    }
    Ok(entry)
}

fn parse_system(token: &Token) -> Result<System, String> {
    match token.expression() {
        Some(expression) => Pattern::new(expression).map(System::Matching),
        None => Ok(System::Named(token.text.as_str().into())),
    }
}
