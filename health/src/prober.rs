//! Asks every server again and again; the one part of this crate that talks to servers.
//!
//! Each server has a task of its own with one kept connection, so that a server that hangs delays no other's probe.

mod connection;
mod history;
mod login;
mod questions;
mod samples;
mod server;
mod transport;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_tls::ServerTls;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{Node, NodeId, ProbeOutcome};
pub use connection::{ConnectFailure, Session, connect, drive, is_exhausted};
pub use history::parse_history;
pub use login::Login;
pub use samples::{Asked, Sample, Samples};
use server::Server;

/// A password that no log and no `Debug` shows, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes it as it was configured.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the login alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// How the servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProberSettings {
    /// The role that asks; it needs `pg_monitor`, and `EXECUTE` on `pg_read_file` for timeline histories.
    pub user: String,
    /// Its password, if it has one.
    pub password: Option<Password>,
    /// The database that it logs in to.
    pub database: String,
    /// Time from the start of one probe to the start of the next, in quiet times.
    pub interval: Duration,
    /// What one probe may take, connecting included.
    pub timeout: Duration,
    /// How often a new login is tried beside the kept connection, which may answer while logins hang.
    pub login_interval: Duration,
    /// Whether, and how, servers are connected to over TLS.
    pub tls: Arc<ServerTls>,
}

impl ProberSettings {
    /// The defaults for `interval`: a probe may take twice that, one second at the most; a new login every 5 s; no TLS.
    #[must_use]
    pub fn new(user: String, password: Option<Password>, database: String, interval: Duration) -> Self {
        let timeout = (interval * 2).min(Duration::from_secs(1));
        let tls = Arc::new(ServerTls::disabled());
        Self { user, password, database, interval, timeout, login_interval: Duration::from_secs(5), tls }
    }
}

/// How one probe ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The server that was asked.
    pub node: NodeId,
    /// When the probe began: its answer tells nothing of any later time.
    pub asked_at: Instant,
    /// When its outcome was known.
    pub answered_at: Instant,
    /// How it ended.
    pub outcome: ProbeOutcome,
}

/// The running probes of all servers; they end when it is dropped.
#[derive(Debug)]
pub struct Prober {
    controls: HashMap<NodeId, Control>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Control {
    demand: Arc<Notify>,
    interval: watch::Sender<Duration>,
}

impl Prober {
    /// Starts asking `nodes` on the present tokio runtime; outcomes go to `probes` until `cancel` or its receiver ends. In between they are
    /// asked for `samples`.
    #[must_use]
    pub fn start(
        nodes: &[Node],
        settings: &Arc<ProberSettings>,
        (probes, samples): (&mpsc::Sender<Probe>, &Samples),
        cancel: &CancellationToken,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let mut controls = HashMap::new();
        for node in nodes {
            let demand = Arc::new(Notify::new());
            let (interval, interval_changes) = watch::channel(settings.interval);
            let wakers = (Arc::clone(&demand), interval_changes, samples);
            let server = Server::new(node.clone(), Arc::clone(settings), wakers);
            let (probes, cancel) = (probes.clone(), cancel.clone());
            tasks.spawn(async move {
                // Cancel safety: the server's state dies with it, and an outcome that was not sent is not missed.
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = server.run(probes) => {}
                }
            });
            controls.insert(node.id, Control { demand, interval });
        }
        Self { controls, tasks }
    }

    /// Asks `node` at once: something hints that it is in trouble. Demands that come while it is being asked count as
    /// one.
    pub fn demand(&self, node: NodeId) {
        if let Some(control) = self.controls.get(&node) {
            control.demand.notify_one();
        }
    }

    /// Asks `node` every `interval` from now on; a shorter one takes effect at once.
    pub fn set_interval(&self, node: NodeId, interval: Duration) {
        if let Some(control) = self.controls.get(&node) {
            control.interval.send_if_modified(|present| {
                let changes = *present != interval;
                *present = interval;
                changes
            });
        }
    }

    /// Waits until every task has ended, which they do when they are cancelled.
    pub async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
