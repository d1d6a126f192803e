//! SQL's DEALLOCATE of a statement that was prepared by the protocol: both share one set of names.

use std::borrow::Cow;

/// The name in `DEALLOCATE [PREPARE] name`, as PostgreSQL understands it; none in any other text.
pub(super) fn deallocated(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let is_end = |byte: &u8| matches!(byte, 0 | b';') || byte.is_ascii_whitespace();
    let end = text.iter().rposition(|byte| !is_end(byte))? + 1;
    let rest = keyword(text.get(..end)?.trim_ascii_start(), b"deallocate")?;
    let name = keyword(rest, b"prepare").unwrap_or(rest);
    match name {
        [b'"', quoted @ .., b'"'] => unquote(quoted),
        _ if name.eq_ignore_ascii_case(b"all") => None,
        [first, others @ ..] if is_letter(*first) && others.iter().all(|byte| is_inside(*byte)) => {
            Some(name.to_ascii_lowercase().into())
        }
        _ => None,
    }
}

/// What follows a keyword and the space behind it.
fn keyword<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let spaced = rest.trim_ascii_start();
    (start.eq_ignore_ascii_case(word) && spaced.len() < rest.len()).then_some(spaced)
}

fn unquote(quoted: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !quoted.contains(&b'"') {
        return Some(quoted.into());
    }
    let mut name = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'"' && bytes.next() != Some(&b'"') {
            return None;
        }
        name.push(byte);
    }
    Some(name.into())
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | 0x80..)
}

const fn is_inside(byte: u8) -> bool {
    is_letter(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        for (text, name) in [
            ("DEALLOCATE s", "s"),
            ("  deallocate\n\tPREPARE  My_Name1$ ; ", "my_name1$"),
            ("DEALLOCATE \"My \"\"Name\"\"\"\0", "My \"Name\""),
            ("DEALLOCATE prepare", "prepare"),
            ("DEALLOCATE \"all\"", "all"),
        ] {
            assert_eq!(deallocated(text.as_bytes()).as_deref(), Some(name.as_bytes()), "{text}");
        }
    }

    #[test]
    fn other_texts_name_none() {
        for text in [
            "",
            ";",
            "DEALLOCATE",
            "DEALLOCATE ALL",
            "DEALLOCATE PREPARE ALL",
            "DEALLOCATEs",
            "DEALLOCATE s; SELECT 1",
            "DEALLOCATE a b",
            "DEALLOCATE 1s",
            "DEALLOCATE \"a\"b\"",
            "DEALLOCATE \"",
            "DEALLOCATE s -- now",
            "DISCARD ALL",
        ] {
            assert_eq!(deallocated(text.as_bytes()), None, "{text}");
        }
    }
}
