//! For whom a `[[routing.override]]` is, and which servers it prefers, as pgpool's redirect lists have both.

use pgherd_health::NodeId;

use super::raw::{Value, quoted};
use super::value::{self, Read};
use crate::hba::Pattern;

/// A name, or the names that an expression matches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Name {
    /// This one.
    Exact(String),
    /// Those in which it matches; its text begins with a slash.
    Matching(Pattern),
}

impl Name {
    /// True if it stands for that one.
    pub(super) fn is_for(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Matching(pattern) => pattern.is_match(name),
        }
    }

    /// As it is written.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Matching(pattern) => format!("/{}", pattern.as_str()),
        }
    }
}

/// A name, or an expression behind a slash.
pub(super) fn name(value: &Value) -> Read<Name> {
    let text = value::text(value)?;
    match text.strip_prefix('/') {
        Some(expression) => {
            Pattern::new(expression).map(Name::Matching).map_err(|why| format!("has an {why}"))
        }
        None => Ok(Name::Exact(text)),
    }
}

/// Servers that reads go to rather than to others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Preference {
    /// The servers.
    pub(crate) of: Preferred,
    /// The part of the reads that goes there, from 0 to 1; the rest goes to others.
    pub(crate) ratio: f64,
}

/// Which servers are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preferred {
    /// The primary.
    Primary,
    /// All standbys.
    Standbys,
    /// This one, whatever it is.
    Node(NodeId),
}

impl Preference {
    /// As it is written.
    pub(super) fn show(self) -> String {
        let of = match self.of {
            Preferred::Primary => "primary".to_owned(),
            Preferred::Standbys => "standbys".to_owned(),
            Preferred::Node(id) => id.to_string(),
        };
        if self.ratio < 1.0 { format!("{of}({})", self.ratio) } else { of }
    }
}

/// `primary`, `standbys` or the number of a server, and perhaps a ratio in parentheses.
pub(super) fn preference(value: &Value) -> Read<Preference> {
    let takes = || {
        let got = value.text().map_or_else(|| value.shown(), quoted);
        format!(
            "takes primary, standbys or the number of a server, and perhaps a ratio from 0 to 1 behind it, as in \"1(0.3)\", got {got}"
        )
    };
    let text = value.text().or_else(|| value.number()).ok_or_else(takes)?.trim();
    let (of, ratio) = match text.split_once('(') {
        Some((of, rest)) => {
            (of.trim_end(), rest.strip_suffix(')').and_then(|ratio| ratio.trim().parse().ok()))
        }
        None => (text, Some(1.0)),
    };
    let of = match of {
        "primary" => Some(Preferred::Primary),
        "standby" | "standbys" => Some(Preferred::Standbys),
        id => id.parse().ok().map(NodeId).map(Preferred::Node),
    };
    let preference = of.zip(ratio).filter(|(_, ratio)| (0.0..=1.0).contains(ratio));
    preference.map(|(of, ratio)| Preference { of, ratio }).ok_or_else(takes)
}
