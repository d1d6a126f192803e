//! The configuration as the rest of pgherd sees it: complete, typed, valid.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use pgherd_health::Node;

use super::Secret;

/// All settings. Whoever holds one need not check anything again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// `[listen]`
    pub(crate) listen: Listen,
    /// `backends.nodes`: at least one, ids distinct, in the order in which they were given.
    pub(crate) nodes: Vec<Node>,
    /// `[monitor]`
    pub(crate) monitor: Monitor,
    /// `[pool]`
    pub(crate) pool: Pool,
    /// `[failover]`
    pub(crate) failover: Failover,
    /// `[runtime]`
    pub(crate) runtime: Runtime,
    /// `[log]`
    pub(crate) log: Log,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Address and port of the listener.
    pub(crate) address: SocketAddr,
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
}

/// When a session holds a server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolMode {
    /// From its login, or its first statement, until the client leaves.
    Session,
    /// From the begin of a transaction to its end, or while the session is pinned.
    Transaction,
    /// As `Transaction`, and a client that opens a transaction block is sent away.
    Statement,
}

/// The pools of server connections: one per server, database and user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Pooling mode where no override says otherwise.
    pub(crate) mode: PoolMode,
    /// The most connections of one pool, where no override says otherwise.
    pub(crate) size: usize,
    /// The most connections of one pool for pinned sessions, besides `size`.
    pub(crate) pinned_size: usize,
    /// The most clients; one more is refused with 53300.
    pub(crate) max_clients: usize,
    /// How long a client waits for a server connection; without end if none.
    pub(crate) query_wait_timeout: Option<Duration>,
    /// How long a connect and login to a server may take.
    pub(crate) server_connect_timeout: Duration,
    /// An idle server connection is closed after this time; never if none.
    pub(crate) server_idle_timeout: Option<Duration>,
    /// A server connection is not used again after this time; used without end if none.
    pub(crate) server_lifetime: Option<Duration>,
    /// How long a client may take to log in.
    pub(crate) client_login_timeout: Duration,
    /// The most protocol-level prepared statements kept on one server connection; 0 keeps none.
    pub(crate) prepared_statements: usize,
    /// Exceptions, the first that matches counts.
    pub(crate) overrides: Vec<PoolOverride>,
}

/// One `[[pool.override]]`: other values for some databases or users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolOverride {
    /// The database it is for; every one if none.
    pub(crate) database: Option<String>,
    /// The user it is for; every one if none.
    pub(crate) user: Option<String>,
    /// Pooling mode instead of `pool.mode`.
    pub(crate) mode: Option<PoolMode>,
    /// Connections instead of `pool.size`.
    pub(crate) size: Option<usize>,
}

impl Pool {
    /// The pooling mode of this database and user.
    pub(crate) fn mode_for(&self, database: &str, user: &str) -> PoolMode {
        self.overriding(database, user).find_map(|o| o.mode).unwrap_or(self.mode)
    }

    /// The most connections of one server's pool of this database and user.
    pub(crate) fn size_for(&self, database: &str, user: &str) -> usize {
        self.overriding(database, user).find_map(|o| o.size).unwrap_or(self.size)
    }

    fn overriding(&self, database: &str, user: &str) -> impl Iterator<Item = &PoolOverride> {
        let fits = |wanted: &Option<String>, actual: &str| wanted.as_deref().is_none_or(|w| w == actual);
        self.overrides.iter().filter(move |o| fits(&o.database, database) && fits(&o.user, user))
    }
}

/// Who decides that a standby is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailoverMode {
    /// pgherd, by itself.
    Automatic,
    /// An operator; pgherd shows what it would do.
    Manual,
}

/// What carries out a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executor {
    /// repmgr on the servers, over ssh.
    Ssh,
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
    /// The least time between two failovers.
    pub(crate) min_interval: Duration,
    /// How long writes wait for a primary before they fail.
    pub(crate) write_wait: Duration,
    /// The most clients that wait for a primary; further ones fail at once.
    pub(crate) max_waiting: usize,
    /// `[failover.ssh]`
    pub(crate) ssh: Ssh,
    /// `[failover.repmgr]`
    pub(crate) repmgr: Repmgr,
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

/// The process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// Threads that serve clients.
    pub(crate) workers: NonZeroUsize,
    /// How long SIGTERM waits for clients to finish before it closes their connections.
    pub(crate) drain_timeout: Duration,
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
