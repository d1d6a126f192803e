//! The task that reads roles from the servers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::server::{self, Answer, AskError, Connection};
use super::{Endpoint, LookupError, Role, Settings, Source, Timing};

/// Requests that are answered together, at most.
const MOST_AT_ONCE: usize = 256;

/// A wish for a role.
pub(super) struct Request {
    pub(super) user: Box<str>,
    pub(super) reply: oneshot::Sender<Result<Arc<Role>, LookupError>>,
}

type Outcomes = BTreeMap<Box<str>, Result<Arc<Role>, LookupError>>;

/// Reads roles: all that wait are asked for together, and those that come meanwhile after that.
pub(crate) struct Reader {
    cache: Arc<Cache>,
    requests: mpsc::Receiver<Request>,
    servers: Servers,
    /// The last failure of all servers, and when it is worth trying again.
    failed: Option<(LookupError, Instant)>,
}

impl Reader {
    pub(super) fn new(
        timing: Timing,
        source: Source,
        cache: Arc<Cache>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let servers =
            Servers { timing, source, settings: None, kept: HashMap::new(), demoted: HashMap::new() };
        Self { cache, requests, servers, failed: None }
    }

    /// Runs until it is cancelled or every [`super::Verifiers`] is gone. Needs a runtime with I/O and time.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.serve()).await;
    }

    async fn serve(&mut self) {
        let mut batch = Vec::with_capacity(MOST_AT_ONCE);
        while self.requests.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
            // Nobody waits for those whose clients have gone away.
            batch.retain(|request| !request.reply.is_closed());
            let answered = self.answer(&batch).await;
            for Request { user, reply } in batch.drain(..) {
                let outcome = match &answered {
                    Ok(outcomes) => outcomes.get(&user).cloned().unwrap_or(Err(LookupError::NoSuchRole)),
                    Err(error) => Err(error.clone()),
                };
                // Who asked may have gone away.
                let _ = reply.send(outcome);
            }
        }
    }

    async fn answer(&mut self, batch: &[Request]) -> Result<Outcomes, LookupError> {
        if let Some((error, retry_at)) = &self.failed
            && Instant::now() < *retry_at
        {
            return Err(error.clone());
        }
        let mut users: Vec<Box<str>> = batch.iter().map(|request| request.user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            return Ok(Outcomes::new());
        }
        let Answer { mut roles, cluster, databases } =
            self.servers.ask(users.clone().into()).await.inspect_err(|error| self.failed(error))?;
        if self.failed.take().is_some() {
            tracing::info!("stored passwords can be read again");
        }
        if let Some(cluster) = cluster {
            self.cache.set_cluster(cluster);
        }
        self.cache.set_databases(databases);
        let mut outcome = |user: &str| match roles.remove(user) {
            Some(Ok(role)) => Ok(self.cache.insert(user, role)),
            Some(Err(error)) => Err(error),
            None => {
                self.cache.remove(user);
                Err(LookupError::NoSuchRole)
            }
        };
        let outcomes: Vec<_> = users.iter().map(|user| outcome(user)).collect();
        Ok(users.into_iter().zip(outcomes).collect())
    }

    /// Logs once an outage.
    fn failed(&mut self, error: &LookupError) {
        if self.failed.is_none() {
            tracing::warn!(%error, "cannot read stored passwords; those read before stay in use");
        }
        self.failed = Some((error.clone(), Instant::now() + self.servers.timing.pause));
    }
}

/// The servers that can be asked, and what is kept of them.
struct Servers {
    timing: Timing,
    source: Source,
    /// What the connections that are kept were opened with.
    settings: Option<Arc<Settings>>,
    kept: HashMap<Endpoint, Connection>,
    /// Servers that failed or were slow, and until when they come last.
    demoted: HashMap<Endpoint, Instant>,
}

type Asked = (Endpoint, Result<(Connection, Answer), AskError>);

impl Servers {
    /// Asks one server after the other. One that is silent gets company after a moment, so that a dead primary costs a
    /// fraction of a second; the first answer counts.
    async fn ask(&mut self, users: Arc<[Box<str>]>) -> Result<Answer, LookupError> {
        let (settings, mut waiting) = self.current();
        let mut asked = Vec::new();
        let mut failures = Vec::new();
        let mut race: JoinSet<Asked> = JoinSet::new();
        loop {
            if race.is_empty() {
                let Some(endpoint) = waiting.pop_front() else { return Err(unavailable(failures)) };
                asked.push(endpoint.clone());
                self.start(&mut race, endpoint, &settings, &users);
            }
            // Cancel-safe: a task that ended stays in the set until it is taken.
            let answer = tokio::time::timeout(self.timing.head_start, race.join_next()).await;
            match answer {
                Ok(Some(Ok((endpoint, Ok((connection, answer)))))) => {
                    asked.retain(|slow| *slow != endpoint);
                    asked.drain(..).for_each(|slow| self.demote(slow));
                    self.demoted.remove(&endpoint);
                    self.kept.insert(endpoint, connection);
                    return Ok(answer);
                }
                Ok(Some(Ok((endpoint, Err(error))))) => {
                    self.demote(endpoint);
                    failures.push(error);
                }
                Ok(Some(Err(error))) => failures.push(AskError::Failed(error.to_string())),
                Ok(None) => {}
                Err(_) => {
                    if let Some(endpoint) = waiting.pop_front() {
                        asked.push(endpoint.clone());
                        self.start(&mut race, endpoint, &settings, &users);
                    }
                }
            }
        }
    }

    /// What holds now: the servers in the source's order, those that failed lately last. Forgets servers that are not in it any
    /// more, and connections of other settings.
    fn current(&mut self) -> (Arc<Settings>, VecDeque<Endpoint>) {
        let now = Instant::now();
        let (settings, mut endpoints) = (self.source)();
        let settings = match self.settings.take().filter(|before| **before == settings) {
            Some(same) => same,
            None => {
                self.kept.clear();
                Arc::new(settings)
            }
        };
        self.settings = Some(Arc::clone(&settings));
        self.kept.retain(|endpoint, _| endpoints.contains(endpoint));
        self.demoted.retain(|endpoint, until| now < *until && endpoints.contains(endpoint));
        endpoints.sort_by_key(|endpoint| self.demoted.contains_key(endpoint));
        (settings, endpoints.into())
    }

    fn start(
        &mut self,
        race: &mut JoinSet<Asked>,
        endpoint: Endpoint,
        settings: &Arc<Settings>,
        users: &Arc<[Box<str>]>,
    ) {
        let kept = self.kept.remove(&endpoint);
        let (settings, users) = (Arc::clone(settings), Arc::clone(users));
        let timeouts = (self.timing.server_timeout, self.timing.kept_timeout);
        race.spawn(async move {
            let answer = server::ask(&endpoint, kept, &settings, &users, timeouts).await;
            (endpoint, answer)
        });
    }

    fn demote(&mut self, endpoint: Endpoint) {
        self.demoted.insert(endpoint, Instant::now() + self.timing.demotion);
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
