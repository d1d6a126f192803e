//! SET and `set_config()`: which run-time parameters they change, and for how long.

use super::super::lexer::{Token, Word};
use super::{Config, Findings, Pin, Set};

impl<'a> Findings<'a> {
    pub(super) fn see_set(&mut self, token: Token<'_>) {
        match (self.present.set, token) {
            (Set::No, _) => {}
            (Set::Pending, Token::Word(word)) if word.is("set") || word.is("session") => {}
            (Set::Pending, Token::Word(word))
                if word.is("local") || word.is("transaction") || word.is("constraints") =>
            {
                self.present.set = Set::Local;
            }
            (Set::Pending, Token::Word(word)) if is_of_role(word) => {
                self.present.set = Set::Role;
                self.pin(Pin::Role);
            }
            (Set::Pending, Token::Word(word)) if can_be_carried(word.text()) => {
                self.present.set = Set::Named;
                self.sets = true;
            }
            (Set::Pending, _) | (Set::Local | Set::Named | Set::Role, Token::Dot) => {
                self.present.set = Set::Decided;
                self.pin(Pin::Parameter);
            }
            (Set::Named, _) => {
                self.present.set = Set::Decided;
                self.see_value(token);
                // SET NAMES DEFAULT
                if matches!(token, Token::Word(word) if word.is("default")) {
                    self.reset(false);
                }
            }
            (Set::Local | Set::InTransaction | Set::Decided, Token::Literal(_)) => {
                if self.present.set == Set::Local {
                    self.present.set = Set::InTransaction;
                }
                self.see_value(token);
            }
            (Set::Local, _) => self.present.set = Set::InTransaction,
            (Set::Role, _) => self.present.set = Set::Decided,
            // SET TIME ZONE LOCAL is the default, too.
            (Set::InTransaction | Set::Decided, Token::Word(word))
                if word.is("default") || word.is("local") =>
            {
                let is_local = self.present.set == Set::InTransaction;
                self.reset(is_local);
            }
            (Set::InTransaction | Set::Decided, _) => {}
        }
    }

    /// The value of a parameter: `SET LOCAL search_path = 'pg_temp'` makes the next table a temporary one.
    fn see_value(&mut self, token: Token<'_>) {
        let Token::Literal(text) = token else { return };
        // Depending on the settings, a backslash may stand for any letter.
        let may_be_path =
            self.present.path || (self.present.config != Config::No && !self.present.config_carried);
        // Literals that follow each other are one.
        let is_continued = matches!(self.present.previous, Some(Token::Literal(_)));
        if contains(text, b"pg_temp") || (may_be_path && (is_continued || text.contains(&b'\\'))) {
            self.pin(Pin::Temporary);
        }
        self.present.path |= contains(text, b"search_path");
    }

    pub(super) fn see_call(&mut self, token: Token<'_>) {
        if self.present.config != Config::No {
            self.see_value(token);
        }
        let present = &mut self.present;
        let is_known = match token {
            Token::Literal(_) | Token::Comma | Token::Close => true,
            Token::Word(word) => word.is("true") || word.is("false"),
            _ => false,
        };
        if (present.before_previous == Some(Token::Open) && token != Token::Comma)
            || (present.path && !is_known)
        {
            // Not the name alone; or a search_path that may turn out to be pg_temp.
            present.config_carried = false;
        }
        if present.config == Config::Named && token != Token::Open {
            let is_itself = matches!(token, Token::Word(word) if word.is_name("set_config"));
            if !is_itself {
                present.config = Config::No;
                self.pin(Pin::Parameter);
            }
            return;
        }
        match token {
            Token::Open => {
                present.depth += 1;
                if present.config == Config::Named {
                    present.config = Config::Inside(present.depth);
                    present.config_carried = false;
                }
                self.see_called();
            }
            Token::Close => {
                if present.config == Config::Inside(present.depth) {
                    present.config = Config::No;
                    // With `true` for its last argument it ends with the transaction.
                    let is_local = present.before_previous == Some(Token::Comma)
                        && matches!(present.previous, Some(Token::Word(word)) if word.is("true"));
                    let is_null = std::mem::take(&mut present.config_null);
                    match is_local {
                        true => {}
                        false if self.present.config_carried => self.sets = true,
                        false => self.pin(Pin::Parameter),
                    }
                    if is_null {
                        self.reset(is_local);
                    }
                }
                self.present.depth = self.present.depth.saturating_sub(1);
            }
            Token::Literal(name)
                if present.previous == Some(Token::Open)
                    && present.config == Config::Inside(present.depth) =>
            {
                present.config_carried = can_be_carried(name);
            }
            Token::Dot => {
                present.in_catalog =
                    matches!(present.previous, Some(Token::Word(word)) if word.is_name("pg_catalog"));
            }
            Token::Word(word) if word.is("null") => present.config_null |= present.config != Config::No,
            Token::Hidden => {
                present.impure = true;
                self.pin(Pin::Parameter);
            }
            _ => {}
        }
    }
}

/// True for what says as whom the session acts.
fn is_of_role(word: Word<'_>) -> bool {
    ["role", "authorization", "session_authorization"].iter().any(|name| word.is_name(name))
}

/// True for the names of the parameters that a server tells of, and that another server can be given: none that is made up
/// (`app.x`), nor who the session is, nor the state of `random()`.
fn can_be_carried(name: &[u8]) -> bool {
    // PostgreSQL refuses temp_buffers where temporary tables have been used.
    const NOT: [&[u8]; 5] = [b"role", b"authorization", b"session_authorization", b"seed", b"temp_buffers"];
    name.iter().all(|&byte| byte.is_ascii_alphabetic() || byte == b'_')
        && !NOT.iter().any(|not| name.eq_ignore_ascii_case(not))
}

/// True if `lower` is in `text`, in upper or lower case.
fn contains(text: &[u8], lower: &[u8]) -> bool {
    text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower))
}
