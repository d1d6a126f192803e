//! Carries out what the machine decides.
//!
//! repmgr does the work, over ssh; what repmgr has no command for is done over SQL. An executor that does all of it over
//! SQL fits in as another match in [`Executor::run`].

mod frozen;
mod quiesce;
mod ran;
mod remote;
mod settings;
mod shell;
mod sql;
mod ssh;

use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{Node, NodeId, ProberSettings};
use tokio::time::timeout;

use crate::{Command, Outcome, Step};
pub use quiesce::Clients;
use remote::Remote;
pub use remote::RepmgrRows;
pub use settings::{ExecutorSettings, RepmgrSettings, SshSettings};
use sql::Sql;

/// Carries out commands on all servers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Executor(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    sql: Sql,
    remote: Remote,
    clients: Option<Arc<dyn Clients>>,
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
        Self(Arc::new(Parts {
            sql: Sql::new(nodes, Arc::clone(monitor)),
            remote: Remote::new(nodes, Arc::clone(monitor), settings),
            clients,
        }))
    }

    /// Keeps an ssh session and a connection to `node` open, so that a failover need not wait for a login. Never ends;
    /// cancel-safe.
    pub async fn keep_sessions(&self, node: NodeId) {
        tokio::join!(self.0.remote.ssh.keep_open(node), self.0.sql.keep_open(node));
    }

    /// Carries out one command, within its deadline. `rows` are repmgr's names of the servers.
    pub async fn run(&self, command: &Command, rows: &RepmgrRows) -> Outcome {
        match timeout(command.deadline, self.take(command, rows)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(format!("not done within {:?}", command.deadline)),
        }
    }

    async fn take(&self, command: &Command, rows: &RepmgrRows) -> Outcome {
        let Parts { sql, remote, clients } = self.0.as_ref();
        let node = command.node;
        match &command.step {
            Step::Fence => remote.fence(node).await,
            Step::CanLogIn { target } => remote.can_log_in(node, *target).await,
            Step::Freeze => sql.freeze(node, remote).await,
            Step::Unfreeze => sql.unfreeze(node).await,
            Step::Lock => sql.lock(node).await,
            Step::Unlock => sql.unlock(node).await,
            Step::Promote => remote.promote(node, rows, sql).await,
            Step::VerifyWrite => sql.verify_write(node).await,
            Step::Checkpoint => sql.checkpoint(node).await,
            Step::Quiesce { within } => sql.quiesce(node, *within, clients.as_ref()).await,
            Step::Rehearse => remote.rehearse(node).await,
            Step::Stop => remote.stop(node).await,
            Step::Start => remote.start(node, rows).await,
            Step::Follow { upstream } => self.follow(node, *upstream, rows, command.deadline).await,
            Step::Rejoin { upstream } => remote.rejoin(node, *upstream, rows, sql).await,
        }
    }

    /// Done as soon as the standby is seen to stream. repmgr looks for that once a second only, and then has nothing left
    /// to do but to write it down: it does so by itself, and a failover that comes meanwhile need not wait for it.
    async fn follow(&self, node: NodeId, upstream: NodeId, rows: &RepmgrRows, deadline: Duration) -> Outcome {
        let (parts, rows) = (Arc::clone(&self.0), Arc::clone(rows));
        let Some(name) = rows.get(&node).map(|row| row.node_name.clone()) else {
            return Outcome::Failed(format!("repmgr.nodes names node {node} nowhere"));
        };
        let repmgr = tokio::spawn(async move {
            timeout(deadline, parts.remote.follow(node, upstream, &rows, &parts.sql)).await
        });
        tokio::select! {
            ended = repmgr => match ended {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Outcome::Unknown(format!("not done within {deadline:?}")),
                Err(error) => Outcome::Unknown(error.to_string()),
            },
            () = self.0.sql.wait_streaming(upstream, &name) => Outcome::Done,
        }
    }
}
