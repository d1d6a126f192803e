//! What a look at the servers over ssh gives, and what can be done there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_failover::actor::Control;
use pgherd_failover::{Backup, Disk, NodeCheck, Program, Tool};
use pgherd_health::NodeId;
use pgherd_manager::model::{Action, BackupKind};
use pgherd_manager::show_time;
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;

/// What was seen is good for so long: however many look, it is looked once.
const FRESH: Duration = Duration::from_secs(3);
/// Share of a disk, in percent, from which it is worth a look, and from which it is urgent.
const FILLS: u8 = 60;
const IS_FULL: u8 = 80;

/// What was seen of late.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<(NodeId, What), Look>>);

/// One look, by whom it is taken or was.
type Look = Arc<Mutex<Option<Seen>>>;

type Seen = (Instant, Result<Json, String>);

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// Programs, disks, and repmgr's checks.
    Checks,
    /// Backups.
    Backups,
}

impl Looks {
    /// Looks, unless that was done a moment ago. Who comes while somebody looks waits for what that one sees.
    pub(super) async fn at(&self, control: &Control, node: NodeId, what: What) -> Result<Json, String> {
        let look = Arc::clone(self.0.lock().await.entry((node, what)).or_default());
        let mut last = look.lock().await;
        if let Some((_, seen)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return seen.clone();
        }
        let seen = match what {
            What::Checks => checks(control, node).await,
            What::Backups => backups(control, node).await,
        };
        *last = Some((Instant::now(), seen.clone()));
        seen
    }
}

async fn checks(control: &Control, node: NodeId) -> Result<Json, String> {
    let (programs, disks, repmgr) = tokio::join!(
        control.look(node, Tool::Programs),
        control.look(node, Tool::Disks),
        control.look(node, Tool::RepmgrChecks),
    );
    if let (Err(why), Err(_), Err(_)) = (&programs, &disks, &repmgr) {
        return Err(why.clone());
    }
    // Where supervisord is not there, it says so.
    let told = |lines: &[String]| Program::all(lines).is_empty().then(|| lines.join(" "));
    let program = |it: Program| json!({ "name": it.name, "state": it.state, "detail": it.detail });
    let disk = |it: Disk| {
        let percent = it.percent();
        json!({
            "path": it.path, "what": it.what.to_string(), "size": it.size, "used": it.used, "percent": percent, "level": level(percent),
        })
    };
    let check = |it: NodeCheck| json!({ "check": it.check, "ok": it.ok, "detail": it.detail });
    Ok(json!({
        "programs": programs.as_deref().map(|it| Program::all(it).into_iter().map(program).collect()).unwrap_or(json!([])),
        "programs_error": programs.as_deref().map_or_else(|why| Some(why.clone()), told),
        "disks": disks.as_deref().map(|it| Disk::all(it).into_iter().map(disk).collect()).unwrap_or(json!([])),
        "disks_error": disks.err(),
        "repmgr": repmgr.as_deref().map(|it| NodeCheck::all(it).into_iter().map(check).collect()).unwrap_or(json!([])),
        "repmgr_error": repmgr.err(),
    }))
}

const fn level(percent: u8) -> &'static str {
    match percent {
        IS_FULL.. => "critical",
        FILLS.. => "warning",
        _ => "ok",
    }
}

async fn backups(control: &Control, node: NodeId) -> Result<Json, String> {
    let lines = control.look(node, Tool::Backups).await?;
    let backup = |it: Backup| {
        json!({
            "name": it.name, "kind": it.kind.to_string(), "database": it.database, "at": show_time(it.at), "size": it.size,
        })
    };
    Ok(Backup::all(&lines).into_iter().map(backup).collect())
}

/// The tool that does an action, and on which server.
pub(super) fn tool(action: &Action) -> Option<(NodeId, Tool)> {
    let (node, tool) = match action {
        Action::Stop { node } => (node, Tool::Stop),
        Action::Start { node } => (node, Tool::Start),
        Action::Unregister { node } => (node, Tool::Unregister),
        Action::Backup { node, kind: BackupKind::Base, .. } => (node, Tool::BackUpBase),
        Action::Backup { node, kind: BackupKind::Dump, database } => {
            (node, Tool::BackUpDump { database: database.clone() })
        }
        Action::BackupDelete { node, name } => (node, Tool::DeleteBackup { name: name.clone() }),
        Action::BackupRestore { node, name, database } => {
            (node, Tool::RestoreDump { name: name.clone(), database: database.clone() })
        }
        _ => return None,
    };
    Some((NodeId(*node), tool))
}

/// What it would do, in a sentence.
pub(super) fn would(node: NodeId, tool: &Tool) -> String {
    match tool {
        Tool::Stop => format!("Stop PostgreSQL on node {node} cleanly, and leave it down."),
        Tool::Start => format!("Start PostgreSQL on node {node}."),
        Tool::Unregister => format!("Have repmgr forget node {node}."),
        Tool::BackUpBase => format!("Copy the whole of node {node} to its backups."),
        Tool::BackUpDump { database: Some(database) } => {
            format!("Dump {database} to the backups of node {node}.")
        }
        Tool::BackUpDump { database: None } => {
            format!("Dump the database of PGDATABASE_NAME to the backups of node {node}.")
        }
        Tool::DeleteBackup { name } => format!("Delete {name} from the backups of node {node}."),
        Tool::RestoreDump { name, database } => {
            format!("Make the database {database} of the dump {name}, on node {node}.")
        }
        Tool::Programs | Tool::Disks | Tool::RepmgrChecks | Tool::Backups => format!("Look at node {node}."),
    }
}
