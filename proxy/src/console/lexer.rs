//! What is typed at the console, as words.

/// One word, name, literal or mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// As it stands there.
    Word(String),
    /// A name that stood in quotation marks, or a literal.
    Quoted(String),
    Semicolon,
    Equals,
    /// Anything else.
    Mark(char),
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) token: Token,
    /// The number of its first character, from 1.
    pub(super) position: usize,
    /// As it stands in the text, for errors.
    pub(super) text: String,
}

/// Where a quotation begins that has no end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unterminated {
    pub(super) position: usize,
    pub(super) text: String,
}

/// Takes a text apart. Spaces and comments are left out.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Unterminated> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = chars.get(at) {
        let rest = chars.get(at..).unwrap_or_default();
        let len = match rest {
            _ if first.is_whitespace() => 1,
            ['-', '-', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => comment(rest),
            _ => {
                let (token, len) = token(rest)
                    .ok_or_else(|| Unterminated { position: at + 1, text: rest.iter().collect() })?;
                let text = rest.iter().take(len).collect();
                tokens.push(Placed { token, position: at + 1, text });
                len
            }
        };
        at += len.max(1);
    }
    Ok(tokens)
}

/// The token at the start, which is no space, and its length; none if it has no end.
fn token(rest: &[char]) -> Option<(Token, usize)> {
    let first = *rest.first()?;
    Some(match first {
        '"' | '\'' => return quoted(rest, first),
        ';' => (Token::Semicolon, 1),
        '=' => (Token::Equals, 1),
        _ if is_word(first) => {
            let word: String = rest.iter().take_while(|c| is_word(**c)).collect();
            let len = word.chars().count();
            (Token::Word(word), len)
        }
        other => (Token::Mark(other), 1),
    })
}

/// Quotation marks in it are doubled.
fn quoted(rest: &[char], mark: char) -> Option<(Token, usize)> {
    let mut text = String::new();
    let mut at = 1;
    loop {
        match (rest.get(at)?, rest.get(at + 1)) {
            (end, Some(next)) if *end == mark && *next == mark => {
                text.push(mark);
                at += 2;
            }
            (end, _) if *end == mark => return Some((Token::Quoted(text), at + 1)),
            (other, _) => {
                text.push(*other);
                at += 1;
            }
        }
    }
}

/// The length of a comment; they nest, and one without an end takes all.
fn comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match rest.get(at..) {
            Some(['/', '*', ..]) => {
                depth += 1;
                at += 2;
            }
            Some(['*', '/', ..]) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// Names of databases and of keys: `app`, `pool.size`, `2024`.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}
