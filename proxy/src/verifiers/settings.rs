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

/// Gives the servers that may be asked now, in order of preference: the primary first. Servers outside of the current
/// lineage must not be in it. Called before every query; must not block.
pub(crate) type Source = Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>;

/// Whom to log in as.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ReaderLogin {
    /// The monitor user.
    pub(crate) user: String,
    /// Its password, if it needs one.
    pub(crate) password: Option<Secret>,
    /// The database to connect to.
    pub(crate) database: String,
    /// Whether, and how, servers are connected to over TLS.
    pub(crate) tls: Arc<ServerTls>,
}

/// Whom to log in as, and the bounds.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Whom to log in as.
    pub(crate) login: ReaderLogin,
    /// The bounds.
    pub(crate) timing: Timing,
}

/// Times and sizes.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// Age up to which an answer is used as it is.
    pub(crate) fresh: Duration,
    /// Age up to which an answer is used while it is read again.
    pub(crate) valid: Duration,
    /// How long "no such role" is believed.
    pub(crate) absent: Duration,
    /// Time for one server to connect and answer.
    pub(crate) server_timeout: Duration,
    /// How long a server is waited for before the next one is asked too.
    pub(crate) head_start: Duration,
    /// How long a server that failed or was slow comes last.
    pub(crate) demotion: Duration,
    /// How long nobody is asked again after all have failed.
    pub(crate) pause: Duration,
    /// Time for a login to wait for all of this.
    pub(crate) lookup_timeout: Duration,
    /// Re-reads of one user after failed logins that may follow each other at once; beyond that one per
    /// [`Self::refresh_interval`].
    pub(crate) refresh_burst: u32,
    /// See [`Self::refresh_burst`].
    pub(crate) refresh_interval: Duration,
    /// Roles that are remembered.
    pub(crate) max_known: usize,
    /// Names without a role that are remembered.
    pub(crate) max_absent: usize,
    /// Requests that wait for the reader.
    pub(crate) max_waiting: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(30),
            valid: Duration::from_secs(60),
            absent: Duration::from_secs(3),
            server_timeout: Duration::from_secs(1),
            head_start: Duration::from_millis(200),
            demotion: Duration::from_secs(5),
            pause: Duration::from_millis(250),
            lookup_timeout: Duration::from_secs(5),
            refresh_burst: 5,
            refresh_interval: Duration::from_secs(1),
            max_known: 10_000,
            max_absent: 1_000,
            max_waiting: 1_000,
        }
    }
}
