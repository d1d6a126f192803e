//! What PgBouncer has where its file says nothing: settings that say the same need no word.

/// Each setting with its default, of the versions 1.8 to 1.25.
const DEFAULTS: &[(&str, &[&str])] = &[
    ("admin_users", &[""]),
    ("application_name_add_host", &["0"]),
    ("auth_type", &["md5"]),
    ("autodb_idle_timeout", &["3600"]),
    ("cancel_wait_timeout", &["10"]),
    ("client_idle_timeout", &["0"]),
    ("client_login_timeout", &["60"]),
    ("client_tls_ciphers", &["default", "fast"]),
    ("client_tls_dheparams", &["auto"]),
    ("client_tls_ecdhcurve", &["auto"]),
    ("client_tls_protocols", &["secure"]),
    ("client_tls_sslmode", &["disable"]),
    ("default_pool_size", &["20"]),
    ("disable_pqexec", &["0"]),
    ("dns_max_ttl", &["15"]),
    ("dns_nxdomain_ttl", &["15"]),
    ("dns_zone_check_period", &["0"]),
    ("idle_transaction_timeout", &["0"]),
    ("ignore_startup_parameters", &[""]),
    ("listen_backlog", &["128"]),
    ("log_connections", &["1"]),
    ("log_disconnections", &["1"]),
    ("log_pooler_errors", &["1"]),
    ("log_stats", &["1"]),
    ("max_client_conn", &["100"]),
    ("max_db_client_connections", &["0"]),
    ("max_db_connections", &["0"]),
    ("max_packet_size", &["2147483647"]),
    ("max_prepared_statements", &["200"]),
    ("max_user_client_connections", &["0"]),
    ("max_user_connections", &["0"]),
    ("min_pool_size", &["0"]),
    ("peer_id", &["0"]),
    ("pkt_buf", &["4096"]),
    ("pool_idle_timeout", &["0"]),
    ("query_timeout", &["0"]),
    ("query_wait_notify", &["5"]),
    ("query_wait_timeout", &["120"]),
    ("reserve_pool_size", &["0"]),
    ("reserve_pool_timeout", &["5"]),
    ("resolv_conf", &[""]),
    ("sbuf_loopcnt", &["5"]),
    ("scram_iterations", &["4096"]),
    ("server_check_delay", &["30"]),
    ("server_check_query", &["", "select 1", ";"]),
    ("server_connect_timeout", &["15"]),
    ("server_fast_close", &["0"]),
    ("server_idle_timeout", &["600"]),
    ("server_lifetime", &["3600"]),
    ("server_login_retry", &["15"]),
    ("server_reset_query", &["DISCARD ALL"]),
    ("server_reset_query_always", &["0"]),
    ("server_round_robin", &["0"]),
    ("server_tls_ciphers", &["default", "fast"]),
    ("server_tls_protocols", &["secure"]),
    ("so_reuseport", &["0"]),
    ("stats_period", &["60"]),
    ("stats_users", &[""]),
    ("suspend_timeout", &["10"]),
    ("syslog", &["0"]),
    ("syslog_facility", &["daemon"]),
    ("syslog_ident", &["pgbouncer"]),
    ("tcp_defer_accept", &["1", "45"]),
    ("tcp_keepalive", &["1"]),
    ("tcp_keepcnt", &["0"]),
    ("tcp_keepidle", &["0"]),
    ("tcp_keepintvl", &["0"]),
    ("tcp_socket_buffer", &["0"]),
    ("tcp_user_timeout", &["0"]),
    ("track_extra_parameters", &["IntervalStyle"]),
    ("transaction_timeout", &["0"]),
    ("unix_socket_group", &[""]),
    ("unix_socket_mode", &["0777"]),
    ("verbose", &["0"]),
    // What has no default, but to know its name.
    ("auth_dbname", &[]),
    ("auth_file", &[]),
    ("auth_hba_file", &[]),
    ("auth_ident_file", &[]),
    ("auth_ldap_options", &[]),
    ("auth_query", &[]),
    ("auth_user", &[]),
    ("client_tls13_ciphers", &[]),
    ("client_tls_ca_file", &[]),
    ("client_tls_cert_file", &[]),
    ("client_tls_key_file", &[]),
    ("conffile", &[]),
    ("job_name", &[]),
    ("listen_addr", &[]),
    ("listen_port", &[]),
    ("login_notify_message", &[]),
    ("logfile", &[]),
    ("pidfile", &[]),
    ("pool_mode", &[]),
    ("server_tls13_ciphers", &[]),
    ("server_tls_ca_file", &[]),
    ("server_tls_cert_file", &[]),
    ("server_tls_key_file", &[]),
    ("server_tls_sslmode", &[]),
    ("service_name", &[]),
    ("unix_socket_dir", &[]),
    ("user", &[]),
];

/// The names of all settings of the section `[pgbouncer]`.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    DEFAULTS.iter().map(|(name, _)| *name)
}

/// True if PgBouncer does the same where the setting is not there.
pub(super) fn is_default(name: &str, value: &str) -> bool {
    let defaults = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, defaults)| *defaults);
    defaults.unwrap_or_default().iter().any(|default| is_same(value.trim(), default))
}

fn is_same(value: &str, default: &str) -> bool {
    let value = value.trim_end_matches(';');
    let whole = |text: &str| text.parse::<f64>().ok();
    value.eq_ignore_ascii_case(default.trim_end_matches(';'))
        || whole(value).zip(whole(default)).is_some_and(|(value, default)| value.total_cmp(&default).is_eq())
}

/// True for a number of nothing.
pub(super) fn is_zero(text: &str) -> bool {
    !text.is_empty() && text.trim_matches(['0', '.']).is_empty()
}
