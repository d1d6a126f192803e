//! The task that reads roles from the servers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::server::{self, AskError, Connection};
use super::{Endpoint, LookupError, ReaderLogin, Role, Settings, Source};

/// A wish for a role.
pub(super) struct Request {
    pub(super) user: Box<str>,
    /// An answer that a server was asked for at this time or later will do.
    pub(super) since: Instant,
    /// Nobody waits for a re-read in the background.
    pub(super) reply: Option<oneshot::Sender<Result<Arc<Role>, LookupError>>>,
}

/// Reads roles, one after the other. Requests for one user that come while it is read are answered from the cache.
pub(crate) struct Reader {
    cache: Arc<Cache>,
    requests: mpsc::Receiver<Request>,
    servers: Servers,
    /// The last failure of all servers, and when it is worth trying again.
    failed: Option<(LookupError, Instant)>,
}

impl Reader {
    pub(super) fn new(
        (settings, login): (Settings, watch::Receiver<ReaderLogin>),
        source: Source,
        cache: Arc<Cache>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let servers = Servers {
            settings: Arc::new(settings),
            login,
            source,
            kept: HashMap::new(),
            demoted: HashMap::new(),
        };
        Self { cache, requests, servers, failed: None }
    }

    /// Runs until it is cancelled or every [`super::Verifiers`] is gone. Needs a runtime with I/O and time.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.serve()).await;
    }

    async fn serve(&mut self) {
        while let Some(request) = self.requests.recv().await {
            let outcome = self.answer(&request).await;
            if let Some(reply) = request.reply {
                // Who asked may have gone away.
                let _ = reply.send(outcome);
            }
        }
    }

    async fn answer(&mut self, request: &Request) -> Result<Arc<Role>, LookupError> {
        if let Some(answer) = self.cache.answered_since(&request.user, request.since) {
            return answer;
        }
        let asked_at = Instant::now();
        if let Some((error, retry_at)) = &self.failed
            && asked_at < *retry_at
        {
            self.cache.reread_failed(&request.user);
            return Err(error.clone());
        }
        match self.servers.ask(&request.user).await {
            Ok(Some(role)) => {
                self.recovered();
                let role = Arc::new(role);
                self.cache.insert(&request.user, Arc::clone(&role));
                Ok(role)
            }
            Ok(None) => {
                self.recovered();
                self.cache.insert_absent(&request.user, asked_at);
                Err(LookupError::NoSuchRole)
            }
            Err(error) => {
                self.failed(&request.user, &error);
                Err(error)
            }
        }
    }

    fn recovered(&mut self) {
        if self.failed.take().is_some() {
            tracing::info!("stored passwords can be read again");
        }
    }

    /// Logs once an outage; each request during it only at debug level.
    fn failed(&mut self, user: &str, error: &LookupError) {
        let now = Instant::now();
        self.cache.reread_failed(user);
        let known_for = self.cache.age(user, now);
        if self.failed.is_none() {
            tracing::warn!(%error, "cannot read stored passwords; those read before stay in use");
        }
        tracing::debug!(?user, ?known_for, %error, "stored password not read");
        self.failed = Some((error.clone(), now + self.servers.settings.timing.pause));
    }
}

/// The servers that can be asked, and what is kept of them.
struct Servers {
    settings: Arc<Settings>,
    /// Whom to log in as now.
    login: watch::Receiver<ReaderLogin>,
    source: Source,
    kept: HashMap<Endpoint, Connection>,
    /// Servers that failed or were slow, and until when they come last.
    demoted: HashMap<Endpoint, Instant>,
}

type Asked = (Endpoint, Result<(Connection, Option<Role>), AskError>);

impl Servers {
    /// Asks one server after the other. One that is silent gets company after a moment, so that a dead primary costs a
    /// fraction of a second; the first answer counts.
    async fn ask(&mut self, user: &str) -> Result<Option<Role>, LookupError> {
        let user: Arc<str> = user.into();
        self.follow_login();
        let mut waiting = self.in_order();
        let mut asked = Vec::new();
        let mut failures = Vec::new();
        let mut race: JoinSet<Asked> = JoinSet::new();
        loop {
            if race.is_empty() {
                let Some(endpoint) = waiting.pop_front() else { return Err(unavailable(failures)) };
                self.start(&mut race, &mut asked, endpoint, &user);
            }
            // Cancel-safe: a task that ended stays in the set until it is taken.
            let answer = tokio::time::timeout(self.settings.timing.head_start, race.join_next()).await;
            match answer {
                Ok(Some(Ok((endpoint, Ok((connection, role)))))) => {
                    asked.retain(|slow| *slow != endpoint);
                    asked.drain(..).for_each(|slow| self.demote(slow));
                    self.demoted.remove(&endpoint);
                    self.kept.insert(endpoint, connection);
                    return Ok(role);
                }
                Ok(Some(Ok((endpoint, Err(error))))) => {
                    self.demote(endpoint);
                    failures.push(error);
                }
                Ok(Some(Err(error))) => failures.push(AskError::Failed(error.to_string())),
                Ok(None) => {}
                Err(_) => {
                    if let Some(endpoint) = waiting.pop_front() {
                        self.start(&mut race, &mut asked, endpoint, &user);
                    }
                }
            }
        }
    }

    /// Connections of another login than the present one are not used again.
    fn follow_login(&mut self) {
        if self.login.has_changed().unwrap_or(false) {
            let login = self.login.borrow_and_update().clone();
            self.settings = Arc::new(Settings { login, timing: self.settings.timing.clone() });
            self.kept.clear();
        }
    }

    /// The source's order, those that failed lately last. Forgets servers that are not in it any more.
    fn in_order(&mut self) -> VecDeque<Endpoint> {
        let now = Instant::now();
        let mut endpoints = (self.source)();
        self.kept.retain(|endpoint, _| endpoints.contains(endpoint));
        self.demoted.retain(|endpoint, until| now < *until && endpoints.contains(endpoint));
        endpoints.sort_by_key(|endpoint| self.demoted.contains_key(endpoint));
        endpoints.into()
    }

    fn start(
        &mut self,
        race: &mut JoinSet<Asked>,
        asked: &mut Vec<Endpoint>,
        endpoint: Endpoint,
        user: &Arc<str>,
    ) {
        let kept = self.kept.remove(&endpoint);
        let (settings, user) = (Arc::clone(&self.settings), Arc::clone(user));
        asked.push(endpoint.clone());
        race.spawn(async move {
            let answer = server::ask(&endpoint, kept, &settings, &user).await;
            (endpoint, answer)
        });
    }

    fn demote(&mut self, endpoint: Endpoint) {
        self.demoted.insert(endpoint, Instant::now() + self.settings.timing.demotion);
    }
}

/// One error of all: that a right is missing is the cause that somebody can do something about.
fn unavailable(failures: Vec<AskError>) -> LookupError {
    let mut texts = Vec::new();
    for failure in failures {
        match failure {
            AskError::Forbidden(text) => return LookupError::Forbidden(text.into()),
            AskError::Failed(text) => texts.push(text),
        }
    }
    if texts.is_empty() {
        texts.push("no server is known".to_owned());
    }
    LookupError::Unavailable(texts.join("; ").into())
}
