//! The steps that are taken over ssh, with repmgr and PostgreSQL's programs.

mod tools;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{Node, NodeId, ProberSettings, RepmgrNode};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::control::{Remains, recalled, remains, stopped};
use super::ran::{Failure, Ran, excerpt, judge};
use super::settings::{ExecutorSettings, RepmgrSettings};
use super::shell;
use super::sql::Sql;
use super::ssh::Ssh;
use crate::{Limit, Loss, Outcome};

/// repmgr's rows of the servers, as far as they are known.
pub type RepmgrRows = Arc<BTreeMap<NodeId, RepmgrNode>>;

/// Exit statuses of a shell that found no program to run, and repmgr's for a configuration that it cannot read.
const NEVER_RAN: [u32; 3] = [1, 126, 127];
/// Before it promotes, repmgr asks every server whether it leads, and waits for one that is silent as long as its `connect_timeout` says.
/// One that has not answered a login for so long is not waited for.
const SILENT_AFTER: Duration = Duration::from_millis(250);
/// repmgr's exit status for a promotion that failed, or that it refuses since another server says that it is writable.
const ANOTHER_LEADS: u32 = 8;
/// What repmgr and pg_rewind say where the server's settings forbid a rewind, or its WAL back to the fork is gone.
const NOT_REWINDABLE: [&str; 4] = [
    "pg_rewind cannot be used",
    "could not find previous WAL record",
    "could not read WAL record",
    "could not find common ancestor",
];
/// What repmgr advises where a rejoin needs a rewind.
const NEEDS_REWIND: [&str; 2] = ["use --force-rewind to execute", "provide --force-rewind"];
/// Exit statuses of [`shell::RECOVER`].
const HALF_REWOUND: u32 = 3;
const A_STANDBY: u32 = 5;
/// After repmgr has failed, the standby may yet attach for this long.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// How a step ended, or why the server's sshd could not be reached: then nothing was done.
pub(super) type OverSsh = Result<Outcome, String>;

#[derive(Debug)]
pub(super) struct Remote {
    nodes: BTreeMap<NodeId, Node>,
    monitor: Arc<ProberSettings>,
    repmgr: RepmgrSettings,
    pub(super) ssh: Ssh,
    /// Sessions for what people look at and do, opened when they are needed first. They are others than those of a failover, which so many
    /// channels as sshd allows on one session, or much output, would otherwise disturb.
    tools: Ssh,
}

impl Remote {
    pub(super) fn new(nodes: &[Node], monitor: Arc<ProberSettings>, settings: &ExecutorSettings) -> Self {
        let (ssh, tools) = (Ssh::new(nodes, settings.ssh.clone()), Ssh::new(nodes, settings.ssh.clone()));
        let nodes = nodes.iter().map(|node| (node.id, node.clone())).collect();
        Self { nodes, monitor, repmgr: settings.repmgr.clone(), ssh, tools }
    }

    pub(super) async fn fence(&self, node: NodeId) -> Outcome {
        let ran = self.run(node, shell::FENCE, &[]).await;
        let stopped = ran.as_ref().is_ok_and(|ran| ran.output.starts_with("stopped"));
        match judge(ran, &[3]) {
            Outcome::Done => Outcome::Fenced { stopped },
            outcome => outcome,
        }
    }

    pub(super) async fn rehearse(&self, node: NodeId) -> Outcome {
        judge(self.run(node, shell::REHEARSE, &[]).await, &[3])
    }

    pub(super) async fn stop(&self, node: NodeId) -> Outcome {
        stopped(self.run(node, shell::STOP_CLEANLY, &[]).await, &[3])
    }

    pub(super) async fn recall(&self, node: NodeId) -> Outcome {
        recalled(self.run(node, shell::RECALL, &[]).await)
    }

    /// As repmgr's configuration says how servers are started there.
    pub(super) async fn start(&self, node: NodeId, rows: &RepmgrRows) -> Outcome {
        let command = ["node", "service", "--action=start"];
        judge(self.repmgr(node, rows, shell::LAUNCH, &command).await, &NEVER_RAN)
    }

    /// Ends one process of a server; that it has ended is for the caller to see.
    pub(super) async fn end_process(&self, node: NodeId, pid: i32) {
        let ended = self.run(node, shell::END_PROCESS, &[&pid.to_string()]).await;
        debug!(%node, pid, ?ended, "process ended");
    }

    pub(super) async fn can_log_in(&self, node: NodeId, target: NodeId) -> Outcome {
        let Some(server) = self.nodes.get(&target) else { return unconfigured(target) };
        let port = server.port.to_string();
        let arguments = [&server.host, &port, &self.monitor.user, &self.monitor.database].map(String::as_str);
        // "No" is an answer; a question that never got there is none, and neither is "alive but unwilling".
        let ran = self.run(node, shell::LOG_IN, &arguments).await;
        let was_asked = ran.is_ok();
        match judge(ran, &[4]) {
            Outcome::Failed(reason) if !was_asked => Outcome::Unknown(reason),
            outcome => outcome,
        }
    }

    pub(super) async fn promote(&self, node: NodeId, rows: &RepmgrRows, sql: &Sql) -> OverSsh {
        if let Some(refused) = sql.refuse_without_lock(node).await {
            return Ok(refused);
        }
        let told = self.repmgr(node, rows, shell::RUN, &["standby", "promote"]);
        tokio::pin!(told);
        let ran = tokio::select! {
            ran = &mut told => ran,
            () = sql.somebody_is_silent(node, SILENT_AFTER) => {
                info!(%node, "repmgr would wait for a server that is silent: it is promoted over SQL");
                match sql.promote(node, rows).await {
                    Outcome::Done => return Ok(Outcome::Done),
                    // repmgr may yet promote it.
                    _ => told.await,
                }
            }
        };
        let ran = reached(ran)?;
        let refused = ran.as_ref().is_ok_and(|ran| ran.status == ANOTHER_LEADS);
        let outcome = sql.settle(node, judge(ran, &NEVER_RAN)).await;
        if refused && matches!(outcome, Outcome::Failed(_)) && sql.is_misled(node).await {
            warn!(%node, "repmgr takes a server of another cluster for the primary: it is promoted over SQL");
            return Ok(sql.promote(node, rows).await);
        }
        Ok(outcome)
    }

    pub(super) async fn follow(
        &self,
        node: NodeId,
        upstream: NodeId,
        rows: &RepmgrRows,
        sql: &Sql,
    ) -> OverSsh {
        let (Some(name), Some(upstream_row)) = (name_of(node, rows), rows.get(&upstream)) else {
            let why = format!("repmgr.nodes names node {node} or node {upstream} nowhere");
            return Ok(Outcome::Failed(why));
        };
        sql.complete_promotion(upstream, rows).await;
        let upstream_id = format!("--upstream-node-id={}", upstream_row.node_id);
        let ran = reached(self.repmgr(node, rows, shell::RUN, &["standby", "follow", &upstream_id]).await)?;
        Ok(attached(judge(ran, &NEVER_RAN), sql, upstream, name).await)
    }

    /// Stops a server, and brings what it has to where it can be rejoined, if that may be lost: true if it is a standby there, and what
    /// is lost, as far as that can be told.
    pub(super) async fn recover(&self, node: NodeId, limit: &Limit) -> Result<(bool, Option<Loss>), Outcome> {
        self.halt(node).await?;
        let loss = self.loss(node, limit).await?;
        match self.run(node, shell::RECOVER, &[]).await {
            Ok(Ran { status: HALF_REWOUND, output }) => Err(Outcome::NotRewindable(excerpt(&output))),
            Ok(Ran { status: A_STANDBY, .. }) => Ok((true, loss)),
            ran => match judge(ran, &[]) {
                Outcome::Done => Ok((false, loss)),
                outcome => Err(outcome),
            },
        }
    }

    /// What a server that is down has beside the lineage, if that may be lost. What nobody can tell may be anything; but a standby has
    /// written nothing itself, and its last report has to do.
    async fn loss(&self, node: NodeId, limit: &Limit) -> Result<Option<Loss>, Outcome> {
        let why = match remains(self.run(node, shell::REMAINS, &[]).await) {
            Remains::Told(branch, end) => match Loss::past_fork(&limit.lineage, &branch, end) {
                Some(loss) if limit.allows(&loss) => return Ok(Some(loss)),
                Some(loss) => return Err(Outcome::Kept(loss)),
                None if limit.lineage == branch => return Ok(None),
                None => format!("it is on {branch}, which {} does not contain", limit.lineage),
            },
            Remains::Interrupted(why) => return Err(Outcome::NotRewindable(why)),
            Remains::OfStandby(why) => {
                warn!(%node, reason = why, "what the standby has of its own is told by its last report alone");
                return Ok(None);
            }
            Remains::Untold(why) => why,
        };
        if limit.allows_all() {
            warn!(%node, reason = why, "what the server has of its own is not known, and is given up");
            return Ok(None);
        }
        Err(Outcome::Failed(format!(
            "what WAL of its own it has cannot be told, and may be more than failover.max_data_loss: {why}"
        )))
    }

    /// Rewinds and starts a server that was recovered.
    pub(super) async fn rejoin(
        &self,
        (node, standby): (NodeId, bool),
        upstream: NodeId,
        rows: &RepmgrRows,
        sql: &Sql,
    ) -> Outcome {
        let Some(primary) = self.nodes.get(&upstream) else { return unconfigured(upstream) };
        let Some(name) = name_of(node, rows) else {
            return Outcome::Failed(format!("repmgr.nodes names node {node} nowhere"));
        };
        sql.complete_promotion(upstream, rows).await;
        let conninfo = self.conninfo(primary);
        let ran = self.rewound_or_not(node, rows, &conninfo, standby).await;
        if let Some(why) = ran.as_ref().ok().and_then(not_rewindable) {
            return Outcome::NotRewindable(why.to_owned());
        }
        attached(judge(ran, &[127]), sql, upstream, name).await
    }

    /// A standby may have been rewound already: that is not done to it again, since `pg_rewind` would not see it where the standby
    /// has not been beyond the fork since.
    async fn rewound_or_not(
        &self,
        node: NodeId,
        rows: &RepmgrRows,
        conninfo: &str,
        standby: bool,
    ) -> Result<Ran, Failure> {
        let plain = ["node", "rejoin", "-d", conninfo];
        if standby {
            let ran = self.repmgr(node, rows, shell::REJOIN, &plain).await;
            if !ran.as_ref().is_ok_and(needs_rewind) {
                return ran;
            }
        }
        self.repmgr(node, rows, shell::REJOIN, &[&plain[..], &["--force-rewind"]].concat()).await
    }

    /// Throws the server's data directory away, and makes it anew from `upstream`.
    pub(super) async fn clone_anew(
        &self,
        node: NodeId,
        upstream: NodeId,
        rows: &RepmgrRows,
        sql: &Sql,
    ) -> Outcome {
        let Some(primary) = self.nodes.get(&upstream) else { return unconfigured(upstream) };
        let (Some(name), Some(above)) = (name_of(node, rows), rows.get(&upstream)) else {
            return Outcome::Failed(format!("repmgr.nodes names node {node} or node {upstream} nowhere"));
        };
        if let Err(outcome) = self.halt(node).await {
            return outcome;
        }
        let (conninfo, above) = (self.conninfo(primary), format!("--upstream-node-id={}", above.node_id));
        let clone = ["-d", &conninfo, "standby", "clone", "--force", "--fast-checkpoint", &above];
        match judge(self.repmgr(node, rows, shell::CLONE, &clone).await, &[127]) {
            Outcome::Done => {}
            outcome => return outcome,
        }
        sql.wait_streaming(upstream, name).await;
        sql.record_standby(node, upstream, rows).await;
        Outcome::Done
    }

    /// Leaves no process of the server, and none that works on its data directory.
    async fn halt(&self, node: NodeId) -> Result<(), Outcome> {
        for (script, unchanged) in [(shell::UNTOUCHED, &[3][..]), (shell::STOP, &[]), (shell::FENCE, &[3])] {
            match judge(self.run(node, script, &[]).await, unchanged) {
                Outcome::Done => {}
                outcome => return Err(outcome),
            }
        }
        Ok(())
    }

    /// How a server logs in at another: its password comes from a file of its own.
    fn conninfo(&self, server: &Node) -> String {
        format!(
            "host={} port={} user={} dbname={} connect_timeout=5",
            quote(&server.host),
            server.port,
            quote(&self.monitor.user),
            quote(&self.monitor.database)
        )
    }

    async fn repmgr(
        &self,
        node: NodeId,
        rows: &RepmgrRows,
        script: &str,
        command: &[&str],
    ) -> Result<Ran, Failure> {
        let program = self.repmgr_of(node, rows)?;
        self.run(node, script, &[&program.each_ref().map(String::as_str), command].concat()).await
    }

    /// repmgr's program with its configuration there.
    fn repmgr_of(&self, node: NodeId, rows: &RepmgrRows) -> Result<[String; 3], Failure> {
        let not_started = |reason: &str| Failure::NotStarted(reason.to_owned());
        let server = self.nodes.get(&node).ok_or_else(|| not_started("it is not configured"))?;
        let config = self
            .repmgr
            .config_of(server, name_of(node, rows))
            .ok_or_else(|| not_started("repmgr's name of it is not known"))?;
        Ok([self.repmgr.binary.clone(), "-f".to_owned(), config])
    }

    async fn run(&self, node: NodeId, body: &str, arguments: &[&str]) -> Result<Ran, Failure> {
        self.ssh.run(node, self.script(node, body, arguments)?).await
    }

    fn script(&self, node: NodeId, body: &str, arguments: &[&str]) -> Result<String, Failure> {
        let server = self
            .nodes
            .get(&node)
            .ok_or_else(|| Failure::NotStarted(format!("node {node} is not configured")))?;
        let programs = self.repmgr.pg_bindir.as_deref().unwrap_or_default();
        shell::script(body, &[&[programs, &server.data_directory], arguments].concat())
            .ok_or_else(|| Failure::NotStarted("an argument has a NUL in it".to_owned()))
    }
}

fn reached(ran: Result<Ran, Failure>) -> Result<Result<Ran, Failure>, String> {
    match ran {
        Err(Failure::Unreachable(why)) => Err(why),
        ran => Ok(ran),
    }
}

/// repmgr says that a standby follows even where it never attached: only its upstream knows.
async fn attached(outcome: Outcome, sql: &Sql, upstream: NodeId, name: &str) -> Outcome {
    match outcome {
        Outcome::Done => {
            sql.wait_streaming(upstream, name).await;
            Outcome::Done
        }
        Outcome::Unknown(reason) => match timeout(AFTER_FAILURE, sql.wait_streaming(upstream, name)).await {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::Unknown(reason),
        },
        failed => failed,
    }
}

fn name_of(node: NodeId, rows: &RepmgrRows) -> Option<&str> {
    rows.get(&node).map(|row| row.node_name.as_str())
}

/// Why a rewind that was tried cannot be done, whenever it is tried; none if another attempt may go better.
fn not_rewindable(ran: &Ran) -> Option<&str> {
    let line = |line: &&str| NOT_REWINDABLE.iter().any(|words| line.contains(words));
    (ran.status != 0).then(|| ran.output.lines().find(line)).flatten().map(str::trim)
}

/// It was not rejoined, since it has WAL of its own.
fn needs_rewind(ran: &Ran) -> bool {
    ran.status != 0 && NEEDS_REWIND.iter().any(|words| ran.output.contains(words))
}

/// A value of a libpq connection string.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn unconfigured(node: NodeId) -> Outcome {
    Outcome::Failed(format!("node {node} is not configured"))
}
