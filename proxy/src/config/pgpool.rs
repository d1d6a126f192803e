//! `PGPOOL_<NAME>` variables: settings of pgpool.conf.

use super::environment::Environment;
use super::legacy::{set, switch, warn};
use super::problem::{Origin, Problem};
use super::raw::{Layer, Raw, quoted};

/// How a setting of pgpool becomes one of pgherd.
#[derive(Clone, Copy)]
enum To {
    /// The same text.
    Same(&'static str),
    /// A number of seconds; 0 means never.
    Seconds(&'static str),
    /// A number of milliseconds.
    Milliseconds(&'static str),
    /// One of PostgreSQL's message levels.
    Level(&'static str),
    /// A switch: the words for on and for off.
    Switch(&'static str, [&'static str; 2]),
}

const MAPPED: &[(&str, To)] = &[
    ("NUM_INIT_CHILDREN", To::Same("pool.size")),
    ("CONNECTION_LIFE_TIME", To::Seconds("pool.server_idle_timeout")),
    ("CLIENT_IDLE_LIMIT", To::Seconds("pool.client_idle_timeout")),
    ("AUTHENTICATION_TIMEOUT", To::Seconds("pool.client_login_timeout")),
    ("CONNECT_TIMEOUT", To::Milliseconds("pool.server_connect_timeout")),
    ("LOG_MIN_MESSAGES", To::Level("log.level")),
    ("LOAD_BALANCE_MODE", To::Switch("routing.reads", ["any", "primary"])),
];

/// Settings without a counterpart, by the beginnings of their names, and what replaces them. The first that fits counts.
const REPLACED: &[(&[&str], &str)] = &[
    (
        &[
            "MAX_POOL",
            "CHILD_",
            "RESERVED_CONNECTIONS",
            "LISTEN_BACKLOG",
            "PROCESS_MANAGEMENT",
            "MIN_SPARE",
            "MAX_SPARE",
        ],
        "there are no processes per client; see `pool.size` and `pool.max_clients`",
    ),
    (
        &[
            "HEALTH_CHECK_USER",
            "HEALTH_CHECK_PASSWORD",
            "HEALTH_CHECK_DATABASE",
            "SR_CHECK_USER",
            "SR_CHECK_PASSWORD",
            "SR_CHECK_DATABASE",
        ],
        "pgherd watches as `monitor.user`, a role that may read more than pgpool's checks",
    ),
    (&["BACKEND_"], "name the servers in `backends.nodes`"),
    (
        &["HEALTH_CHECK_", "SR_CHECK_"],
        "every server is probed each `monitor.interval`; see also `monitor.timeout` and `failover.confirm`",
    ),
    (&["SEARCH_PRIMARY_NODE_TIMEOUT"], "the primary is looked for without end"),
    (
        &["FAILOVER_ON_BACKEND", "FAIL_OVER_ON_BACKEND"],
        "an error on a client's connection only makes the next probe come at once; see `monitor.interval`",
    ),
    (
        &["FAILOVER_COMMAND", "FAILBACK_COMMAND", "FOLLOW_", "RECOVERY_"],
        "pgherd calls repmgr itself; see `failover.executor` and `failover.repmgr`",
    ),
    (
        &["AUTO_FAILBACK", "DETACH_FALSE_PRIMARY"],
        "a server that is on the primary's lineage is used again by itself, another never",
    ),
    (
        &[
            "USE_WATCHDOG",
            "WD_",
            "DELEGATE_IP",
            "TRUSTED_SERVERS",
            "HEARTBEAT",
            "IF_",
            "ARPING_",
            "OTHER_",
            "PING_PATH",
        ],
        "there is no watchdog; run one replica under swarm, which starts it again elsewhere",
    ),
    (
        &["USER_REDIRECT", "DATABASE_REDIRECT", "APP_NAME_REDIRECT"],
        "write a `[[routing.override]]` with `prefer` for each entry",
    ),
    (&["DELAY_THRESHOLD", "PREFER_LOWER_DELAY"], "see `routing.max_lag`"),
    (&["READ_ONLY_FUNCTION", "WRITE_FUNCTION"], "see `routing.read_functions` and `routing.write_functions`"),
    (&["DISABLE_LOAD_BALANCE"], "sessions read what they have written; see `routing.consistency`"),
    (
        &["LOAD_BALANCE", "STATEMENT_LEVEL_LOAD", "PRIMARY_ROUTING", "ALLOW_SQL_COMMENTS"],
        "see `routing.reads`; each statement that only reads is balanced by itself",
    ),
    (&["SSL"], "listen.tls and backends.tls stand for it (docs/tls.md)"),
    (
        &["POOL_PASSWD", "ENABLE_POOL_HBA", "ALLOW_CLEAR_TEXT"],
        "passwords are checked against the verifiers that the servers hold",
    ),
    (&["MEMORY_CACHE", "MEMQCACHE"], "there is no query cache"),
    (&["PCP_"], "there is no pcp"),
    (
        &["LOG_", "LOGGING_", "SYSLOG_", "CLIENT_MIN", "DEBUG_"],
        "see `log.level` and `log.format`; statements are logged by the servers",
    ),
    (&["CONNECTION_CACHE", "RESET_QUERY_LIST"], "connections are always pooled, and reset by `pool.mode`"),
];

/// Adds what the `PGPOOL_...` variables say to `raw`.
pub(crate) fn read(environment: &Environment, raw: &mut Raw) {
    for name in environment.names("PGPOOL_") {
        let setting = name.strip_prefix("PGPOOL_").unwrap_or(name).to_ascii_uppercase();
        if matches!(setting.as_str(), "PORT" | "LISTEN_ADDRESSES") {
            continue;
        }
        if let Some((_, to)) = MAPPED.iter().find(|(known, _)| *known == setting) {
            map(environment, raw, name, *to);
            continue;
        }
        let fits = |(starts, _): &&(&[&str], &str)| starts.iter().any(|start| setting.starts_with(start));
        let why = REPLACED.iter().find(fits).map_or("pgherd has nothing like it", |(_, why)| why);
        warn(raw, name, format!("has no effect: {why}"));
    }
    listen(environment, raw);
}

fn map(environment: &Environment, raw: &mut Raw, name: &str, to: To) {
    let Some(text) = environment.text(name, raw).map(str::trim) else { return };
    let (key, mapped) = match to {
        To::Same(key) => (key, Some(text.to_owned())),
        To::Seconds(key) => {
            (key, number(text).map(|n| if n == 0 { "off".to_owned() } else { format!("{n}s") }))
        }
        To::Milliseconds(key) => (key, number(text).map(|n| format!("{n}ms"))),
        To::Level(key) => (key, level(text).map(str::to_owned)),
        To::Switch(key, [on, off]) => {
            (key, switch(text).map(|is_on| if is_on { on } else { off }.to_owned()))
        }
    };
    match mapped {
        Some(mapped) => set(raw, name, key, Layer::Legacy, mapped),
        None => {
            let takes = match to {
                To::Same(_) => "a value",
                To::Seconds(_) => "a number of seconds, without a unit",
                To::Milliseconds(_) => "a number of milliseconds, without a unit",
                To::Level(_) => "one of PostgreSQL's levels, such as warning",
                To::Switch(..) => "on or off",
            };
            let message = format!("takes {takes}, got {}", quoted(text));
            raw.errors.push(Problem::at(Origin::Variable(name.to_owned()), message));
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn level(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "debug5" | "debug4" | "debug3" => Some("trace"),
        "debug2" | "debug1" => Some("debug"),
        "info" | "notice" | "log" => Some("info"),
        "warning" => Some("warn"),
        "error" | "fatal" | "panic" => Some("error"),
        _ => None,
    }
}

/// pgpool's address and port are one key here.
fn listen(environment: &Environment, raw: &mut Raw) {
    let address = environment.text("PGPOOL_LISTEN_ADDRESSES", raw);
    let port = environment.text("PGPOOL_PORT", raw);
    let (name, address, port) = match (address, port) {
        (None, None) => return,
        (Some(address), port) => ("PGPOOL_LISTEN_ADDRESSES", address, port.unwrap_or("5432")),
        (None, Some(port)) => ("PGPOOL_PORT", "*", port),
    };
    let address = match address {
        "*" => "0.0.0.0".to_owned(),
        "localhost" => "127.0.0.1".to_owned(),
        v6 if v6.contains(':') && !v6.starts_with('[') => format!("[{v6}]"),
        other => other.to_owned(),
    };
    set(raw, name, "listen.address", Layer::Legacy, format!("{address}:{port}"));
}
