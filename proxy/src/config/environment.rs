//! Reads the `PGHERD_...` variables into raw settings.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::keys::{self, KEYS, Key};
use super::problem::{Origin, Problem};
use super::raw::{Item, Layer, Raw, Setting, Value};
use super::{file, nearest};

/// Names the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "PGHERD_CONFIG";

/// What an operator's command is told of its step, which may ask a pgherd something.
const OF_A_COMMAND: &str = "PGHERD_COMMAND_";

/// The variables of the process that are not empty. An empty one counts as not set, since compose files pass on
/// variables that they have no value for.
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Takes the variables that have a readable name and a value.
    pub(crate) fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        Self(
            variables
                .filter(|(_, value)| !value.is_empty())
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        )
    }

    /// The value of a variable, as the system has it.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)
    }

    /// The value of a variable; an error in `raw` if it is not valid UTF-8.
    pub(crate) fn text<'a>(&'a self, name: &str, raw: &mut Raw) -> Option<&'a str> {
        let value = self.0.get(name)?;
        if value.to_str().is_none() {
            raw.errors.push(Problem::at(Origin::Variable(name.to_owned()), "is not valid UTF-8"));
        }
        value.to_str()
    }

    /// The names that begin with `prefix`.
    pub(crate) fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }
}

/// Adds what the `PGHERD_...` variables say to `raw`.
pub(crate) fn read(environment: &Environment, raw: &mut Raw) {
    for name in environment.names("PGHERD_") {
        if name == CONFIG_VARIABLE || name.starts_with(OF_A_COMMAND) || is_service_link(name) {
            continue;
        }
        let origin = Origin::Variable(name.to_owned());
        let Some(key) = KEYS.iter().find(|key| names_of(key).any(|known| known == name)) else {
            match keys::look_up(&as_key(name)) {
                keys::Known::Needless(why) => {
                    raw.warnings.push(Problem::at(origin, format!("has no effect: {why}")));
                }
                _ => raw.errors.push(Problem::at(origin, why_unknown(name))),
            }
            continue;
        };
        let Some(text) = environment.text(name, raw) else { continue };
        let value =
            if key.takes_toml(text) { file::inline_value(text, &origin) } else { Ok(Value::plain(text)) };
        match value {
            Ok(value) => {
                raw.settings.push(Setting { key, layer: Layer::Environment, item: Item { origin, value } });
            }
            Err(why) => {
                raw.errors.push(Problem::new(origin, key.name, format!("is not a valid TOML array: {why}")));
            }
        }
    }
}

/// Kubernetes and docker links define `PGHERD_PORT` and the like beside a service that is called pgherd.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix("PGHERD_").unwrap_or(name);
    !rest.contains("__")
        && (matches!(rest, "PORT" | "NAME" | "SERVICE_HOST")
            || rest.starts_with("SERVICE_PORT")
            || rest.strip_prefix("PORT_").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())))
}

fn names_of(key: &Key) -> impl Iterator<Item = String> {
    [Some(key.variable()), key.alias_name().map(|alias| keys::variable_of(&alias))].into_iter().flatten()
}

/// The name as it stands in a file.
fn as_key(name: &str) -> String {
    name.strip_prefix("PGHERD_").unwrap_or(name).replace("__", ".").to_ascii_lowercase()
}

fn why_unknown(name: &str) -> String {
    if let keys::Known::Unknown(why) = keys::look_up(&as_key(name))
        && (why.contains("not available") || why.contains("PgBouncer's"))
    {
        return why;
    }
    let known: Vec<String> = KEYS.iter().flat_map(names_of).collect();
    // One underscore where two belong is the most frequent mistake, and not a small one by its letters.
    let without = |text: &str| text.replace('_', "").to_ascii_uppercase();
    let same = known.iter().find(|k| without(k) == without(name)).map(String::as_str);
    match same.or_else(|| nearest::variable(name, known.iter().map(String::as_str))) {
        Some(near) => format!("unknown variable; did you mean `{near}`?"),
        None => "unknown variable (a key is `PGHERD_SECTION__KEY`)".to_owned(),
    }
}
