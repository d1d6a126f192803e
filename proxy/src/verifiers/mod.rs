//! Stored passwords, read from the servers, and what else they say of who logs in.
//!
//! `pg_authid`, or a query of the operator's own, is the truth. [`Verifiers`] is the handle that the workers share; one task,
//! [`Reader`], asks for it, away from the workers.
//!
//! Every login asks anew: so a changed password, limit or membership counts at the next login, and a name that nobody has
//! takes as long as any other. Whoever waits is asked for at once: however many clients log in, one question is under way. What was
//! said last is used while no server answers, at any age, so that logins go on while the primary is down.

mod cache;
mod reader;
mod role;
mod server;
mod settings;
mod stored;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use cache::Cache;
use reader::Request;

pub(crate) use reader::Reader;
#[cfg(test)]
pub(crate) use role::Facts;
pub(crate) use role::{Database, Databases, Role};
pub(crate) use settings::{Endpoint, Settings, Source, Timing};
pub(crate) use stored::Stored;

/// Longest name of a role, in bytes (PostgreSQL's `NAMEDATALEN` - 1).
const MAX_NAME: usize = 63;

/// Why there is no role to check a password against. `Display` is for the log, not for the client.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// No role has this name. The client must see what a wrong password gives.
    #[error("the role does not exist")]
    NoSuchRole,
    /// No server answered, and the user has not been here before.
    #[error("no server could be asked for the stored password: {0}")]
    Unavailable(Arc<str>),
    /// The monitor user may not read `pg_authid`; the text says what is needed.
    #[error("{0}")]
    Forbidden(Arc<str>),
    /// More logins wait for an answer than are let in.
    #[error("too many logins wait for stored passwords")]
    Busy,
}

impl LookupError {
    /// Whether the password could not be checked at all (SQLSTATE 57P03, worth another try later).
    pub(crate) fn is_temporary(&self) -> bool {
        !matches!(self, Self::NoSuchRole)
    }
}

/// The stored passwords of the herd. Cheap to clone; may be used from any runtime.
#[derive(Clone)]
pub(crate) struct Verifiers {
    cache: Arc<Cache>,
    requests: mpsc::Sender<Request>,
    timing: Timing,
}

impl Verifiers {
    /// Makes the handle and the task that reads for it; nothing is asked before [`Reader::run`] runs.
    pub(crate) fn new(timing: Timing, source: Source) -> (Self, Reader) {
        let cache = Arc::new(Cache::new(timing.max_known));
        let (sender, receiver) = mpsc::channel(timing.max_waiting);
        let reader = Reader::new(timing.clone(), source, Arc::clone(&cache), receiver);
        (Self { cache, requests: sender, timing }, reader)
    }

    /// The role of this name, as the servers have it now, or had it last if none answers soon.
    ///
    /// # Errors
    /// See [`LookupError`]. Cancel-safe: the answer then is there for the next one.
    pub(crate) async fn lookup(&self, user: &str) -> Result<Arc<Role>, LookupError> {
        if user.len() > MAX_NAME || user.contains('\0') {
            return Err(LookupError::NoSuchRole);
        }
        let known = self.cache.find(user);
        let asked = if known.is_some() {
            tokio::time::timeout(self.timing.patience, self.ask(user)).await
        } else {
            tokio::time::timeout(self.timing.lookup_timeout, self.insist(user)).await
        };
        let asked = asked.unwrap_or_else(|_| Err(LookupError::Unavailable("no answer in time".into())));
        match (asked, known) {
            // An old answer is better than none; that the role is gone is an answer.
            // That too many ask is no outage: it must not bring old passwords back.
            (Err(error), Some(known)) if error.is_temporary() && error != LookupError::Busy => Ok(known),
            (asked, _) => asked,
        }
    }

    /// What the servers said of this database when a role was asked for last; none if it takes whoever comes.
    pub(crate) fn database(&self, name: &str) -> Option<Database> {
        self.cache.database(name)
    }

    /// Makes logins of users that do not exist look like others. It is the same for all who serve one cluster, and after a restart,
    /// as soon as a server was asked for anything; before that, it is random.
    pub(crate) fn mock_secret(&self) -> [u8; 32] {
        self.cache.mock_secret()
    }

    /// Asks again for a while where all servers have failed: what ails them may be a moment's load, or a failover.
    async fn insist(&self, user: &str) -> Result<Arc<Role>, LookupError> {
        let until = Instant::now() + self.timing.insistence;
        loop {
            let asked = self.ask(user).await;
            if !matches!(asked, Err(LookupError::Unavailable(_))) || Instant::now() >= until {
                return asked;
            }
            tokio::time::sleep(self.timing.pause).await;
        }
    }

    async fn ask(&self, user: &str) -> Result<Arc<Role>, LookupError> {
        let (reply, answer) = oneshot::channel();
        let ended = || LookupError::Unavailable("pgherd is shutting down".into());
        self.requests.try_send(Request { user: user.into(), reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LookupError::Busy,
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}
