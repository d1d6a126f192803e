//! What people look at and do on servers, beside the commands, none of which waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::Actor;
use crate::{Executor, Job, RepmgrRows, Tool};

/// Looks at one server that are taken at a time, and those that wait for it beside them.
const LOOKS: usize = 3;
const LOOKS_KNOWN: usize = 16;
/// How long a look waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tool that somebody wants to use.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) node: NodeId,
    pub(super) tool: Tool,
    pub(super) lines: Lines,
    pub(super) reply: Reply,
}

/// Where what it says goes, and how it ended.
pub(super) type Lines = mpsc::Sender<String>;
pub(super) type Reply = oneshot::Sender<Result<(), String>>;

/// The tools that are in use. One task for each; every task is waited for.
#[derive(Debug, Default)]
pub(super) struct Tools {
    tasks: JoinSet<()>,
    bounds: HashMap<NodeId, Bounds>,
}

/// What may be done on one server at a time.
#[derive(Debug)]
struct Bounds {
    /// One tool that stops or starts the server, or has it forgotten: no backup keeps it waiting.
    moving: Turn,
    /// One tool that changes something else.
    change: Turn,
    /// Looks that are taken, or wait.
    looks: Arc<Semaphore>,
    /// Looks that are taken.
    turns: Arc<Semaphore>,
}

/// One tool at a time.
#[derive(Debug)]
struct Turn {
    free: Arc<Semaphore>,
    /// The last one, in words.
    last: String,
}

impl Turn {
    fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(1)), last: String::new() }
    }

    fn under_way(&self, node: NodeId) -> String {
        format!("not now: {} is under way on node {node}", self.last)
    }

    fn take(&mut self, node: NodeId, tool: &Tool) -> Result<OwnedSemaphorePermit, String> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| self.under_way(node))?;
        self.last = tool.to_string();
        Ok(permit)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self { moving: Turn::new(), change: Turn::new(), looks: of(LOOKS_KNOWN), turns: of(LOOKS) }
    }
}

impl Bounds {
    /// The right to begin; it ends with the task that has it.
    fn admit(&mut self, Job { node, tool, .. }: &Job) -> Result<OwnedSemaphorePermit, String> {
        if tool.looks() {
            let looks = Arc::clone(&self.looks).try_acquire_owned();
            return looks.map_err(|_| format!("{LOOKS_KNOWN} looks at node {node} are under way already"));
        }
        if tool.moves_servers() {
            return self.moving.take(*node, tool);
        }
        if self.moving.free.available_permits() == 0 {
            return Err(self.moving.under_way(*node));
        }
        self.change.take(*node, tool)
    }
}

impl Tools {
    /// Begins to use a tool, if no other is in its way.
    fn begin(&mut self, executor: &Executor, rows: RepmgrRows, job: Job, (lines, reply): (Lines, Reply)) {
        // Those that have ended.
        while self.tasks.try_join_next().is_some() {}
        let bounds = self.bounds.entry(job.node).or_default();
        let permit = match bounds.admit(&job) {
            Ok(permit) => permit,
            // Who asked may have gone away, here and below.
            Err(why) => return reply.send(Err(why)).unwrap_or_default(),
        };
        let (executor, turns) = (executor.clone(), Arc::clone(&bounds.turns));
        self.tasks.spawn(async move {
            let used = if job.tool.looks() {
                look(&executor, &rows, &job, &lines, &turns).await
            } else {
                change(&executor, &rows, &job, &lines).await
            };
            drop(permit);
            reply.send(used).unwrap_or_default();
        });
    }

    /// Gives up what is under way; on the servers it goes on.
    pub(super) async fn abandon(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn look(
    executor: &Executor,
    rows: &RepmgrRows,
    job: &Job,
    lines: &Lines,
    turns: &Semaphore,
) -> Result<(), String> {
    let turn = tokio::select! {
        turn = timeout(PATIENCE, turns.acquire()) => turn,
        () = lines.closed() => return Err("nobody waits for it any more".to_owned()),
    };
    let Ok(Ok(_turn)) = turn else {
        return Err(format!("other looks at node {} have not ended within {PATIENCE:?}", job.node));
    };
    let looked = executor.tool(job, rows, lines).await;
    debug!(node = %job.node, tool = %job.tool, ?looked, "somebody has looked");
    looked
}

async fn change(executor: &Executor, rows: &RepmgrRows, job: &Job, lines: &Lines) -> Result<(), String> {
    let Job { node, tool, .. } = job;
    info!(%node, %tool, "an operator's order begins");
    let began = Instant::now();
    let changed = executor.tool(job, rows, lines).await;
    let milliseconds = began.elapsed().as_millis();
    match &changed {
        Ok(()) => info!(%node, %tool, milliseconds, "an operator's order is carried out"),
        Err(why) => warn!(%node, %tool, milliseconds, why, "an operator's order is not carried out"),
    }
    changed
}

impl Actor {
    /// Lets somebody use a tool, who is told why if he may not.
    pub(super) fn lend(&mut self, Use { node, tool, lines, reply }: Use) {
        let changes = !tool.looks();
        match self.machine.job(Instant::now(), node, tool) {
            Ok(job) => self.tools.begin(&self.executor, self.repmgr_rows(), job, (lines, reply)),
            Err(why) => {
                if changes {
                    warn!(%node, why, "an operator's order is refused");
                }
                // Who asked may have gone away.
                reply.send(Err(why)).unwrap_or_default();
            }
        }
    }
}
