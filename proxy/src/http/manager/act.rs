//! What the manager orders.

use std::time::Duration;

use pgherd_failover::{Order, Terms};
use pgherd_health::{NodeId, TimelineId};
use pgherd_manager::model::{Action, Rehearsal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::herd::{check, takes_writes};
use super::{Proxy, tools};
use crate::config::{Change, FailoverMode, Refusal};
use crate::console::{is_console, keeping};
use crate::narrator::Narrator;

/// How often it is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Proxy {
    /// What an action would do.
    pub(super) async fn rehearsal(&self, action: &Action) -> Rehearsal {
        let mut rehearsal = match self.order(action) {
            Some(order) => self.rehearse_order(order).await,
            None => match self.would(action).await {
                Ok(would) => Rehearsal { would: Some(would), ..Rehearsal::default() },
                Err(refused) => Rehearsal { refused: Some(refused), ..Rehearsal::default() },
            },
        };
        if rehearsal.refused.is_none() {
            rehearsal.consequences.extend(self.consequences(action));
        }
        rehearsal
    }

    async fn rehearse_order(&self, order: Order) -> Rehearsal {
        let rehearsed = self.shared.control.rehearse(order).await;
        let (would, refused) = match rehearsed.would {
            Ok(would) => (Some(would), None),
            Err(why) => (None, Some(why)),
        };
        let guards = rehearsed.checks.iter().map(check).collect();
        Rehearsal { would, refused, guards, ..Rehearsal::default() }
    }

    /// Does what is ordered, and tells how it goes.
    pub(super) async fn carry_out(
        &self,
        action: &Action,
        lines: mpsc::Sender<String>,
    ) -> Result<String, String> {
        if let Some(order) = self.order(action) {
            let mut narrator = Narrator::from_now(&self.shared.control);
            let told = async {
                loop {
                    for line in narrator.next().await {
                        // Nobody has to listen.
                        let _ = lines.send(line).await;
                    }
                }
            };
            return tokio::select! {
                ended = self.shared.control.order(order) => ended,
                () = told => Err("nobody tells how it goes any more".to_owned()),
            };
        }
        if let Some((node, tool)) = tools::tool(action) {
            let done = format!("done: {}", tools::would(node, &tool));
            return self.shared.control.tool(node, tool, lines).await.map(|()| done);
        }
        ordinary(action)?;
        let backends = &self.shared.backends;
        let all = |database: &Option<String>| database.clone().unwrap_or_else(|| "all databases".to_owned());
        match action {
            Action::Reload {} => self.reload().await,
            Action::Set { key, value } => self.set(key, value.as_deref()).await,
            Action::Pause { database } => self.pause(database.as_deref(), lines).await,
            Action::Resume { database } => {
                if !backends.resume(database.as_deref()) {
                    return Err(format!("{} is not paused", all(database)));
                }
                Ok(format!("server connections of {} are lent again", all(database)))
            }
            Action::Reconnect { database } => {
                backends.renew(database.as_deref());
                Ok(format!("server connections of {} are replaced as they come back", all(database)))
            }
            Action::Disable { database } | Action::Enable { database } => {
                let is_disabled = matches!(action, Action::Disable { .. });
                backends.gates.disable(database, is_disabled);
                let how = if is_disabled { "no client is let in to" } else { "clients are let in again to" };
                Ok(format!("{how} {database}"))
            }
            Action::KillClient { id } => {
                let seat = self.shared.roster.find(*id).ok_or_else(|| no_client(*id))?;
                seat.dismiss();
                self.crew.look();
                Ok(format!("the session of client {id} ends"))
            }
            other => Err(unknown(other)),
        }
    }

    /// The order about the servers that an action is.
    fn order(&self, action: &Action) -> Option<Order> {
        let is_served = || takes_writes(&self.shared).is_some();
        let standby = |node: u32, accept_data_loss, reclone| Order::Rejoin {
            node: NodeId(node),
            accept_data_loss,
            reclone,
        };
        Some(match *action {
            Action::Switchover { node } => Order::Switchover { to: node.map(NodeId) },
            Action::Promote { node } if is_served() => Order::Switchover { to: Some(NodeId(node)) },
            Action::Promote { node } => Order::Failover(Terms { to: Some(NodeId(node)), ..Terms::default() }),
            Action::Failover { node, allow_data_loss, accept_timeline } => Order::Failover(Terms {
                to: node.map(NodeId),
                accept_data_loss: allow_data_loss,
                accept_timeline: accept_timeline.map(TimelineId),
            }),
            Action::Follow { node } => standby(node, false, false),
            Action::Rejoin { node, allow_data_loss } => standby(node, allow_data_loss, false),
            Action::Reclone { node } => standby(node, true, true),
            Action::Attach { node } => Order::Attach(NodeId(node)),
            Action::Detach { node } => Order::Detach(NodeId(node)),
            Action::PauseFailover {} => Order::Pause,
            Action::ResumeFailover {} => Order::Resume,
            _ => return None,
        })
    }

    /// What an action that is no order about the servers would do.
    async fn would(&self, action: &Action) -> Result<String, String> {
        ordinary(action)?;
        if let Some((node, tool)) = tools::tool(action) {
            let would = tools::would(node, &tool);
            return self.shared.control.rehearse_tool(node, tool).await.map(|()| would);
        }
        let named = |database: &Option<String>| match database {
            Some(name) => format!("of database {name}"),
            None => "of all databases".to_owned(),
        };
        Ok(match action {
            Action::Reload {} => {
                "Read the configuration again, and put it into force if it has no error.".to_owned()
            }
            Action::Set { key, value } => {
                Change::new(key, value.as_deref()).map_err(|refusal| refused(key, refusal))?;
                match value {
                    Some(_) if key.ends_with("password") => {
                        format!("Set {key} to what was sent until the next reload or restart.")
                    }
                    Some(value) => format!("Set {key} to {value} until the next reload or restart."),
                    None => format!("Set {key} to what the configuration says."),
                }
            }
            Action::Pause { database } => {
                format!("Lend no more server connections {}, and wait until none is in use.", named(database))
            }
            Action::Resume { database } => format!("Lend server connections {} again.", named(database)),
            Action::Reconnect { database } => {
                format!("Close server connections {} as soon as they come back.", named(database))
            }
            Action::Disable { database } => format!("Let no more clients in to database {database}."),
            Action::Enable { database } => format!("Let clients in to database {database}."),
            Action::KillClient { id } => {
                let seat = self.shared.roster.find(*id).ok_or_else(|| no_client(*id))?;
                let card = seat.card();
                format!("End the session of client {id}: {} in database {}.", card.user, card.database)
            }
            Action::Cancel { node, pid } => format!("Cancel what process {pid} does on server {node}."),
            Action::Terminate { node, pid } => {
                format!("End process {pid} on server {node}, and its transaction.")
            }
            other => return Err(unknown(other)),
        })
    }

    /// What comes of an action beside what it does.
    fn consequences(&self, action: &Action) -> Vec<String> {
        let mut told = Vec::new();
        match action {
            Action::Switchover { .. } | Action::Promote { .. } => {
                told.push(
                    "New transactions wait while the primary changes; open ones are waited for.".to_owned(),
                );
                told.extend(keeping(&self.shared).into_iter().map(|(why, sessions)| {
                    format!("{} because they keep their server connection: {why}.", ending(sessions))
                }));
            }
            Action::Failover { allow_data_loss: true, .. } => {
                told.push("Commits that only the old primary has are given up.".to_owned());
            }
            Action::Reclone { .. } => {
                told.push(
                    "All that is in its data directory is given up, and copied from the primary.".to_owned(),
                );
            }
            Action::Rejoin { allow_data_loss: true, .. } => {
                told.push("What it has written that the primary has not is given up.".to_owned());
            }
            Action::Stop { node } if takes_writes(&self.shared) == Some(*node) => {
                told.push(match self.shared.config.load().failover.mode {
                    FailoverMode::Automatic => "It takes the writes: pgherd promotes a standby in its place.".to_owned(),
                    FailoverMode::Manual => "It takes the writes, and failover.mode is manual: writes wait until somebody orders a failover.".to_owned(),
                });
            }
            Action::Pause { .. } => {
                told.push(
                    "Clients stay connected; what they ask for waits, up to pool.query_wait_timeout."
                        .to_owned(),
                );
            }
            Action::PauseFailover {} => {
                told.push("If the primary dies meanwhile, writes wait until failover is resumed.".to_owned());
            }
            Action::Detach { .. } => {
                told.push(
                    "It is neither read nor promoted until it is attached, or pgherd is restarted."
                        .to_owned(),
                );
            }
            _ => {}
        }
        told
    }

    async fn reload(&self) -> Result<String, String> {
        match self.shared.reload.clone().reload().await {
            Ok(done) if done.changed.is_empty() => Ok("nothing has changed".to_owned()),
            Ok(done) => {
                let later = done.later.iter().map(|it| format!("; {it}")).collect::<String>();
                Ok(format!("changed: {}{later}", done.changed.join(", ")))
            }
            Err(problems) => {
                let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
                Err(format!("the configuration has errors, and nothing has changed: {}", told.join("; ")))
            }
        }
    }

    async fn set(&self, key: &str, value: Option<&str>) -> Result<String, String> {
        let change = Change::new(key, value).map_err(|refusal| refused(key, refusal))?;
        let key = change.key();
        match self.shared.reload.clone().set(change).await {
            Ok(reloaded) => {
                let now = self.shared.config.load().shown(key).unwrap_or_else(|| "unset".to_owned());
                let more: String = reloaded.remarks().map(|it| format!("; {it}")).collect();
                Ok(format!("{key} is {now} now, until the next reload or restart{more}"))
            }
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    async fn pause(&self, database: Option<&str>, lines: mpsc::Sender<String>) -> Result<String, String> {
        let backends = &self.shared.backends;
        if !backends.pause(database) {
            return Err("already paused".to_owned());
        }
        self.shared.hubs.look();
        let mut told = usize::MAX;
        loop {
            let left = backends.connections(database);
            if left == 0 {
                return Ok("no server connection is in use, and none is lent".to_owned());
            }
            if !backends.gates.is_paused(database.unwrap_or_default()) {
                return Err("it was resumed before all server connections had come back".to_owned());
            }
            if left != told {
                let _ = lines.send(format!("{left} server connections are in use still")).await;
                told = left;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// All others are taken elsewhere.
fn unknown(action: &Action) -> String {
    format!("nobody takes {}: a defect of pgherd", action.name())
}

fn ending(sessions: usize) -> String {
    if sessions == 1 { "1 session ends".to_owned() } else { format!("{sessions} sessions end") }
}

fn no_client(id: u64) -> String {
    format!("there is no client {id}: SHOW CLIENTS has the numbers in its column id")
}

/// No action is about the console's own databases.
fn ordinary(action: &Action) -> Result<(), String> {
    match action.database() {
        Some(name) if is_console(name) => Err(format!("database {name} is pgherd's console")),
        _ => Ok(()),
    }
}

fn refused(name: &str, refusal: Refusal) -> String {
    match refusal {
        Refusal::Needless(why) => format!("{name} has no effect: {why}"),
        Refusal::Unknown(why) => format!("{name}: {why}"),
        Refusal::Fixed(key) => format!("{key} cannot be changed without restarting pgherd"),
        Refusal::Program(key) => {
            format!("{key} names a program that pgherd runs: change the configuration, and reload it")
        }
        Refusal::Unreadable(key, why) => format!("{key} {why}"),
    }
}
