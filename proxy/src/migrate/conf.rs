//! Reads pgpool.conf: `name = value`, quotes where a value is no plain word, `include`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::source::{Fault, Files, Place, Setting, check_text};

/// All settings, in their order; those of included files stand where they are included.
pub(super) fn read(path: &Path, files: &mut Files) -> Result<Vec<Setting>, Fault> {
    let mut settings = Vec::new();
    read_into(&mut settings, path, files)?;
    Ok(settings)
}

fn read_into(settings: &mut Vec<Setting>, path: &Path, files: &mut Files) -> Result<(), Fault> {
    let file: Arc<Path> = path.into();
    let text = files.read(path)?;
    for (index, line) in text.lines().enumerate() {
        let place = Place { file: Arc::clone(&file), line: index + 1 };
        let Some((name, value)) = parse(line).map_err(|why| Fault::new(&place, why))? else { continue };
        check_text(&place, name).and_then(|()| check_text(&place, &value))?;
        if name == "include" {
            let included = path.parent().unwrap_or(path).join(value.as_str());
            files.nested(&place, |files| read_into(settings, &included, files))?;
        } else {
            settings.push(Setting { section: "", name: name.to_ascii_lowercase(), value, place });
        }
    }
    Ok(())
}

/// The name and the value of a line; none for one that says nothing.
fn parse(line: &str) -> Result<Option<(&str, Zeroizing<String>)>, &'static str> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|it: char| !is_of_name(it)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|it: char| it.is_ascii_digit()) {
        return Err("is no `name = value`, as pgpool.conf has it");
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let (value, rest) = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted).ok_or("lacks the quote at the end of the value")?,
        None => {
            let end = rest.find(|it: char| it.is_whitespace() || it == '#').unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            if value.is_empty() {
                return Err("has a name and no value");
            }
            (Zeroizing::new(value.to_owned()), rest)
        }
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(Some((name, value)))
    } else {
        Err("has more than one value: put quotes around it")
    }
}

fn is_of_name(it: char) -> bool {
    it.is_ascii_alphanumeric() || it == '_' || !it.is_ascii()
}

/// What stands before the quote at the end, and what behind it. Within, a quote is doubled or has a backslash before it.
fn unquote(text: &str) -> Option<(Zeroizing<String>, &str)> {
    // Room for all of it, so that no copy is left behind by growing.
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match (letter, letters.peek()) {
            ('\'', Some((_, '\''))) | ('\\', Some((_, '\'' | '\\'))) => {
                value.extend(letters.next().map(|(_, it)| it));
            }
            ('\'', _) => return Some((value, text.get(at + 1..).unwrap_or_default())),
            (other, _) => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Option<(String, String)>, &'static str> {
        parse(line).map(|found| found.map(|(name, value)| (name.to_owned(), value.to_string())))
    }

    #[test]
    fn lines_are_read_as_pgpool_reads_them() {
        for (line, name, value) in [
            ("port = 9999", "port", "9999"),
            ("  port 9999 # the port", "port", "9999"),
            ("log_line_prefix = '%m: %a #pid %p: '   # comment", "log_line_prefix", "%m: %a #pid %p: "),
            ("failover_command=''", "failover_command", ""),
            ("a = 'it''s \\'here\\' in C:\\\\x'", "a", "it's 'here' in C:\\x"),
            ("ssl_passphrase_command=''\t#", "ssl_passphrase_command", ""),
            ("search_primary_node_timeout = 5min", "search_primary_node_timeout", "5min"),
        ] {
            assert_eq!(read(line).unwrap(), Some((name.to_owned(), value.to_owned())), "{line}");
        }
        for line in ["", "   ", "# port = 1", "\t#"] {
            assert_eq!(read(line).unwrap(), None, "{line}");
        }
    }

    #[test]
    fn what_pgpool_would_not_read_is_said() {
        for (line, why) in [
            ("= 3", "no `name = value`"),
            ("[pool]", "no `name = value`"),
            ("port =", "no value"),
            ("port = # 1", "no value"),
            ("a = 'x", "lacks the quote"),
            ("a = 'x\\'", "lacks the quote"),
            ("a = b c", "put quotes around it"),
        ] {
            assert!(read(line).unwrap_err().contains(why), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(any in "\\PC*", near in "[a-z_]{0,5} ?=? ?[a-z0-9'\\\\# \u{e9}]{0,20}") {
            let _ = (read(&any), read(&near));
        }
    }
}
