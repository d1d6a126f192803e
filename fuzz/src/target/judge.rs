//! A slow judge of statements, by its own reading of PostgreSQL's grammar: it says of some that they surely change something.
//!
//! It knows less than `pgherd_protocol::statement`, and errs on the other side: what it is not sure of, it lets pass. A text is read in each way
//! in which a server may read it, by its settings and its client's encoding, which pgherd does not know.

/// How a server may read a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// `standard_conforming_strings = on`
    Standard,
    /// The same, off: a backslash takes away the meaning of what follows, in every literal.
    Backslashes,
    /// An encoding in which the second byte of a character may be one of ASCII's.
    Multibyte,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word { text: String, is_quoted: bool },
    Mark(u8),
    Literal,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word { text, is_quoted: false } if text == word)
    }

    fn is_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }
}

/// Statements that begin so change something, if only in their session.
const CHANGE: &[&str] = &[
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "create",
    "alter",
    "drop",
    "call",
    "do",
    "lock",
    "grant",
    "revoke",
    "comment",
    "vacuum",
    "cluster",
    "reindex",
    "refresh",
    "import",
    "security",
    "reassign",
    "listen",
    "unlisten",
    "notify",
    "load",
    "checkpoint",
    "set",
    "reset",
    "discard",
    "prepare",
    "execute",
    "deallocate",
];

/// Functions that change something.
const FUNCTIONS: &[&str] = &[
    "nextval",
    "setval",
    "set_config",
    "pg_notify",
    "lo_create",
    "lo_unlink",
    "lo_import",
    "lo_from_bytea",
    "lo_put",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "pg_advisory_xact_lock",
    "pg_advisory_unlock_all",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_switch_wal",
    "pg_promote",
    "pg_create_restore_point",
    "txid_current",
    "pg_current_xact_id",
    "pg_create_physical_replication_slot",
    "pg_drop_replication_slot",
    "pg_logical_emit_message",
    "pg_export_snapshot",
    "pg_stat_reset",
    "dblink",
    "dblink_exec",
    "query_to_xml",
    "ts_stat",
    "pg_import_system_collations",
];

/// Why a text surely changes something, if it does.
pub(super) fn changes(text: &[u8]) -> Option<String> {
    [Reading::Standard, Reading::Backslashes, Reading::Multibyte].into_iter().find_map(|reading| {
        // What cannot be read is run nowhere.
        let tokens = tokens(text, reading)?;
        let mut statements = tokens.split(|token| *token == Token::Mark(b';'));
        let why = statements.find_map(why)?;
        Some(format!("{why} ({reading:?})"))
    })
}

fn why(statement: &[Token]) -> Option<String> {
    let first = statement.iter().find(|token| **token != Token::Mark(b'('))?;
    if let Token::Word { text, is_quoted: false } = first
        && CHANGE.contains(&text.as_str())
    {
        return Some(text.clone());
    }
    let is_explained =
        first.is("explain") && statement.iter().any(|it| it.is_one_of(&["analyze", "analyse"]));
    let is_query = first.is_one_of(&["select", "with", "values", "table"]) || is_explained;
    match () {
        () if first.is("copy") => copies(statement),
        () if first.is_one_of(&["begin", "start"]) => {
            let writes = |pair: &[Token]| pair[0].is("read") && pair[1].is("write");
            statement.windows(2).any(writes).then(|| "it begins a transaction that writes".to_owned())
        }
        () if is_query => writes(statement).or_else(|| calls(statement)),
        () => None,
    }
}

/// INTO, FOR UPDATE, and what writes within WITH or behind it.
fn writes(statement: &[Token]) -> Option<String> {
    for (at, token) in statement.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &statement[at]);
        let after = |by: usize| statement.get(at + by);
        let follows = |by: usize, words: &[&str]| after(by).is_some_and(|token| token.is_one_of(words));
        if token.is("into") {
            return Some("INTO".to_owned());
        }
        let locks = follows(1, &["update", "share"])
            || (follows(1, &["no"]) && follows(2, &["key"]) && follows(3, &["update"]))
            || (follows(1, &["key"]) && follows(2, &["share"]));
        // Of substring(a FOR b) the word is within parentheses, and what follows is a name.
        if token.is("for") && locks && depth(&statement[..at]) == 0 {
            return Some("it locks rows".to_owned());
        }
        let writes = (token.is("delete") && follows(1, &["from"]))
            || token.is("update") && after(2).is_some_and(|it| it.is("set"));
        let begins = before.is_some_and(|it| *it == Token::Mark(b')'))
            || (before.is_some_and(|it| *it == Token::Mark(b'('))
                && at >= 2
                && statement[at - 2].is_one_of(&["as", "materialized"]));
        if writes && begins {
            return Some("it writes within".to_owned());
        }
    }
    None
}

fn depth(tokens: &[Token]) -> usize {
    let of = |mark: u8| tokens.iter().filter(|token| **token == Token::Mark(mark)).count();
    of(b'(').saturating_sub(of(b')'))
}

/// A call of a function that changes something. Not all that looks so is one: tables, too, are followed by the names of their columns.
fn calls(statement: &[Token]) -> Option<String> {
    let mut in_query = !statement.iter().any(|token| token.is("with"));
    for (at, token) in statement.iter().enumerate() {
        in_query |= token.is_one_of(&["select", "values"]);
        let Token::Word { text, .. } = token else { continue };
        if !FUNCTIONS.contains(&text.as_str())
            || statement.get(at + 1) != Some(&Token::Mark(b'('))
            || !in_query
        {
            continue;
        }
        let before =
            statement[..at].iter().rev().find(|it| **it != Token::Mark(b'.')).unwrap_or(&Token::Literal);
        let called = before
            .is_one_of(&["select", "from", "and", "or", "not", "when", "then", "else", "by", "where"])
            || matches!(before, Token::Mark(b'(' | b'+' | b'-' | b'*' | b'=' | b'<' | b'>'));
        if called {
            return Some(format!("it calls {text}"));
        }
    }
    None
}

fn copies(statement: &[Token]) -> Option<String> {
    let top = |at: usize| depth(&statement[..at]) == 0;
    let has = |word: &str| statement.iter().enumerate().any(|(at, token)| token.is(word) && top(at));
    let is_file = statement
        .windows(2)
        .any(|pair| pair[0].is("to") && (pair[1].is("program") || pair[1] == Token::Literal));
    match () {
        () if has("from") && !has("to") => Some("COPY FROM".to_owned()),
        () if is_file && !has("stdout") => Some("COPY TO a file".to_owned()),
        () => writes(statement).or_else(|| calls(statement)),
    }
}

/// The tokens; none where something has no end.
fn tokens(text: &[u8], reading: Reading) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        at += match byte {
            0 => return None,
            byte if byte.is_ascii_whitespace() || byte == 0x0b => 1,
            b'-' if rest.starts_with(b"--") => {
                rest.iter().take_while(|it| !matches!(it, b'\n' | b'\r')).count()
            }
            b'/' if rest.starts_with(b"/*") => comment(rest)?,
            b'\'' => {
                tokens.push(Token::Literal);
                literal(rest, reading == Reading::Backslashes, reading)?
            }
            b'"' => quoted(rest, &mut tokens)?,
            b'$' => match dollars(rest) {
                Some(len) => {
                    tokens.push(Token::Literal);
                    len?
                }
                None => 1,
            },
            b'e' | b'E' if rest.get(1) == Some(&b'\'') => {
                tokens.push(Token::Literal);
                1 + literal(&rest[1..], true, reading)?
            }
            byte if is_of_word(byte) && !byte.is_ascii_digit() => {
                let len = word_len(rest, reading);
                let text = String::from_utf8_lossy(&rest[..len]).to_ascii_lowercase();
                // What follows is not what it looks like.
                if text == "u" && rest.get(1) == Some(&b'&') {
                    return None;
                }
                tokens.push(Token::Word { text, is_quoted: false });
                len
            }
            other => {
                tokens.push(Token::Mark(other));
                1
            }
        };
    }
    Some(tokens)
}

const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn word_len(rest: &[u8], reading: Reading) -> usize {
    let mut len = 0;
    while let Some(&byte) = rest.get(len).filter(|byte| is_of_word(**byte)) {
        len += character_len(byte, rest.get(len + 1), reading);
    }
    len
}

/// How many bytes a character has: in the encodings that matter, what follows the first byte of two is none of the marks below `0`.
const fn character_len(byte: u8, next: Option<&u8>, reading: Reading) -> usize {
    match (reading, byte, next) {
        (Reading::Multibyte, 0x81.., Some(0x30..)) => 2,
        _ => 1,
    }
}

/// The length of a comment, which may hold others.
fn comment(rest: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        match rest.get(at..at + 2)? {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

fn literal(rest: &[u8], has_escapes: bool, reading: Reading) -> Option<usize> {
    let mut at = 1;
    loop {
        match *rest.get(at)? {
            b'\'' if rest.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return Some(at + 1),
            b'\\' if has_escapes => at += 2,
            byte => at += character_len(byte, rest.get(at + 1), reading),
        }
    }
}

fn quoted(rest: &[u8], tokens: &mut Vec<Token>) -> Option<usize> {
    let mut name = Vec::new();
    let mut at = 1;
    loop {
        match *rest.get(at)? {
            b'"' if rest.get(at + 1) == Some(&b'"') => {
                name.push(b'"');
                at += 2;
            }
            b'"' => break,
            byte => {
                name.push(byte);
                at += 1;
            }
        }
    }
    tokens.push(Token::Word { text: String::from_utf8_lossy(&name).into_owned(), is_quoted: true });
    Some(at + 1)
}

/// The length of a literal in dollars, if one begins here; none within where it has no end.
fn dollars(rest: &[u8]) -> Option<Option<usize>> {
    let tag = rest[1..].iter().position(|byte| *byte == b'$')?;
    let name = &rest[1..=tag];
    let is_tag = name.iter().all(|byte| is_of_word(*byte)) && !name.first().is_some_and(u8::is_ascii_digit);
    if !is_tag {
        return None;
    }
    let mark = &rest[..tag + 2];
    let body = &rest[mark.len()..];
    let end = body.windows(mark.len()).position(|window| window == mark);
    Some(end.map(|end| 2 * mark.len() + end))
}
