//! The configuration as its sources give it: texts and numbers with the places where they stand.

use zeroize::Zeroizing;

use super::keys::Key;
use super::problem::{Origin, Problem};

/// The sources, the later counts more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// The table of keys.
    Default,
    /// A variable of the system that pgherd replaces that counts only where nothing else is given.
    Fallback,
    /// The file.
    File,
    /// Variables of the system that pgherd replaces.
    Legacy,
    /// `PGHERD_...` variables.
    Environment,
    /// What was set on the console since.
    Console,
}

/// All that the sources say, not yet checked beyond the names of the keys.
#[derive(Default)]
pub(crate) struct Raw {
    /// In the order in which they were read.
    pub(crate) settings: Vec<Setting>,
    /// What could not be read.
    pub(crate) errors: Vec<Problem>,
    /// The file could not be read or is not valid TOML, so that settings may be missing.
    pub(crate) unreadable: bool,
    /// What was read and has no effect.
    pub(crate) warnings: Vec<Problem>,
}

/// One key in one source.
#[derive(Clone)]
pub(crate) struct Setting {
    /// Which key.
    pub(crate) key: &'static Key,
    /// The kind of source.
    pub(crate) layer: Layer,
    /// What is given, and where.
    pub(crate) item: Item,
}

/// A value and its place.
#[derive(Clone)]
pub(crate) struct Item {
    /// Where it stands.
    pub(crate) origin: Origin,
    /// What stands there.
    pub(crate) value: Value,
}

/// A value as it is written. Texts are wiped from memory when dropped, since any may be a password.
#[derive(Clone)]
pub(crate) enum Value {
    /// From the environment: its type is what the key takes.
    Plain(Zeroizing<String>),
    /// A TOML string.
    Text(Zeroizing<String>),
    /// A TOML integer, its digits in base 10.
    Integer(String),
    /// A TOML array.
    Array(Vec<Item>),
    /// A TOML table with its keys.
    Table(Vec<(String, Item)>),
    /// Another TOML value: what it is, and its text.
    Other(&'static str, String),
}

impl Value {
    /// An untyped value.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::Plain(Zeroizing::new(text.into()))
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The digits of a number.
    pub(crate) fn number(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Integer(digits) => Some(digits),
            Self::Other("a float", text) => Some(text),
            _ => None,
        }
    }

    /// What it is, without its content: for secrets.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind, _) => kind,
        }
    }

    /// What it is and its content, shortened: for messages about keys that are no secrets.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Plain(text) | Self::Text(text) => quoted(text),
            Self::Integer(text) => format!("the number {text}"),
            Self::Array(_) | Self::Table(_) => self.kind().to_owned(),
            Self::Other(kind, text) => format!("{kind} ({text})"),
        }
    }
}

/// `text` in quotes, control characters escaped, cut after 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("`{}{more}`", shown.escape_debug())
}
