//! What pgpool-II has where its file says nothing: settings that say the same need no word.

use crate::config::pgpool::switch;

/// Each setting with its default, without the number of a server: of the versions 3.7 to 4.7. Those that stand for files and sockets
/// have several, as they are packaged.
const DEFAULTS: &[(&str, &[&str])] = &[
    ("allow_clear_text_frontend_auth", &["off"]),
    ("allow_multiple_failover_requests_from_node", &["off"]),
    ("allow_sql_comments", &["off"]),
    ("app_name_redirect_preference_list", &[""]),
    ("arping_cmd", &["/usr/bin/sudo /usr/sbin/arping -U $_IP_$ -w 1 -I eth0", "arping -U $_IP_$ -w 1"]),
    ("arping_path", &["/usr/sbin"]),
    ("authentication_timeout", &["60s"]),
    ("auto_failback", &["off"]),
    ("auto_failback_interval", &["60s"]),
    ("backend_application_name", &[""]),
    ("backend_clustering_mode", &["streaming_replication"]),
    ("cache_safe_memqcache_table_list", &[""]),
    ("cache_unsafe_memqcache_table_list", &[""]),
    ("check_temp_table", &["catalog", "on"]),
    ("check_unlogged_table", &["on"]),
    ("child_life_time", &["300s"]),
    ("child_max_connections", &["0"]),
    ("clear_memqcache_on_escalation", &["on"]),
    ("client_idle_limit", &["0s"]),
    ("client_idle_limit_in_recovery", &["0s"]),
    ("client_min_messages", &["notice"]),
    ("connect_timeout", &["10000ms"]),
    ("connection_cache", &["on"]),
    ("connection_life_time", &["0s"]),
    ("database_redirect_preference_list", &[""]),
    ("delay_threshold", &["0"]),
    ("delay_threshold_by_time", &["0ms"]),
    ("delegate_ip", &[""]),
    ("detach_false_primary", &["off"]),
    ("disable_load_balance_on_write", &["transaction"]),
    ("dml_adaptive_object_relationship_list", &[""]),
    ("enable_consensus_with_half_votes", &["off"]),
    ("enable_pool_hba", &["off"]),
    ("enable_shared_relcache", &["on"]),
    ("failback_command", &[""]),
    ("failover_command", &[""]),
    ("failover_if_affected_tuples_mismatch", &["off"]),
    ("failover_on_backend_error", &["on"]),
    ("failover_on_backend_shutdown", &["off"]),
    ("failover_require_consensus", &["on"]),
    ("failover_when_quorum_exists", &["on"]),
    ("follow_primary_command", &[""]),
    ("health_check_database", &["", "postgres"]),
    ("health_check_max_retries", &["0"]),
    ("health_check_password", &[""]),
    ("health_check_period", &["0s"]),
    ("health_check_retry_delay", &["1s"]),
    ("health_check_test", &["off"]),
    ("health_check_timeout", &["20s"]),
    ("health_check_user", &["", "nobody"]),
    ("heartbeat_device", &[""]),
    ("heartbeat_hostname", &[""]),
    ("heartbeat_port", &["9694"]),
    ("hostname", &[""]),
    ("if_cmd_path", &["/sbin"]),
    ("if_down_cmd", &["/usr/bin/sudo /sbin/ip addr del $_IP_$/24 dev eth0"]),
    ("if_up_cmd", &["/usr/bin/sudo /sbin/ip addr add $_IP_$/24 dev eth0 label eth0:0"]),
    ("ignore_leading_white_space", &["on"]),
    ("insert_lock", &["off", "on"]),
    ("listen_addresses", &["localhost"]),
    ("listen_backlog_multiplier", &["2"]),
    ("load_balance_mode", &["on"]),
    ("lobj_lock_table", &[""]),
    ("log_backend_messages", &["none"]),
    ("log_client_messages", &["off"]),
    ("log_connections", &["off"]),
    ("log_destination", &["stderr"]),
    ("log_directory", &["/tmp/pgpool_logs"]),
    ("log_disconnections", &["off"]),
    ("log_error_verbosity", &["default"]),
    ("log_file_mode", &["0600"]),
    ("log_filename", &["pgpool-%Y-%m-%d_%H%M%S.log"]),
    ("log_hostname", &["off"]),
    ("log_line_prefix", &["%m: %a pid %p: ", "%t: pid %p: "]),
    ("log_min_messages", &["warning"]),
    ("log_pcp_processes", &["off", "on"]),
    ("log_per_node_statement", &["off"]),
    ("log_rotation_age", &["1440min"]),
    ("log_rotation_size", &["10240kB"]),
    ("log_standby_delay", &["if_over_threshold", "none"]),
    ("log_statement", &["off"]),
    ("log_truncate_on_rotation", &["off"]),
    ("logging_collector", &["off"]),
    ("max_pool", &["4"]),
    ("max_spare_children", &["10"]),
    ("memory_cache_enabled", &["off"]),
    ("memqcache_auto_cache_invalidation", &["on"]),
    ("memqcache_cache_block_size", &["1048576B"]),
    ("memqcache_expire", &["0s"]),
    ("memqcache_max_num_cache", &["1000000"]),
    ("memqcache_maxcache", &["409600B"]),
    ("memqcache_memcached_host", &["localhost"]),
    ("memqcache_memcached_port", &["11211"]),
    ("memqcache_method", &["shmem"]),
    ("memqcache_oiddir", &["/var/log/pgpool/oiddir"]),
    ("memqcache_total_size", &["67108864B"]),
    ("min_spare_children", &["5"]),
    ("notice_per_node_statement", &["off"]),
    ("num_init_children", &["32"]),
    ("pcp_listen_addresses", &["localhost", "*"]),
    ("pcp_port", &["9898"]),
    ("pcp_socket_dir", &["/tmp", "/var/run/postgresql", "/var/run/pgpool"]),
    ("pgpool_port", &["9999"]),
    (
        "pid_file_name",
        &["/var/run/pgpool/pgpool.pid", "/var/run/postgresql/pgpool.pid", "/run/pgpool/pgpool.pid"],
    ),
    ("ping_path", &["/bin"]),
    ("pool_passwd", &["pool_passwd"]),
    ("port", &["9999"]),
    ("prefer_lower_delay_standby", &["off"]),
    ("primary_routing_query_pattern_list", &[""]),
    ("process_management_mode", &["static"]),
    ("process_management_strategy", &["gentle"]),
    ("read_only_function_list", &[""]),
    ("recovery_1st_stage_command", &[""]),
    ("recovery_2nd_stage_command", &[""]),
    ("recovery_database", &["postgres"]),
    ("recovery_password", &[""]),
    ("recovery_timeout", &["90s"]),
    ("recovery_user", &["", "nobody"]),
    ("relcache_expire", &["0s"]),
    ("relcache_query_target", &["primary"]),
    ("relcache_size", &["256"]),
    ("replicate_select", &["off"]),
    ("replication_delay_source_cmd", &[""]),
    ("replication_delay_source_timeout", &["10"]),
    ("replication_stop_on_mismatch", &["off"]),
    ("reserved_connections", &["0"]),
    ("reset_query_list", &["ABORT; DISCARD ALL"]),
    ("search_primary_node_timeout", &["300s"]),
    ("serialize_accept", &["off"]),
    ("sr_check_database", &["postgres"]),
    ("sr_check_password", &[""]),
    ("sr_check_period", &["10s", "0s"]),
    ("sr_check_user", &["", "nobody"]),
    ("ssl", &["off"]),
    ("ssl_ca_cert", &[""]),
    ("ssl_ca_cert_dir", &[""]),
    ("ssl_cert", &[""]),
    ("ssl_ciphers", &["HIGH:MEDIUM:+3DES:!aNULL"]),
    ("ssl_crl_file", &[""]),
    ("ssl_dh_params_file", &[""]),
    ("ssl_ecdh_curve", &["prime256v1"]),
    ("ssl_key", &[""]),
    ("ssl_passphrase_command", &[""]),
    ("ssl_prefer_server_ciphers", &["off"]),
    ("statement_level_load_balance", &["off"]),
    ("syslog_facility", &["LOCAL0"]),
    ("syslog_ident", &["pgpool"]),
    ("trusted_server_command", &["ping -q -c3 %h"]),
    ("trusted_servers", &[""]),
    ("unix_socket_directories", &["/tmp"]),
    ("unix_socket_group", &[""]),
    ("unix_socket_permissions", &["0777"]),
    ("use_watchdog", &["off"]),
    ("user_redirect_preference_list", &[""]),
    ("wd_authkey", &[""]),
    ("wd_de_escalation_command", &[""]),
    ("wd_escalation_command", &[""]),
    ("wd_heartbeat_deadtime", &["30s"]),
    ("wd_heartbeat_keepalive", &["2s"]),
    ("wd_interval", &["10s"]),
    ("wd_ipc_socket_dir", &["/tmp", "/var/run/postgresql", "/var/run/pgpool"]),
    ("wd_life_point", &["3"]),
    ("wd_lifecheck_dbname", &["template1"]),
    ("wd_lifecheck_method", &["heartbeat"]),
    ("wd_lifecheck_password", &[""]),
    ("wd_lifecheck_query", &["SELECT 1"]),
    ("wd_lifecheck_user", &["", "nobody"]),
    ("wd_lost_node_removal_timeout", &["0s"]),
    ("wd_monitoring_interfaces_list", &[""]),
    ("wd_no_show_node_removal_timeout", &["0s"]),
    ("wd_port", &["9000"]),
    ("wd_priority", &["1"]),
    ("wd_remove_shutdown_nodes", &["off"]),
    ("work_dir", &["/tmp", "/var/log/postgresql", "/var/log/pgpool", "/var/run/pgpool"]),
    ("write_function_list", &[""]),
];

/// Names of versions before 4.2, and of 4.3, with those of now.
const RENAMED: &[(&str, &str)] = &[
    ("black_function_list", "write_function_list"),
    ("white_function_list", "read_only_function_list"),
    ("black_query_pattern_list", "primary_routing_query_pattern_list"),
    ("black_memqcache_table_list", "cache_unsafe_memqcache_table_list"),
    ("white_memqcache_table_list", "cache_safe_memqcache_table_list"),
    ("follow_master_command", "follow_primary_command"),
    ("fail_over_on_backend_error", "failover_on_backend_error"),
    ("logdir", "work_dir"),
    ("socket_dir", "unix_socket_directories"),
    ("wd_hostname", "hostname"),
];

/// The name that a setting has now, without the number of a server.
pub(super) fn name_of(setting: &str) -> &str {
    let name = setting.trim_end_matches(|it: char| it.is_ascii_digit());
    RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new)
}

/// The names of all settings.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    DEFAULTS.iter().map(|(name, _)| *name)
}

/// True if pgpool does the same where the setting is not there.
pub(super) fn is_default(name: &str, value: &str) -> bool {
    let defaults = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, defaults)| *defaults);
    defaults.unwrap_or_default().iter().any(|default| is_same(value, default))
}

fn is_same(value: &str, default: &str) -> bool {
    if value.trim().eq_ignore_ascii_case(default.trim()) {
        return true;
    }
    if matches!(default, "on" | "off") {
        return switch(value.trim()) == switch(default);
    }
    let Some((number, unit)) = amount(default) else { return false };
    amount(value.trim()).is_some_and(|(other, its)| {
        other.checked_mul(factor(if its.is_empty() { unit } else { its })) == number.checked_mul(factor(unit))
    })
}

/// A number and what stands behind it.
fn amount(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

/// Of times in milliseconds, of sizes in bytes. A unit that there is not makes nothing equal.
fn factor(unit: &str) -> u64 {
    match unit {
        "" | "ms" | "B" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pgpool::{Known, look_up};

    #[test]
    fn a_default_is_known_in_every_form_that_it_is_written_in() {
        for (name, value) in [
            ("child_life_time", "300"),
            ("child_life_time", "5min"),
            ("memqcache_total_size", "64MB"),
            ("memqcache_maxcache", "409600"),
            ("log_rotation_age", "1d"),
            ("log_rotation_size", "10MB"),
            ("connect_timeout", "10s"),
            ("use_watchdog", "False"),
            ("load_balance_mode", "true"),
            ("disable_load_balance_on_write", "TRANSACTION"),
        ] {
            assert!(is_default(name, value), "{name} = {value}");
        }
        for (name, value) in [
            ("child_life_time", "301"),
            ("child_life_time", "300ms"),
            ("connect_timeout", "10"),
            ("child_life_time", "300parsecs"),
            ("use_watchdog", "maybe"),
            ("no_such_setting", ""),
        ] {
            assert!(!is_default(name, value), "{name} = {value}");
        }
    }

    #[test]
    fn every_setting_is_taken_over_or_is_told_what_becomes_of_it() {
        let taken = ["listen_addresses", "port", "health_check_test"];
        for (name, _) in DEFAULTS.iter().filter(|(name, _)| !taken.contains(name)) {
            assert!(!matches!(look_up(name), Known::Unknown), "{name}");
        }
        for (old, new) in RENAMED {
            assert!(is_known(new), "{old}");
        }
    }

    fn is_known(name: &str) -> bool {
        DEFAULTS.iter().any(|(known, _)| *known == name)
    }
}
