//! The variables of the system that pgherd replaces: taken over where they have a meaning, explained where not.

use super::environment::Environment;
use super::keys;
use super::pgpool;
use super::problem::{Origin, Problem};
use super::raw::{Item, Layer, Raw, Setting, Value, quoted};

/// Variables whose value is that of a key.
const SAME: &[(&str, &str)] = &[
    ("PG_BACKEND_NODE_LIST", "backends.nodes"),
    ("REPMGRPWD", "monitor.password"),
    ("REPMGRPWD_FILE", "monitor.password_file"),
    ("NUM_INIT_CHILDREN", "pool.size"),
];

/// Variables that name the server to clone from; pgherd needs them only where no list of servers is given.
const FIRST_SERVER: &[&str] = &["PG_MASTER_NODE_NAME", "PGMASTER_NODE_NAME"];

const WATCHDOG: &str =
    "has no effect: there is no watchdog; run one replica under swarm, which starts it again elsewhere";

/// Variables without a meaning, and what replaces them.
const REPLACED: &[(&str, &str)] = &[
    (
        "MAX_POOL",
        "has no effect: connections are pooled per server, database and user; `pool.size` limits them",
    ),
    ("LOG_STATEMENT", "has no effect: set log_statement on the servers"),
    ("DELEGATE_IP", WATCHDOG),
    ("TRUSTED_SERVERS", WATCHDOG),
    ("PGP_HEARTBEATS", WATCHDOG),
    ("PGP_OTHERS", WATCHDOG),
    ("PGP_NODE_NAME", "has no effect: pgherd needs no name of its own"),
];

/// Adds what the variables of the system that pgherd replaces say to `raw`.
pub(crate) fn read(environment: &Environment, raw: &mut Raw) {
    for (name, key) in SAME {
        if let Some(text) = environment.text(name, raw) {
            set(raw, name, key, Layer::Legacy, text);
        }
    }
    if let Some(text) = environment.text("FAILOVER_MODE", raw) {
        set(raw, "FAILOVER_MODE", "failover.mode", Layer::Legacy, text.to_ascii_lowercase());
    }
    if let Some(text) = environment.text("DEBUG_LEVEL", raw) {
        debug_level(raw, text);
    }
    for (name, why) in REPLACED {
        if environment.raw(name).is_some() {
            warn(raw, name, *why);
        }
    }
    switches(environment, raw);
    pgpool::read(environment, raw);
    first_server(environment, raw);
}

/// Variables that turn off or on what pgherd always does, or never: only the other value is worth a warning.
fn switches(environment: &Environment, raw: &mut Raw) {
    if environment.text("FAILOVER_ON_BACKEND_ERROR", raw).is_some_and(is_on) {
        let why = "has no effect: an error on a client's connection only makes the next probe come at once; \
                   `monitor.interval` and `failover.confirm` say how fast a failure is seen";
        warn(raw, "FAILOVER_ON_BACKEND_ERROR", why);
    }
    if environment.text("CONNECTION_CACHE", raw).is_some_and(|text| !is_on(text)) {
        let why = "has no effect: connections are always pooled; `pool.mode` = \"session\" is nearest to it";
        warn(raw, "CONNECTION_CACHE", why);
    }
}

fn first_server(environment: &Environment, raw: &mut Raw) {
    let others = raw.settings.iter().any(|setting| setting.key.name == "backends.nodes");
    for name in FIRST_SERVER {
        let Some(host) = environment.text(name, raw) else { continue };
        if others {
            warn(
                raw,
                name,
                "is not used beside a list of servers: pgherd asks them which one is the primary",
            );
        } else {
            set(raw, name, "backends.nodes", Layer::Fallback, format!("0:{host}"));
        }
    }
}

fn debug_level(raw: &mut Raw, text: &str) {
    let level = match text.parse::<u32>() {
        Ok(0) => return,
        Ok(1 | 2) => "debug",
        Ok(_) => "trace",
        Err(_) => {
            let message = format!("takes a number from 0 to 5, got {}", quoted(text));
            raw.errors.push(Problem::at(Origin::Variable("DEBUG_LEVEL".into()), message));
            return;
        }
    };
    set(raw, "DEBUG_LEVEL", "log.level", Layer::Legacy, level);
}

/// Adds a value for `key`, from the variable `name`.
pub(super) fn set(raw: &mut Raw, name: &str, key: &str, layer: Layer, text: impl Into<String>) {
    let item = Item { origin: Origin::Variable(name.to_owned()), value: Value::plain(text) };
    raw.settings.extend(keys::find(key).map(|key| Setting { key, layer, item }));
}

/// Adds a warning about the variable `name`.
pub(super) fn warn(raw: &mut Raw, name: &str, message: impl Into<String>) {
    raw.warnings.push(Problem::at(Origin::Variable(name.to_owned()), message));
}

/// pgpool's way to write a boolean.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" | "1" => Some(true),
        "off" | "no" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// True if it is one, and on.
pub(super) fn is_on(text: &str) -> bool {
    switch(text) == Some(true)
}
