//! What people look at and do on a server, with what it writes handed on line by line.

use std::time::Duration;

use pgherd_health::{NodeId, RepmgrNodeType};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Remote, RepmgrRows};
use crate::executor::lines::Lines;
use crate::executor::ran::Failure;
use crate::executor::shell::tools as scripts;
use crate::{Job, Tool};

/// How much is passed on in all of a look, and of something else, in bytes: what the scripts themselves leave of it, and a little.
const OF_A_LOOK: usize = 512 * 1024;
const OF_A_DEED: usize = 5 * 1024 * 1024;
/// How long a receiver that is behind has to catch up at the end.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Exit statuses of the scripts that refuse something, or lack a program, and say so in a sentence.
const SAYS_WHY: [u32; 2] = [3, 127];

/// Where a script runs, which, and with what.
struct Plan {
    at: NodeId,
    body: &'static str,
    arguments: Vec<String>,
}

impl Remote {
    /// Uses a tool, and hands on what it says. A look ends when nobody listens any more; anything else goes on.
    pub(in crate::executor) async fn tool(
        &self,
        job: &Job,
        rows: &RepmgrRows,
        lines: &mpsc::Sender<String>,
    ) -> Result<(), String> {
        let Plan { at, body, arguments } = self.plan(job, rows)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let script = self.script(at, body, &arguments).map_err(in_words)?;
        let looks = job.tool.looks();
        // What waits in it is bounded by what is passed on in all.
        let (told, mut tells) = mpsc::unbounded_channel();
        let pass_on = async {
            while let Some(line) = tells.recv().await {
                if lines.send(line).await.is_err() {
                    break;
                }
            }
        };
        let until = async {
            tokio::select! {
                () = sleep(job.tool.lasts()) => format!("it has not ended within {:?}", job.tool.lasts()),
                () = lines.closed(), if looks => "nobody waits for it any more".to_owned(),
            }
        };
        let run = async move {
            let mut said = Lines::up_to(if looks { OF_A_LOOK } else { OF_A_DEED });
            let tell = |line: String| told.send(line).unwrap_or_default();
            let ended =
                self.tools.stream(at, script, until, |data| said.take(data).into_iter().for_each(tell)).await;
            said.rest().into_iter().for_each(tell);
            conclude(ended, &said)
        };
        tokio::pin!(run, pass_on);
        tokio::select! {
            ended = &mut run => {
                // Whoever does not take it all by then gets how it ended all the same.
                let _ = timeout(LAST_WORDS, pass_on).await;
                ended
            }
            () = &mut pass_on => run.await,
        }
    }

    fn plan(&self, job: &Job, rows: &RepmgrRows) -> Result<Plan, String> {
        let node = job.node;
        let plan = |body, words: &[&str]| {
            Ok(Plan { at: node, body, arguments: words.iter().map(|it| (*it).to_owned()).collect() })
        };
        let by_repmgr = |at, body, command: &[&str]| {
            let program = self.repmgr_of(at, rows).map_err(in_words)?;
            let command = command.iter().map(|word| (*word).to_owned());
            Ok(Plan { at, body, arguments: program.into_iter().chain(command).collect() })
        };
        match &job.tool {
            Tool::Programs => plan(scripts::PROGRAMS, &[]),
            Tool::Disks => plan(scripts::DISKS, &[]),
            Tool::RepmgrChecks => by_repmgr(node, scripts::CHECKS, &["node", "check"]),
            Tool::Backups => plan(scripts::BACKUPS, &[]),
            Tool::Stop => {
                let mut plan =
                    by_repmgr(node, scripts::STOP_FOR_GOOD, &["node", "service", "--action=stop"])?;
                plan.arguments.insert(0, if job.was_standby { "standby".to_owned() } else { String::new() });
                Ok(plan)
            }
            Tool::Start => {
                let mut plan = by_repmgr(node, scripts::START, &["node", "service", "--action=start"])?;
                plan.arguments.insert(0, job.only_as_standby.clone().unwrap_or_default());
                Ok(plan)
            }
            Tool::Unregister => {
                let row =
                    rows.get(&node).ok_or_else(|| format!("node {node} is not registered with repmgr"))?;
                let primary = job.primary.ok_or("there is no primary that repmgr could be told by")?;
                let kind = match row.node_type {
                    RepmgrNodeType::Primary => "primary",
                    RepmgrNodeType::Standby => "standby",
                    RepmgrNodeType::Witness => "witness",
                };
                let id = format!("--node-id={}", row.node_id);
                by_repmgr(primary, scripts::RUN, &[kind, "unregister", &id])
            }
            Tool::BackUpBase => plan(scripts::BACKUP, &["base"]),
            Tool::BackUpDump { database: None } => plan(scripts::BACKUP, &["dump"]),
            Tool::BackUpDump { database: Some(database) } => plan(scripts::BACKUP, &["dump", database]),
            Tool::DeleteBackup { name } => plan(scripts::BACKUP, &["delete", name]),
            Tool::RestoreDump { name, database } => plan(scripts::BACKUP, &["restore", name, database]),
        }
    }
}

/// How it ended, by the exit status and by what it said.
fn conclude(ended: Result<u32, Failure>, said: &Lines) -> Result<(), String> {
    match (ended, said.error(), said.last()) {
        (Ok(0), ..) => Ok(()),
        (Ok(status), None, last) if SAYS_WHY.contains(&status) && !last.is_empty() => Err(last.to_owned()),
        (Ok(status), None, "") => Err(format!("it has failed, and said nothing (exit status {status})")),
        (Ok(_), Some(error), _) => Err(error.to_owned()),
        (Ok(status), None, last) => Err(format!("{last} (exit status {status})")),
        (Err(failure), ..) => Err(in_words(failure)),
    }
}

fn in_words(failure: Failure) -> String {
    let (Failure::Unreachable(why) | Failure::NotStarted(why) | Failure::Lost(why)) = failure;
    why
}
