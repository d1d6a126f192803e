//! What becomes of each setting of pgpool.conf. Names are in lower case, without the number of a server.

use super::super::legacy::switch;
use super::super::units;

/// What a setting of pgpool's is here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known {
    /// A key, with a value that is written otherwise.
    Mapped(To),
    /// None.
    Replaced(&'static Replacement),
    /// None, and nobody has said why: it may be no setting of pgpool's.
    Unknown,
}

/// How a setting of pgpool becomes one of pgherd.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
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

/// Settings without a counterpart.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// The beginnings of their names.
    starts: &'static [&'static str],
    /// The section in which somebody would look for them here.
    pub(crate) section: &'static str,
    /// What replaces them.
    pub(crate) why: &'static str,
}

const MAPPED: &[(&str, To)] = &[
    ("num_init_children", To::Same("pool.size")),
    ("connection_life_time", To::Seconds("pool.server_idle_timeout")),
    ("client_idle_limit", To::Seconds("pool.client_idle_timeout")),
    ("authentication_timeout", To::Seconds("pool.client_login_timeout")),
    ("connect_timeout", To::Milliseconds("pool.server_connect_timeout")),
    ("log_min_messages", To::Level("log.level")),
    ("load_balance_mode", To::Switch("routing.reads", ["any", "primary"])),
];

const fn to(section: &'static str, starts: &'static [&'static str], why: &'static str) -> Replacement {
    Replacement { starts, section, why }
}

/// How settings of the watchdog begin.
pub(crate) const WATCHDOG: &[&str] = &[
    "use_watchdog",
    "wd_",
    "delegate_ip",
    "trusted_server",
    "heartbeat",
    "hostname",
    "pgpool_port",
    "if_",
    "ifconfig_path",
    "arping_",
    "other_",
    "ping_path",
    "failover_when_quorum_exists",
    "failover_require_consensus",
    "allow_multiple_failover_requests",
    "enable_consensus",
];

/// By the beginnings of the names; the first that fits counts.
const REPLACED: &[Replacement] = &[
    to(
        "pool",
        &[
            "max_pool",
            "child_",
            "reserved_connections",
            "listen_backlog",
            "serialize_accept",
            "process_management",
            "min_spare",
            "max_spare",
        ],
        "there are no processes per client; see `pool.size` and `pool.max_clients`",
    ),
    to(
        "monitor",
        &[
            "health_check_user",
            "health_check_password",
            "health_check_database",
            "sr_check_user",
            "sr_check_password",
            "sr_check_database",
        ],
        "pgherd watches as `monitor.user`, a role that may read more than pgpool's checks",
    ),
    to(
        "backends",
        &[
            "backend_clustering_mode",
            "master_slave_",
            "replication_mode",
            "native_replication_",
            "parallel_mode",
        ],
        "pgherd is for servers that replicate by streaming, and asks each what it is",
    ),
    to(
        "backends",
        &["backend_application_name"],
        "servers are told apart by their addresses, and by repmgr's names of them",
    ),
    to("backends", &["backend_"], "name the servers in `backends.nodes`"),
    to(
        "backends",
        &[
            "replicate_select",
            "insert_lock",
            "lobj_lock_table",
            "replication_stop_on",
            "failover_if_affected",
        ],
        "statements are not replicated: that is what PostgreSQL's streaming replication does",
    ),
    to(
        "monitor",
        &["health_check_", "sr_check_"],
        "every server is probed each `monitor.interval`; see also `monitor.timeout` and `failover.confirm`",
    ),
    to("failover", &["search_primary_node_timeout"], "the primary is looked for without end"),
    to(
        "failover",
        &["failover_on_backend", "fail_over_on_backend"],
        "an error on a client's connection only makes the next probe come at once; see `monitor.interval`",
    ),
    to(
        "failover",
        WATCHDOG,
        "there is no watchdog; run one replica under swarm, which starts it again elsewhere, or several that agree in \
         etcd (`failover.etcd.endpoints`)",
    ),
    to(
        "failover",
        &["recovery_", "client_idle_limit_in_recovery"],
        "there is no online recovery: an old primary is made a standby by itself, `pgherd rejoin` does it on demand, \
         and `repmgr standby clone` makes a new one; see `failover.reclone`",
    ),
    to(
        "failover",
        &["failover_command", "failback_command", "follow_"],
        "pgherd calls repmgr itself; see `failover.executor` and `failover.repmgr`",
    ),
    to(
        "failover",
        &["auto_failback", "detach_false_primary"],
        "a server that is on the primary's lineage is used again by itself, another never",
    ),
    to(
        "routing",
        &["user_redirect", "database_redirect", "app_name_redirect"],
        "write a `[[routing.override]]` with `prefer` for each entry",
    ),
    to(
        "routing",
        &["delay_threshold", "prefer_lower_delay", "replication_delay_source"],
        "see `routing.max_lag`",
    ),
    to(
        "routing",
        &["read_only_function", "write_function", "white_function_list", "black_function_list"],
        "see `routing.read_functions` and `routing.write_functions`",
    ),
    to(
        "routing",
        &["disable_load_balance", "dml_adaptive", "track_table_mutation"],
        "sessions read what they have written; see `routing.consistency`",
    ),
    to(
        "routing",
        &[
            "load_balance",
            "statement_level_load",
            "primary_routing",
            "black_query_pattern_list",
            "allow_sql_comments",
            "ignore_leading_white_space",
        ],
        "see `routing.reads`; each statement that only reads is balanced by itself",
    ),
    to(
        "routing",
        &["relcache_", "enable_shared_relcache", "check_temp_table", "check_unlogged_table"],
        "the catalogue of each database is read by itself, and again when it changes",
    ),
    to("listen.tls", &["ssl"], "listen.tls and backends.tls stand for it (docs/tls.md)"),
    to("listen", &["socket_dir", "unix_socket_"], "see `listen.unix` and `listen.unix_mode`"),
    to(
        "auth",
        &["pool_passwd", "enable_pool_hba", "allow_clear_text"],
        "passwords are checked against the verifiers that the servers hold",
    ),
    to(
        "routing",
        &[
            "memory_cache",
            "memqcache",
            "cache_safe_mem",
            "cache_unsafe_mem",
            "white_mem",
            "black_mem",
            "clear_memq",
        ],
        "there is no query cache",
    ),
    to("admin", &["pcp_"], "there is no pcp"),
    to(
        "log",
        &[
            "log_",
            "logging_",
            "syslog_",
            "client_min",
            "debug_",
            "notice_per_node",
            "print_timestamp",
            "print_user",
        ],
        "see `log.level` and `log.format`; statements are logged by the servers",
    ),
    to(
        "runtime",
        &["pid_file_name", "logdir", "work_dir"],
        "pgherd writes no file of its own: the servers themselves are the truth",
    ),
    to(
        "pool",
        &["connection_cache", "reset_query_list"],
        "connections are always pooled, and reset by `pool.mode`",
    ),
];

/// What becomes of the setting of this name.
pub(crate) fn look_up(name: &str) -> Known {
    if let Some((_, to)) = MAPPED.iter().find(|(known, _)| *known == name) {
        return Known::Mapped(*to);
    }
    let fits = |it: &&Replacement| it.starts.iter().any(|start| name.starts_with(start));
    REPLACED.iter().find(fits).map_or(Known::Unknown, Known::Replaced)
}

impl To {
    /// The key.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Same(key)
            | Self::Seconds(key)
            | Self::Milliseconds(key)
            | Self::Level(key)
            | Self::Switch(key, _) => key,
        }
    }

    /// What it takes, for who gave something else.
    pub(crate) const fn takes(self) -> &'static str {
        match self {
            Self::Same(_) => "a value",
            Self::Seconds(_) => "a number of seconds",
            Self::Milliseconds(_) => "a number of milliseconds",
            Self::Level(_) => "one of PostgreSQL's levels, such as warning",
            Self::Switch(..) => "on or off",
        }
    }

    /// The value of the key, or none if pgpool would not take this text either.
    pub(crate) fn value(self, text: &str) -> Option<String> {
        match self {
            Self::Same(_) => Some(text.to_owned()),
            Self::Seconds(_) => match time(text, "s")?.as_str() {
                "0s" => Some("off".to_owned()),
                seconds => Some(seconds.to_owned()),
            },
            Self::Milliseconds(_) => time(text, "ms"),
            Self::Level(_) => level(text).map(str::to_owned),
            Self::Switch(_, [on, off]) => switch(text).map(|is_on| if is_on { on } else { off }.to_owned()),
        }
    }
}

/// A whole number, and a unit of time where there is one.
fn time(text: &str, unit: &str) -> Option<String> {
    let text = text.trim();
    let has_unit = text.ends_with(|it: char| it.is_ascii_alphabetic());
    let text = if has_unit { text.to_owned() } else { format!("{text}{unit}") };
    let is_whole = text.starts_with(|it: char| it.is_ascii_digit()) && !text.contains('.');
    let time = units::parse_duration(&text).ok().filter(|_| is_whole)?;
    if time.is_zero() { Some("0s".to_owned()) } else { Some(units::show_duration(time)) }
}

fn level(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "debug5" | "debug4" | "debug3" => Some("trace"),
        "debug2" | "debug1" | "debug" => Some("debug"),
        "info" | "notice" | "log" => Some("info"),
        "warning" => Some("warn"),
        "error" | "fatal" | "panic" => Some("error"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{self, KEYS};

    #[test]
    fn what_replaces_a_setting_names_sections_and_keys_that_there_are() {
        for Replacement { starts, section, why } in REPLACED {
            let is_section = matches!(keys::look_up(section), keys::Known::Section);
            assert!(is_section, "{starts:?} is explained in {section}");
            for name in
                why.split('`').skip(1).step_by(2).filter(|name| name.contains('.') && !name.contains('['))
            {
                let is_there =
                    keys::find(name).is_some() || KEYS.iter().any(|key| key.name.starts_with(name));
                assert!(is_there, "{starts:?}: {why}");
            }
        }
        for (name, to) in MAPPED {
            assert!(keys::find(to.key()).is_some(), "{name}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_their_units() {
        let seconds = |text: &str| To::Seconds("pool.client_idle_timeout").value(text);
        let texts = ["0", "0s", "90", "5min", "500ms", "1.5s", "-1", "5 min", "many", ""];
        let read = texts.map(seconds);
        let read: Vec<_> = read.iter().map(|it| it.as_deref().unwrap_or("-")).collect();
        assert_eq!(read, ["off", "off", "90s", "5min", "500ms", "-", "-", "5min", "-", "-"]);
    }
}
