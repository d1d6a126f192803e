//! An sshd for each server, run by the user `postgres`, for that user alone, without a change to the system.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::command::{MARKER, run};

/// The daemon; it insists on an absolute path, since it runs itself again for each connection.
pub(crate) const SSHD: &str = "/usr/sbin/sshd";

/// The keys of one cluster's clients: generated, and gone with the cluster.
#[derive(Debug)]
pub(crate) struct ClientKey {
    /// The private key in OpenSSH's format, readable by root alone.
    pub(crate) private: PathBuf,
    /// The same for the user `postgres`, for repmgr's own ssh.
    pub(crate) for_postgres: PathBuf,
}

/// Generates an ed25519 key at `path`, and its public half at `path.pub`.
pub(crate) async fn generate_key(path: &Path, comment: &str) -> Result<String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    run("ssh-keygen", &mut command).await?;
    let public = path.with_extension("pub");
    std::fs::read_to_string(&public).with_context(|| public.display().to_string())
}

/// A line of `known_hosts` that pins a server's public key.
pub(crate) fn known_hosts_line(address: Ipv4Addr, port: u16, public_key: &str) -> String {
    let key = public_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let host = if port == 22 { address.to_string() } else { format!("[{address}]:{port}") };
    format!("{host} {key}\n")
}

/// The text of `sshd_config`.
///
/// As it runs without root it needs no `/run/sshd`, no PAM and no password entry of `postgres` that is not locked.
pub(crate) fn configuration(
    address: Ipv4Addr,
    port: u16,
    directory: &Path,
    cluster_directory: &Path,
) -> String {
    let (server, cluster) = (directory.display(), cluster_directory.display());
    format!(
        "Port {port}
ListenAddress {address}
HostKey {server}/ssh_host_key
PidFile {server}/sshd.pid
AuthorizedKeysFile {cluster}/authorized_keys
AllowUsers postgres
AuthenticationMethods publickey
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 100
SetEnv PGPASSFILE={server}/pgpass {MARKER}={cluster}
"
    )
}
