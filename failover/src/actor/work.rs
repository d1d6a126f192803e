//! The commands that are under way.

use std::collections::HashMap;

use pgherd_health::NodeId;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::etcd::Lease;
use crate::{Candidate, Command, CommandId, Ended, Event, Executor, Loss, Outcome, RepmgrRows, Step};

/// One task for each command; every task is waited for.
#[derive(Debug, Default)]
pub(super) struct Work {
    tasks: JoinSet<(CommandId, Outcome)>,
    /// For the one thing that a task cannot say itself: that it has panicked.
    ids: HashMap<Id, CommandId>,
}

impl Work {
    /// Begins `commands`: side by side on different servers, one after the other on one.
    pub(super) fn begin(
        &mut self,
        (executor, lease): (&Executor, Option<&Lease>),
        commands: Vec<Command>,
        rows: &RepmgrRows,
        candidacy: impl Fn(NodeId) -> Option<Candidate>,
    ) {
        let mut before: HashMap<NodeId, oneshot::Receiver<()>> = HashMap::new();
        for command in commands {
            let (done, wait) = oneshot::channel();
            let earlier = before.insert(command.node, wait);
            let (executor, rows, id) = (executor.clone(), RepmgrRows::clone(rows), command.id);
            let candidate = (command.step == Step::Promote).then(|| candidacy(command.node)).flatten();
            let lease = lease.cloned().map(|lease| (lease, candidate));
            let task = self.tasks.spawn(async move {
                if let Some(earlier) = earlier {
                    // Ends when the earlier command does, however it ends.
                    let _ = earlier.await;
                }
                let outcome = carry_out((&executor, lease), &command, &rows).await;
                drop(done);
                (command.id, outcome)
            });
            self.ids.insert(task.id(), id);
        }
    }

    /// Ends `commands` without carrying them out.
    pub(super) fn refuse(&mut self, commands: Vec<Command>, why: &'static str) {
        for Command { id, .. } in commands {
            let task = self.tasks.spawn(async move { (id, Outcome::Failed(why.to_owned())) });
            self.ids.insert(task.id(), id);
        }
    }

    /// The end of a command; none while there is none under way. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Option<Event> {
        let (task, id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((task, (id, outcome))) => (task, id, outcome),
            Err(error) => {
                let id = *self.ids.get(&error.id())?;
                (error.id(), id, Outcome::Unknown(format!("its task failed: {error}")))
            }
        };
        self.ids.remove(&task);
        Some(Event::Ended { id, outcome })
    }

    /// Gives up what is under way.
    pub(super) async fn abandon(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// With `lease`, only as long as it is held: that is seen in etcd beforehand, and by the clock from then on.
async fn carry_out(
    (executor, lease): (&Executor, Option<(Lease, Option<Candidate>)>),
    command: &Command,
    rows: &RepmgrRows,
) -> Outcome {
    let (id, node, step) = (command.id.0, command.node, &command.step);
    match step {
        // It changes nothing, and is asked of servers that are down for as long as they are.
        Step::Recall => debug!(id, %node, "who has stopped it?"),
        _ => info!(id, %node, ?step, "command begins"),
    }
    let began = tokio::time::Instant::now();
    // What this pgherd has locked itself it lets go in any case: whoever holds the lease now needs it.
    let outcome = match lease.filter(|_| *step != Step::Unlock) {
        None => executor.run(command, rows).await,
        Some(lease) => under(lease, executor, command, rows).await,
    };
    let milliseconds = began.elapsed().as_millis();
    match &outcome {
        Outcome::Done => info!(id, %node, ?step, milliseconds, "command done"),
        Outcome::Fenced { stopped } => info!(id, %node, stopped, milliseconds, "server fenced"),
        Outcome::Stopped { checkpoint } => info!(id, %node, %checkpoint, milliseconds, "server shut down"),
        Outcome::Recalled { branch, ended: Ended::ShutDown { checkpoint } } => {
            info!(id, %node, %branch, %checkpoint, milliseconds, "server was shut down by a pgherd");
        }
        Outcome::Recalled { branch, ended: Ended::Fenced { end, .. } } => {
            info!(id, %node, %branch, %end, milliseconds, "server was fenced by a pgherd");
        }
        Outcome::Rejoined(Loss { from, to }) => {
            info!(id, %node, lost = to.bytes_since(*from), %from, %to, milliseconds, "server rejoined");
        }
        Outcome::Kept(loss) => warn!(id, %node, %loss, milliseconds, "server is not rejoined"),
        Outcome::Frozen { lsn } => info!(id, %node, %lsn, milliseconds, "standby frozen"),
        Outcome::NotRewindable(reason) => {
            warn!(id, %node, ?step, milliseconds, %reason, "server cannot be rewound");
        }
        Outcome::Failed(reason) => warn!(id, %node, ?step, milliseconds, %reason, "command failed"),
        Outcome::Unknown(reason) => {
            warn!(id, %node, ?step, milliseconds, %reason, "outcome of the command unknown");
        }
    }
    outcome
}

async fn under(
    (lease, candidate): (Lease, Option<Candidate>),
    executor: &Executor,
    command: &Command,
    rows: &RepmgrRows,
) -> Outcome {
    let began = tokio::time::Instant::now();
    match timeout(command.deadline, lease.check(candidate)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Outcome::Failed(why),
        Err(_) => return Outcome::Failed("etcd does not answer".to_owned()),
    }
    // What the look has taken is not added to the time that the machine gives the command.
    let deadline = command.deadline.saturating_sub(began.elapsed());
    let command = Command { deadline, ..command.clone() };
    tokio::select! {
        // Without the lease nothing is begun, and what has ended was perhaps not done under it.
        biased;
        () = lease.lost() => Outcome::Unknown("the lease in etcd has run out".to_owned()),
        outcome = executor.run(&command, rows) => outcome,
    }
}
