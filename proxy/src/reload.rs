//! Reading the configuration again while pgherd runs: all of it is taken, or nothing.

use std::path::PathBuf;
use std::sync::Arc;

use pgherd_failover::actor::Taken;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Loaded, Problem};
use crate::control;
use crate::log::Log;
use crate::shared::Shared;
use crate::tls::Acceptor;

/// Who asks for a reload while so many wait is told to try again.
const WAITING: usize = 16;

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// The keys whose values have changed.
    pub(crate) changed: Vec<&'static str>,
    /// What is not in force yet: each says what it is, and when it will be.
    pub(crate) later: Vec<String>,
}

/// Asks for a reload, from any thread; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reload(mpsc::Sender<Asked>);

type Asked = oneshot::Sender<Result<Reloaded, Vec<Problem>>>;

impl Reload {
    /// The handle, and what [`Reloader`] hears of it.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Has the configuration read again; ready when it is in force. The log says the same.
    ///
    /// # Errors
    /// All that is wrong with it; nothing has changed then. At least one.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Vec<Problem>> {
        let (reply, answer) = oneshot::channel();
        let asked = self.0.try_send(reply);
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

/// The task that reads the configuration again when it is asked to.
pub(crate) struct Reloader {
    file: Option<PathBuf>,
    shared: Arc<Shared>,
    log: Log,
    asked: mpsc::Receiver<Asked>,
}

impl Reloader {
    /// `file` is the one that the command line names.
    pub(crate) const fn new(
        file: Option<PathBuf>,
        shared: Arc<Shared>,
        log: Log,
        asked: mpsc::Receiver<Asked>,
    ) -> Self {
        Self { file, shared, log, asked }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(asked)) = stop.run_until_cancelled(self.asked.recv()).await {
            let outcome = self.reload().await;
            tell(&outcome);
            // Who asked may have gone away.
            let _ = asked.send(outcome);
        }
    }

    async fn reload(&self) -> Result<Reloaded, Vec<Problem>> {
        let file = self.file.clone();
        // Files may be on a disk that hangs.
        let read = tokio::task::spawn_blocking(move || {
            let loaded = config::load(file.as_deref()).map_err(|rejected| rejected.errors)?;
            let acceptor = Acceptor::load(&loaded.config.listen.tls);
            acceptor.map(|acceptor| (loaded, acceptor)).map_err(|fault| vec![fault.into()])
        });
        let (Loaded { config, warnings, .. }, acceptor) =
            read.await.map_err(|error| vec![general(error.to_string())])??;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let reloaded = self.take(config).await.map_err(|problem| vec![problem])?;
        self.shared.tls.replace(acceptor);
        Ok(reloaded)
    }

    /// Puts a valid configuration into force.
    async fn take(&self, mut config: Config) -> Result<Reloaded, Problem> {
        let Shared { config: live, backends, descriptors, control, .. } = &*self.shared;
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
        descriptors.share_out(config.nodes.len(), config.pool.most_connections());
        self.log.change(config.log);
        live.replace(config);
        backends.resize_pools();
        Ok(Reloaded { changed, later })
    }
}

fn tell(outcome: &Result<Reloaded, Vec<Problem>>) {
    match outcome {
        Ok(Reloaded { changed, later }) => {
            later.iter().for_each(|what| tracing::warn!("{what}"));
            tracing::info!(changed = changed.join(", "), "the configuration was read again");
        }
        Err(errors) => {
            errors.iter().for_each(|error| tracing::error!("{error}"));
            tracing::error!(errors = errors.len(), "the configuration has errors: nothing was changed");
        }
    }
}

fn general(message: impl Into<String>) -> Problem {
    Problem { origin: None, key: None, message: message.into() }
}
