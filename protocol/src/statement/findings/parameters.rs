//! SET and `set_config()`: which run-time parameters they change, and for how long.

use super::super::lexer::{Token, Word};
use super::{Config, Findings, Pin, Set, SetsCustom};

impl<'a> Findings<'a> {
    pub(super) fn see_set(&mut self, token: Token<'_>) {
        match (self.present.set, token) {
            (Set::No, _) => {}
            (Set::Pending, Token::Word(word)) => self.see_set_word(word),
            (Set::Pending, Token::Hidden) | (Set::Role, Token::Dot) => {
                self.present.set = Set::Decided;
                self.pin_hidden();
            }
            // `session.x` and `local.x` are names, too.
            (Set::Pending | Set::Local | Set::Named | Set::Odd, Token::Dot) => self.see_custom(),
            (Set::Odd | Set::Pending, _) => {
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
            (Set::Local, Token::Word(word)) if !is_custom(word.text()) => self.present.set = Set::LocalNamed,
            (Set::Local, Token::Word(_) | Token::Hidden) | (Set::LocalNamed, Token::Dot) => {
                self.present.set = Set::InTransaction;
                let is_hidden = token == Token::Hidden;
                self.set_custom(if is_hidden { SetsCustom::Hidden } else { SetsCustom::Named });
            }
            (Set::Local | Set::LocalNamed, _) => {
                self.present.set = Set::InTransaction;
                self.see_set(token);
            }
            (Set::Role, _) => self.present.set = Set::Decided,
            (Set::InTransaction | Set::Decided, Token::Literal(_)) => self.see_value(token),
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

    /// A word behind SET.
    fn see_set_word(&mut self, word: Word<'_>) {
        if word.is("set") || word.is("session") {
            return;
        }
        if word.is("local") || word.is("transaction") || word.is("constraints") {
            self.present.set = Set::Local;
        } else if is_of_role(word) {
            self.present.set = Set::Role;
            self.pin(Pin::Role);
        } else if is_custom(word.text()) {
            self.see_custom();
        } else {
            // The first part of a name may have letters that no other name has.
            self.present.set = if can_be_carried(word.text()) { Set::Named } else { Set::Odd };
            self.sets = true;
        }
    }

    /// It is a custom parameter that is set.
    fn see_custom(&mut self) {
        self.present.set = Set::Decided;
        self.sets = true;
        self.set_custom(SetsCustom::Named);
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

    /// A call of `set_config()` ends.
    fn end_config(&mut self) {
        let present = &mut self.present;
        present.config = Config::No;
        // With `true` for its last argument it ends with the transaction.
        let is_local = present.before_previous == Some(Token::Comma)
            && matches!(present.previous, Some(Token::Word(word)) if word.is("true"));
        let is_null = std::mem::take(&mut present.config_null);
        let sets_custom = std::mem::take(&mut present.config_custom);
        self.set_custom(sets_custom);
        match is_local {
            true => {}
            false if self.present.config_carried => self.sets = true,
            false => self.pin(Pin::Parameter),
        }
        if is_null {
            self.reset(is_local);
        }
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
        let is_longer = present.before_previous == Some(Token::Open) && token != Token::Comma;
        if is_longer || (present.path && !is_known) {
            // Not the name alone; or a search_path that may turn out to be pg_temp.
            present.config_carried = false;
        }
        if is_longer {
            present.config_custom = SetsCustom::Hidden;
        }
        if present.config == Config::Named && token != Token::Open {
            let is_itself = matches!(token, Token::Word(word) if word.is_name("set_config"));
            if !is_itself {
                present.config = Config::No;
                self.pin_hidden();
            }
            return;
        }
        match token {
            Token::Open => {
                present.depth += 1;
                if present.config == Config::Named {
                    present.config = Config::Inside(present.depth);
                    present.config_carried = false;
                    present.config_custom = SetsCustom::Hidden;
                }
            }
            Token::Close => {
                if present.config == Config::Inside(present.depth) {
                    self.end_config();
                }
                self.present.depth = self.present.depth.saturating_sub(1);
            }
            Token::Literal(name)
                if present.previous == Some(Token::Open)
                    && present.config == Config::Inside(present.depth) =>
            {
                (present.config_carried, present.config_custom) = named(name);
            }
            Token::Word(word) if word.is("null") => present.config_null |= present.config != Config::No,
            Token::Hidden => {
                present.impure = true;
                self.pin_hidden();
            }
            _ => {}
        }
    }
}

/// True for what says as whom the session acts.
fn is_of_role(word: Word<'_>) -> bool {
    ["role", "authorization", "session_authorization"].iter().any(|name| word.is_name(name))
}

/// Whether a parameter that is named by a literal can be carried, and whether it is a custom one.
fn named(name: &[u8]) -> (bool, SetsCustom) {
    // Either may stand for another character.
    if name.contains(&b'\\') || name.contains(&b'\'') {
        return (false, SetsCustom::Hidden);
    }
    match is_custom(name) {
        true => (true, SetsCustom::Named),
        false => (can_be_carried(name), SetsCustom::Nothing),
    }
}

/// True for the names of custom parameters.
fn is_custom(name: &[u8]) -> bool {
    name.contains(&b'.')
}

/// True for the names of PostgreSQL's own parameters that a server tells of, and that another server can be given: not who the
/// session is, nor the state of `random()`.
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
