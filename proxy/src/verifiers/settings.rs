//! What the reader of stored passwords needs to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pgherd_tls::ServerTls;

use crate::config::Secret;

/// A server's address. The name is resolved at every connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Gives what holds now: whom to log in as and what to ask for, and the servers that may be asked, in order of preference: the
/// primary first. Servers outside of the current lineage must not be in it. Called before every question; must not block.
pub(crate) type Source = Arc<dyn Fn() -> (Settings, Vec<Endpoint>) + Send + Sync>;

/// Whom to log in as, and what to ask for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The user that asks: the monitor user, unless there is one for this.
    pub(crate) user: String,
    /// Its password, if it needs one.
    pub(crate) password: Option<Secret>,
    /// The database to connect to.
    pub(crate) database: String,
    /// Whether, and how, servers are connected to over TLS.
    pub(crate) tls: Arc<ServerTls>,
    /// A query of the operator's own that gives a user's name and stored password, for the name `$1`; without it,
    /// `pg_authid` is read.
    pub(crate) query: Option<String>,
    /// Whether anybody wants to know what roles are members of.
    pub(crate) memberships: bool,
}

/// Times and sizes.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// How long a login waits for an answer where an earlier one will do.
    pub(crate) patience: Duration,
    /// How long a login waits for an answer where there was none before.
    pub(crate) lookup_timeout: Duration,
    /// How long such a login has servers asked again that all have failed.
    pub(crate) insistence: Duration,
    /// Time for one server to connect and answer.
    pub(crate) server_timeout: Duration,
    /// How much of that a connection from before may take: it may be dead without anybody's having been told.
    pub(crate) kept_timeout: Duration,
    /// How long a server is waited for before the next one is asked too.
    pub(crate) head_start: Duration,
    /// How long a server that failed or was slow comes last.
    pub(crate) demotion: Duration,
    /// How long nobody is asked again after all have failed.
    pub(crate) pause: Duration,
    /// Roles that are remembered.
    pub(crate) max_known: usize,
    /// Requests that wait for the reader.
    pub(crate) max_waiting: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(500),
            lookup_timeout: Duration::from_secs(5),
            insistence: Duration::from_secs(3),
            // One that is slow keeps nobody waiting for it while there are others: see `head_start`.
            server_timeout: Duration::from_secs(4),
            kept_timeout: Duration::from_secs(1),
            head_start: Duration::from_millis(200),
            demotion: Duration::from_secs(5),
            pause: Duration::from_millis(250),
            max_known: 10_000,
            max_waiting: 1_000,
        }
    }
}
