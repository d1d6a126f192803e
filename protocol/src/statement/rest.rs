//! The part of a text that does not fit into a buffer: it passes in pieces, and is looked at for single words.

use super::Pin;
use super::lexer::is_word;
use super::sequences::asks_by;
use super::words::session_pin;

/// Longer than every word that is looked for.
const KEPT: usize = 48;

/// Looks for what would outlive the transaction in the pieces of a text, wherever it stands: the pieces do not show what
/// is a literal. What command tags tell, such as SET and LISTEN, is left to them.
#[derive(Debug)]
pub struct Rest {
    /// The start of the word at the end of the last piece.
    word: [u8; KEPT],
    len: usize,
    /// The statement's commands have no tags of their own: it is a DO.
    is_do: bool,
    asks: bool,
}

impl Rest {
    /// Nothing was seen yet of the text.
    #[must_use]
    pub const fn new(is_do: bool) -> Self {
        Self { word: [0; KEPT], len: 0, is_do, asks: false }
    }

    /// Takes in the next piece; the reason to keep the server connection, if there is one.
    pub fn see(&mut self, piece: &[u8]) -> Option<Pin> {
        let mut pin = None;
        let mut rest = piece;
        while let Some((&byte, _)) = rest.split_first() {
            let len = rest.iter().position(|&b| is_word(b) != is_word(byte)).unwrap_or(rest.len());
            let (run, after) = rest.split_at_checked(len).unwrap_or_default();
            if is_word(byte) {
                self.keep(run);
            } else {
                pin = Pin::worse(pin, self.judge());
                self.len = 0;
            }
            rest = after;
        }
        // The word may go on, or not.
        Pin::worse(pin, self.judge())
    }

    /// True if it may ask for the numbers of sequences that its session has taken.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.asks
    }

    fn keep(&mut self, run: &[u8]) {
        let room = self.word.get_mut(self.len..).unwrap_or_default();
        let len = room.len().min(run.len());
        if let (Some(to), Some(from)) = (room.get_mut(..len), run.get(..len)) {
            to.copy_from_slice(from);
        }
        self.len += len;
    }

    fn judge(&mut self) -> Option<Pin> {
        let word = self.word.get(..self.len).unwrap_or_default();
        self.asks |= asks_by(word);
        let is = |lower: &str| word.eq_ignore_ascii_case(lower.as_bytes());
        match word.len() {
            4 if is("temp") => Some(Pin::Temporary),
            7 if is("uescape") => Some(Pin::Parameter),
            9 if is("temporary") => Some(Pin::Temporary),
            10 if is("set_config") => Some(Pin::Parameter),
            11 if is("pg_settings") => Some(Pin::Parameter),
            3 if self.is_do && is("set") => Some(Pin::Parameter),
            4 if self.is_do && is("load") => Some(Pin::Load),
            5 if self.is_do && is("reset") => Some(Pin::Parameter),
            6 if self.is_do && is("listen") => Some(Pin::Listen),
            7 if self.is_do && is("prepare") => Some(Pin::SqlPrepare),
            7.. => session_pin(word),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(is_do: bool, pieces: &[&str]) -> Option<Pin> {
        let mut rest = Rest::new(is_do);
        pieces.iter().fold(None, |pin, piece| Pin::worse(pin, rest.see(piece.as_bytes())))
    }

    #[test]
    fn a_word_is_found_wherever_it_is_cut() {
        let text = "'); SELECT Set_Config('a.b', '1', false)";
        for at in 0..text.len() {
            let (one, other) = text.split_at(at);
            assert_eq!(pin(false, &[one, other]), Some(Pin::Parameter), "{one}|{other}");
        }
        let bytes: Vec<_> = text.split("").collect();
        assert_eq!(pin(false, &bytes), Some(Pin::Parameter));
    }

    #[test]
    fn names_that_begin_like_it_count_and_words_that_contain_it_do_not() {
        assert_eq!(pin(false, &["select pg_advisory_lo", "ck_shared(1)"]), Some(Pin::AdvisoryLock));
        assert_eq!(pin(false, &["an attempt, a template, the tempo, set, load, listen"]), None);
        assert_eq!(pin(false, &["x".repeat(100).as_str(), "temp"]), None);
    }

    #[test]
    fn in_a_do_commands_count() {
        assert_eq!(pin(true, &["execute 'set a.b = 1'"]), Some(Pin::Parameter));
    }
}
