//! The database that a statement wants for itself.

use super::lexer::{Lexer, Token, Word};

/// The name in a DROP DATABASE, an ALTER DATABASE, or behind TEMPLATE in a CREATE DATABASE. PostgreSQL refuses most of these
/// while somebody is connected to that database.
#[must_use]
pub fn wanted_database(text: &[u8]) -> Option<Vec<u8>> {
    let mut lexer = Lexer::new(text.strip_suffix(b"\0").unwrap_or(text));
    let verb = next_word(&mut lexer)?;
    next_word(&mut lexer)?.is("database").then_some(())?;
    let mut name = next_word(&mut lexer)?;
    if verb.is("create") {
        while !next_word(&mut lexer)?.is("template") {}
        name = next_word(&mut lexer)?;
    } else if !verb.is("drop") && !verb.is("alter") {
        return None;
    } else if name.is("if") {
        next_word(&mut lexer)?.is("exists").then_some(())?;
        name = next_word(&mut lexer)?;
    }
    Some(name.identifier())
}

/// The next word, whatever marks stand before it.
fn next_word<'a>(lexer: &mut Lexer<'a>) -> Option<Word<'a>> {
    loop {
        match lexer.next()? {
            Token::Word(word) => return Some(word),
            Token::Semicolon => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_found_that_nobody_else_may_be_connected_to() {
        for (text, database) in [
            ("DROP DATABASE a", Some("a")),
            ("drop /* x */ database if exists \"A b\" with (force);\0", Some("A b")),
            ("ALTER DATABASE Test RENAME TO other", Some("test")),
            ("CREATE DATABASE new OWNER o TEMPLATE = old ENCODING 'UTF8'", Some("old")),
            ("create database new", None),
            ("DROP TABLE database", None),
            ("DROP DATABASE", None),
            ("SELECT 1; DROP DATABASE a", None),
            ("", None),
        ] {
            assert_eq!(wanted_database(text.as_bytes()).as_deref(), database.map(str::as_bytes), "{text}");
        }
    }
}
