//! Turns one raw value into a typed one. Errors say what the key takes and what it got.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pgherd_failover::Template;
use pgherd_protocol::session::SequencePolicy;
use pgherd_tls::{Authorities, ChannelBinding, Mode};
use zeroize::Zeroizing;

use super::raw::{Value, quoted};
use super::units::{parse_duration, parse_size, show_duration};
use super::{
    Discover, Executor, FailoverMode, HiddenState, LogFormat, LogLevel, PoolMode, PrepareUnnamed, Secret,
};

/// A typed value, or what is wrong with the raw one.
pub(crate) type Read<T> = Result<T, String>;

/// A word that stands for a value, and its inverse: the one place where both are written.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Each word with its value.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of the value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }

    /// The value of this word, as a client gives it.
    fn named(name: &str) -> Option<Self> {
        let is_named = |(word, _): &&(&str, Self)| word.eq_ignore_ascii_case(name);
        Self::WORDS.iter().find(is_named).map(|(_, value)| *value)
    }
}

impl Choice for PoolMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("session", Self::Session), ("transaction", Self::Transaction), ("statement", Self::Statement)];
}

impl Choice for HiddenState {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("check", Self::Check), ("off", Self::Off)];
}

impl Choice for PrepareUnnamed {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("custom", Self::Custom), ("auto", Self::Auto)];
}

impl Choice for SequencePolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("pin", Self::Pin), ("off", Self::Off)];
}

impl Choice for Discover {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

impl Choice for FailoverMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("automatic", Self::Automatic), ("manual", Self::Manual)];
}

impl Choice for Executor {
    const WORDS: &'static [(&'static str, Self)] =
        &[("ssh", Self::Ssh), ("sql", Self::Sql), ("command", Self::Command)];
}

impl Choice for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl Choice for ChannelBinding {
    const WORDS: &'static [(&'static str, Self)] =
        &[("disable", Self::Disable), ("prefer", Self::Prefer), ("require", Self::Require)];
}

impl Choice for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// One of the words of `T`.
pub(crate) fn choice<T: Choice>(value: &Value) -> Read<T> {
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let takes = words.join(" or ");
    let Some(text) = value.text() else {
        return Err(format!("takes {takes}, got {}", value.shown()));
    };
    match T::WORDS.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => Err(format!("takes {takes}, got {}", value.shown())),
    }
}

/// A text that is not empty.
pub(crate) fn text(value: &Value) -> Read<String> {
    let usable = |text: &&str| !text.is_empty() && !text.contains('\0');
    match value.text().filter(usable) {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("takes a text that is not empty, got {}", value.shown())),
    }
}

/// Names: one text with commas, or an array.
pub(crate) fn names(value: &Value) -> Read<Vec<String>> {
    let is_usable = |name: &String| !name.is_empty() && !name.contains('\0');
    let names: Option<Vec<String>> = match value {
        Value::Array(items) => items.iter().map(|item| item.value.text().map(str::to_owned)).collect(),
        value => value.text().map(|text| text.split(',').map(|name| name.trim().to_owned()).collect()),
    };
    names.filter(|names| !names.is_empty() && names.iter().all(is_usable)).ok_or_else(|| {
        format!("takes names with commas between them, or an array of names, got {}", value.shown())
    })
}

/// Names of functions, with `*` for any part.
pub(crate) fn functions(value: &Value) -> Read<Vec<Box<str>>> {
    let names = names(value)?;
    match names.iter().find(|name| name.contains(['.', '(', ' '])) {
        None => Ok(names.into_iter().map(Box::from).collect()),
        Some(name) => Err(format!(
            "takes names of functions without schemas and arguments such as get_*, got {}",
            quoted(name)
        )),
    }
}

/// Names of custom parameters.
pub(crate) fn custom_parameters(value: &Value) -> Read<Vec<String>> {
    let names = names(value)?;
    match names.iter().find(|name| !name.contains('.')) {
        None => Ok(names),
        Some(name) => {
            Err(format!("takes names of custom parameters such as app.tenant, got {}", quoted(name)))
        }
    }
}

/// Addresses and networks; none for `off`.
pub(crate) fn networks_or_off(value: &Value) -> Read<Vec<IpNet>> {
    if value.text() == Some("off") {
        return Ok(Vec::new());
    }
    let network = |name: String| {
        let address = || name.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
        name.parse::<IpNet>().ok().map(|network| network.trunc()).or_else(address)
    };
    let networks: Option<Vec<IpNet>> =
        names(value).ok().and_then(|names| names.into_iter().map(network).collect());
    networks.ok_or_else(|| {
        format!(
            "takes off, or addresses and networks such as 10.0.0.0/8, with commas between them, got {}",
            value.shown()
        )
    })
}

/// The name of an HTTP header, in small letters.
pub(crate) fn header(value: &Value) -> Read<String> {
    let name = text(value)?.to_ascii_lowercase();
    match axum::http::HeaderName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => {
            Err(format!("takes the name of an HTTP header such as X-Forwarded-User, got {}", value.shown()))
        }
    }
}

/// A password. The error shows nothing of it.
pub(crate) fn secret(value: &Value) -> Read<Secret> {
    match value.text() {
        Some(text) if text.is_empty() || text.contains('\0') => {
            Err("takes a text that is neither empty nor holds a zero byte".to_owned())
        }
        Some(text) => Ok(Secret::new(Zeroizing::new(text.to_owned()))),
        None => Err(format!("takes a text, got {}", value.kind())),
    }
}

/// A path.
pub(crate) fn path(value: &Value) -> Read<PathBuf> {
    text(value).map(PathBuf::from)
}

/// A path, or the word for the operating system's own.
pub(crate) fn authorities(value: &Value) -> Read<Authorities> {
    Ok(match text(value)?.as_str() {
        "system" => Authorities::System,
        path => Authorities::File(path.into()),
    })
}

/// A path from the root.
pub(crate) fn absolute_path(value: &Value) -> Read<PathBuf> {
    let path = path(value)?;
    if path.is_absolute() { Ok(path) } else { Err(format!("takes an absolute path, got {}", value.shown())) }
}

/// Permissions of a file, in octal digits.
pub(crate) fn file_mode(value: &Value) -> Read<u32> {
    let digits = value.text().filter(|text| (3..=4).contains(&text.len()));
    let mode = digits.and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("takes permissions as octal digits such as \"0770\", got {}", value.shown()))
}

/// A whole number within `range`.
pub(crate) fn integer(range: RangeInclusive<usize>) -> impl Fn(&Value) -> Read<usize> {
    move |value| {
        let digits = value.number().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|text| text.parse().ok()).filter(|number| range.contains(number)).ok_or_else(|| {
            format!("takes a whole number from {} to {}, got {}", range.start(), range.end(), value.shown())
        })
    }
}

/// A cluster's system identifier, as `pg_control_system()` shows it.
pub(crate) fn system_identifier(value: &Value) -> Read<u64> {
    let digits = value.number().or_else(|| value.text());
    let number = digits.and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    number.ok_or_else(|| {
        format!(
            "takes a system identifier, as pg_controldata and pg_control_system() show it, got {}",
            value.shown()
        )
    })
}

/// Yes or no: a TOML boolean, or 1 or 0 as PgBouncer writes them.
pub(crate) fn boolean(value: &Value) -> Read<bool> {
    let text = match value {
        Value::Other("a boolean", text) | Value::Integer(text) => Some(text.as_str()),
        other => other.text(),
    };
    match text {
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        _ => Err(format!("takes true or false, got {}", value.shown())),
    }
}

/// A duration within `range`.
pub(crate) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Read<Duration> {
    move |value| {
        let read = match value.text() {
            Some(text) => parse_duration(text),
            None => Err(match value {
                Value::Integer(number) => format!("a number and a unit, such as \"{number}s\""),
                _ => "a number and a unit such as \"4s\"".to_owned(),
            }),
        };
        let duration = read.map_err(|what| format!("takes {what}; got {}", value.shown()))?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        Err(format!("takes {least} to {most}, got {}", value.shown()))
    }
}

/// A duration within `range`, or `off`.
pub(crate) fn duration_or_off(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Read<Option<Duration>> {
    let read = duration(range);
    move |value| match value.text() {
        Some("off") => Ok(None),
        _ => read(value).map(Some).map_err(|why| format!("{why} (\"off\" is without end)")),
    }
}

/// A size in bytes.
pub(crate) fn size(value: &Value) -> Read<u64> {
    let read = match value.text() {
        Some(text) => parse_size(text),
        None => Err("a number and a unit such as \"1MiB\"".to_owned()),
    };
    read.map_err(|what| format!("takes {what}; got {}", value.shown()))
}

/// The same, or `off`.
pub(crate) fn size_or_off(value: &Value) -> Read<Option<u64>> {
    match value.text() {
        Some("off") => Ok(None),
        _ => size(value).map(Some).map_err(|why| format!("{why} (\"off\" is without end)")),
    }
}

/// An address to listen on, with its port.
pub(crate) fn address(value: &Value) -> Read<SocketAddr> {
    value.text().and_then(|text| text.parse().ok()).ok_or_else(|| {
        format!("takes an IP address and a port such as 0.0.0.0:5432 or [::]:5432, got {}", value.shown())
    })
}

/// The same, or `off`.
pub(crate) fn address_or_off(value: &Value) -> Read<Option<SocketAddr>> {
    if value.text() == Some("off") {
        return Ok(None);
    }
    address(value).map(Some).map_err(|message| message.replace("takes an", "takes `off`, or an"))
}

/// A program and its arguments. `upstream`: it is for a step that has another server than the one that it is for.
pub(crate) fn command(upstream: bool) -> impl Fn(&Value) -> Read<Template> {
    move |value| {
        let words: Option<Vec<&str>> = match value {
            Value::Array(items) => items.iter().map(|item| item.value.text()).collect(),
            _ => None,
        };
        let words = words.ok_or_else(|| {
            let got = value.shown();
            format!("takes an array of texts: a program and its arguments, such as [\"/opt/kit/step\", \"{{host}}\"]; got {got}")
        })?;
        Template::parse(words.into_iter(), upstream)
    }
}

/// A path on the servers with places for what differs between them.
pub(crate) fn repmgr_config(value: &Value) -> Read<String> {
    let template = text(value)?;
    let rest = ["{host}", "{id}", "{node_name}"]
        .iter()
        .fold(template.clone(), |rest, known| rest.replace(known, ""));
    if rest.contains(['{', '}']) || !template.starts_with('/') {
        return Err(format!(
            "takes an absolute path, with {{host}}, {{id}} and {{node_name}} where servers differ; got {}",
            value.shown()
        ));
    }
    Ok(template)
}
