//! Texts that begin with the end of a transaction.

use super::lexer::{Lexer, Token, Word};

/// The length of a text's first statement, its semicolon included, if it ends a failed transaction, and so plainly that no server refuses it.
#[must_use]
pub fn exit_first(text: &[u8]) -> Option<usize> {
    let mut lexer = Lexer::new(text);
    let is = |token: Token<'_>, words: &[&str]| match token {
        Token::Word(word) => words.iter().any(|it| Word::is(&word, it)),
        _ => false,
    };
    if !is(lexer.next()?, &["rollback", "commit", "abort", "end"]) {
        return None;
    }
    let mut next = lexer.next()?;
    if is(next, &["work", "transaction"]) {
        next = lexer.next()?;
    }
    if is(next, &["and"]) {
        if !is(lexer.next()?, &["no"]) || !is(lexer.next()?, &["chain"]) {
            return None;
        }
        next = lexer.next()?;
    }
    let is_clear = next == Token::Semicolon && !lexer.unclear;
    is_clear.then(|| text.len() - lexer.left())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_end_of_a_transaction_is_told_from_all_else() {
        for (first, rest) in [
            ("ROLLBACK;", " EXECUTE s"),
            ("/* so */ commit -- ; \n ;", "EXECUTE s"),
            ("end work;", ""),
            ("Abort Transaction and no chain;", ";SELECT 1"),
        ] {
            assert_eq!(exit_first(format!("{first}{rest}").as_bytes()), Some(first.len()), "{first}");
        }
        for text in [
            "",
            "ROLLBACK",
            "ROLLBACK TO a; EXECUTE s",
            "COMMIT AND CHAIN; EXECUTE s",
            "COMMIT PREPARED 'a'; EXECUTE s",
            "ROLLBACK WORK WORK; EXECUTE s",
            "\"rollback\"; EXECUTE s",
            "; ROLLBACK; EXECUTE s",
            "SELECT 1; ROLLBACK; EXECUTE s",
        ] {
            assert_eq!(exit_first(text.as_bytes()), None, "{text}");
        }
    }
}
