//! What an operator orders, and what becomes of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Check;

/// What is to be done. Servers are named by pgherd's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Make another server the primary while all is well.
    Switchover {
        /// Which; if none, the best.
        node: Option<u32>,
    },
    /// Have a standby promoted where there is no primary.
    Failover {
        /// Only this one.
        node: Option<u32>,
        /// Even at the price of commits.
        #[serde(default)]
        allow_data_loss: bool,
        /// Of several timelines this one.
        accept_timeline: Option<u32>,
    },
    /// Make this server the primary: by a switchover where there is one, else by a failover.
    Promote {
        /// Which.
        node: u32,
    },
    /// Have this standby follow the primary.
    Follow {
        /// Which.
        node: u32,
    },
    /// Make this server a standby of the primary.
    Rejoin {
        /// Which.
        node: u32,
        /// Even if it has more WAL of its own than `failover.max_data_loss`.
        #[serde(default)]
        allow_data_loss: bool,
    },
    /// Copy the primary to this server anew.
    Reclone {
        /// Which.
        node: u32,
    },
    /// Read from this server again, and let it be promoted.
    Attach {
        /// Which.
        node: u32,
    },
    /// Neither read from this server nor promote it.
    Detach {
        /// Which.
        node: u32,
    },
    /// Promote nobody and repair nothing.
    PauseFailover {},
    /// End that.
    ResumeFailover {},
    /// Read the configuration again.
    Reload {},
    /// Change a setting until the next reload.
    Set {
        /// Its key.
        key: String,
        /// Its value; none for what the configuration says.
        value: Option<String>,
    },
    /// Stop a server cleanly.
    Stop {
        /// Which.
        node: u32,
    },
    /// Start a server.
    Start {
        /// Which.
        node: u32,
    },
    /// Take a server's row out of repmgr's table.
    Unregister {
        /// Which.
        node: u32,
    },
    /// Lend no more server connections.
    Pause {
        /// Of this database; none for all.
        database: Option<String>,
    },
    /// Lend them again.
    Resume {
        /// Of this database; none for all.
        database: Option<String>,
    },
    /// Close server connections as they come back.
    Reconnect {
        /// Of this database; none for all.
        database: Option<String>,
    },
    /// Let no more clients in.
    Disable {
        /// To this database.
        database: String,
    },
    /// Let them in again.
    Enable {
        /// To this database.
        database: String,
    },
    /// End a client's session.
    KillClient {
        /// Its number, as SHOW CLIENTS shows it.
        id: u64,
    },
    /// Cancel what a server process does.
    Cancel {
        /// On this server.
        node: u32,
        /// Its process id.
        pid: i32,
    },
    /// End a server process.
    Terminate {
        /// On this server.
        node: u32,
        /// Its process id.
        pid: i32,
    },
    /// Make a backup on a server.
    Backup {
        /// Which.
        node: u32,
        /// Of what kind.
        kind: BackupKind,
        /// What a dump is of.
        database: Option<String>,
    },
    /// Delete a backup.
    BackupDelete {
        /// On this server.
        node: u32,
        /// Its name.
        name: String,
    },
    /// Make a database of a dump.
    BackupRestore {
        /// On this server.
        node: u32,
        /// The dump.
        name: String,
        /// The database, which must not be there.
        database: String,
    },
}

impl Action {
    /// Its name, as in the request.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Switchover { .. } => "switchover",
            Self::Failover { .. } => "failover",
            Self::Promote { .. } => "promote",
            Self::Follow { .. } => "follow",
            Self::Rejoin { .. } => "rejoin",
            Self::Reclone { .. } => "reclone",
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
            Self::PauseFailover {} => "pause_failover",
            Self::ResumeFailover {} => "resume_failover",
            Self::Reload {} => "reload",
            Self::Set { .. } => "set",
            Self::Stop { .. } => "stop",
            Self::Start { .. } => "start",
            Self::Unregister { .. } => "unregister",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Reconnect { .. } => "reconnect",
            Self::Disable { .. } => "disable",
            Self::Enable { .. } => "enable",
            Self::KillClient { .. } => "kill_client",
            Self::Cancel { .. } => "cancel",
            Self::Terminate { .. } => "terminate",
            Self::Backup { .. } => "backup",
            Self::BackupDelete { .. } => "backup_delete",
            Self::BackupRestore { .. } => "backup_restore",
        }
    }

    /// The server that it is about.
    #[must_use]
    pub const fn node(&self) -> Option<u32> {
        match self {
            Self::Switchover { node } | Self::Failover { node, .. } => *node,
            Self::Promote { node }
            | Self::Follow { node }
            | Self::Rejoin { node, .. }
            | Self::Reclone { node }
            | Self::Attach { node }
            | Self::Detach { node }
            | Self::Stop { node }
            | Self::Start { node }
            | Self::Unregister { node }
            | Self::Cancel { node, .. }
            | Self::Terminate { node, .. }
            | Self::Backup { node, .. }
            | Self::BackupDelete { node, .. }
            | Self::BackupRestore { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The database whose clients or connections it is about; none for all, and where it is about something else.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Pause { database } | Self::Resume { database } | Self::Reconnect { database } => {
                database.as_deref()
            }
            Self::Disable { database } | Self::Enable { database } => Some(database),
            _ => None,
        }
    }

    /// Data may be lost by it: whoever orders it is to say what it is about.
    #[must_use]
    pub const fn is_dangerous(&self) -> bool {
        match self {
            Self::Failover { allow_data_loss, accept_timeline, .. } => {
                *allow_data_loss || accept_timeline.is_some()
            }
            Self::Rejoin { allow_data_loss, .. } => *allow_data_loss,
            Self::Reclone { .. } | Self::BackupDelete { .. } => true,
            _ => false,
        }
    }
}

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// A copy of the whole server.
    Base,
    /// A dump of one database.
    Dump,
}

/// An action, and whether it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Request {
    /// What is to be done.
    #[serde(flatten)]
    pub action: Action,
    /// Only say what it would do.
    pub dry_run: bool,
    /// What has to be typed where data may be lost: see [`Rehearsal::confirm`].
    pub confirm: Option<String>,
}

/// What an action would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rehearsal {
    /// What it would do.
    pub would: Option<String>,
    /// Why it would be refused.
    pub refused: Option<String>,
    /// What that depends on.
    pub guards: Vec<Check>,
    /// What else comes of it.
    pub consequences: Vec<String>,
    /// Data may be lost.
    pub dangerous: bool,
    /// Then this has to be given as `confirm`.
    pub confirm: Option<String>,
}

/// An action that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Order {
    /// Its number since pgherd began.
    pub id: u64,
    /// The action's name.
    pub action: &'static str,
    /// All of it, but for the value of a setting, which may be a password.
    pub request: Action,
    /// The server that it is about.
    pub node: Option<u32>,
    /// Who ordered it.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
    /// How far it has come.
    pub state: OrderState,
    /// What was done, or why it was not.
    pub result: Option<String>,
    /// What was told meanwhile.
    pub lines: Vec<Line>,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderState {
    /// It is under way.
    Running,
    /// It was carried out.
    Done,
    /// It was not, or not to its end.
    Failed,
}

/// One line of what an order tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Line {
    /// When (RFC 3339).
    pub at: String,
    /// The line.
    pub text: String,
}
