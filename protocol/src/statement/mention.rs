//! Prepared statements that a text names: PREPARE, EXECUTE and DEALLOCATE.

use std::ops::Range;

use super::lexer::{Lexer, Token, Word};

/// Where a text names a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// What it does with it.
    pub verb: Verb,
    /// The statement's name.
    pub name: Box<[u8]>,
    /// Where the name stands in the text, with its quotation marks.
    pub span: Range<usize>,
    /// The number, from 0, of the statement of the text in which it stands.
    pub statement: usize,
    /// A statement before it forgets all that were prepared before.
    pub forgotten: bool,
}

/// What is done with a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// PREPARE
    Prepare {
        /// Where that stands which is prepared.
        body: Range<usize>,
        /// Types of its parameters are given.
        typed: bool,
    },
    /// EXECUTE, alone or in EXPLAIN or CREATE TABLE AS.
    Execute,
    /// DEALLOCATE
    Deallocate,
}

/// All names of prepared statements in a text, and whether it forgets all of them (DEALLOCATE ALL, DISCARD). `None` if that
/// cannot be told for sure.
#[must_use]
pub fn mentions(text: &[u8]) -> Option<(Vec<Mention>, bool)> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut reader = Reader::new(text);
    while reader.read()? {}
    (!reader.lexer.unclear).then_some((reader.found, reader.forgets))
}

/// The EXECUTE with which a text begins that is not all there.
#[must_use]
pub fn executed_first(text: &[u8]) -> Option<Mention> {
    let mut reader = Reader::new(text);
    let (Token::Word(verb), _) = reader.next()? else { return None };
    let (Token::Word(name), span) = reader.next()? else { return None };
    // It is not cut off.
    let is_whole = reader.next().is_some();
    (is_whole && verb.is("execute")).then(|| reader.mention(Verb::Execute, name, span))
}

struct Reader<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    /// One that was looked at and not taken.
    ahead: Option<(Token<'a>, Range<usize>)>,
    found: Vec<Mention>,
    /// The statements that were read.
    statement: usize,
    forgets: bool,
}

impl<'a> Reader<'a> {
    const fn new(text: &'a [u8]) -> Self {
        let lexer = Lexer::new(text);
        Self { text, lexer, ahead: None, found: Vec::new(), statement: 0, forgets: false }
    }

    /// The next token, and where it stands.
    fn next(&mut self) -> Option<(Token<'a>, Range<usize>)> {
        if let Some(ahead) = self.ahead.take() {
            return Some(ahead);
        }
        let token = self.lexer.next()?;
        let end = self.text.len() - self.lexer.left();
        let len = match token {
            Token::Word(word) if word.is_quoted() => word.len() + 2,
            Token::Word(word) => word.len(),
            _ => 0,
        };
        Some((token, end.saturating_sub(len)..end))
    }

    fn peek(&mut self) -> Option<Token<'a>> {
        self.ahead = self.next();
        self.ahead.as_ref().map(|(token, _)| *token)
    }

    fn mention(&self, verb: Verb, name: Word<'_>, span: Range<usize>) -> Mention {
        let (name, statement, forgotten) = (name.identifier().into(), self.statement, self.forgets);
        Mention { verb, name, span, statement, forgotten }
    }

    /// Reads one statement; false at the end of the text, `None` if it is not understood.
    fn read(&mut self) -> Option<bool> {
        let first = loop {
            match self.next() {
                None => return Some(false),
                Some((Token::Semicolon, _)) => {}
                Some((token, _)) => break token,
            }
        };
        if let Token::Word(first) = first {
            match first.len() {
                // The other things that can be discarded leave them.
                7 if first.is("discard") => {
                    self.forgets |= matches!(self.peek(), Some(Token::Word(word)) if word.is("all"));
                }
                7 if first.is("prepare") => return self.prepare(),
                7 if first.is("execute") => self.name(Verb::Execute)?,
                10 if first.is("deallocate") => self.deallocate()?,
                _ => {}
            }
        }
        self.rest(first)?;
        Some(true)
    }

    /// A name that may be a prepared statement's; one in other than plain letters is not understood.
    fn name(&mut self, verb: Verb) -> Option<()> {
        match self.next() {
            Some((Token::Word(name), span)) => {
                self.found.push(self.mention(verb, name, span));
                Some(())
            }
            Some((Token::Hidden, _)) => None,
            other => {
                self.ahead = other;
                Some(())
            }
        }
    }

    fn deallocate(&mut self) -> Option<()> {
        let Some((Token::Word(word), span)) = self.next() else { return Some(()) };
        let (name, span) = match self.next() {
            Some((Token::Word(name), span)) if word.is("prepare") => (name, span),
            Some((Token::Hidden, _)) => return None,
            other => {
                self.ahead = other;
                (word, span)
            }
        };
        if name.is("all") {
            self.forgets = true;
        } else {
            self.found.push(self.mention(Verb::Deallocate, name, span));
        }
        Some(())
    }

    /// What is no PREPARE of a statement is left to the server, which refuses it or prepares a transaction.
    fn prepare(&mut self) -> Option<bool> {
        let found = match self.next() {
            Some((Token::Word(name), span)) => self.types()?.map(|typed| (name, span, typed)),
            Some((Token::Hidden, _)) => return None,
            other => {
                self.ahead = other;
                None
            }
        };
        let Some((name, span, (typed, start))) = found else {
            self.rest(Token::Other)?;
            return Some(true);
        };
        let mut mention = self.mention(Verb::Execute, name, span);
        let end = self.rest(Token::Other)?;
        mention.verb = Verb::Prepare { body: start..end, typed };
        self.found.push(mention);
        Some(true)
    }

    /// Reads types, if there are any, and AS: whether there were, and where that stands which is prepared.
    fn types(&mut self) -> Option<Option<(bool, usize)>> {
        let mut depth = 0_usize;
        let mut typed = false;
        loop {
            let Some((token, span)) = self.next() else { return Some(None) };
            match token {
                Token::Open => {
                    depth += 1;
                    typed = true;
                }
                Token::Close if depth > 0 => depth -= 1,
                Token::Hidden if depth == 0 => return None,
                Token::Word(word) if depth == 0 && word.is("as") => return Some(Some((typed, span.end))),
                Token::Semicolon | Token::Word(_) | Token::Literal(_) if depth == 0 => {
                    self.ahead = Some((token, span));
                    return Some(None);
                }
                _ => {}
            }
        }
    }

    /// Reads up to the end of the statement; where that is.
    fn rest(&mut self, first: Token<'a>) -> Option<usize> {
        let mut depth = 0_usize;
        let may_execute = matches!(first, Token::Word(word) if word.is("explain") || word.is("create"));
        let mut previous = first;
        let end = loop {
            let Some((token, span)) = self.next() else { break self.text.len() };
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                Token::Semicolon if depth == 0 => break span.end - 1,
                // A rule's, or a routine's.
                Token::Semicolon => return None,
                Token::Word(word) if word.is("atomic") => return None,
                Token::Word(word) if may_execute && word.is("execute") && precedes_execute(previous) => {
                    if matches!(self.peek(), Some(Token::Word(_) | Token::Hidden)) {
                        self.name(Verb::Execute)?;
                    }
                }
                _ => {}
            }
            previous = token;
        };
        self.statement += 1;
        Some(end)
    }
}

/// True for what may stand before the EXECUTE of an EXPLAIN or CREATE TABLE AS.
fn precedes_execute(token: Token<'_>) -> bool {
    match token {
        Token::Word(word) => {
            ["as", "explain", "analyze", "analyse", "verbose"].iter().any(|keyword| word.is(keyword))
        }
        token => token == Token::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb name@statement`, the verb with what is prepared.
    fn read(text: &str) -> Option<Vec<String>> {
        let (found, _) = mentions(text.as_bytes())?;
        let describe = |mention: &Mention| {
            let name = &text[mention.span.clone()];
            let verb = match &mention.verb {
                Verb::Prepare { body, typed } => {
                    format!("{}:{}", if *typed { "typed" } else { "prepare" }, text[body.clone()].trim())
                }
                Verb::Execute => "execute".into(),
                Verb::Deallocate => "deallocate".into(),
            };
            format!("{verb} {name}={}@{}", String::from_utf8_lossy(&mention.name), mention.statement)
        };
        Some(found.iter().map(describe).collect())
    }

    #[test]
    fn names_of_prepared_statements_are_found_wherever_they_may_stand() {
        for (text, expected) in [
            ("PREPARE s AS SELECT 1", &["prepare:SELECT 1 s=s@0"][..]),
            ("prepare S(int, numeric(3, 2)) as select $1;", &["typed:select $1 S=s@0"]),
            ("/* a */ EXECUTE \"A \"\"b\"(1, ';')", &["execute \"A \"\"b\"=A \"b@0"]),
            (";; EXPLAIN (COSTS OFF, ANALYZE) EXECUTE s(1)", &["execute s=s@0"]),
            ("explain analyze verbose execute s", &["execute s=s@0"]),
            ("CREATE TEMP TABLE t (a) ON COMMIT DROP AS EXECUTE s WITH NO DATA", &["execute s=s@0"]),
            ("DEALLOCATE PREPARE s", &["deallocate s=s@0"]),
            ("DEALLOCATE prepare", &["deallocate prepare=prepare@0"]),
            ("DEALLOCATE ALL", &[]),
            ("PREPARE TRANSACTION 's'", &[]),
            ("PREPARE s", &[]),
            ("PREPARE; PREPARE s SELECT 1; EXECUTE s", &["execute s=s@2"]),
            ("PREPARE s(int", &[]),
            ("GRANT EXECUTE ON FUNCTION f() TO s", &[]),
            ("CREATE TRIGGER t AFTER INSERT ON u EXECUTE FUNCTION f()", &[]),
            ("SELECT execute FROM prepare", &[]),
            (
                "PREPARE a AS SELECT 1; EXECUTE a; SELECT 2; DEALLOCATE a",
                &["prepare:SELECT 1 a=a@0", "execute a=a@1", "deallocate a=a@3"],
            ),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for text in [
            "EXECUTE U&\"s\"",
            "EXECUTE s('a\\')",
            "EXECUTE s; CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "PREPARE U&\"s\" AS SELECT 1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_stands_behind_a_deallocate_all_means_nothing_of_before() {
        let (found, forgets) = mentions(b"EXECUTE a; DEALLOCATE ALL; EXECUTE a").unwrap();
        assert!(forgets && !found[0].forgotten && found[1].forgotten);
    }

    #[test]
    fn of_a_text_that_is_not_all_there_the_name_is_taken_only_if_it_is_whole() {
        let name = |text: &[u8]| executed_first(text).map(|mention| mention.span);
        assert_eq!(name(b"execute abc('"), Some(8..11));
        assert_eq!(name(b"execute abc"), None);
        assert_eq!(name(b"explain abc('"), None);
    }
}
