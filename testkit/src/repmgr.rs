//! repmgr's configuration file and its rows.

use std::fmt::Write;
use std::path::Path;

/// What `repmgr.conf` and a row of `repmgr.nodes` say of one server.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) id: i32,
    pub(crate) name: &'a str,
    pub(crate) conninfo: String,
    /// The directory of the server, with its data directory, log and configuration in it.
    pub(crate) directory: &'a Path,
    pub(crate) programs: &'a Path,
    /// Options for ssh to the other servers.
    pub(crate) ssh_options: String,
}

impl Node<'_> {
    /// repmgr connects without a password in the connection string: `PGPASSFILE` is in the environment of the server and of
    /// its ssh sessions, where a production system has `~/.pgpass`.
    pub(crate) fn configuration(&self) -> String {
        let data = self.directory.join("data");
        let log = self.directory.join("postgres.log");
        let control = format!("{}/pg_ctl -D {} -w", self.programs.display(), data.display());
        let repmgr =
            format!("{}/repmgr -f {}/repmgr.conf", self.programs.display(), self.directory.display());
        let mut text = String::new();
        let settings = [
            ("node_id", self.id.to_string()),
            ("node_name", self.name.to_owned()),
            ("conninfo", self.conninfo.clone()),
            ("data_directory", data.display().to_string()),
            ("pg_bindir", self.programs.display().to_string()),
            ("replication_user", "repmgr".to_owned()),
            // Standbys catch up from wal_keep_size: a slot of a server that is gone would keep WAL for ever.
            ("use_replication_slots", "no".to_owned()),
            ("ssh_options", self.ssh_options.clone()),
            ("service_start_command", format!("{control} -l {} start", log.display())),
            ("service_stop_command", format!("{control} -m fast stop")),
            ("service_restart_command", format!("{control} -l {} -m fast restart", log.display())),
            ("service_reload_command", format!("{control} reload")),
            // pg_ctl looks ten times a second whether the promotion is done, repmgr itself only every second.
            ("service_promote_command", format!("{control} promote")),
            ("promote_command", format!("{repmgr} standby promote")),
            ("follow_command", format!("{repmgr} standby follow --upstream-node-id=%n")),
            ("failover", "manual".to_owned()),
            ("log_level", "INFO".to_owned()),
        ];
        for (setting, value) in settings {
            let _ = writeln!(text, "{setting}='{value}'");
        }
        text
    }

    /// One row of `repmgr.nodes`, as `repmgr primary register` and `repmgr standby register` write it.
    pub(crate) fn row(&self, primary: i32) -> String {
        let (kind, upstream) = if self.id == primary {
            ("primary", "NULL".to_owned())
        } else {
            ("standby", primary.to_string())
        };
        format!(
            "({}, {upstream}, true, '{}', '{kind}', 'default', 100, '{}', 'repmgr', NULL, '{}/repmgr.conf')",
            self.id,
            self.name,
            self.conninfo,
            self.directory.display()
        )
    }
}

/// The statements that replace all rows, and begin repmgrd's count of elections. They do not wait for a synchronous standby:
/// none may stream yet.
pub(crate) fn replace_rows(rows: &[String]) -> String {
    format!(
        "SET synchronous_commit = local; BEGIN; DELETE FROM repmgr.nodes; INSERT INTO repmgr.nodes (node_id, \
         upstream_node_id, active, node_name, type, location, priority, conninfo, repluser, slot_name, config_file) \
         VALUES {}; DELETE FROM repmgr.voting_term; INSERT INTO repmgr.voting_term (term) VALUES (1); COMMIT",
        rows.join(", ")
    )
}
