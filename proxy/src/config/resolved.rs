//! The configuration as the rest of pgherd sees it: complete, typed, valid.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgherd_failover::{CommandSettings, Endpoint};
use pgherd_health::Node;
use pgherd_tls::{Authorities, ServerTls};

use super::value::Choice;
use super::{Auth, Http, Listen, Pool, Routing, Secret, Trace};

/// All settings. Whoever holds one need not check anything again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// `[listen]`
    pub(crate) listen: Listen,
    /// `backends.nodes`: at least one, ids distinct, in the order in which they were given.
    pub(crate) nodes: Vec<Node>,
    /// `backends.discover`
    pub(crate) discover: Discover,
    /// `[backends.tls]`, the files read.
    pub(crate) server_tls: Arc<ServerTls>,
    /// `[monitor]`
    pub(crate) monitor: Monitor,
    /// `[pool]`
    pub(crate) pool: Pool,
    /// `[routing]`
    pub(crate) routing: Arc<Routing>,
    /// `[auth]`
    pub(crate) auth: Auth,
    /// `[failover]`
    pub(crate) failover: Failover,
    /// `[http]`
    pub(crate) http: Http,
    /// `memory.limit`: where the process has so many bytes, few strangers are let in.
    pub(crate) memory_limit: Option<u64>,
    /// `[runtime]`
    pub(crate) runtime: Runtime,
    /// `[admin]`
    pub(crate) admin: Admin,
    /// `[log]`
    pub(crate) log: Log,
    /// `[trace]`
    pub(crate) trace: Trace,
}

/// Whether servers that are not in `backends.nodes` are found in `repmgr.nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discover {
    /// Where only one is in `backends.nodes`.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Config {
    /// Servers are found in `repmgr.nodes`.
    pub(crate) fn discovers(&self) -> bool {
        match self.discover {
            Discover::Auto => self.nodes.len() == 1,
            Discover::On => true,
            Discover::Off => false,
        }
    }
}

/// Who may use the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    /// Who may look, and order something; the monitor's role where nobody is named.
    pub(crate) users: Vec<String>,
    /// Who may look.
    pub(crate) stats_users: Vec<String>,
}

/// How the servers are watched, and how verifiers are read from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Monitor {
    /// Role that logs in to every server.
    pub(crate) user: String,
    /// Its password; none where the servers do not ask for one.
    pub(crate) password: Option<Secret>,
    /// Database that it connects to: where repmgr's tables are.
    pub(crate) database: String,
    /// Time from one probe of a server to the next.
    pub(crate) interval: Duration,
    /// Time after which a probe counts as timed out.
    pub(crate) timeout: Duration,
    /// The cluster's system identifier; none where the servers are to tell it.
    pub(crate) system_identifier: Option<u64>,
}

/// Who decides that a standby is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailoverMode {
    /// pgherd, by itself.
    Automatic,
    /// An operator; pgherd shows what it would do.
    Manual,
}

impl FailoverMode {
    /// As it is written in the configuration.
    pub(crate) fn name(self) -> &'static str {
        self.word()
    }
}

/// What carries out a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executor {
    /// repmgr on the servers, over ssh; SQL where sshd can't be reached.
    Ssh,
    /// SQL alone.
    Sql,
    /// Commands of the operator's, and SQL where there is none.
    Command,
}

/// When and how a standby is promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failover {
    /// Automatic or manual.
    pub(crate) mode: FailoverMode,
    /// What carries it out.
    pub(crate) executor: Executor,
    /// How long a primary may time out before it counts as lost.
    pub(crate) confirm: Duration,
    /// How long a primary that refuses connections is waited for.
    pub(crate) restart_grace: Duration,
    /// How long a server that starts up (crash recovery) is waited for.
    pub(crate) start_grace: Duration,
    /// How long pgherd waits for a primary to appear when it starts and finds none.
    pub(crate) cold_grace: Duration,
    /// The most bytes of WAL that an asynchronous standby may lack to be promoted, and that a false primary may have of
    /// its own to be rewound.
    pub(crate) max_data_loss: u64,
    /// Whether a server that can't be rewound is cloned again.
    pub(crate) reclone: bool,
    /// The least time between two failovers.
    pub(crate) min_interval: Duration,
    /// How long a switchover waits for open transactions.
    pub(crate) switchover_timeout: Duration,
    /// How long writes wait for a primary before they fail.
    pub(crate) write_wait: Duration,
    /// The most clients that wait for a primary; further ones fail at once.
    pub(crate) max_waiting: usize,
    /// `[failover.ssh]`
    pub(crate) ssh: Ssh,
    /// `[failover.repmgr]`
    pub(crate) repmgr: Repmgr,
    /// `[failover.command]`
    pub(crate) commands: CommandSettings,
    /// `[failover.etcd]`
    pub(crate) etcd: Etcd,
}

/// How the ssh executor logs in to the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ssh {
    /// Operating system user that runs PostgreSQL.
    pub(crate) user: String,
    /// sshd's port.
    pub(crate) port: u16,
    /// Private key file. Without one nothing can be promoted over ssh.
    pub(crate) key: Option<PathBuf>,
    /// File of pinned host keys, in OpenSSH's format. Without one no host is trusted.
    pub(crate) known_hosts: Option<PathBuf>,
    /// How long a connect and login may take.
    pub(crate) connect_timeout: Duration,
}

/// Where repmgr is on the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repmgr {
    /// The program: a name on the user's PATH, or a path.
    pub(crate) binary: String,
    /// Path of repmgr's configuration file, with `{host}`, `{id}` and `{node_name}` for what differs between servers:
    /// host and id are those of `backends.nodes`, the name is repmgr's.
    pub(crate) config: String,
    /// Directory of PostgreSQL's programs (`pg_ctl`, ...); if none, where the server was started from last, then PATH.
    pub(crate) pg_bindir: Option<String>,
}

/// Where the lease is that one of several pgherds holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Etcd {
    /// Members of one etcd; none where this is the only pgherd.
    pub(crate) endpoints: Vec<Endpoint>,
    /// What its keys begin with.
    pub(crate) prefix: String,
    /// How long a lease lasts that is not renewed.
    pub(crate) ttl: Duration,
    /// As whom pgherd logs in, if it has to.
    pub(crate) user: Option<String>,
    /// The password of `user`.
    pub(crate) password: Option<Secret>,
    /// Whose certificates of members are trusted.
    pub(crate) ca: Option<Authorities>,
    /// What pgherd shows to members that ask for a certificate, and its private key.
    pub(crate) certificate: Option<PathBuf>,
    /// The private key of `certificate`.
    pub(crate) key: Option<PathBuf>,
    /// These files, read, where a member is reached over TLS.
    pub(crate) tls: Option<Arc<ServerTls>>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// Threads that serve clients.
    pub(crate) workers: NonZeroUsize,
    /// How long SIGTERM waits for clients to finish before it closes their connections.
    pub(crate) drain_timeout: Duration,
    /// The Unix socket at which another pgherd takes over; none can without it.
    pub(crate) handover: Option<PathBuf>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// The least severe level that is logged.
    pub(crate) level: LogLevel,
    /// The form of a line.
    pub(crate) format: LogFormat,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// `error`
    Error,
    /// `warn`
    Warn,
    /// `info`
    Info,
    /// `debug`
    Debug,
    /// `trace`
    Trace,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
