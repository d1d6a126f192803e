//! PostgreSQL's programs and configuration files.
//!
//! `pg_rewind` copies the files of a data directory from server to server. So everything in it is the same on all servers,
//! and what differs stands in `server.conf` beside it.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Included by every `postgresql.conf`, relative to the data directory.
pub(crate) const SERVER_CONF: &str = "server.conf";

/// The same on all servers of all clusters; part of the template.
pub(crate) const COMMON_CONF: &str = "
wal_level = replica
wal_log_hints = on
hot_standby = on
max_connections = 300
max_wal_senders = 20
max_replication_slots = 10
max_prepared_transactions = 20
wal_keep_size = 256MB
min_wal_size = 32MB
max_wal_size = 512MB
wal_receiver_timeout = 2s
wal_sender_timeout = 4s
wal_retrieve_retry_interval = 200ms
wal_receiver_status_interval = 1s
shared_preload_libraries = 'repmgr'
shared_buffers = 32MB
# Segments of shared memory in the data directory: nothing is left behind by kill -9.
dynamic_shared_memory_type = mmap
password_encryption = scram-sha-256
log_line_prefix = '%m [%p] %a '
logging_collector = off
include '../server.conf'
";

/// Replication and logins by SCRAM; `legacy` by md5, which the method `md5` alone allows.
pub(crate) const HBA_CONF: &str = "
local  all          postgres            peer
host   all          legacy   0.0.0.0/0  md5
host   all          all      0.0.0.0/0  scram-sha-256
host   replication  repmgr   0.0.0.0/0  scram-sha-256
";

/// The directory of PostgreSQL's programs: `PG_BINDIR`, or the newest version of Debian's packages.
pub(crate) fn program_directory() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("PG_BINDIR") {
        return Ok(directory.into());
    }
    for version in (13..=18).rev() {
        let directory = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
        if directory.join("postgres").exists() && directory.join("repmgr").exists() {
            return Ok(directory);
        }
    }
    bail!("no PostgreSQL with repmgr in /usr/lib/postgresql: run `make setup`, or set PG_BINDIR")
}

/// The text of a server's `server.conf`.
pub(crate) fn server_conf(
    name: &str,
    address: Ipv4Addr,
    port: u16,
    directory: &Path,
    settings: &[(String, String)],
) -> String {
    let mut text = format!(
        "listen_addresses = '{address}'\nport = {port}\ncluster_name = '{name}'\n\
         unix_socket_directories = '{}'\n",
        directory.display()
    );
    for (setting, value) in settings {
        let _ = writeln!(text, "{setting} = '{}'", value.replace('\'', "''"));
    }
    text
}
