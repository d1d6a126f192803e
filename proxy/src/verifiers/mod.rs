//! Stored passwords, read from the servers with the monitor user.
//!
//! There is no password file: `pg_authid` is the truth, and this is a bounded cache of it. [`Verifiers`] is the handle
//! that the workers share; what is not in the cache is read by one task, [`Reader`], away from the
//! workers and one user at a time, so that however many clients ask for a user, one query is run.
//!
//! How long an answer is good for: until [`Timing::fresh`] it is used; after that it is used while it is read again in
//! the background; after [`Timing::valid`] it is read again first. It is used at any age while no server
//! answers, so that logins go on while the primary is down.

mod cache;
mod reader;
mod role;
mod server;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use cache::{Cache, Found};
use reader::Request;

pub(crate) use reader::Reader;
pub(crate) use role::Role;
pub(crate) use settings::{Endpoint, ReaderLogin, Settings, Source, Timing};

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
    login: Arc<watch::Sender<ReaderLogin>>,
}

impl Verifiers {
    /// Makes the handle and the task that reads for it; nothing is asked before [`Reader::run`] runs.
    pub(crate) fn new(settings: Settings, source: Source) -> (Self, Reader) {
        let timing = settings.timing.clone();
        let cache = Arc::new(Cache::new(timing.clone()));
        let (sender, receiver) = mpsc::channel(timing.max_waiting);
        let (login, login_seen) = watch::channel(settings.login.clone());
        let reader = Reader::new((settings, login_seen), source, Arc::clone(&cache), receiver);
        (Self { cache, requests: sender, timing, login: Arc::new(login) }, reader)
    }

    /// The role of this name. Does not wait where the cache has it.
    ///
    /// # Errors
    /// See [`LookupError`]. Cancel-safe: the answer then is in the cache for the next one.
    pub(crate) async fn lookup(&self, user: &str) -> Result<Arc<Role>, LookupError> {
        if user.len() > MAX_NAME || user.contains('\0') {
            return Err(LookupError::NoSuchRole);
        }
        let now = Instant::now();
        let good_enough = now.checked_sub(self.timing.fresh).unwrap_or(now);
        match self.cache.find(user, now) {
            Found::Fresh(role) => Ok(role),
            Found::Aging { role, reread } => {
                if reread {
                    self.ask_in_background(user, good_enough);
                }
                Ok(role)
            }
            Found::Absent => Err(LookupError::NoSuchRole),
            Found::Suspect { role, since } => or_stale(self.ask(user, since).await, role),
            Found::Expired(role) => or_stale(self.ask(user, good_enough).await, role),
            Found::Nothing => self.ask(user, good_enough).await,
        }
    }

    /// Reads as this role from now on.
    pub(crate) fn log_in_as(&self, login: ReaderLogin) {
        self.login.send_if_modified(|present| {
            let changes = *present != login;
            *present = login;
            changes
        });
    }

    /// To be called when a login failed: the password may have been changed meanwhile, and the next login must find
    /// the new one. Does not wait, so that the time of the refusal does not tell whether the user exists. Bounded per
    /// user, so that guessing passwords does not flood the servers.
    pub(crate) fn login_failed(&self, user: &str) {
        let now = Instant::now();
        if self.cache.suspect(user, now) {
            self.ask_in_background(user, now);
        }
    }

    /// Asks for an answer that was asked of a server at `since` or later.
    async fn ask(&self, user: &str, since: Instant) -> Result<Arc<Role>, LookupError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { user: user.into(), since, reply: Some(reply) };
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LookupError::Busy,
            mpsc::error::TrySendError::Closed(_) => {
                LookupError::Unavailable("pgherd is shutting down".into())
            }
        })?;
        match tokio::time::timeout(self.timing.lookup_timeout, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(LookupError::Unavailable("pgherd is shutting down".into())),
            Err(_) => Err(LookupError::Unavailable("no answer in time".into())),
        }
    }

    fn ask_in_background(&self, user: &str, since: Instant) {
        let request = Request { user: user.into(), since, reply: None };
        if self.requests.try_send(request).is_err() {
            self.cache.reread_failed(user);
        }
    }
}

/// An old answer is better than none; that the role is gone is an answer.
fn or_stale(asked: Result<Arc<Role>, LookupError>, known: Arc<Role>) -> Result<Arc<Role>, LookupError> {
    match asked {
        Err(error) if error.is_temporary() => Ok(known),
        answered => answered,
    }
}
