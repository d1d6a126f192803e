//! The steps that are taken over a connection to the server itself.

mod fence;
mod follow;
mod freeze;
mod lock;
mod promote;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{ConnectFailure, Node, NodeId, ProberSettings, Session, connect};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error};

use super::remote::RepmgrRows;
use crate::{Command, Outcome, Step};

const NOT_IN_PREREQUISITE_STATE: &str = "55000";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Time between two looks after a kept connection.
const RETRY: Duration = Duration::from_secs(1);
/// Time between two looks at something that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Writes to the WAL and commits, without a table, and without waiting for a standby: none may stream yet.
const SMALL_WRITE: &str = "BEGIN; SET LOCAL synchronous_commit = local; \
                           SELECT pg_logical_emit_message(true, 'pgherd', 'is writable'::text); COMMIT";

const DROP_SLOT: &str = "
SELECT pg_drop_replication_slot(slot_name)
  FROM pg_replication_slots
 WHERE slot_name = $1::text AND slot_type = 'physical' AND NOT active";

/// Connections to all servers, opened when needed and kept.
#[derive(Debug)]
pub(super) struct Sql {
    settings: Arc<ProberSettings>,
    slots: HashMap<NodeId, Slot>,
}

#[derive(Debug)]
struct Slot {
    node: Node,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    session: Option<Session>,
    /// The promotion lock was taken, on the session of that time.
    locked: bool,
}

/// A step over SQL that did not end well.
pub(super) enum Trouble {
    Failed(String),
    Unknown(String),
}

pub(super) type Taken<T = Outcome> = Result<T, Trouble>;

impl From<Error> for Trouble {
    /// A server that answers with an error has not done it; what a lost connection means is not known.
    fn from(error: Error) -> Self {
        // That includes what TLS has to say about a connection that was in use.
        let lost = std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        match ConnectFailure::of(&error) {
            failure @ ConnectFailure::Rejected { .. } if !lost => Self::Failed(failure.to_string()),
            failure => Self::Unknown(failure.to_string()),
        }
    }
}

impl Sql {
    pub(super) fn new(nodes: &[Node], settings: Arc<ProberSettings>) -> Self {
        let slot = |node: &Node| (node.id, Slot { node: node.clone(), kept: Mutex::default() });
        Self { settings, slots: nodes.iter().map(slot).collect() }
    }

    pub(super) async fn verify_write(&self, node: NodeId) -> Outcome {
        self.on(node, async |client| {
            client.batch_execute(SMALL_WRITE).await?;
            // What a freeze left on a server that has been promoted since must not outlive it.
            freeze::unfreeze(client).await
        })
        .await
    }

    pub(super) async fn checkpoint(&self, node: NodeId) -> Outcome {
        self.on(node, async |client| {
            client.batch_execute("CHECKPOINT").await?;
            Ok(Outcome::Done)
        })
        .await
    }

    /// Never one that is in use by then, or a logical one.
    pub(super) async fn drop_slot(&self, node: NodeId, name: &str) -> Outcome {
        self.on(node, async |client| {
            client.execute(DROP_SLOT, &[&name]).await?;
            Ok(Outcome::Done)
        })
        .await
    }

    /// Keeps a connection to `node` open, so that a failover need not wait for a login, and the promotion lock that it holds. Never ends;
    /// cancel-safe.
    pub(super) async fn keep_open(&self, node: NodeId) {
        loop {
            // A step that is being taken has a connection of its own.
            if let Some(slot) = self.slots.get(&node)
                && let Ok(mut kept) = slot.kept.try_lock()
            {
                match &kept.session {
                    Some(session) if !session.is_closed() => {
                        if kept.locked {
                            // Whether it still holds the lock is asked before a promotion.
                            let _ = timeout(self.settings.timeout, session.client().batch_execute("")).await;
                        }
                    }
                    _ => {
                        let opened = timeout(self.settings.timeout, connect(&slot.node, &self.settings));
                        if let Ok(Ok(session)) = opened.await {
                            kept.session = Some(session);
                        }
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Waits until `upstream` shows a standby of this name streaming. Never ends otherwise; cancel-safe.
    pub(super) async fn wait_streaming(&self, upstream: NodeId, name: &str) {
        loop {
            let look = async |client: &Client| {
                let row = client
                    .query_opt(
                        "SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming' LIMIT 1",
                        &[&name],
                    )
                    .await?;
                Ok(if row.is_some() { Outcome::Done } else { Outcome::Failed(String::new()) })
            };
            if self.on(upstream, look).await == Outcome::Done {
                return;
            }
            sleep(LOOK * 10).await;
        }
    }

    /// What SQL can do of a step for which a shell on the server would be needed.
    pub(super) async fn without_shell(&self, command: &Command, rows: &RepmgrRows) -> Outcome {
        let node = command.node;
        let failed = |what: &str| Outcome::Failed(format!("without ssh or a command for it {what}"));
        match &command.step {
            Step::Promote => self.promote(node, rows).await,
            Step::Follow { upstream } => self.follow(node, *upstream, rows).await,
            Step::Fence => self.end_clients(node).await,
            Step::CanLogIn { .. } => Outcome::Unknown("there is no shell to ask it with".to_owned()),
            Step::Rehearse | Step::Stop => failed("a primary cannot be stopped"),
            // Nobody is there who could be asked.
            Step::Recall => Outcome::Done,
            Step::Start => failed(&format!("node {node} cannot be started: an operator must start it")),
            Step::Rejoin { upstream, .. } => failed(&format!(
                "node {node} cannot be made a standby of node {upstream}: an operator must stop it, rewind or clone it, \
                 and start it"
            )),
            Step::Clone { .. } => failed(&format!("node {node} cannot be cloned: an operator must clone it")),
            other => Outcome::Failed(format!("{other:?} is no step of a shell")),
        }
    }

    fn node(&self, node: NodeId) -> Option<&Node> {
        self.slots.get(&node).map(|slot| &slot.node)
    }

    /// A connection beside the kept one, for what nothing waits for.
    pub(super) async fn beside(&self, node: NodeId) -> Result<Session, Outcome> {
        let slot = self.slots.get(&node).ok_or_else(|| unconfigured(node))?;
        connect(&slot.node, &self.settings).await.map_err(|failure| Outcome::Failed(failure.to_string()))
    }

    /// Takes one step on the kept connection, or on a new one. The connection of a step that is cancelled, or that was
    /// lost, is not used again: what comes over it next may belong to that step.
    pub(super) async fn on(&self, node: NodeId, step: impl AsyncFnOnce(&Client) -> Taken) -> Outcome {
        let Some(slot) = self.slots.get(&node) else { return unconfigured(node) };
        let mut kept = slot.kept.lock().await;
        let session = match kept.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => match connect(&slot.node, &self.settings).await {
                Ok(session) => session,
                Err(failure) => return Outcome::Failed(failure.to_string()),
            },
        };
        match step(session.client()).await {
            Ok(outcome) => {
                kept.session = Some(session);
                outcome
            }
            Err(Trouble::Failed(reason)) => {
                // It may have failed within a transaction.
                if !session.is_closed() && session.client().batch_execute("ROLLBACK").await.is_ok() {
                    kept.session = Some(session);
                }
                Outcome::Failed(reason)
            }
            Err(Trouble::Unknown(reason)) => Outcome::Unknown(reason),
        }
    }
}

async fn in_recovery(client: &Client) -> Taken<bool> {
    Ok(client.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)?)
}

pub(super) fn has_code(error: &Error, sqlstate: &str) -> bool {
    error.code().is_some_and(|code| code.code() == sqlstate)
}

fn unconfigured(node: NodeId) -> Outcome {
    Outcome::Failed(format!("node {node} is not configured"))
}
