//! Settings that an administrator changes while pgherd runs, on top of what the sources said when they were read.

use std::collections::BTreeMap;

use super::keys::{self, Key, Known};
use super::problem::{Origin, Problem};
use super::raw::{Item, Layer, Raw, Setting, Value};
use super::{Config, FIXED, doubts, file, resolve, units};

/// Where problems of such a setting are.
const ORIGIN: Origin = Origin::Console;

/// What the sources said when they were read, and what was set since. Holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Sources(Vec<Setting>);

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sources").field(&self.0.len()).finish()
    }
}

/// Another value of a key, or the end of one that was set: not yet checked beyond the key.
#[derive(Clone)]
pub(crate) struct Change {
    key: &'static Key,
    value: Option<Value>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Change").field(&self.key.name).finish()
    }
}

/// Why a key is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is none of this name; what to do.
    Unknown(String),
    /// It takes a restart.
    Fixed(&'static str),
    /// It names a program: who may use the console need not be somebody who may run one on this machine.
    Program(&'static str),
    /// It is a setting of PgBouncer's that is not needed here; why.
    Needless(&'static str),
    /// The value cannot be read.
    Unreadable(&'static str, String),
}

impl Change {
    /// Of the key of this name; `text` is its value, none for what the sources say. A name without a section is one of PgBouncer's,
    /// whose numbers are in its units.
    ///
    /// # Errors
    /// Why there is nothing to change.
    pub(crate) fn new(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let key = match keys::look_up_bare(name) {
            Known::Key(key) => key,
            Known::Needless(why) => return Err(Refusal::Needless(why)),
            Known::Unknown(why) => return Err(Refusal::Unknown(why)),
            Known::Section => return Err(Refusal::Unknown("is a section: name one of its keys".to_owned())),
        };
        if FIXED.contains(&key.name) {
            return Err(Refusal::Fixed(key.name));
        }
        if key.is_program() {
            return Err(Refusal::Program(key.name));
        }
        let Some(text) = text else { return Ok(Self { key, value: None }) };
        let is_bare = !name.contains('.');
        let value = if key.takes_toml(text) {
            file::inline_value(text, &ORIGIN)
                .map_err(|why| Refusal::Unreadable(key.name, format!("is not a valid TOML array: {why}")))?
        } else if is_bare && key.is_in_seconds() {
            Value::plain(units::from_pgbouncer(text))
        } else {
            Value::plain(text)
        };
        Ok(Self { key, value: Some(value) })
    }

    /// The key's full name.
    pub(crate) const fn key(&self) -> &'static str {
        self.key.name
    }
}

impl Sources {
    /// Keeps what was read.
    pub(super) fn new(raw: Raw) -> Self {
        Self(raw.settings)
    }

    /// The same with this change.
    #[must_use]
    pub(crate) fn with(mut self, Change { key, value }: Change) -> Self {
        self.0.retain(|setting| setting.layer != Layer::Console || setting.key.name != key.name);
        self.0.extend(value.map(|value| Setting {
            key,
            layer: Layer::Console,
            item: Item { origin: ORIGIN, value },
        }));
        self
    }

    /// Where the value of each key that they give comes from.
    pub(crate) fn origins(&self) -> BTreeMap<&'static str, String> {
        let mut given: Vec<_> = self.0.iter().collect();
        given.sort_by_key(|setting| setting.layer);
        given.into_iter().map(|setting| (setting.key.name, setting.item.origin.to_string())).collect()
    }

    /// The configuration in force, `before`, with what these say of the section that the key `changed` stands in. Files that other
    /// sections name are not read. Beside it what is doubtful now and was not.
    ///
    /// # Errors
    /// All that is wrong with the section.
    pub(crate) fn apply(
        &self,
        changed: &str,
        before: &Config,
    ) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let raw = Raw { settings: self.0.clone(), ..Raw::default() };
        let config = resolve::resolve_section(&raw, changed, before)?;
        let known = doubts(before);
        let new = doubts(&config).into_iter().filter(|doubt| !known.contains(doubt)).collect();
        Ok((config, new))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_with;
    use super::*;

    const NODES: (&str, &str) = ("PGHERD_BACKENDS__NODES", "0:pg01");

    fn set(variables: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Result<Config, String> {
        let loaded = load_with(&[&[NODES], variables].concat());
        let (mut sources, mut config) = (loaded.sources, loaded.config);
        for (name, text) in changes {
            let change = Change::new(name, *text).map_err(|refusal| format!("{refusal:?}"))?;
            let key = change.key();
            sources = sources.with(change);
            let told = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<String>();
            config = sources.apply(key, &config).map_err(told)?.0;
        }
        Ok(config)
    }

    #[test]
    fn both_names_of_a_key_are_known_and_numbers_of_pgbouncer_are_seconds() {
        let shown = |name: &str, text: &str, key: &str| {
            let config = set(&[], &[(name, Some(text))]).unwrap();
            config.shown(key).unwrap()
        };
        for (name, text, key, value) in [
            ("pool.size", "30", "pool.size", "30"),
            ("default_pool_size", "30", "pool.size", "30"),
            ("query_timeout", "5", "pool.query_timeout", "5s"),
            ("query_timeout", "5s", "pool.query_timeout", "5s"),
            ("query_timeout", "0.5", "pool.query_timeout", "500ms"),
            ("query_wait_timeout", "0", "pool.query_wait_timeout", "off"),
            ("idle_transaction_timeout", "600", "pool.idle_transaction_timeout", "10min"),
            ("server_login_retry", "1", "pool.server_login_retry", "1s"),
            ("tcp_keepalive", "0", "pool.tcp_keepalive", "false"),
            ("max_client_conn", "7", "pool.max_clients", "7"),
            ("log.level", "debug", "log.level", "debug"),
            ("admin.stats_users", "a,b", "admin.stats_users", "a,b"),
            (
                "pool.override",
                "[{ database = \"a\", size = 3 }]",
                "pool.override",
                "[{ database = \"a\", size = 3 }]",
            ),
        ] {
            assert_eq!(shown(name, text, key), value, "{name} = {text}");
        }
    }

    #[test]
    fn what_is_set_counts_more_than_every_source_until_it_is_taken_back() {
        let sources = [("PGHERD_POOL__SIZE", "10"), ("PGHERD_POOL__PINNED_SIZE", "5")];
        let config = set(&sources, &[("pool.size", Some("30")), ("pool.mode", Some("session"))]).unwrap();
        assert_eq!((config.pool.sizes.size, config.pool.pinned_size), (30, 5));
        let back = [("pool.size", Some("30")), ("pool.size", Some("40")), ("pool.size", None)];
        assert_eq!(set(&sources, &back).unwrap().pool.sizes.size, 10);
        // Who may use the console follows the monitor's user, where nobody is named.
        let renamed = set(&[], &[("monitor.user", Some("watch"))]).unwrap();
        assert_eq!(
            (renamed.monitor.user.as_str(), renamed.admin.users.concat().as_str()),
            ("watch", "watch")
        );
    }

    #[test]
    fn only_the_section_of_the_key_is_read_again() {
        let loaded = load_with(&[NODES]);
        let mut before = loaded.config;
        before.failover.max_waiting = 3;
        let change = Change::new("pool.size", Some("9")).unwrap();
        let (config, _) = loaded.sources.with(change).apply("pool.size", &before).unwrap();
        assert_eq!((config.pool.sizes.size, config.failover.max_waiting), (9, 3));
    }

    #[test]
    fn what_is_not_set_says_why_and_shows_no_secret() {
        let why = |name: &str, text: &str| set(&[], &[(name, Some(text))]).unwrap_err();
        assert!(why("pool.sise", "3").contains("did you mean `pool.size`"));
        assert!(why("default_pool_sise", "3").contains("did you mean `pool.default_pool_size`"));
        assert!(why("pool", "3").contains("section"));
        assert!(why("listen_port", "3").contains("listen.address"));
        assert!(why("server_check_query", "x").starts_with("Needless"));
        assert_eq!(why("listen.address", "0.0.0.0:1"), "Fixed(\"listen.address\")");
        assert_eq!(why("failover.command.fence", "[\"/bin/x\"]"), "Program(\"failover.command.fence\")");
        assert!(why("pool.size", "many").starts_with("SET: pool.size: takes a whole number"));
        assert!(why("pool.query_timeout", "5").contains("`5s`"), "the file's rules hold for the full name");
        assert!(why("pool.override", "[{ size = 3 }]").contains("names neither a database nor a user"));
        assert!(why("pool.override", "[{").contains("not a valid TOML array"));
        let secret = Change::new("monitor.password", Some("hunter2")).unwrap();
        assert!(
            !format!("{secret:?} {:?}", load_with(&[NODES]).sources.with(secret.clone())).contains("hunter2")
        );
    }
}
