//! Lines of what a program writes, as they come, and never more of them than people may read.

use super::ran::without_passwords;

/// The longest line that is passed on, in bytes.
const LONGEST: usize = 4096;
/// What stands where something was left out.
const CUT: &str = " ...";

/// Cuts what comes in pieces into lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// The line that has not come to its end; what is beyond the longest is not kept.
    open: Vec<u8>,
    /// How many bytes may yet be passed on.
    room: usize,
    /// The last line that said anything.
    last: String,
    /// The last error that was named.
    error: String,
}

impl Lines {
    /// Passes on no more than so many bytes in all.
    pub(super) const fn up_to(room: usize) -> Self {
        Self { open: Vec::new(), room, last: String::new(), error: String::new() }
    }

    /// Takes in what was written; gives the lines that are whole.
    pub(super) fn take(&mut self, written: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pieces = written.split(|byte| *byte == b'\n');
        let Some(first) = pieces.next() else { return lines };
        self.keep(first);
        for piece in pieces {
            lines.extend(self.close());
            self.keep(piece);
        }
        lines
    }

    /// What has come without an end of its line, once nothing more comes.
    pub(super) fn rest(&mut self) -> Option<String> {
        if self.open.is_empty() { None } else { self.close() }
    }

    /// The error that was named last, if one was.
    pub(super) fn error(&self) -> Option<&str> {
        Some(self.error.as_str()).filter(|error| !error.is_empty())
    }

    /// The last line that said anything, also if it was not passed on.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    fn keep(&mut self, piece: &[u8]) {
        // One byte more than the longest tells that it is too long.
        let room = (LONGEST + 1).saturating_sub(self.open.len());
        self.open.extend(piece.iter().take(room));
    }

    fn close(&mut self) -> Option<String> {
        let line = readable(&std::mem::take(&mut self.open));
        if !line.trim().is_empty() {
            line.trim().clone_into(&mut self.last);
            if let Some(error) = error_in(&line) {
                error.clone_into(&mut self.error);
            }
        }
        if self.room == 0 {
            return None;
        }
        let left = self.room.checked_sub(line.len() + 1);
        self.room = left.unwrap_or(0);
        Some(if left.is_some() { line } else { "... and more, which is left out".to_owned() })
    }
}

/// What comes behind the word, as repmgr, PostgreSQL's programs and those of the images write it.
fn error_in(line: &str) -> Option<&str> {
    let error = line.strip_prefix("ERROR:").or_else(|| Some(line.split_once(": error:")?.1))?;
    Some(error.trim()).filter(|error| !error.is_empty())
}

/// A line as people may see it: text without passwords and without what a terminal would obey.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().filter(|it| *it == '\t' || !it.is_control()).collect();
    let line = without_passwords(&text);
    if line.len() <= LONGEST {
        return line;
    }
    let mut end = LONGEST - CUT.len();
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", line.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        for step in [1, 2, 3, 100] {
            let mut lines = Lines::up_to(1000);
            let text = "one\n\n\ttwo \u{1b}[31mred\r\nthr\u{e9}e\npassword=secret x";
            let mut seen: Vec<String> =
                text.as_bytes().chunks(step).flat_map(|piece| lines.take(piece)).collect();
            assert_eq!(lines.last(), "thr\u{e9}e");
            seen.extend(lines.rest());
            assert_eq!(seen, ["one", "", "\ttwo [31mred", "thr\u{e9}e", "password=... x"], "{step}");
            assert_eq!(lines.rest(), None);
        }
    }

    #[test]
    fn the_last_error_is_told_without_who_has_named_it() {
        let mut lines = Lines::up_to(1000);
        lines.take(b"NOTICE: fine\n");
        assert_eq!(lines.error(), None);
        lines.take(b"pg_dump: error: no such database\n2026-01-31T12:00:00Z backup: error: it could not be dumped\nbye\n");
        assert_eq!(lines.error(), Some("it could not be dumped"));
        lines.take(b"ERROR: connection failed\nDETAIL: \n\tIs it there?\n");
        assert_eq!((lines.error(), lines.last()), (Some("connection failed"), "Is it there?"));
    }

    #[test]
    fn a_line_that_does_not_end_is_cut_and_takes_no_room() {
        let mut lines = Lines::up_to(1 << 20);
        for _ in 0..1000 {
            assert_eq!(lines.take(&[b'x'; 1000]), Vec::<String>::new());
            assert!(lines.open.len() <= LONGEST + 1);
        }
        let line = lines.take(b"\n").pop().unwrap();
        assert!(line.len() <= LONGEST && line.ends_with("xx ..."), "{}", line.len());
        let wide = "\u{20ac}".repeat(2000);
        let line = lines.take(format!("{wide}\n").as_bytes()).pop().unwrap();
        assert!(line.len() <= LONGEST && line.ends_with("\u{20ac} ..."), "{}", line.len());
        let exact = "y".repeat(LONGEST);
        assert_eq!(lines.take(format!("{exact}\n").as_bytes()), [exact]);
    }

    #[test]
    fn what_is_too_much_in_all_is_left_out_and_that_is_said_once() {
        let mut lines = Lines::up_to(10);
        assert_eq!(lines.take(b"1234\n1234\n1234\n5678\n"), ["1234", "1234"]);
        let mut lines = Lines::up_to(11);
        assert_eq!(
            lines.take(b"1234\n1234\n1234\n5678\n"),
            ["1234", "1234", "... and more, which is left out"]
        );
        assert_eq!(lines.last(), "5678");
    }
}
