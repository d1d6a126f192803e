//! Reads a TOML file into raw settings.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use zeroize::Zeroizing;

use super::keys::{self, Known};
use super::problem::{Origin, Problem};
use super::raw::{Item, Layer, Raw, Setting, Value};

/// Adds what the file at `path` says to `raw`.
pub(crate) fn read(path: &Path, raw: &mut Raw) {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => parse(&text, path, raw),
        Err(error) => {
            raw.unreadable = true;
            let message = format!("{}: can't be read: {error}", path.display());
            raw.errors.push(Problem { origin: None, key: None, message });
        }
    }
}

/// Reads a TOML value that an environment variable holds; all of it is at `origin`.
/// The error is the parser's, which quotes nothing of the text.
pub(crate) fn inline_value(text: &str, origin: &Origin) -> Result<Value, String> {
    let value = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
    Ok(convert(value.get_ref(), &|_| origin.clone()))
}

struct Place<'a> {
    path: Arc<Path>,
    text: &'a str,
    /// Where each line begins: a file of ten thousand exceptions has as many places.
    lines: Vec<usize>,
}

impl<'a> Place<'a> {
    fn new(path: &Path, text: &'a str) -> Self {
        let lines = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.into(), text, lines }
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Origin::File { path: Arc::clone(&self.path), line, column }
    }
}

/// Adds what a text says to `raw`, as if it stood in the file at `path`.
pub(crate) fn parse(text: &str, path: &Path, raw: &mut Raw) {
    let place = &Place::new(path, text);
    let (table, errors) = DeTable::parse_recoverable(place.text);
    if errors.is_empty() {
        section("", table.get_ref(), place, raw);
    }
    raw.unreadable = !errors.is_empty();
    // The parser's own text of an error quotes the line, which may hold a password.
    raw.errors.extend(errors.iter().map(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Problem::at(place.origin(offset), format!("not valid TOML: {}", error.message()))
    }));
}

fn section(prefix: &str, table: &DeTable<'_>, place: &Place<'_>, raw: &mut Raw) {
    for (name, value) in table {
        let full = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        let origin = place.origin(name.span().start);
        match (keys::look_up(&full), value.get_ref()) {
            (Known::Section, DeValue::Table(inner)) => section(&full, inner, place, raw),
            (Known::Section, other) => {
                let message =
                    format!("is a section, write `[{full}]` above its keys; got {}", other.type_str());
                raw.errors.push(Problem::new(origin, full, message));
            }
            (Known::Key(key), value) => {
                let value = convert(value, &|offset| place.origin(offset));
                raw.settings.push(Setting { key, layer: Layer::File, item: Item { origin, value } });
            }
            (Known::Needless(why), _) => {
                raw.warnings.push(Problem::new(origin, full, format!("has no effect: {why}")));
            }
            (Known::Unknown(why), _) => raw.errors.push(Problem::new(origin, full, why)),
        }
    }
}

fn convert(value: &DeValue<'_>, origin: &impl Fn(usize) -> Origin) -> Value {
    let item = |value: &Spanned<DeValue<'_>>| Item {
        origin: origin(value.span().start),
        value: convert(value.get_ref(), origin),
    };
    match value {
        DeValue::String(text) => Value::Text(Zeroizing::new(text.to_string())),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number.to_string()),
            Err(_) => Value::Other("a number too great", number.as_str().to_owned()),
        },
        DeValue::Float(number) => Value::Other("a float", number.as_str().to_owned()),
        DeValue::Boolean(it) => Value::Other("a boolean", it.to_string()),
        DeValue::Datetime(it) => Value::Other("a date or time", it.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(item).collect()),
        DeValue::Table(table) => {
            let field = |name: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>| {
                let item =
                    Item { origin: origin(name.span().start), value: convert(value.get_ref(), origin) };
                (name.get_ref().to_string(), item)
            };
            Value::Table(table.iter().map(|(name, value)| field(name, value)).collect())
        }
    }
}
