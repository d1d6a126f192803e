//! How the executors reach the servers and what they run there.

use std::path::PathBuf;
use std::time::Duration;

use pgherd_health::Node;

use super::template::Template;

/// What carries out what the machine decides. What can be done over SQL just as well, such as a freeze, always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Means {
    /// repmgr on the servers, over ssh. Where sshd cannot be reached, a promotion and a follow go over SQL.
    #[default]
    Ssh,
    /// SQL alone. It can promote and repoint, and neither stop a server nor bring one back.
    Sql,
    /// An operator's commands, run on pgherd's machine; SQL for the steps that have none.
    Command,
}

/// What the executors need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// What is used.
    pub means: Means,
    /// The operator's commands.
    pub commands: CommandSettings,
    /// How to log in to the servers' operating systems.
    pub ssh: SshSettings,
    /// Where repmgr is there.
    pub repmgr: RepmgrSettings,
}

/// How to log in to the servers' operating systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSettings {
    /// The user that runs PostgreSQL.
    pub user: String,
    /// sshd's port.
    pub port: u16,
    /// Private key file (OpenSSH's or PEM format, ed25519, ECDSA or RSA, no passphrase). Without one no step that
    /// needs ssh can be taken.
    pub key: Option<PathBuf>,
    /// Pinned host keys in the format of OpenSSH's `known_hosts`. Without one no host is trusted.
    pub known_hosts: Option<PathBuf>,
    /// Pin the key of a host that `known_hosts` does not name when it is first seen. A key that differs from the pinned
    /// one is refused all the same.
    pub trust_first_use: bool,
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
}

/// Where repmgr and PostgreSQL's programs are on the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepmgrSettings {
    /// The program: a name on the user's PATH, or a path.
    pub binary: String,
    /// Path of repmgr.conf, with `{host}`, `{id}` and `{node_name}` for what differs between servers.
    pub config: String,
    /// Directory of PostgreSQL's programs; if none, the one that the server was started from, then the user's PATH.
    pub pg_bindir: Option<String>,
}

impl RepmgrSettings {
    /// The path of repmgr.conf on `node`; none if it depends on repmgr's name of the node, and that is not known.
    #[must_use]
    pub fn config_of(&self, node: &Node, node_name: Option<&str>) -> Option<String> {
        let path = self.config.replace("{host}", &node.host).replace("{id}", &node.id.to_string());
        if path.contains("{node_name}") { Some(path.replace("{node_name}", node_name?)) } else { Some(path) }
    }
}

/// The commands of an operator for the steps that have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandSettings {
    /// Makes a standby the primary.
    pub promote: Option<Template>,
    /// Leaves no process of a server alive, or no machine.
    pub fence: Option<Template>,
    /// Has a standby follow another upstream.
    pub follow: Option<Template>,
    /// Makes an old primary a standby.
    pub rejoin: Option<Template>,
    /// Makes a server a standby whose data directory is made anew.
    pub clone: Option<Template>,
    /// Stops a primary cleanly, and writes what `pg_controldata` says of it then.
    pub stop: Option<Template>,
    /// Starts a server as what it was when it was stopped.
    pub start: Option<Template>,
}
