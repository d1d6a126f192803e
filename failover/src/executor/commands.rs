//! The steps for which an operator has given commands.
//!
//! An exit status of 0 is believed of none of them: what it was to bring about is looked at.

use std::collections::BTreeMap;

use pgherd_health::{Node, NodeId};

use super::control::stopped;
use super::local;
use super::ran::{Failure, Ran, excerpt, judge};
use super::remote::RepmgrRows;
use super::settings::CommandSettings;
use super::sql::Sql;
use super::template::{Subject, Template, Values};
use crate::{Command, Outcome, Step};

/// What a command for a rejoin ends with where only a clone helps.
const NOT_REWINDABLE: u32 = 3;

#[derive(Debug)]
pub(super) struct Commands {
    nodes: BTreeMap<NodeId, Node>,
    commands: CommandSettings,
}

impl Commands {
    pub(super) fn new(nodes: &[Node], commands: CommandSettings) -> Self {
        Self { nodes: nodes.iter().map(|node| (node.id, node.clone())).collect(), commands }
    }

    /// Takes a step; none if there is no command for it.
    pub(super) async fn take(&self, command: &Command, rows: &RepmgrRows, sql: &Sql) -> Option<Outcome> {
        if command.step == Step::Rehearse {
            return self.rehearse();
        }
        if matches!(command.step, Step::Rejoin { .. }) && self.commands.rejoin.is_none() {
            let clone = self.commands.clone.is_some();
            return clone.then(|| Outcome::NotRewindable("there is no command for it".to_owned()));
        }
        let (name, template) = self.template(&command.step)?;
        let node = command.node;
        let run = self.run(name, template, command, rows);
        Some(match command.step {
            Step::Promote => match sql.refuse_without_lock(node).await {
                Some(refused) => refused,
                None => sql.promoted(node, judge(run.await, &[]), rows).await,
            },
            Step::Fence => {
                let listened = sql.listens(node).await;
                match judge(run.await, &[]) {
                    Outcome::Done if sql.listens(node).await => Outcome::Failed(
                        "the command has ended well, and the server takes connections".to_owned(),
                    ),
                    Outcome::Done => Outcome::Fenced { stopped: listened },
                    outcome => outcome,
                }
            }
            Step::Stop => match stopped(run.await, &[]) {
                Outcome::Stopped { .. } if sql.listens(node).await => Outcome::Unknown(
                    "the command says that it is shut down, and the server takes connections".to_owned(),
                ),
                outcome => outcome,
            },
            Step::Start => match judge(run.await, &[]) {
                Outcome::Done => sql.answers(node).await,
                outcome => outcome,
            },
            Step::Follow { upstream } | Step::Rejoin { upstream, .. } | Step::Clone { upstream } => {
                match rejoined(&command.step, run.await) {
                    Outcome::Done => sql.followed(node, upstream, rows).await,
                    outcome => outcome,
                }
            }
            _ => judge(run.await, &[]),
        })
    }

    /// A switchover needs both: a primary that was stopped for nothing is started again.
    fn rehearse(&self) -> Option<Outcome> {
        let CommandSettings { stop, start, .. } = &self.commands;
        (stop.is_some() && start.is_some()).then_some(Outcome::Done)
    }

    fn template(&self, step: &Step) -> Option<(&'static str, &Template)> {
        let CommandSettings { promote, fence, follow, rejoin, clone, stop, start } = &self.commands;
        let (name, template) = match step {
            Step::Promote => ("promote", promote),
            Step::Fence => ("fence", fence),
            Step::Follow { .. } => ("follow", follow),
            Step::Rejoin { .. } => ("rejoin", rejoin),
            Step::Clone { .. } => ("clone", clone),
            Step::Stop => ("stop", stop),
            Step::Start => ("start", start),
            _ => return None,
        };
        Some((name, template.as_ref()?))
    }

    async fn run(
        &self,
        name: &'static str,
        template: &Template,
        command: &Command,
        rows: &RepmgrRows,
    ) -> Result<Ran, Failure> {
        let subject = |id: NodeId| {
            let node = self.nodes.get(&id)?;
            Some(Subject { node, name: rows.get(&id).map(|row| row.node_name.as_str()) })
        };
        let upstream = match command.step {
            Step::Follow { upstream } | Step::Rejoin { upstream, .. } | Step::Clone { upstream } => {
                Some(upstream)
            }
            _ => None,
        };
        let known = |id: NodeId| {
            subject(id).ok_or_else(|| Failure::NotStarted(format!("node {id} is not configured")))
        };
        let values = Values { server: known(command.node)?, upstream: upstream.map(known).transpose()? };
        // What it has done is yet to be seen.
        local::run(name, template, &values, command.deadline - command.deadline / 10).await
    }
}

/// A status of its own says that a server cannot be rewound.
fn rejoined(step: &Step, ran: Result<Ran, Failure>) -> Outcome {
    match (step, ran) {
        (Step::Rejoin { .. }, Ok(Ran { status: NOT_REWINDABLE, output })) => {
            Outcome::NotRewindable(excerpt(&output))
        }
        (_, ran) => judge(ran, &[]),
    }
}
