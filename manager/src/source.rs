//! What the manager is told, and whom it passes orders on to.

use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::Value as Json;
use tokio::sync::mpsc;

use crate::model::{Action, Event, Herd, Rehearsal};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, and order something.
    Operator,
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The password is wrong, there is no such user, or it is none of those who may.
    Wrong,
    /// Too many logins have failed from there.
    TooMany,
    /// Passwords cannot be checked now; the text says why.
    Unavailable(String),
}

/// How many of something took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution(pub Vec<(u64, u64)>);

/// What has been counted since pgherd began, and what there is at this moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Transactions.
    pub transactions: u64,
    /// Queries.
    pub queries: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// How long queries took: each with the most microseconds, and how many took no more than that and more than the one before.
    pub query: Distribution,
    /// How long clients waited for server connections.
    pub wait: Distribution,
    /// Clients that are logged in.
    pub clients: usize,
    /// The most that there may be.
    pub clients_max: usize,
    /// Those that wait for a server connection.
    pub waiting: usize,
    /// Server connections that clients have.
    pub active: usize,
    /// Server connections that nobody has.
    pub idle: usize,
    /// Queries of each server that only read.
    pub reads: Vec<(u32, u64)>,
    /// How far each standby's replay is behind: bytes and seconds.
    pub lag: Vec<(u32, u64, f64)>,
}

/// One decision of the failover machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When.
    pub at: SystemTime,
    /// The state that was left.
    pub from: String,
    /// The state that was entered.
    pub to: String,
    /// Why.
    pub seen: String,
}

/// pgherd, as the manager sees it.
pub trait Source: Send + Sync + 'static {
    /// The herd at this moment, but for its traffic.
    fn herd(&self) -> Herd;

    /// The server that takes writes; none while they wait.
    fn writes(&self) -> Option<u32>;

    /// Ready when it may have changed since this was called last.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// What has happened of late, the oldest first.
    fn events(&self) -> Vec<Event>;

    /// What the failover machine has decided of late, the oldest first.
    fn decisions(&self) -> Vec<Decided>;

    /// What was counted.
    fn counts(&self) -> Counts;

    /// The names of the console's views.
    fn views(&self) -> Vec<&'static str>;

    /// What one of them shows: a list of objects. None if there is no such view.
    fn show(&self, view: &str, role: Role) -> Option<Json>;

    /// The configuration in force, without secrets.
    fn settings(&self) -> Json;

    /// Who this user is, if its password is right. `address` is where it comes from.
    fn log_in(
        &self,
        address: Option<IpAddr>,
        user: &str,
        password: &str,
    ) -> impl Future<Output = Result<Role, Denial>> + Send;

    /// What this user may do now, who has proven to be it.
    fn role_of(&self, user: &str) -> Option<Role>;

    /// The clients that hold connections to a server now: the process there, and the client's number.
    fn clients_of(&self, node: u32) -> Vec<(u32, u64)>;

    /// Asks a server. The query is the manager's own; it gives one row with one JSON text.
    ///
    /// # Errors
    /// Why there is no answer.
    fn ask(
        &self,
        node: u32,
        query: &str,
        numbers: &[i32],
    ) -> impl Future<Output = Result<String, String>> + Send;

    /// What a look at a server over ssh gives: its programs, disks, and repmgr's checks.
    fn checks(&self, node: u32) -> impl Future<Output = Result<Json, String>> + Send;

    /// The backups on a server.
    fn backups(&self, node: u32) -> impl Future<Output = Result<Json, String>> + Send;

    /// The swarm that pgherd runs in.
    fn swarm(&self) -> impl Future<Output = Json> + Send;

    /// What an action would do.
    fn rehearse(&self, action: &Action) -> impl Future<Output = Rehearsal> + Send;

    /// Does it, and tells how it goes.
    ///
    /// # Errors
    /// Why it was not done, or not to its end.
    fn perform(
        &self,
        action: &Action,
        lines: mpsc::Sender<String>,
    ) -> impl Future<Output = Result<String, String>> + Send;
}
