//! Custom parameters that a text sets.

use super::lexer::{Lexer, Token, Word};
use crate::customs::LONGEST_NAME;

/// Whether a text sets custom parameters, if only for its transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetsCustom {
    /// It does not.
    #[default]
    Nothing,
    /// Such as it names: see [`custom_names`].
    Named,
    /// Such as functions of the database set: see [`Suspects::parameters`](super::Suspects::parameters).
    Suspected,
    /// Such as cannot be told.
    Hidden,
}

/// Says the name of each custom parameter that a text sets, in lower case; none for one that is too long.
pub fn custom_names(text: &[u8], mut see: impl FnMut(Option<&str>)) {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut lexer = Lexer::new(text);
    let mut is_first = true;
    let mut called = Called::No;
    while let Some(token) = lexer.next() {
        match token {
            Token::Semicolon => is_first = true,
            Token::Word(word) if std::mem::take(&mut is_first) && word.is("set") => {
                is_first = see_set(&mut lexer, &mut see);
            }
            Token::Word(word) if word.is_name("set_config") => called = Called::Named,
            Token::Open if called == Called::Named => called = Called::Open,
            Token::Literal(name) if called == Called::Open => {
                called = Called::No;
                let mut whole = Name::default();
                whole.add(name);
                whole.tell(&mut see);
            }
            _ => called = Called::No,
        }
    }
}

/// How far a call of `set_config()` has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    No,
    Named,
    Open,
}

/// Reads the name behind SET, SET LOCAL or SET SESSION. True if the statement ends with it.
fn see_set(lexer: &mut Lexer<'_>, see: &mut impl FnMut(Option<&str>)) -> bool {
    let is_scope = |word: Word<'_>| word.is("local") || word.is("session");
    let mut name = Name::default();
    let mut is_behind_dot = true;
    let mut is_first = true;
    loop {
        match lexer.next() {
            Some(Token::Word(word)) if is_behind_dot => {
                is_behind_dot = false;
                // `local.x` is a name.
                if std::mem::take(&mut is_first) && is_scope(word) && !lexer.is_before_dot() {
                    is_behind_dot = true;
                    continue;
                }
                name.add(&word.folded());
            }
            Some(Token::Dot) if !is_behind_dot => {
                is_behind_dot = true;
                name.add(b".");
            }
            other => {
                name.tell(see);
                return other == Some(Token::Semicolon);
            }
        }
    }
}

/// A name that is put together.
struct Name {
    bytes: [u8; LONGEST_NAME],
    len: usize,
    is_too_long: bool,
}

impl Default for Name {
    fn default() -> Self {
        Self { bytes: [0; LONGEST_NAME], len: 0, is_too_long: false }
    }
}

impl Name {
    fn add(&mut self, part: &[u8]) {
        match self.bytes.get_mut(self.len..self.len + part.len()) {
            Some(place) => {
                place.copy_from_slice(part);
                place.make_ascii_lowercase();
                self.len += part.len();
            }
            None => self.is_too_long = true,
        }
    }

    /// Names without a dot are PostgreSQL's own.
    fn tell(&self, see: &mut impl FnMut(Option<&str>)) {
        let name = self.bytes.get(..self.len).unwrap_or_default();
        if self.is_too_long {
            see(None);
        } else if name.contains(&b'.') {
            see(std::str::from_utf8(name).ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut names = Vec::new();
        custom_names(text.as_bytes(), |name| names.push(name.unwrap_or("?").to_owned()));
        names
    }

    #[test]
    fn the_names_of_custom_parameters_are_found_as_they_are_spelt() {
        let long = format!("SET app.{} = 1", "x".repeat(80));
        for (text, expected) in [
            ("SET app.x = '1'", &["app.x"][..]),
            ("set local App . \"X\" to 1; SET SESSION a.b.c = 1\0", &["app.x", "a.b.c"]),
            ("SET LOCAL.x = 1", &["local.x"]),
            ("SET \"app.x\" = 1", &["app.x"]),
            (
                "SELECT set_config('App.x', $1, true), pg_catalog.set_config ( 'b.c', 'd.e', false)",
                &["app.x", "b.c"],
            ),
            ("SET work_mem = 1; SET search_path = a.b; SELECT set_config('work_mem', 'a.b', false)", &[]),
            ("UPDATE t SET a.b = 1", &[]),
            (&long, &["?"]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }
}
