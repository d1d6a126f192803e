//! Carries out what the machine decides.
//!
//! repmgr does the work, over ssh; what repmgr has no command for is done over SQL. An executor that does all of it over
//! SQL fits in as another match in [`Executor::run`].

mod frozen;
mod remote;
mod settings;
mod shell;
mod sql;
mod ssh;

use std::sync::Arc;

use pgherd_health::{Node, NodeId, ProberSettings};
use tokio::time::timeout;

use crate::{Command, Outcome, Step};
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
}

impl Executor {
    /// An executor for `nodes` that logs in to the servers as `monitor` says. Connects to nothing yet.
    #[must_use]
    pub fn new(nodes: &[Node], monitor: &Arc<ProberSettings>, settings: ExecutorSettings) -> Self {
        Self(Arc::new(Parts {
            sql: Sql::new(nodes, Arc::clone(monitor)),
            remote: Remote::new(nodes, Arc::clone(monitor), settings),
        }))
    }

    /// Keeps an ssh session and a connection to `node` open, so that a failover need not wait for a login. Never ends;
    /// cancel-safe.
    pub async fn keep_sessions(&self, node: NodeId) {
        tokio::join!(self.0.remote.ssh.keep_open(node), self.0.sql.keep_open(node));
    }

    /// Carries out one command, within its deadline. `rows` are repmgr's names of the servers.
    pub async fn run(&self, command: &Command, rows: &RepmgrRows) -> Outcome {
        match timeout(command.deadline, self.take(command.node, &command.step, rows)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(format!("not done within {:?}", command.deadline)),
        }
    }

    async fn take(&self, node: NodeId, step: &Step, rows: &RepmgrRows) -> Outcome {
        let Parts { sql, remote, .. } = self.0.as_ref();
        match step {
            Step::Fence => remote.fence(node).await,
            Step::CanLogIn { target } => remote.can_log_in(node, *target).await,
            Step::Freeze => sql.freeze(node, remote).await,
            Step::Unfreeze => sql.unfreeze(node).await,
            Step::Lock => sql.lock(node).await,
            Step::Unlock => sql.unlock(node).await,
            Step::Promote => remote.promote(node, rows, sql).await,
            Step::VerifyWrite => sql.verify_write(node).await,
            Step::Checkpoint => sql.checkpoint(node).await,
            Step::Follow { upstream } => remote.follow(node, *upstream, rows, sql).await,
            Step::Rejoin { upstream } => remote.rejoin(node, *upstream, rows, sql).await,
        }
    }
}
