//! Names of PgBouncer's `[pgbouncer]` section that are no keys here.

/// What becomes of a setting of PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// Nothing is lost without it; why.
    Needless(&'static str),
    /// It would be missed; where it stands here, or that there is none.
    Elsewhere(&'static str),
}

use Replaced::{Elsewhere, Needless};

/// By the beginnings of the names, with the section in which somebody would look for them here; the first that fits counts.
const REPLACED: &[(&[&str], &str, Replaced)] = &[
    (
        &["ignore_startup_parameters", "track_extra_parameters"],
        "pool",
        Needless("every run-time parameter of a session is in force wherever it is served"),
    ),
    (
        &["server_reset_query", "server_fast_close"],
        "pool",
        Needless(
            "what a session leaves on a server connection is undone before another gets it, in every mode",
        ),
    ),
    (
        &["server_check_query", "server_check_delay"],
        "pool",
        Needless("whether a server connection has ended is seen each time that it is lent, without a query"),
    ),
    (
        &["max_packet_size", "pkt_buf", "sbuf_loopcnt", "tcp_socket_buffer"],
        "pool",
        Needless("messages of any length pass through buffers of a fixed size, and the kernel sizes its own"),
    ),
    (
        &["tcp_defer_accept"],
        "listen",
        Needless("a connection that says nothing costs little, and ends at `pool.client_login_timeout`"),
    ),
    (
        &["so_reuseport", "peer_id"],
        "runtime",
        Needless("one pgherd uses as many cores as it needs; see `runtime.workers`"),
    ),
    (
        &["autodb_idle_timeout", "pool_idle_timeout"],
        "pool",
        Needless(
            "every database of the servers can be connected to, and a pool that nobody uses is forgotten",
        ),
    ),
    (&["dns_", "resolv_conf"], "backends", Needless("names are resolved again at every connect")),
    (
        &[
            "stats_period",
            "log_stats",
            "log_connections",
            "log_disconnections",
            "log_pooler_errors",
            "syslog",
        ],
        "log",
        Needless("see `log.level` and `log.format`"),
    ),
    (
        &["logfile", "verbose"],
        "log",
        Needless("pgherd logs to its standard output; see `log.level` and `log.format`"),
    ),
    (
        &["pidfile", "user", "service_name", "job_name", "conffile", "suspend_timeout"],
        "runtime",
        Needless("pgherd does not put itself in the background: that is for what starts it"),
    ),
    (
        &["query_wait_notify", "login_notify_message"],
        "pool",
        Needless("clients get no notices of pgherd's own"),
    ),
    (
        &["scram_iterations"],
        "auth",
        Needless("passwords are checked against the verifiers that the servers hold"),
    ),
    (
        &["application_name_add_host"],
        "log",
        Needless("pgherd's log names the address of a client; application_name stays what the client says"),
    ),
    (
        &["listen_addr", "listen_port"],
        "listen",
        Elsewhere("it is `listen.address` here, address and port in one"),
    ),
    (&["listen_backlog"], "listen", Elsewhere("it is `listen.backlog` here")),
    (&["unix_socket_"], "listen", Elsewhere("see `listen.unix`")),
    (&["client_tls_", "client_tls13_"], "listen.tls", Elsewhere("see section `listen.tls`")),
    (&["server_tls_", "server_tls13_"], "backends.tls", Elsewhere("see section `backends.tls`")),
    (
        &["auth_"],
        "auth",
        Elsewhere("who may log in, and how, is said in section `auth`, or by the servers themselves"),
    ),
    (&["admin_users", "stats_users"], "admin", Elsewhere("see section `admin`")),
    (&["disable_pqexec"], "pool", Elsewhere("pgherd has nothing like it")),
];

/// What becomes of PgBouncer's setting of this name, if it is one and no key here.
pub(crate) fn replaced(name: &str) -> Option<Replaced> {
    find(name).map(|(_, what)| what)
}

/// The same, and before it the section in which somebody would look for it here.
pub(crate) fn find(name: &str) -> Option<(&'static str, Replaced)> {
    let fits = |(starts, ..): &&(&[&str], &str, Replaced)| {
        starts
            .iter()
            .any(|start| if start.ends_with('_') { name.starts_with(start) } else { is_of(name, start) })
    };
    REPLACED.iter().find(fits).map(|(_, section, what)| (*section, *what))
}

/// True for the name itself, and where more words follow.
fn is_of(name: &str, start: &str) -> bool {
    name.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Known, look_up};

    /// Those of PgBouncer 1.24, and of what came after.
    const SETTINGS: &str = "admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file \
         auth_ldap_options auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout client_idle_timeout \
         client_login_timeout client_tls13_ciphers client_tls_ca_file client_tls_cert_file client_tls_ciphers \
         client_tls_dheparams client_tls_ecdhcurve client_tls_key_file client_tls_protocols client_tls_sslmode conffile \
         default_pool_size disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period idle_transaction_timeout \
         ignore_startup_parameters job_name listen_addr listen_backlog listen_port log_connections log_disconnections \
         log_pooler_errors log_stats logfile login_notify_message max_client_conn \
         max_db_client_connections max_db_connections max_packet_size max_prepared_statements max_user_client_connections max_user_connections \
         min_pool_size peer_id pidfile pkt_buf pool_idle_timeout pool_mode query_timeout query_wait_notify \
         query_wait_timeout reserve_pool_size reserve_pool_timeout resolv_conf sbuf_loopcnt scram_iterations \
         server_check_delay server_check_query server_connect_timeout server_fast_close server_idle_timeout \
         server_lifetime server_login_retry server_reset_query server_reset_query_always server_round_robin \
         server_tls13_ciphers server_tls_ca_file server_tls_cert_file server_tls_ciphers server_tls_key_file \
         server_tls_protocols server_tls_sslmode service_name so_reuseport stats_period stats_users suspend_timeout \
         syslog syslog_facility syslog_ident tcp_defer_accept tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl \
         tcp_socket_buffer tcp_user_timeout track_extra_parameters transaction_timeout unix_socket_dir \
         unix_socket_group unix_socket_mode user verbose";

    #[test]
    fn every_setting_of_pgbouncer_is_a_key_or_is_told_what_becomes_of_it() {
        for name in SETTINGS.split_whitespace() {
            match look_up(&format!("pool.{name}")) {
                Known::Key(_) | Known::Needless(_) => {}
                Known::Unknown(why) => assert!(why.contains("PgBouncer's"), "{name}: {why}"),
                Known::Section => panic!("{name}"),
            }
        }
        assert!(matches!(look_up("pool.users"), Known::Unknown(why) if !why.contains("PgBouncer's")));
    }
}
