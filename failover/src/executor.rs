//! Carries out what the machine decides.
//!
//! Over ssh repmgr does the work. An operator may have given commands instead, or nothing: then SQL does what it can. What
//! needs no more than SQL in any case, such as a freeze, is done in that way whatever does the rest.

mod commands;
mod control;
mod frozen;
mod lines;
mod local;
mod quiesce;
mod ran;
mod record;
mod remote;
mod settings;
mod shell;
mod sql;
mod ssh;
mod template;

use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{Node, NodeId, ProberSettings};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use crate::{Command, Job, Limit, Outcome, Step};
use commands::Commands;
pub use quiesce::Clients;
pub use remote::RepmgrRows;
use remote::{OverSsh, Remote};
pub use settings::{CommandSettings, ExecutorSettings, Means, RepmgrSettings, SshSettings};
use sql::Sql;
pub use template::Template;

/// Carries out commands on all servers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Executor(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    sql: Sql,
    shell: Shell,
    clients: Option<Arc<dyn Clients>>,
}

/// What there is beside SQL.
#[derive(Debug)]
enum Shell {
    Ssh(Remote),
    Commands(Commands),
    None,
}

impl Executor {
    /// An executor for `nodes` that logs in to the servers as `monitor` says. Connects to nothing yet. `clients` are those
    /// of this pgherd, if it has any.
    #[must_use]
    pub fn new(
        nodes: &[Node],
        monitor: &Arc<ProberSettings>,
        settings: ExecutorSettings,
        clients: Option<Arc<dyn Clients>>,
    ) -> Self {
        let shell = match settings.means {
            Means::Ssh => Shell::Ssh(Remote::new(nodes, Arc::clone(monitor), &settings)),
            Means::Command => Shell::Commands(Commands::new(nodes, settings.commands)),
            Means::Sql => Shell::None,
        };
        Self(Arc::new(Parts { sql: Sql::new(nodes, Arc::clone(monitor)), shell, clients }))
    }

    /// Keeps an ssh session and a connection to `node` open, so that a failover need not wait for a login. Never ends;
    /// cancel-safe.
    pub async fn keep_sessions(&self, node: NodeId) {
        let ssh = async {
            if let Shell::Ssh(remote) = &self.0.shell {
                remote.ssh.keep_open(node).await;
            }
        };
        tokio::join!(ssh, self.0.sql.keep_open(node));
    }

    /// Carries out one command, within its deadline. `rows` are repmgr's names of the servers.
    pub async fn run(&self, command: &Command, rows: &RepmgrRows) -> Outcome {
        let taken = timeout(command.deadline, self.take(command, rows));
        let taken = match &command.step {
            // It would be waited for in vain, and nothing else be done for the standby meanwhile.
            Step::Follow { upstream } => tokio::select! {
                taken = taken => taken,
                () = self.0.sql.gone(*upstream) => {
                    let why = format!("node {upstream}, which it was to follow, takes no connections any more");
                    return Outcome::Unknown(why);
                }
            },
            _ => taken.await,
        };
        taken.unwrap_or_else(|_| Outcome::Unknown(format!("not done within {:?}", command.deadline)))
    }

    /// Uses a tool, and hands on what it says, line by line. A look ends when nobody listens any more; anything else goes on.
    ///
    /// # Errors
    /// Why it was not done, or not to its end.
    pub async fn tool(
        &self,
        job: &Job,
        rows: &RepmgrRows,
        lines: &mpsc::Sender<String>,
    ) -> Result<(), String> {
        match &self.0.shell {
            Shell::Ssh(remote) => remote.tool(job, rows, lines).await,
            Shell::Commands(_) | Shell::None => Err(format!(
                "{} needs ssh to the servers, which pgherd has with failover.executor = \"ssh\"",
                job.tool
            )),
        }
    }

    async fn take(&self, command: &Command, rows: &RepmgrRows) -> Outcome {
        let Parts { sql, shell, clients } = self.0.as_ref();
        let node = command.node;
        match &command.step {
            Step::Freeze => sql.freeze(node, shell.ssh()).await,
            Step::Unfreeze => sql.unfreeze(node).await,
            Step::Lock => sql.lock(node).await,
            Step::Unlock => sql.unlock(node).await,
            Step::VerifyWrite => sql.verify_write(node).await,
            Step::Checkpoint => sql.checkpoint(node).await,
            Step::DropSlot { name } => sql.drop_slot(node, name).await,
            Step::Record(records) => sql.write_down(node, records, rows).await,
            Step::Quiesce { within } => sql.quiesce(node, *within, clients.as_ref()).await,
            _ => match shell {
                Shell::Ssh(remote) => self.over_ssh(remote, command, rows).await,
                Shell::Commands(commands) => match commands.take(command, rows, sql).await {
                    Some(outcome) => outcome,
                    None => sql.without_shell(command, rows).await,
                },
                Shell::None => sql.without_shell(command, rows).await,
            },
        }
    }

    async fn over_ssh(&self, remote: &Remote, command: &Command, rows: &RepmgrRows) -> Outcome {
        let (sql, node) = (&self.0.sql, command.node);
        let over_ssh = match &command.step {
            Step::Promote => remote.promote(node, rows, sql).await,
            Step::Follow { upstream } => match sql.follow_if_frozen(node, *upstream, rows).await {
                Some(outcome) => Ok(outcome),
                None => self.follow(node, *upstream, rows, command.deadline).await,
            },
            Step::Fence => Ok(remote.fence(node).await),
            Step::CanLogIn { target } => Ok(remote.can_log_in(node, *target).await),
            Step::Rehearse => Ok(remote.rehearse(node).await),
            Step::Stop => Ok(remote.stop(node).await),
            Step::Recall => Ok(remote.recall(node).await),
            Step::Start => Ok(remote.start(node, rows).await),
            Step::Rejoin { upstream, limit } => {
                self.rejoin(node, (*upstream, limit), rows, command.deadline).await
            }
            Step::Clone { upstream } => Ok(remote.clone_anew(node, *upstream, rows, sql).await),
            _ => Err("it is no step over ssh".to_owned()),
        };
        let unreached = match over_ssh {
            Ok(outcome) => return outcome,
            Err(why) => why,
        };
        warn!(%node, step = ?command.step, reason = unreached, "it is done over SQL");
        match sql.without_shell(command, rows).await {
            Outcome::Failed(why) => Outcome::Failed(format!("{unreached}; over SQL: {why}")),
            Outcome::Unknown(why) => Outcome::Unknown(format!("{unreached}; over SQL: {why}")),
            outcome => outcome,
        }
    }

    async fn follow(&self, node: NodeId, upstream: NodeId, rows: &RepmgrRows, deadline: Duration) -> OverSsh {
        let (parts, known) = (Arc::clone(&self.0), Arc::clone(rows));
        let following = async move {
            let remote = parts.shell.ssh().ok_or("there is no ssh")?;
            remote.follow(node, upstream, &known, &parts.sql).await
        };
        self.until_it_streams((node, upstream), rows, deadline, following).await
    }

    async fn rejoin(
        &self,
        node: NodeId,
        (upstream, limit): (NodeId, &Limit),
        rows: &RepmgrRows,
        deadline: Duration,
    ) -> OverSsh {
        let remote = self.0.shell.ssh().ok_or("there is no ssh")?;
        let (standby, loss) = match remote.recover(node, limit).await {
            Ok(recovered) => recovered,
            Err(outcome) => return Ok(outcome),
        };
        let (parts, known) = (Arc::clone(&self.0), Arc::clone(rows));
        let rejoining = async move {
            let remote = parts.shell.ssh().ok_or("there is no ssh")?;
            Ok(remote.rejoin((node, standby), upstream, &known, &parts.sql).await)
        };
        match (self.until_it_streams((node, upstream), rows, deadline, rejoining).await?, loss) {
            (Outcome::Done, Some(loss)) => Ok(Outcome::Rejoined(loss)),
            (outcome, _) => Ok(outcome),
        }
    }

    /// Done as soon as the standby is seen to stream. repmgr looks for that once a second only, and then has nothing left
    /// to do but to write it down: it does so by itself, and a failover that comes meanwhile need not wait for it.
    async fn until_it_streams(
        &self,
        (node, upstream): (NodeId, NodeId),
        rows: &RepmgrRows,
        deadline: Duration,
        repmgr: impl Future<Output = OverSsh> + Send + 'static,
    ) -> OverSsh {
        let Some(name) = rows.get(&node).map(|row| row.node_name.as_str()) else {
            return Ok(Outcome::Failed(format!("repmgr.nodes names node {node} nowhere")));
        };
        let not_in_time = Outcome::Unknown(format!("not done within {deadline:?}"));
        let repmgr = tokio::spawn(async move { timeout(deadline, repmgr).await.unwrap_or(Ok(not_in_time)) });
        tokio::select! {
            ended = repmgr => ended.unwrap_or_else(|error| Ok(Outcome::Unknown(error.to_string()))),
            () = self.0.sql.wait_streaming(upstream, name) => Ok(Outcome::Done),
        }
    }
}

impl Shell {
    const fn ssh(&self) -> Option<&Remote> {
        match self {
            Self::Ssh(remote) => Some(remote),
            Self::Commands(_) | Self::None => None,
        }
    }
}
