//! Another configuration while pgherd runs: read again, or with one setting changed. All of it is taken, or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pgherd_failover::actor::Taken;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Change, Config, Loaded, Problem, Sources};
use crate::control;
use crate::log::Log;
use crate::shared::Shared;
use crate::tls::Acceptor;

/// Who asks for a reload while so many wait is told to try again.
const WAITING: usize = 16;

/// What a reload, or a change, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// The keys whose values have changed.
    pub(crate) changed: Vec<&'static str>,
    /// What is not in force yet: each says what it is, and when it will be.
    pub(crate) later: Vec<String>,
    /// What is in force, and hardly meant.
    pub(crate) doubts: Vec<Problem>,
}

impl Reloaded {
    /// What somebody who has changed something should know.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = String> {
        self.doubts.iter().map(ToString::to_string).chain(self.later.iter().cloned())
    }
}

type Outcome = Result<Reloaded, Vec<Problem>>;

/// Where the value of each key comes from.
type Origins = Arc<BTreeMap<&'static str, String>>;

/// Asks for another configuration, from any thread; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reload {
    asked: mpsc::Sender<Asked>,
    origins: watch::Receiver<Origins>,
}

/// What [`Reloader`] hears, and where it says what is in force.
#[derive(Debug)]
pub(crate) struct Asking {
    asked: mpsc::Receiver<Asked>,
    origins: watch::Sender<Origins>,
}

/// What somebody asks for, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Asked {
    /// One setting; none for all that the sources say.
    change: Option<Change>,
    reply: oneshot::Sender<Outcome>,
}

impl Reload {
    /// The handle, and what [`Reloader`] hears of it.
    pub(crate) fn channel() -> (Self, Asking) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (tell, origins) = watch::channel(Origins::default());
        (Self { asked: sender, origins }, Asking { asked: receiver, origins: tell })
    }

    /// Where the value of each key that is in force comes from, as of the last change.
    pub(crate) fn origins(&self) -> Origins {
        Arc::clone(&self.origins.borrow())
    }

    /// Has the configuration read again; ready when it is in force. The log says the same.
    ///
    /// # Errors
    /// All that is wrong with it; nothing has changed then. At least one.
    pub(crate) async fn reload(&self) -> Outcome {
        self.ask(None).await
    }

    /// Has one setting changed, until the configuration is read again; ready when it is in force.
    ///
    /// # Errors
    /// As of a reload.
    pub(crate) async fn set(&self, change: Change) -> Outcome {
        self.ask(Some(change)).await
    }

    async fn ask(&self, change: Option<Change>) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let asked = self.asked.try_send(Asked { change, reply });
        match (asked, answer.await) {
            (Ok(()), Ok(outcome)) => outcome,
            _ => Err(vec![general("pgherd is ending, or is asked for a reload too often")]),
        }
    }
}

/// Asks for a reload at each SIGHUP, which does not end the process from now on.
///
/// # Errors
/// When signals cannot be received.
pub(crate) fn at_hangups(reload: Reload) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            // The log says what comes of it.
            let _ = reload.reload().await;
        }
    })
}

/// The task that puts another configuration into force when it is asked to.
pub(crate) struct Reloader {
    file: Option<PathBuf>,
    sources: Sources,
    shared: Arc<Shared>,
    log: Log,
    asking: Asking,
}

impl Reloader {
    /// `file` is the one that the command line names; `sources` is what it and the others said at the start.
    pub(crate) fn new(
        (file, sources): (Option<PathBuf>, Sources),
        shared: Arc<Shared>,
        log: Log,
        asking: Asking,
    ) -> Self {
        asking.origins.send_replace(Arc::new(sources.origins()));
        Self { file, sources, shared, log, asking }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(Asked { change, reply })) =
            stop.run_until_cancelled(self.asking.asked.recv()).await
        {
            let outcome = match change {
                None => {
                    let outcome = self.reload().await;
                    tell(&outcome);
                    outcome
                }
                Some(change) => {
                    let key = change.key();
                    let outcome = self.set(change).await;
                    tell_of_change(key, &outcome, &self.shared);
                    outcome
                }
            };
            // Who asked may have gone away.
            let _ = reply.send(outcome);
        }
    }

    async fn reload(&mut self) -> Outcome {
        let file = self.file.clone();
        // Files may be on a disk that hangs.
        let read = tokio::task::spawn_blocking(move || {
            let loaded = config::load(file.as_deref()).map_err(|rejected| rejected.errors)?;
            let acceptor = Acceptor::load(&loaded.config.listen.tls);
            acceptor.map(|acceptor| (loaded, acceptor)).map_err(|fault| vec![fault.into()])
        });
        let (Loaded { config, warnings, sources, .. }, acceptor) =
            read.await.map_err(|error| vec![general(error.to_string())])??;
        let reloaded = self.take(config).await.map_err(|problem| vec![problem])?;
        self.shared.tls.replace(acceptor);
        self.keep(sources);
        Ok(Reloaded { doubts: warnings, ..reloaded })
    }

    /// Changes one setting. The file may say something else by now: nothing is read of it.
    async fn set(&mut self, change: Change) -> Outcome {
        let (key, sources) = (change.key(), self.sources.clone().with(change));
        let before = self.shared.config.load_full();
        let read = tokio::task::spawn_blocking(move || {
            let (config, doubts) = sources.apply(key, &before)?;
            let acceptor = key.starts_with("listen.tls.").then(|| Acceptor::load(&config.listen.tls));
            let acceptor = acceptor.transpose().map_err(|fault| vec![fault.into()])?;
            Ok::<_, Vec<Problem>>((sources, config, doubts, acceptor))
        });
        let (sources, config, doubts, acceptor) =
            read.await.map_err(|error| vec![general(error.to_string())])??;
        let reloaded = self.take(config).await.map_err(|problem| vec![problem])?;
        if let Some(acceptor) = acceptor {
            self.shared.tls.replace(acceptor);
        }
        self.keep(sources);
        Ok(Reloaded { doubts, ..reloaded })
    }

    fn keep(&mut self, sources: Sources) {
        self.asking.origins.send_replace(Arc::new(sources.origins()));
        self.sources = sources;
    }

    /// Puts a valid configuration into force.
    async fn take(&self, mut config: Config) -> Result<Reloaded, Problem> {
        let Shared { config: live, backends, catalogues, descriptors, control, .. } = &*self.shared;
        let before = live.load_full();
        let mut later: Vec<String> = config
            .keep_fixed(&before)
            .into_iter()
            .map(|key| format!("{key}: takes effect at a restart"))
            .collect();
        let changed = config.changes_since(&before);
        let taken = control.reconfigure(control::settings(&config)).await.map_err(|why| Problem {
            origin: None,
            key: Some("backends.nodes".to_owned()),
            message: why,
        })?;
        if let Taken::Later(when) = taken {
            later.push(format!("backends.nodes, and how the servers are watched: take effect {when}"));
        }
        let servers = control.routing.borrow().nodes.len().max(config.nodes.len());
        descriptors.share_out(servers, config.pool.most_connections());
        self.log.change(config.log);
        self.shared.traces.reconfigure(&config.trace);
        live.replace(config);
        backends.resize_pools();
        catalogues.reconfigure(&live.load());
        let pool = &live.load_full().pool;
        self.shared.sequences.follow(|database, user| pool.sequences_for(database, user));
        Ok(Reloaded { changed, later, doubts: Vec::new() })
    }
}

fn tell(outcome: &Outcome) {
    match outcome {
        Ok(Reloaded { changed, later, doubts }) => {
            doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
            later.iter().for_each(|what| tracing::warn!("{what}"));
            tracing::info!(changed = changed.join(", "), "the configuration was read again");
        }
        Err(errors) => {
            errors.iter().for_each(|error| tracing::error!("{error}"));
            tracing::error!(errors = errors.len(), "the configuration has errors: nothing was changed");
        }
    }
}

/// The value is told as SHOW CONFIG tells it: a secret is not shown.
fn tell_of_change(key: &str, outcome: &Outcome, shared: &Shared) {
    match outcome {
        Ok(Reloaded { later, doubts, .. }) => {
            doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
            later.iter().for_each(|what| tracing::warn!("{what}"));
            let value = shared.config.load().shown(key);
            tracing::info!(key, value, "a setting was changed until the configuration is read again");
        }
        Err(errors) => errors.iter().for_each(|error| tracing::error!("{error}")),
    }
}

fn general(message: impl Into<String>) -> Problem {
    Problem { origin: None, key: None, message: message.into() }
}
