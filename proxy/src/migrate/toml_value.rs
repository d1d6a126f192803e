//! Values as they stand in the file that is written.

use std::fmt;

use crate::config::keys::Key;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Toml {
    /// In quotes.
    Text(String),
    /// A number or a boolean: as it is.
    Bare(String),
    /// An array, in one line.
    List(Vec<String>),
    /// An array, each element on a line of its own.
    Lines(Vec<String>),
}

impl Toml {
    /// A text, as the key `key` takes it.
    pub(super) fn of(key: &Key, text: &str) -> Self {
        let takes_number = key.default.is_some_and(is_number);
        match (key.default, text) {
            (Some("true" | "false"), "1" | "on" | "yes" | "true") => Self::Bare("true".to_owned()),
            (Some("true" | "false"), "0" | "off" | "no" | "false") => Self::Bare("false".to_owned()),
            _ if takes_number && is_number(text) => Self::Bare(text.to_owned()),
            _ => Self::Text(text.to_owned()),
        }
    }

    /// A number, or a text if it is none.
    pub(super) fn number(text: &str) -> Self {
        if is_number(text) { Self::Bare(text.to_owned()) } else { Self::Text(text.to_owned()) }
    }

    /// The text that the key has by default where it has this value.
    pub(super) fn as_default(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Bare(text) => Some(text),
            Self::List(_) | Self::Lines(_) => None,
        }
    }
}

/// Permissions such as 0777 are no number.
fn is_number(text: &str) -> bool {
    text == "0"
        || text.len() < 10
            && !text.starts_with('0')
            && !text.is_empty()
            && text.bytes().all(|it| it.is_ascii_digit())
}

impl fmt::Display for Toml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |texts: &[String], before: &str, behind: &str| {
            texts.iter().map(|text| format!("{before}{}{behind}", quoted(text))).collect::<Vec<_>>()
        };
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Bare(text) => f.write_str(text),
            Self::List(texts) => write!(f, "[{}]", all(texts, "", "").join(", ")),
            Self::Lines(texts) => write!(f, "[\n{}\n]", all(texts, "    ", ",").join("\n")),
        }
    }
}

/// A basic string, on one line whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            it if it.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(it))),
            it => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_read_back_from_one_line(text in any::<String>()) {
            let line = format!("x = {}", Toml::Text(text.clone()));
            prop_assert!(!line.contains('\n'));
            let table: toml::Table = toml::from_str(&line).unwrap();
            prop_assert_eq!(table["x"].as_str(), Some(text.as_str()));
        }
    }
}
