//! What texts amounted to that were looked at of late.

use std::cell::RefCell;

use super::lexer::is_word;
use super::suspects::Remembered;
use super::{Scan, Suspects, scan};

/// Texts that are remembered.
const SLOTS: usize = 64;
/// A longer text is looked at each time.
const LONGEST: usize = 2048;
/// Bytes of texts that are compared at once.
const CHUNK: usize = 8;

/// Remembers what texts amounted to: most sessions say the same again and again, or the same with other numbers.
///
/// For one thread. It takes at most 64 texts of 2 KiB.
#[derive(Debug)]
pub struct RecentScans(RefCell<Vec<Recent>>);

#[derive(Clone, Debug, Default)]
struct Recent {
    text: Vec<u8>,
    scan: Option<Scan>,
    remembered: Remembered,
    /// A standby has refused it.
    refused: bool,
    /// With others, its answer was too long to be held back.
    is_long: bool,
}

impl Default for RecentScans {
    fn default() -> Self {
        Self(RefCell::new(vec![Recent::default(); SLOTS]))
    }
}

impl RecentScans {
    /// As [`scan`].
    pub fn scan(&self, text: &[u8]) -> Scan {
        self.look(text, |_| ()).map_or_else(|| scan(without_end(text)), |(scan, ())| scan)
    }

    /// As [`scan`], with what the text is suspected of.
    pub fn judge(&self, text: &[u8], suspects: &Suspects) -> Scan {
        let mut judged = None;
        let looked = self.look(text, |recent| {
            let scan = recent.scan.map(|scan| scan.unless_refused(recent.refused));
            judged =
                scan.map(|scan| suspects.judge(scan, |names| recent.remembered.recall(names, &recent.text)));
        });
        looked.and(judged).unwrap_or_else(|| {
            let text = without_end(text);
            suspects.judge_text(scan(text), text)
        })
    }

    /// A standby has refused this text.
    pub fn refuse(&self, text: &[u8]) {
        self.look(text, |recent| recent.refused = true);
    }

    /// With others behind it or before it, this text had an answer that was too long to be held back.
    pub(crate) fn note_long(&self, text: &[u8]) {
        self.look(text, |recent| recent.is_long = true);
    }

    /// True if that was so, or could not be remembered.
    pub(crate) fn is_long(&self, text: &[u8]) -> bool {
        self.look(text, |recent| recent.is_long).is_none_or(|(_, is_long)| is_long)
    }

    /// What is remembered of a text, after it was looked at if it was not there; none if it is too long for that.
    fn look<T>(&self, text: &[u8], then: impl FnOnce(&mut Recent) -> T) -> Option<(Scan, T)> {
        let text = without_end(text);
        let mut all = self.0.borrow_mut();
        let recent = all.get_mut(slot(text)).filter(|_| text.len() <= LONGEST)?;
        let scan = match recent.scan {
            Some(known) if recent.text == text => known,
            Some(known) if differ_in_numbers_only(&recent.text, text) => {
                // A session asks for the same more than once.
                recent.text.copy_from_slice(text);
                // A digit may be one of a quoted name.
                if memchr::memchr(b'"', text).is_some() {
                    recent.remembered = Remembered::default();
                }
                known
            }
            _ => {
                let scan = scan(text);
                recent.text.clear();
                recent.text.extend_from_slice(text);
                recent.remembered = Remembered::default();
                recent.refused = false;
                recent.is_long = false;
                *recent.scan.insert(scan)
            }
        };
        Some((scan, then(recent)))
    }
}

/// A text without the NUL that a Query's has behind it.
fn without_end(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}

/// By the length, and by the letters in the middle and at the end: many texts begin alike. Numbers do not count.
fn slot(text: &[u8]) -> usize {
    let letters = |at: usize| {
        let bytes = text.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_ne_bytes);
        // Digits do not have this bit.
        let is_letter = (bytes >> 6) & 0x0101_0101_0101_0101;
        bytes & (is_letter * 0xff)
    };
    let len = text.len();
    let key = letters(len / 2) ^ letters(len.saturating_sub(8)).rotate_left(29) ^ len as u64;
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(hash).unwrap_or_default() % SLOTS
}

/// True for texts of the same length that are the same but for the digits of their numbers: what begins with a digit and is
/// no part of a word. Those make no difference to what the text amounts to.
fn differ_in_numbers_only(known: &[u8], text: &[u8]) -> bool {
    if known.len() != text.len() {
        return false;
    }
    let (known_chunks, known_tail) = known.as_chunks::<CHUNK>();
    let (chunks, tail) = text.as_chunks::<CHUNK>();
    // Up to there the digits are of a number that was looked at.
    let mut seen = 0;
    for (number, (known, chunk)) in known_chunks.iter().zip(chunks).enumerate() {
        if known != chunk && !are_of_numbers(*known, *chunk, (text, number * CHUNK), &mut seen) {
            return false;
        }
    }
    known_tail == tail
        || are_of_numbers(padded(known_tail), padded(tail), (text, text.len() - tail.len()), &mut seen)
}

/// The last bytes of a text as a chunk.
fn padded(tail: &[u8]) -> [u8; CHUNK] {
    let mut chunk = [0; CHUNK];
    chunk.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
    chunk
}

/// True if the bytes of two chunks differ only where both are digits of numbers. The second stands at `at` in `text`; digits up to `seen` are of
/// a number that was looked at.
fn are_of_numbers(
    known: [u8; CHUNK],
    chunk: [u8; CHUNK],
    (text, at): (&[u8], usize),
    seen: &mut usize,
) -> bool {
    // Of each byte the highest bit.
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let is_nonzero = |bytes: u64| (((bytes & !HIGH) + !HIGH) | bytes) & HIGH;
    let is_no_digit = |bytes: u64| {
        // A digit is 0 to 9 then, and from 10 on the sum has the highest bit.
        let digits = bytes ^ 0x3030_3030_3030_3030;
        (((digits & !HIGH) + 0x7676_7676_7676_7676) | digits) & HIGH
    };
    let (known, chunk) = (u64::from_le_bytes(known), u64::from_le_bytes(chunk));
    let others = is_no_digit(known) | is_no_digit(chunk);
    let mut differ = is_nonzero(known ^ chunk);
    if differ & others != 0 {
        return false;
    }
    while differ != 0 {
        let place = differ.trailing_zeros() / u8::BITS;
        let first = at + place as usize;
        if first > *seen && !is_in_number(text, first) {
            return false;
        }
        // The digits behind it are of the same number, in the next chunk, too.
        let behind = place + (others >> (place * u8::BITS)).trailing_zeros() / u8::BITS;
        *seen = at + CHUNK.min(behind as usize);
        differ &= u64::MAX.checked_shl(behind * u8::BITS).unwrap_or(0);
    }
    true
}

/// True if the digits around this place stand at the beginning of a token. Of a number that is longer than any that means
/// something, false.
fn is_in_number(text: &[u8], at: usize) -> bool {
    const LONGEST_NUMBER: usize = 32;
    let start = at.saturating_sub(LONGEST_NUMBER);
    let before = text.get(start..at).unwrap_or_default().iter().rev().find(|byte| !byte.is_ascii_digit());
    before.map_or(start == 0, |&byte| !is_word(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_numbers_are_the_same_text_and_other_words_are_not() {
        let same = |a: &str, b: &str| differ_in_numbers_only(a.as_bytes(), b.as_bytes());
        assert!(same("SELECT a FROM t WHERE id = 12345;", "SELECT a FROM t WHERE id = 98765;"));
        assert!(same("SELECT 1.5e10 -- 7", "SELECT 2.6e10 -- 8"));
        assert!(!same("SELECT a FROM t1", "SELECT a FROM t2"), "a name");
        assert!(!same("SELECT $1", "SELECT $2"), "a parameter");
        assert!(!same("SELECT $1$;$1$", "SELECT $1$;$2$"));
        assert!(!same("SELECT 1", "SELECT 12"));
        assert!(!same("SELECT 1 ", "SELECT 12"));
        assert!(!same("SELECT 'a'", "SELECT 'b'"));
        assert!(!same("", "1") && same("", ""));
        let beginning = "1".repeat(100);
        assert!(same(&"1".repeat(100), &"2".repeat(100)));
        assert!(!same(&format!("{beginning}1"), &format!("{beginning}2")), "it looks back so far only");
    }

    #[test]
    fn what_is_remembered_is_what_would_be_found() {
        let recent = RecentScans::default();
        for _ in 0..2 {
            for text in ["SELECT 1", "COMMIT", "SET a = 1", "SET a = 2", "LISTEN a1", "LISTEN a2", ""] {
                assert_eq!(recent.scan(text.as_bytes()), scan(text.as_bytes()), "{text}");
            }
        }
        let last = format!("SELECT {}; SET NAMES", "7".repeat(LONGEST));
        for text in ["SET NAMES", "set", &last] {
            let query = format!("{text}\0");
            assert_eq!(
                recent.scan(query.as_bytes()),
                scan(text.as_bytes()),
                "a Query's NUL is no part of it"
            );
        }
        let long = vec![b'7'; LONGEST + 1];
        assert_eq!(recent.scan(&long), scan(&long));
        assert!(recent.0.borrow().iter().all(|recent| recent.text.len() <= LONGEST));
    }

    /// The same, one byte after the other, for texts that are shorter than the longest number.
    fn plainly(known: &[u8], text: &[u8]) -> bool {
        known.len() == text.len()
            && known.iter().zip(text).enumerate().all(|(at, (a, b))| {
                a == b || (a.is_ascii_digit() && b.is_ascii_digit() && is_in_number(text, at))
            })
    }

    /// Words, marks and numbers in any order, cut into what the lexer tells apart.
    fn texts() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "SELECT",
            "set",
            "local",
            "SET LOCAL",
            "set_config",
            "pg_temp",
            "temp",
            "do",
            "copy",
            "u&",
            "U&\"",
            "e'",
            "'",
            "\"",
            "$",
            "$$",
            "$a$",
            "a",
            "_",
            "é",
            "\\",
            "\\\\",
            ";",
            "(",
            ")",
            ",",
            ".",
            " ",
            "\n",
            "--",
            "/*",
            "*/",
            "1",
            "22",
            "7",
            "0x",
            "e",
            "::",
            "true",
            "null",
            "default",
            "reset",
        ]);
        prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_is_compared_at_once_is_what_is_compared_byte_by_byte(
            text in prop::collection::vec(prop::sample::select(b"0123456789_ a\xb0\xff".to_vec()), 0..31),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0123456789 a\xb9/:".to_vec())), 0..9),
        ) {
            let mut other = text.clone();
            for (index, byte) in changes {
                if !other.is_empty() {
                    let at = index.index(other.len());
                    other[at] = byte;
                }
            }
            prop_assert_eq!(differ_in_numbers_only(&text, &other), plainly(&text, &other));
        }

        #[test]
        fn numbers_make_no_difference(text in texts(), digits in prop::collection::vec(b'0'..=b'9', 64)) {
            let mut digits = digits.iter().cycle();
            let other: Vec<u8> = text
                .bytes()
                .map(|byte| if byte.is_ascii_digit() { *digits.next().unwrap_or(&b'5') } else { byte })
                .collect();
            if differ_in_numbers_only(text.as_bytes(), &other) {
                prop_assert_eq!(scan(text.as_bytes()), scan(&other), "{} / {}", text, String::from_utf8_lossy(&other));
            }
        }
    }
}
