//! What is asked of the servers for people. Each query gives one row with one JSON text, in the form in which it is shown.
//!
//! They are asked with `search_path = pg_catalog`, so that nobody can put another function here; statements are cut, so that an answer has a bounded size.

/// `pg_stat_replication`, `pg_stat_wal_receiver` and `pg_replication_slots`.
pub(crate) const REPLICATION: &str = "SELECT json_build_object(
'senders', (SELECT coalesce(json_agg(s), '[]') FROM (
    SELECT r.pid, r.application_name, r.client_addr, r.state, r.sync_state, r.sent_lsn, r.write_lsn, r.flush_lsn, r.replay_lsn,
        CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn) END AS lag_bytes,
        date_part('epoch', r.write_lag) * 1000 AS write_lag_ms,
        date_part('epoch', r.flush_lag) * 1000 AS flush_lag_ms,
        date_part('epoch', r.replay_lag) * 1000 AS replay_lag_ms
    FROM pg_stat_replication AS r ORDER BY r.application_name, r.pid LIMIT 200) AS s),
'receiver', (SELECT row_to_json(w) FROM (
    SELECT r.status, r.sender_host, r.sender_port, r.flushed_lsn AS received_lsn, r.latest_end_lsn, r.slot_name, r.received_tli AS timeline,
        date_part('epoch', clock_timestamp() - r.last_msg_receipt_time) * 1000 AS last_message_ms
    FROM pg_stat_wal_receiver AS r LIMIT 1) AS w),
'slots', (SELECT coalesce(json_agg(s), '[]') FROM (
    SELECT r.slot_name AS name, r.slot_type AS type, r.database, r.active, r.restart_lsn, r.wal_status,
        pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_lsn() END, r.restart_lsn) AS retained_bytes
    FROM pg_replication_slots AS r ORDER BY r.slot_name LIMIT 200) AS s)
)::text";

/// `pg_stat_activity`, of clients and what stands in their way.
pub(crate) const ACTIVITY: &str = "SELECT coalesce(json_agg(s), '[]')::text FROM (
    SELECT a.pid, a.datname AS database, a.usename AS user, a.application_name, a.client_addr, a.state, a.backend_type,
        CASE WHEN a.wait_event IS NOT NULL THEN concat(a.wait_event_type, ': ', a.wait_event) END AS wait,
        a.backend_start, a.xact_start, a.query_start,
        date_part('epoch', clock_timestamp() - a.xact_start) AS xact_seconds,
        CASE WHEN a.state = 'active' THEN date_part('epoch', clock_timestamp() - a.query_start) END AS query_seconds,
        left(a.query, 2000) AS query,
        CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) ELSE '{}' END AS blocked_by
    FROM pg_stat_activity AS a
    WHERE a.pid <> pg_backend_pid() AND a.backend_type IN ('client backend', 'walsender')
    ORDER BY a.state <> 'active', a.xact_start NULLS LAST, a.pid LIMIT 500) AS s";

/// Cancels what a process does.
pub(crate) const CANCEL: &str = "SELECT to_json(pg_cancel_backend($1))::text";

/// Ends a process.
pub(crate) const TERMINATE: &str = "SELECT to_json(pg_terminate_backend($1))::text";

/// The schema of `pg_stat_statements`, quoted where it has to be; null without the extension.
pub(crate) const STATEMENTS_SCHEMA: &str =
    "SELECT coalesce((SELECT to_json(quote_ident(n.nspname)) FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'), 'null')::text";

/// The statements that took most time, from the view in this schema. The extension normalises them, but for those that only some servers do, as
/// ALTER ROLE with its password: they are cut where their first text begins.
pub(crate) fn statements(schema: &str) -> String {
    format!(
        "SELECT coalesce(json_agg(q), '[]')::text FROM (
    SELECT regexp_replace(left(s.query, 2000), '(''|\\$([A-Za-z_]\\w*)?\\$).*', '...') AS query, d.datname AS database, r.rolname AS user, s.calls,
        s.total_exec_time AS total_ms, s.mean_exec_time AS mean_ms, s.max_exec_time AS max_ms, s.rows,
        s.shared_blks_hit::float8 / NULLIF(s.shared_blks_hit + s.shared_blks_read, 0) AS hit_ratio
    FROM {schema}.pg_stat_statements AS s
    LEFT JOIN pg_database AS d ON d.oid = s.dbid LEFT JOIN pg_roles AS r ON r.oid = s.userid
    ORDER BY s.total_exec_time DESC LIMIT 200) AS q"
    )
}

/// repmgr's nodes, without what their conninfo may have of passwords, and its last events.
pub(crate) const REPMGR: &str = "SELECT json_build_object(
'nodes', (SELECT coalesce(json_agg(s), '[]') FROM (
    SELECT n.node_id, n.node_name, n.type, n.upstream_node_id, n.active, n.location, n.priority, n.slot_name, n.config_file,
        regexp_replace(regexp_replace(n.conninfo, '(password\\s*=\\s*)(''(\\\\.|[^''\\\\])*''|(\\\\.|[^\\s\\\\])+)', '\\1***', 'gi'),
            '(://[^/?#@:\\s]*:)\\S*@', '\\1***@') AS conninfo
    FROM repmgr.nodes AS n ORDER BY n.node_id LIMIT 200) AS s),
'events', (SELECT coalesce(json_agg(s), '[]') FROM (
    SELECT e.node_id, e.event, e.successful, e.event_timestamp AS at, left(e.details, 2000) AS details
    FROM repmgr.events AS e ORDER BY e.event_timestamp DESC LIMIT 200) AS s)
)::text";
