//! Reads pgbouncer.ini: sections, `name = value` up to the end of the line, `%include`; and the connection strings in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::source::{Fault, Files, Place, Setting, check_text};

/// The sections that there are.
const SECTIONS: [&str; 4] = ["databases", "users", "peers", "pgbouncer"];

/// All settings, in their order; those of included files stand where they are included.
pub(super) fn read(path: &Path, files: &mut Files) -> Result<Vec<Setting>, Fault> {
    let mut settings = Vec::new();
    read_into(&mut settings, &mut None, path, files)?;
    Ok(settings)
}

fn read_into(
    settings: &mut Vec<Setting>,
    section: &mut Option<&'static str>,
    path: &Path,
    files: &mut Files,
) -> Result<(), Fault> {
    let file: Arc<Path> = path.into();
    let text = files.read(path)?;
    for (index, line) in text.lines().enumerate() {
        let place = Place { file: Arc::clone(&file), line: index + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        check_text(&place, line)?;
        if let Some(name) = line.strip_prefix("%include").filter(|name| name.starts_with([' ', '\t'])) {
            let included = beside(path, name.trim_start());
            files.nested(&place, |files| read_into(settings, section, &included, files))?;
        } else if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split_once(']').map(|(name, _)| name.trim());
            let known = name.and_then(|name| SECTIONS.into_iter().find(|known| *known == name));
            let Some(known) = known else {
                return Err(Fault::new(
                    &place,
                    "is no section of PgBouncer's: databases, users, peers, pgbouncer",
                ));
            };
            *section = Some(known);
        } else {
            let (name, value) = parse(line).ok_or_else(|| Fault::new(&place, "is no `name = value`"))?;
            let Some(section) = *section else {
                return Err(Fault::new(&place, "stands in no section; write [pgbouncer] above it"));
            };
            settings.push(Setting { section, name, value, place });
        }
    }
    Ok(())
}

/// A file that is named without its directory: PgBouncer looks in the one that it was started in, which nobody knows here.
pub(super) fn beside(path: &Path, name: &str) -> PathBuf {
    let sibling = path.parent().unwrap_or(path).join(name);
    if sibling.exists() || !Path::new(name).exists() { sibling } else { PathBuf::from(name) }
}

fn parse(line: &str) -> Option<(String, Zeroizing<String>)> {
    let (name, rest) = match line.chars().next().filter(|it| matches!(it, '\'' | '"')) {
        Some(quote) => quoted(line.get(1..)?, quote)?,
        None => {
            let is_of_name = |it: char| it.is_alphanumeric() || matches!(it, '_' | '.' | '-' | '*');
            let end = line.find(|it: char| !is_of_name(it))?;
            let (name, rest) = line.split_at(end);
            (Zeroizing::new(name.to_owned()), rest)
        }
    };
    let value = rest.trim_start().strip_prefix('=')?.trim();
    (!name.is_empty()).then(|| (name.to_string(), Zeroizing::new(value.to_owned())))
}

/// What stands before the quote at the end, and what behind it. Within, a quote is doubled.
fn quoted(mut rest: &str, quote: char) -> Option<(Zeroizing<String>, &str)> {
    // Room for all of it, so that no copy is left behind by growing.
    let mut value = Zeroizing::new(String::with_capacity(rest.len()));
    loop {
        let (before, after) = rest.split_once(quote)?;
        value.push_str(before);
        let Some(more) = after.strip_prefix(quote) else { return Some((value, after)) };
        value.push(quote);
        rest = more;
    }
}

/// The pairs of a connection string, `host=pg01 port=5432 connect_query='SELECT 1'`. None if it is not one.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, Zeroizing<String>)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let after = after.trim_start();
        let (value, more) = match after.strip_prefix('\'') {
            Some(inner) => quoted(inner, '\'')?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                let (value, more) = after.split_at(end);
                (Zeroizing::new(value.to_owned()), more)
            }
        };
        if value.is_empty() {
            return None;
        }
        pairs.push((name.to_owned(), value));
        rest = more.trim_start();
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn connection_strings_are_read_as_pgbouncer_reads_them() {
        let read = |text: &str| {
            let pairs = pairs(text)?;
            Some(
                pairs
                    .into_iter()
                    .map(|(name, value)| format!("{name}={}", *value))
                    .collect::<Vec<_>>()
                    .join("|"),
            )
        };
        for (text, expected) in [
            ("", Some("")),
            ("host=a port=1", Some("host=a|port=1")),
            ("  host = a   user='it''s me' ", Some("host=a|user=it's me")),
            ("connect_query='SELECT 1; -- x=y' host=a", Some("connect_query=SELECT 1; -- x=y|host=a")),
            ("host=a,b", Some("host=a,b")),
            ("host", None),
            ("host=", None),
            ("host='a", None),
            ("a b=c", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_may_have_quotes() {
        let read = |line: &str| parse(line).map(|(name, value)| (name, value.to_string()));
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(read("* = host=a"), pair("*", "host=a"));
        assert_eq!(read("\"my \"\"db\" = host=a ; no comment"), pair("my \"db", "host=a ; no comment"));
        assert_eq!(read("'my db'="), pair("my db", ""));
        assert_eq!((read("my db = x"), read("= x"), read("\"x = y")), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(any in "\\PC*", near in "[a-z=' \"\u{e9}]{0,30}") {
            let _ = (parse(&any), parse(&near), pairs(&any), pairs(&near));
        }
    }
}
