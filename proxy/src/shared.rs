//! What all workers share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pgherd_failover::actor::Control;
use pgherd_health::NodeId;
use pgherd_protocol::auth::{Credential, Verifier};
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::prepared::Statements;

use tokio_util::sync::CancellationToken;

use crate::cancel::CancelKeys;
use crate::client::Limits;
use crate::client::listen::Hubs;
use crate::client::welcome::Welcomes;
use crate::config::{Config, Live, ReadPolicy, ServerPassword};
use crate::console::is_console;
use crate::credentials::Credentials;
use crate::descriptors::Bounds;
use crate::failures::Failures;
use crate::hidden::Catalogues;
use crate::hosts::Hosts;
use crate::identities::Identities;
use crate::memory::Memory;
use crate::one_copy::{Few, OneCopy};
use crate::places::{By, Gauge};
use crate::reload::Reload;
use crate::roster::Roster;
use crate::seat::Seat;
use crate::sequences::AllSequences;
use crate::server::probes::Probes;
use crate::server::table::Backends;
use crate::strangers::Strangers;
use crate::tls::ClientTls;
use crate::traces::Traces;
use crate::traffic::Traffic;
use crate::verifiers::{Stored, Verifiers};
use crate::vitals::Vitals;

/// Shared by all workers; nothing in it is locked on the path of a query.
pub(crate) struct Shared {
    /// The configuration in force.
    pub(crate) config: Arc<Live>,
    /// The table of servers.
    pub(crate) backends: Arc<Backends>,
    /// TLS with clients.
    pub(crate) tls: ClientTls,
    /// Stored passwords.
    pub(crate) verifiers: Verifiers,
    /// What logs in at the servers, by user.
    pub(crate) credentials: Credentials,
    /// The startup packets' run-time parameters of all sessions.
    pub(crate) parameters: OneCopy<Parameters>,
    /// The names of databases and users.
    pub(crate) names: OneCopy<str>,
    /// The addresses that clients have connected to.
    pub(crate) addresses: OneCopy<SocketAddr>,
    /// What sessions may not take longer than.
    pub(crate) limits: OneCopy<Limits>,
    /// Where sessions read.
    pub(crate) policies: Few<ReadPolicy>,
    /// Who asks for numbers of sequences.
    pub(crate) sequences: AllSequences,
    /// Prepared statements of all sessions.
    pub(crate) statements: Statements,
    /// What the databases' catalogues say that texts do not show.
    pub(crate) catalogues: Catalogues,
    /// Connections that listen for several sessions.
    pub(crate) hubs: Hubs,
    /// Sessions by their cancel keys.
    pub(crate) cancel_keys: Arc<CancelKeys>,
    /// Who is logged in.
    pub(crate) roster: Arc<Roster>,
    /// What they do.
    pub(crate) traffic: Traffic,
    /// What of it is traced.
    pub(crate) traces: Traces,
    /// When the process began: what event loops count microseconds from.
    pub(crate) epoch: Instant,
    /// What clients are told at login.
    pub(crate) welcomes: Welcomes,
    /// Those who have not proven who they are.
    pub(crate) strangers: Strangers,
    /// How much memory there is.
    pub(crate) memory: Memory,
    /// Failed logins.
    pub(crate) failures: Failures,
    /// Whom the users' names stand for.
    pub(crate) identities: Identities,
    /// Addresses of names in the rules for logins.
    pub(crate) hosts: Hosts,
    /// How many sockets there may be.
    pub(crate) descriptors: Bounds,
    /// Whether the process is to end.
    pub(crate) ending: Ending,
    /// Consoles beyond `pool.max_clients`.
    pub(crate) reserved: Arc<Gauge>,
    /// Logged-in clients.
    pub(crate) clients: Arc<Gauge>,
    /// The same by the user that they logged in as.
    pub(crate) clients_by_role: By<String>,
    /// The same by database.
    pub(crate) clients_by_database: By<String>,
    /// Those that are replication connections.
    pub(crate) replication: Arc<Gauge>,
    /// Clients that wait for a primary.
    pub(crate) waiting: Arc<Gauge>,
    /// How probes ended.
    pub(crate) probes: Arc<Probes>,
    /// How the threads are.
    pub(crate) vitals: Arc<Vitals>,
    /// The control loop.
    pub(crate) control: Control,
    /// Has the configuration read again.
    pub(crate) reload: Reload,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("backends", &self.backends).finish_non_exhaustive()
    }
}

impl Shared {
    /// What logs this user in at the servers: what the configuration says, else what the user's last login here gave.
    pub(crate) fn credential(&self, config: &Config, database: &str, server_user: &str) -> Credential {
        match config.auth.server_password(database, server_user) {
            Some(ServerPassword::Map(password)) => Credential::Password {
                user: server_user.to_owned(),
                password: password.expose().as_bytes().to_vec().into(),
            },
            Some(ServerPassword::Userlist(Stored::Plain(plain))) => plain.credential(server_user),
            Some(ServerPassword::Userlist(Stored::Verifier(Verifier::Md5(verifier)))) => {
                Credential::Md5(verifier.clone())
            }
            Some(ServerPassword::Userlist(Stored::Verifier(Verifier::Scram(_)))) | None => {
                self.credentials.get(server_user)
            }
        }
    }

    /// Has a server probed at once; it decides nothing by itself.
    pub(crate) fn doubt(&self, node: NodeId) {
        self.control.hint(node);
    }
}

impl Shared {
    /// Begins to end if that is what is waited for, and none but consoles are left.
    pub(crate) fn end_if_left(&self) {
        let is_client = |seat: &Arc<Seat>| !is_console(&seat.card().database);
        if self.ending.is_near() && !self.roster.all().iter().any(is_client) {
            self.ending.begin();
        }
    }
}

/// Whether an operator wants the process to end.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    leaves: AtomicBool,
    begun: CancellationToken,
}

impl Ending {
    /// It ends when all clients have left. Nobody is let in any more.
    pub(crate) fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }

    /// It begins to end.
    pub(crate) fn begin(&self) {
        self.leave();
        self.begun.cancel();
    }

    /// True if nobody is to be let in.
    pub(crate) fn is_near(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// Waits until it is to begin.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }
}
