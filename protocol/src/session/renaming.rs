//! Texts that go to the server with other names than the client's, and errors that come back with them.

use super::frontend::ESCAPED_PREFIX;
use crate::frame::{Frame, HEADER_LEN, split_cstr};
use crate::prepared::{SERVER_PREFIX, write_server_name};
use crate::statement::Mention;
use crate::write;

/// From this character of a text on, counted from 1, the server counts so many more than the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shift {
    from: usize,
    by: isize,
}

/// Where the server's places in a text differ from the client's, if they do.
pub(super) type Shifts = Option<Box<[Shift]>>;

/// Where the server counts so many characters before the client's first.
pub(super) fn shifted_by(characters: usize) -> Shifts {
    Some(Box::new([Shift { from: characters + 1, by: characters.cast_signed() }]))
}

/// A text in the making.
pub(super) struct Renaming<'a> {
    text: &'a [u8],
    renamed: Vec<u8>,
    copied: usize,
    shifts: Vec<Shift>,
}

impl<'a> Renaming<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, renamed: Vec::new(), copied: 0, shifts: Vec::new() }
    }

    /// Puts the server's name in the place of one that stands behind all others so far.
    pub(super) fn rename(&mut self, mention: &Mention, name: &[u8]) {
        self.renamed.extend_from_slice(self.text.get(self.copied..mention.span.start).unwrap_or_default());
        self.renamed.extend_from_slice(name);
        self.copied = mention.span.end;
        let before = self.text.get(..self.copied).unwrap_or_default();
        let after = characters(&self.renamed);
        let by = after.cast_signed() - characters(before).cast_signed();
        self.shifts.push(Shift { from: after + 1, by });
    }

    /// True if no name is another.
    pub(super) const fn is_needless(&self) -> bool {
        self.shifts.is_empty()
    }

    pub(super) fn finish(mut self) -> (Vec<u8>, Shifts) {
        self.renamed.extend_from_slice(self.text.get(self.copied..).unwrap_or_default());
        (self.renamed, (!self.shifts.is_empty()).then(|| self.shifts.into()))
    }
}

/// Appends a Query with another text, of which `frame` may have had only a part; how much of the frame that stands for.
pub(super) fn write_query(frame: &Frame<'_>, text: &[u8], out: &mut Vec<u8>) -> usize {
    if frame.is_complete() {
        write::message(out, b'Q', |out| write::cstr(out, text));
        return frame.header.len;
    }
    let seen = HEADER_LEN + frame.body.len();
    let len = frame.header.len - seen + text.len() + HEADER_LEN - 1;
    out.push(b'Q');
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text);
    seen
}

/// A statement's name on servers.
pub(super) fn server_name(id: u64) -> Vec<u8> {
    let mut name = Vec::new();
    write_server_name(&mut name, id);
    name.pop();
    name
}

/// A client's name that would be taken for one of pgherd's, as it stands in SQL.
pub(super) fn escaped_name(name: &[u8]) -> Option<Vec<u8>> {
    name.starts_with(SERVER_PREFIX.as_bytes()).then(|| {
        let mut escaped = [b"\"", ESCAPED_PREFIX.as_bytes()].concat();
        name.iter().for_each(|&byte| {
            escaped.extend(std::iter::repeat_n(byte, 1 + usize::from(byte == b'"')));
        });
        escaped.push(b'"');
        escaped
    })
}

/// How many characters that is in UTF-8.
pub(super) fn characters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// Appends the fields of an ErrorResponse to `out` as an ErrorResponse, with another message and with places as the client
/// counts them.
pub(super) fn write_error(mut body: &[u8], message: Option<&[u8]>, shifts: &Shifts, out: &mut Vec<u8>) {
    write::message(out, b'E', |out| {
        while let Some((&code, rest)) = body.split_first().filter(|(code, _)| **code != 0) {
            let Some((text, rest)) = split_cstr(rest) else { break };
            body = rest;
            out.push(code);
            match (code, message) {
                (b'M', Some(message)) => write::cstr(out, message),
                (b'P', _) => write::cstr(out, &unshifted(text, shifts)),
                _ => write::cstr(out, text),
            }
        }
        out.push(0);
    });
}

fn unshifted(place: &[u8], shifts: &Shifts) -> Vec<u8> {
    let known = std::str::from_utf8(place).ok().and_then(|place| place.parse::<usize>().ok());
    let Some(known) = known else { return place.to_vec() };
    let by = shifts.iter().flatten().rev().find(|shift| shift.from <= known).map_or(0, |shift| shift.by);
    known.saturating_add_signed(-by).to_string().into_bytes()
}

/// The statement on the server that a message names: where its name stands, and its number.
pub(super) fn named_statement(message: &[u8]) -> Option<(std::ops::Range<usize>, u64)> {
    let start = memchr::memmem::find(message, SERVER_PREFIX.as_bytes())?;
    let digits = message.get(start + SERVER_PREFIX.len()..)?;
    let len = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let id = std::str::from_utf8(digits.get(..len)?).ok()?.parse().ok()?;
    Some((start..start + SERVER_PREFIX.len() + len, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorFields;
    use crate::statement::mentions;

    #[test]
    fn places_behind_a_name_are_told_as_the_client_counts_them() {
        let text = "/* é */ execute s(a); execute \"long name\"(b)".as_bytes();
        let mut renaming = Renaming::new(text);
        let names = [server_name(123), server_name(4)];
        for (mention, name) in mentions(text).unwrap().0.iter().zip(&names) {
            renaming.rename(mention, name);
        }
        let (renamed, shifts) = renaming.finish();
        let renamed = String::from_utf8(renamed).unwrap();
        assert_eq!(renamed, "/* é */ execute pgherd_123(a); execute pgherd_4(b)");
        let text = std::str::from_utf8(text).unwrap();
        let place = |text: &str, what: &str| text[..text.find(what).unwrap()].chars().count() + 1;
        for what in ["execute", "a)", "; ", "b)"] {
            let theirs = place(&renamed, what).to_string();
            assert_eq!(
                unshifted(theirs.as_bytes(), &shifts),
                place(text, what).to_string().into_bytes(),
                "{what}"
            );
        }
    }

    #[test]
    fn an_error_is_written_with_another_message_and_place() {
        let mut out = Vec::new();
        let shifts: Shifts = Some(Box::new([Shift { from: 10, by: 3 }]));
        write_error(b"SERROR\0MnO\0P12\0Hh\0\0", Some(b"yes"), &shifts, &mut out);
        assert_eq!(&out[5..], b"SERROR\0Myes\0P9\0Hh\0\0");
        assert_eq!(ErrorFields::parse(&out[5..]).message, b"yes");
    }

    #[test]
    fn the_statement_that_a_message_names_is_found() {
        let message = b"prepared statement \"pgherd_12\" already exists";
        assert_eq!(named_statement(message), Some((20..29, 12)));
        assert_eq!(named_statement(b"prepared statement \"pgherd_!s\" is odd"), None);
    }
}
