//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// No source gives it.
    Default,
    /// A place in a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// SET on the console.
    Console,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Console => f.write_str("SET"),
        }
    }
}

/// One error or warning. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where; none if it concerns the configuration as a whole.
    pub(crate) origin: Option<Origin>,
    /// The key as it was written, or that the variable stands for.
    pub(crate) key: Option<String>,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Problem {
    /// A problem at `origin` with the key `key`.
    pub(crate) fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: Some(origin), key: Some(key.into()), message: message.into() }
    }

    /// A problem at `origin` that is not of one key.
    pub(crate) fn at(origin: Origin, message: impl Into<String>) -> Self {
        Self { origin: Some(origin), key: None, message: message.into() }
    }

    /// Orders problems as an operator looks for them: down the file, then the variables, then what is missing.
    pub(crate) fn place(&self) -> (u8, usize, usize) {
        match &self.origin {
            Some(Origin::File { line, column, .. }) => (0, *line, *column),
            Some(_) => (1, 0, 0),
            None => (2, 0, 0),
        }
    }

    /// For programs: `message`, and `key`, `file`, `line`, `column`, `variable` where they are known.
    pub(crate) fn to_json(&self) -> Json {
        let mut object = json!({ "message": self.message });
        let mut put =
            |name: &str, value: Json| object.as_object_mut().and_then(|o| o.insert(name.to_owned(), value));
        if let Some(key) = &self.key {
            put("key", json!(key));
        }
        match &self.origin {
            Some(Origin::File { path, line, column }) => {
                put("file", json!(path.display().to_string()));
                put("line", json!(line));
                put("column", json!(column));
            }
            Some(Origin::Variable(name)) => {
                put("variable", json!(name));
            }
            Some(Origin::Default | Origin::Console) | None => {}
        }
        object
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}
