//! A text as words and marks. Literals, quoted names and comments are told apart as PostgreSQL does, as long as that
//! can be done without knowing the session's settings; from there on every word counts.

use std::borrow::Cow;

/// A word, a mark, or a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(Word<'a>),
    Semicolon,
    Open,
    Close,
    Comma,
    Dot,
    Backslash,
    /// A name with Unicode escapes: it may be any.
    Hidden,
    /// What stands between quotes or dollars.
    Literal(&'a [u8]),
    /// Anything else.
    Other,
}

/// A run of letters, digits, underscores, dollars and bytes beyond ASCII; or a name in quotation marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    text: &'a [u8],
    quoted: bool,
    /// It follows a dot.
    pub(super) qualified: bool,
}

impl<'a> Word<'a> {
    /// True for this word, be it a keyword or a name. `lower` begins with a letter.
    #[inline]
    pub(super) fn is_name(&self, lower: &str) -> bool {
        // Most words differ in their lengths or their first letters.
        let first = |text: &[u8]| text.first().map(|byte| byte | 0x20);
        self.text.len() == lower.len()
            && first(self.text) == first(lower.as_bytes())
            && self.text.eq_ignore_ascii_case(lower.as_bytes())
    }

    /// True for this keyword.
    pub(super) fn is(&self, lower: &str) -> bool {
        self.is_name(lower) && !self.quoted && !self.qualified
    }

    /// As it stands in the text.
    pub(super) const fn text(&self) -> &[u8] {
        self.text
    }

    /// False for most words: the names that matter begin with these letters.
    pub(super) const fn may_be_of_a_session(&self) -> bool {
        matches!(
            self.text,
            [b'p' | b'P', b'g' | b'G', b'_', ..] | [b'd' | b'D', b'b' | b'B', b'l' | b'L', ..]
        )
    }

    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// The name that it is.
    pub(super) fn identifier(&self) -> Vec<u8> {
        if !self.quoted {
            return self.text.to_ascii_lowercase();
        }
        let mut name = Vec::with_capacity(self.text.len());
        let mut rest = self.text;
        // Quotation marks are doubled.
        while let Some(quote) = memchr::memmem::find(rest, b"\"\"") {
            name.extend_from_slice(rest.get(..=quote).unwrap_or_default());
            rest = rest.get(quote + 2..).unwrap_or_default();
        }
        name.extend_from_slice(rest);
        name
    }

    /// The same, without a copy where it stands in the text as it is.
    pub(super) fn folded(&self) -> Cow<'a, [u8]> {
        let is_as_it_stands = if self.quoted {
            memchr::memchr(b'"', self.text).is_none()
        } else {
            !self.text.iter().any(u8::is_ascii_uppercase)
        };
        if is_as_it_stands { Cow::Borrowed(self.text) } else { Cow::Owned(self.identifier()) }
    }

    pub(super) const fn is_quoted(&self) -> bool {
        self.quoted
    }
}

/// Takes a text apart.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    after_dot: bool,
    /// Words count wherever they stand, and nothing is skipped.
    everything: bool,
    /// It cannot be told where a literal ends.
    pub(super) unclear: bool,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { rest: text, after_dot: false, everything: false, unclear: false }
    }

    /// How much of the text is still to be read.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// True if a dot is next.
    pub(super) fn is_before_dot(&self) -> bool {
        self.rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'.')
    }

    /// From here on words count wherever they stand.
    pub(super) const fn count_everything(&mut self) {
        self.everything = true;
    }

    pub(super) const fn counts_everything(&self) -> bool {
        self.everything
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let (&byte, after) = self.rest.split_first()?;
            let token = match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                    self.rest = after;
                    continue;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => return Some(self.word()),
                // What follows a number without a space is a word to older versions.
                b'0'..=b'9' => {
                    let len = after.iter().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
                    self.rest = after.get(len..).unwrap_or_default();
                    self.after_dot = false;
                    return Some(Token::Other);
                }
                _ if self.everything => mark(byte),
                b'\'' => return Some(self.literal(false)),
                b'"' => return Some(self.quoted_name()),
                b'$' => match self.dollar_literal() {
                    Some(literal) => return Some(literal),
                    None => Token::Other,
                },
                b'-' | b'/' if self.skip_comment() => continue,
                _ => mark(byte),
            };
            self.rest = after;
            self.after_dot = token == Token::Dot;
            return Some(token);
        }
    }

    fn word(&mut self) -> Token<'a> {
        let len = word_len(self.rest);
        let (text, rest) = self.rest.split_at_checked(len).unwrap_or_default();
        self.rest = rest;
        let word = Word { text, quoted: false, qualified: std::mem::take(&mut self.after_dot) };
        match (text, rest) {
            (b"e" | b"E", [b'\'', ..]) if !self.everything => self.literal(true),
            (b"u" | b"U", [b'&', quoted @ ..]) if quoted.first() == Some(&b'"') => {
                self.rest = quoted;
                self.quoted_name();
                Token::Hidden
            }
            _ => Token::Word(word),
        }
    }

    /// A literal whose quotation mark is next; in one with `escapes` a backslash takes away the next character's meaning.
    fn literal(&mut self, escapes: bool) -> Token<'a> {
        self.after_dot = false;
        let body = self.rest.get(1..).unwrap_or_default();
        let mut from = 0;
        while let Some(quote) = memchr::memchr(b'\'', body.get(from..).unwrap_or_default()) {
            let end = from + quote;
            let before = body.get(from..end).unwrap_or_default();
            let backslashes = before.iter().rev().take_while(|&&b| b == b'\\').count();
            let is_escaped = backslashes % 2 == 1;
            // In some encodings the last byte of a character looks like a backslash.
            let is_character = backslashes > 0
                && before
                    .len()
                    .checked_sub(backslashes + 1)
                    .and_then(|i| before.get(i))
                    .is_some_and(|&b| b >= 0x80);
            if is_character || (is_escaped && !escapes) {
                break;
            }
            from = end + 1;
            if is_escaped {
                continue;
            }
            if body.get(from) == Some(&b'\'') {
                from += 1;
                continue;
            }
            self.rest = body.get(from..).unwrap_or_default();
            return Token::Literal(body.get(..end).unwrap_or_default());
        }
        self.unclear = true;
        self.everything = true;
        self.rest = body;
        Token::Other
    }

    /// A name in quotation marks, of which the first is next.
    fn quoted_name(&mut self) -> Token<'a> {
        let body = self.rest.get(1..).unwrap_or_default();
        let mut from = 0;
        let (text, rest) = loop {
            let rest = body.get(from..).unwrap_or_default();
            let Some(quote) = memchr::memchr(b'"', rest) else { break (body, &[][..]) };
            from += quote + 1;
            if body.get(from) != Some(&b'"') {
                break (body.get(..from - 1).unwrap_or_default(), body.get(from..).unwrap_or_default());
            }
            from += 1;
        };
        self.rest = rest;
        Token::Word(Word { text, quoted: true, qualified: std::mem::take(&mut self.after_dot) })
    }

    /// The literal in dollars, if one is next.
    fn dollar_literal(&mut self) -> Option<Token<'a>> {
        let after = self.rest.get(1..)?;
        let len = after.iter().position(|&b| !is_word(b) || b == b'$')?;
        let is_tag = after.get(len) == Some(&b'$') && after.first().is_some_and(|b| !b.is_ascii_digit());
        let (mark, body) = self.rest.split_at_checked(len + 2).filter(|_| is_tag)?;
        let end = memchr::memmem::find(body, mark).unwrap_or(body.len());
        self.rest = body.get(end + mark.len()..).unwrap_or_default();
        self.after_dot = false;
        Some(Token::Literal(body.get(..end)?))
    }

    fn skip_comment(&mut self) -> bool {
        let end = match self.rest {
            [b'-', b'-', ..] => memchr::memchr2(b'\n', b'\r', self.rest).map(|i| i + 1),
            [b'/', b'*', ..] => comment_len(self.rest),
            _ => return false,
        };
        self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
        true
    }
}

const fn mark<'a>(byte: u8) -> Token<'a> {
    match byte {
        b';' => Token::Semicolon,
        b'(' => Token::Open,
        b')' => Token::Close,
        b',' => Token::Comma,
        b'.' => Token::Dot,
        b'\\' => Token::Backslash,
        _ => Token::Other,
    }
}

/// The length of the comment at the start of `text`; comments nest. `None` if it has no end.
fn comment_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'/', b'*', text.get(at..)?)?;
        match text.get(at..at + 2)? {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
}

pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// How many bytes at the start of `text` belong to a word.
fn word_len(text: &[u8]) -> usize {
    text.iter().position(|&byte| !is_word(byte)).unwrap_or(text.len())
}
