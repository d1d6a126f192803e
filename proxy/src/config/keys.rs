//! Every key there is: its name, default, other names, and the section it stands in.

use super::nearest;
use super::pgbouncer::{self, Replaced};
use super::units;

/// One key of the configuration.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its full name, `section.key`.
    pub(crate) name: &'static str,
    /// The text that stands for it where no source gives it; none where there is no default.
    pub(crate) default: Option<&'static str>,
    /// Its last part in PgBouncer's or PostgreSQL's configuration, where that is another.
    pub(crate) alias: Option<&'static str>,
}

const fn key(name: &'static str, default: &'static str) -> Key {
    Key { name, default: Some(default), alias: None }
}

const fn bare(name: &'static str) -> Key {
    Key { name, default: None, alias: None }
}

const fn aliased(name: &'static str, default: &'static str, alias: &'static str) -> Key {
    Key { name, default: Some(default), alias: Some(alias) }
}

const fn bare_aliased(name: &'static str, alias: &'static str) -> Key {
    Key { name, default: None, alias: Some(alias) }
}

/// All keys, in the order of the reference.
pub(crate) static KEYS: &[Key] = &[
    key("listen.address", "0.0.0.0:5432"),
    key("listen.backlog", "4096"),
    bare_aliased("listen.unix", "unix_socket_dir"),
    aliased("listen.unix_mode", "0777", "unix_socket_mode"),
    key("listen.proxy_protocol", "off"),
    key("listen.max_unauthenticated_per_address", "1000"),
    bare_aliased("listen.tls.mode", "client_tls_sslmode"),
    bare_aliased("listen.tls.cert", "client_tls_cert_file"),
    bare_aliased("listen.tls.key", "client_tls_key_file"),
    bare_aliased("listen.tls.client_ca", "client_tls_ca_file"),
    bare("listen.tls.client_crl"),
    key("listen.tls.min_version", "1.2"),
    bare("backends.nodes"),
    key("backends.discover", "auto"),
    aliased("backends.tls.mode", "prefer", "server_tls_sslmode"),
    bare_aliased("backends.tls.ca", "server_tls_ca_file"),
    bare_aliased("backends.tls.cert", "server_tls_cert_file"),
    bare_aliased("backends.tls.key", "server_tls_key_file"),
    key("backends.tls.channel_binding", "prefer"),
    key("monitor.user", "repmgr"),
    bare("monitor.password"),
    bare("monitor.password_file"),
    key("monitor.database", "repmgr"),
    key("monitor.interval", "500ms"),
    key("monitor.timeout", "1s"),
    bare("monitor.system_identifier"),
    aliased("pool.mode", "transaction", "pool_mode"),
    key("pool.hidden_state", "auto"),
    key("pool.sequences", "auto"),
    bare("pool.custom_parameters"),
    aliased("pool.size", "20", "default_pool_size"),
    key("pool.min_pool_size", "0"),
    key("pool.reserve_pool_size", "0"),
    key("pool.reserve_pool_timeout", "5s"),
    key("pool.max_db_connections", "0"),
    key("pool.max_user_connections", "0"),
    key("pool.pinned_size", "20"),
    key("pool.replication_size", "10"),
    aliased("pool.max_clients", "10000", "max_client_conn"),
    key("pool.max_db_client_connections", "0"),
    key("pool.max_user_client_connections", "0"),
    key("pool.query_wait_timeout", "2min"),
    key("pool.query_timeout", "off"),
    key("pool.transaction_timeout", "off"),
    aliased("pool.idle_transaction_timeout", "off", "idle_in_transaction_session_timeout"),
    aliased("pool.client_idle_timeout", "off", "idle_session_timeout"),
    key("pool.cancel_wait_timeout", "10s"),
    key("pool.server_round_robin", "false"),
    key("pool.server_login_retry", "50ms"),
    key("pool.server_connect_timeout", "15s"),
    key("pool.server_idle_timeout", "10min"),
    key("pool.server_lifetime", "1h"),
    key("pool.client_login_timeout", "1min"),
    key("pool.tcp_keepalive", "true"),
    key("pool.tcp_keepcnt", "0"),
    key("pool.tcp_keepidle", "off"),
    key("pool.tcp_keepintvl", "off"),
    key("pool.tcp_user_timeout", "off"),
    aliased("pool.prepared_statements", "200", "max_prepared_statements"),
    key("pool.prepare_unnamed", "off"),
    bare("pool.override"),
    key("routing.reads", "standbys"),
    key("routing.consistency", "session"),
    key("routing.max_lag", "30s"),
    bare("routing.location"),
    key("routing.slow_start", "10s"),
    key("routing.latency_aware", "true"),
    bare("routing.read_functions"),
    bare("routing.write_functions"),
    bare("routing.override"),
    bare_aliased("auth.hba_file", "auth_hba_file"),
    bare_aliased("auth.ident_file", "auth_ident_file"),
    bare_aliased("auth.userlist_file", "auth_file"),
    bare_aliased("auth.query", "auth_query"),
    bare_aliased("auth.query_user", "auth_user"),
    bare("auth.query_password"),
    bare("auth.query_password_file"),
    bare_aliased("auth.query_database", "auth_dbname"),
    bare("auth.map"),
    key("auth.max_failures", "60"),
    key("auth.failure_window", "1min"),
    key("failover.mode", "automatic"),
    key("failover.executor", "ssh"),
    key("failover.confirm", "4s"),
    key("failover.restart_grace", "0s"),
    key("failover.start_grace", "30s"),
    key("failover.cold_grace", "10s"),
    key("failover.max_data_loss", "1MiB"),
    key("failover.reclone", "false"),
    key("failover.min_interval", "10s"),
    key("failover.switchover_timeout", "10s"),
    key("failover.write_wait", "30s"),
    key("failover.max_waiting", "10000"),
    key("failover.ssh.user", "postgres"),
    key("failover.ssh.port", "22"),
    bare("failover.ssh.key"),
    bare("failover.ssh.known_hosts"),
    key("failover.ssh.connect_timeout", "2s"),
    key("failover.repmgr.binary", "repmgr"),
    key("failover.repmgr.config", "/etc/repmgr.conf"),
    bare("failover.repmgr.pg_bindir"),
    bare("failover.command.promote"),
    bare("failover.command.fence"),
    bare("failover.command.follow"),
    bare("failover.command.rejoin"),
    bare("failover.command.clone"),
    bare("failover.command.stop"),
    bare("failover.command.start"),
    bare("failover.etcd.endpoints"),
    key("failover.etcd.prefix", "/pgherd"),
    key("failover.etcd.ttl", "10s"),
    bare("failover.etcd.user"),
    bare("failover.etcd.password"),
    bare("failover.etcd.password_file"),
    bare("failover.etcd.ca"),
    bare("failover.etcd.cert"),
    bare("failover.etcd.key"),
    key("http.address", "127.0.0.1:8080"),
    key("http.anonymous", "false"),
    key("http.trusted_proxies", "off"),
    key("http.user_header", "x-forwarded-user"),
    bare("http.tls.cert"),
    bare("http.tls.key"),
    bare("http.docker_socket"),
    key("memory.limit", "1GiB"),
    bare("runtime.workers"),
    key("runtime.drain_timeout", "30s"),
    bare("runtime.handover"),
    bare("admin.users"),
    bare("admin.stats_users"),
    key("log.level", "info"),
    key("log.format", "text"),
    bare("trace.endpoint"),
    key("trace.ratio", "0.01"),
    key("trace.service", "pgherd"),
];

/// Keys and sections that the design has and this version has not. A name stands for all that is below it, too.
const LATER: &[&str] = &["failover.synchronous"];

/// The keys of one `[[pool.override]]`.
pub(crate) const OVERRIDE_FIELDS: &[&str] = &[
    "database",
    "user",
    "mode",
    "hidden_state",
    "sequences",
    "custom_parameters",
    "size",
    "min_pool_size",
    "reserve_pool_size",
    "max_db_connections",
    "max_user_connections",
    "max_db_client_connections",
    "max_user_client_connections",
    "server_lifetime",
    "query_wait_timeout",
    "query_timeout",
    "transaction_timeout",
    "idle_transaction_timeout",
    "client_idle_timeout",
];

/// The keys of one `[[auth.map]]`.
pub(crate) const MAP_FIELDS: &[&str] =
    &["database", "user", "server_user", "server_password", "server_password_file"];

/// The fields of one table in `backends.nodes`, in the order of the short form.
pub(crate) const NODE_FIELDS: &[&str] = &["id", "host", "port", "weight", "data_directory", "flag"];

/// What a name turns out to be.
pub(crate) enum Known {
    /// A key, by its own name or the other one.
    Key(&'static Key),
    /// A section with keys below it.
    Section,
    /// A setting of PgBouncer that is not needed here; the text says why.
    Needless(&'static str),
    /// Nothing; the text says so, and what to do.
    Unknown(String),
}

/// The key of this name. Only for names that stand in the code.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Looks up a full name as it stands in a file.
pub(crate) fn look_up(name: &str) -> Known {
    let is_alias = |key: &&Key| key.alias_name().is_some_and(|alias| alias == name);
    if let Some(key) = find(name).or_else(|| KEYS.iter().find(is_alias)) {
        return Known::Key(key);
    }
    if sections().any(|section| section == name) {
        return Known::Section;
    }
    match name.strip_prefix("pool.").and_then(pgbouncer::replaced) {
        Some(Replaced::Needless(why)) => Known::Needless(why),
        Some(Replaced::Elsewhere(why)) => Known::Unknown(format!("is a setting of PgBouncer's: {why}")),
        None => Known::Unknown(why_unknown(name)),
    }
}

/// Looks up a name that may stand without its section, as PgBouncer's do.
pub(crate) fn look_up_bare(name: &str) -> Known {
    let is_bare = !name.contains('.');
    if let Some(key) = KEYS.iter().find(|key| is_bare && key.alias == Some(name)) {
        return Known::Key(key);
    }
    match look_up(name) {
        Known::Section => Known::Section,
        _ if is_bare => look_up(&format!("pool.{name}")),
        known => known,
    }
}

impl Key {
    /// PgBouncer has a number of seconds for it.
    pub(crate) fn is_in_seconds(&self) -> bool {
        self.name.starts_with("pool.") && self.default.is_some_and(units::is_duration)
    }

    /// The full name with the other last part.
    pub(crate) fn alias_name(&self) -> Option<String> {
        let (section, _) = self.name.rsplit_once('.')?;
        self.alias.map(|alias| format!("{section}.{alias}"))
    }

    /// True if a text is an array that can't be written otherwise in a variable:
    /// `PGHERD_POOL__OVERRIDE=[{ database = "a", mode = "session" }]`.
    pub(crate) fn takes_toml(&self, text: &str) -> bool {
        let takes = matches!(self.name, "pool.override" | "routing.override" | "auth.map" | "backends.nodes");
        (takes || self.is_program()) && text.trim_start().starts_with('[')
    }

    /// It names a program that pgherd runs on its own machine.
    pub(crate) fn is_program(&self) -> bool {
        self.name.starts_with("failover.command.")
    }

    /// The environment variable of the key: `PGHERD_POOL__SIZE`.
    pub(crate) fn variable(&self) -> String {
        variable_of(self.name)
    }
}

/// The environment variable of a full name.
pub(crate) fn variable_of(name: &str) -> String {
    format!("PGHERD_{}", name.replace('.', "__").to_ascii_uppercase())
}

fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| key.name.match_indices('.').filter_map(|(at, _)| key.name.get(..at)))
}

fn why_unknown(name: &str) -> String {
    let below = |later: &&&str| {
        name.strip_prefix(**later).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if LATER.iter().any(|later| below(&later)) {
        return "not available in this version of pgherd".to_owned();
    }
    if name.split('.').next() == Some("pgbouncer") {
        return "is a section of PgBouncer's: most of its settings are keys of section `pool` here"
            .to_owned();
    }
    let names = KEYS.iter().flat_map(|key| [Some(key.name.to_owned()), key.alias_name()]).flatten();
    let known: Vec<String> = names.chain(sections().map(str::to_owned)).collect();
    match nearest::key(name, known.iter().map(String::as_str)) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => "unknown key".to_owned(),
    }
}
