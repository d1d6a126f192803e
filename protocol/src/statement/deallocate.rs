//! DEALLOCATE of one statement.

use super::lexer::{Lexer, Token};

/// The name in a DEALLOCATE of one statement, when the text is nothing else.
#[must_use]
pub fn deallocated_name(text: &[u8]) -> Option<Vec<u8>> {
    let mut lexer = Lexer::new(text.strip_suffix(b"\0").unwrap_or(text));
    let mut word = || match lexer.next() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    };
    word().filter(|word| word.is("deallocate"))?;
    let first = word()?;
    let mut next = lexer.next();
    let name = match next {
        Some(Token::Word(name)) if first.is("prepare") => {
            next = lexer.next();
            name
        }
        _ => first,
    };
    while next == Some(Token::Semicolon) {
        next = lexer.next();
    }
    (next.is_none() && !name.is("all")).then(|| name.identifier())
}
