//! `[routing]`: which servers reads go to, and how fresh they must be.

use std::sync::Arc;
use std::time::Duration;

use pgherd_protocol::statement::FunctionRules;

use super::raw::{Item, Value};
use super::redirect::{self, Name, Preference};
use super::resolve::{Fault, TIMEOUT};
use super::tables::{self, at};
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::value::{self, Choice, Read};

/// Where reads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// To the primary, like everything else.
    Primary,
    /// To standbys; to the primary where none may be read.
    Standbys,
    /// To standbys and the primary, by their weights.
    Any,
}

/// What a session must see when it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// All that it has committed itself.
    Session,
    /// What the server has.
    Eventual,
    /// All that anybody has committed: only the primary has that for sure.
    Strong,
}

/// How far behind a standby may be that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaxLag {
    /// It lacks no more of the write-ahead log.
    Bytes(u64),
    /// It has lacked nothing for longer.
    Time(Duration),
}

impl Choice for Reads {
    const WORDS: &'static [(&'static str, Self)] =
        &[("primary", Self::Primary), ("standbys", Self::Standbys), ("any", Self::Any)];
}

impl Choice for Consistency {
    const WORDS: &'static [(&'static str, Self)] =
        &[("session", Self::Session), ("eventual", Self::Eventual), ("strong", Self::Strong)];
}

impl MaxLag {
    fn show(self) -> String {
        match self {
            Self::Bytes(bytes) => show_size(bytes),
            Self::Time(time) => show_duration(time),
        }
    }
}

/// What holds for the reads of one session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReadPolicy {
    /// Where they go.
    pub(crate) reads: Reads,
    /// What they must see.
    pub(crate) consistency: Consistency,
    /// How far behind a standby may be; any if none.
    pub(crate) max_lag: Option<MaxLag>,
    /// Servers that are read rather than others.
    pub(crate) prefer: Option<Preference>,
}

/// Which servers reads go to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Routing {
    /// What holds where no override says otherwise.
    pub(crate) policy: ReadPolicy,
    /// Where the servers stand that are read rather than others.
    pub(crate) location: Option<String>,
    /// How long it takes until a standby that comes back has its full share of the reads.
    pub(crate) slow_start: Duration,
    /// Servers that are far away, by their probes, are read less.
    pub(crate) latency_aware: bool,
    /// What functions do that may be called where it reads.
    pub(crate) functions: Arc<FunctionRules>,
    /// Exceptions, the first that matches counts.
    pub(crate) overrides: Vec<RoutingOverride>,
}

/// One `[[routing.override]]`: other values for some databases, users or applications.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RoutingOverride {
    /// The database it is for; every one if none.
    pub(crate) database: Option<Name>,
    /// The user it is for; every one if none.
    pub(crate) user: Option<Name>,
    /// The `application_name` it is for; every one if none.
    pub(crate) application: Option<Name>,
    /// Instead of `routing.reads`.
    pub(crate) reads: Option<Reads>,
    /// Instead of `routing.consistency`.
    pub(crate) consistency: Option<Consistency>,
    /// Instead of `routing.max_lag`; `Some(None)` is any.
    pub(crate) max_lag: Option<Option<MaxLag>>,
    /// Servers that are read rather than others.
    pub(crate) prefer: Option<Preference>,
}

/// The fields of one `[[routing.override]]`.
const FIELDS: &[&str] = &["database", "user", "application", "reads", "consistency", "max_lag", "prefer"];

impl Routing {
    /// What holds for the reads of this database, user and `application_name`.
    pub(crate) fn policy_for(&self, database: &str, user: &str, application: &str) -> ReadPolicy {
        let fits = |wanted: &Option<Name>, actual: &str| wanted.as_ref().is_none_or(|it| it.is_for(actual));
        let matching = self.overrides.iter().filter(|it| {
            fits(&it.database, database) && fits(&it.user, user) && fits(&it.application, application)
        });
        ReadPolicy {
            reads: matching.clone().find_map(|it| it.reads).unwrap_or(self.policy.reads),
            consistency: matching.clone().find_map(|it| it.consistency).unwrap_or(self.policy.consistency),
            max_lag: matching.clone().find_map(|it| it.max_lag).unwrap_or(self.policy.max_lag),
            prefer: matching.clone().find_map(|it| it.prefer),
        }
    }

    /// Each key with its value.
    pub(super) fn describe(&self) -> Vec<(&'static str, Option<String>)> {
        let overrides: Vec<String> = self.overrides.iter().map(RoutingOverride::show).collect();
        let functions = |names: &[Box<str>]| (!names.is_empty()).then(|| names.join(","));
        vec![
            ("routing.reads", Some(self.policy.reads.word().to_owned())),
            ("routing.consistency", Some(self.policy.consistency.word().to_owned())),
            ("routing.max_lag", Some(or_off(self.policy.max_lag))),
            ("routing.location", self.location.clone()),
            ("routing.slow_start", Some(show_duration(self.slow_start))),
            ("routing.latency_aware", Some(self.latency_aware.to_string())),
            ("routing.read_functions", functions(&self.functions.reads)),
            ("routing.write_functions", functions(&self.functions.writes)),
            ("routing.override", (!overrides.is_empty()).then(|| format!("[{}]", overrides.join(", ")))),
        ]
    }
}

impl RoutingOverride {
    fn show(&self) -> String {
        let text = |name: &str, value: Option<&str>| value.map(|value| format!("{name} = {value:?}"));
        let name = |field: &str, name: Option<&Name>| text(field, name.map(Name::show).as_deref());
        let fields = [
            name("database", self.database.as_ref()),
            name("user", self.user.as_ref()),
            name("application", self.application.as_ref()),
            text("reads", self.reads.map(Choice::word)),
            text("consistency", self.consistency.map(Choice::word)),
            text("max_lag", self.max_lag.map(or_off).as_deref()),
            text("prefer", self.prefer.map(Preference::show).as_deref()),
        ];
        format!("{{ {} }}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn or_off(max_lag: Option<MaxLag>) -> String {
    max_lag.map_or_else(|| "off".to_owned(), MaxLag::show)
}

/// A size, a duration, or `off`.
pub(super) fn max_lag(value: &Value) -> Read<Option<MaxLag>> {
    let Some(text) = value.text() else { return Err(takes_lag(value)) };
    if text == "off" {
        return Ok(None);
    }
    let time = || parse_duration(text).ok().filter(|time| TIMEOUT.contains(time)).map(MaxLag::Time);
    let lag = parse_size(text).ok().map(MaxLag::Bytes).or_else(time);
    lag.map(Some).ok_or_else(|| takes_lag(value))
}

fn takes_lag(value: &Value) -> String {
    format!(
        "takes `off`, a size such as \"16MiB\", or a duration such as \"2s\" (10ms to 1d), got {}",
        value.shown()
    )
}

/// Reads the list of overrides; each says for whom it is, and changes something.
pub(super) fn overrides(value: &Value) -> Result<Vec<RoutingOverride>, Vec<Fault>> {
    let whose = |it: &RoutingOverride| (it.database.clone(), it.user.clone(), it.application.clone());
    let is_for_same = |one: &RoutingOverride, other: &RoutingOverride| whose(one) == whose(other);
    tables::read(value, "routing.override", one, (is_for_same, "database, user and application"))
}

fn one(item: &Item, fields: &[(String, Item)]) -> Result<RoutingOverride, Fault> {
    let mut it = RoutingOverride::default();
    for (name, field) in fields {
        let wrong = |why: String| at(field, format!("field `{name}` {why}"));
        match name.as_str() {
            "database" => it.database = Some(redirect::name(&field.value).map_err(wrong)?),
            "user" => it.user = Some(redirect::name(&field.value).map_err(wrong)?),
            "application" => it.application = Some(redirect::name(&field.value).map_err(wrong)?),
            "reads" => it.reads = Some(value::choice(&field.value).map_err(wrong)?),
            "consistency" => it.consistency = Some(value::choice(&field.value).map_err(wrong)?),
            "prefer" => it.prefer = Some(redirect::preference(&field.value).map_err(wrong)?),
            "max_lag" => it.max_lag = Some(max_lag(&field.value).map_err(wrong)?),
            _ => return Err(tables::unknown(name, field, FIELDS)),
        }
    }
    if it.database.is_none() && it.user.is_none() && it.application.is_none() {
        return Err(at(item, "names no database, user or application"));
    }
    let changes = it.reads.is_some() || it.consistency.is_some() || it.max_lag.is_some();
    if !changes && it.prefer.is_none() {
        return Err(at(item, format!("changes nothing; it takes {}", FIELDS.join(", "))));
    }
    Ok(it)
}
