//! What people look at and do on servers, beside all decisions: the machine is told nothing of it.

use std::fmt;
use std::time::{Duration, Instant};

use pgherd_health::{MemberState, NodeId, Position};

use crate::{Machine, Writes};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long names of databases and of backups may be, in bytes.
const LONGEST_DATABASE: usize = 63;
const LONGEST_BACKUP: usize = 200;

/// Something that is looked at or done on a server for people, and that no decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// What supervisord runs there: [`crate::Program::all`] reads it. Where there is no supervisord that is said, and is no error.
    Programs,
    /// The disks that the server's data, archive and backups are on: [`crate::Disk::all`] reads it.
    Disks,
    /// What `repmgr node check` finds: [`crate::NodeCheck::all`] reads it.
    RepmgrChecks,
    /// The backups that are there: [`crate::Backup::all`] reads it.
    Backups,
    /// Stop PostgreSQL cleanly, as repmgr's configuration says, and leave it down.
    Stop,
    /// Start PostgreSQL as repmgr's configuration says.
    Start,
    /// Have repmgr forget the server, which is down. It is the primary that is told.
    Unregister,
    /// Copy the whole server.
    BackUpBase,
    /// Dump one database.
    BackUpDump {
        /// Which; if none, the one that `backup` takes without being told.
        database: Option<String>,
    },
    /// Remove a backup.
    DeleteBackup {
        /// Its name.
        name: String,
    },
    /// Make a database of a dump.
    RestoreDump {
        /// The dump's name.
        name: String,
        /// The database, which is not there yet.
        database: String,
    },
}

impl Tool {
    /// It changes nothing.
    #[must_use]
    pub const fn looks(&self) -> bool {
        matches!(self, Self::Programs | Self::Disks | Self::RepmgrChecks | Self::Backups)
    }

    /// It changes which servers there are, or which of them run.
    #[must_use]
    pub const fn moves_servers(&self) -> bool {
        matches!(self, Self::Stop | Self::Start | Self::Unregister)
    }

    /// How long it may take.
    pub(crate) const fn lasts(&self) -> Duration {
        match self {
            Self::Programs | Self::Disks | Self::RepmgrChecks | Self::Backups => SECOND.saturating_mul(10),
            Self::Unregister => MINUTE,
            Self::Stop | Self::Start | Self::DeleteBackup { .. } => MINUTE.saturating_mul(10),
            Self::BackUpBase | Self::BackUpDump { .. } | Self::RestoreDump { .. } => DAY,
        }
    }

    /// Whether its names are such as the servers' programs take.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::BackUpDump { database: Some(database) } => check_database(database),
            Self::DeleteBackup { name } => check_backup(name, &["base-", "dump-"]),
            Self::RestoreDump { name, database } => {
                check_backup(name, &["dump-"]).and_then(|()| check_database(database))
            }
            _ => Ok(()),
        }
    }
}

/// What is done, for logs and for whoever waits for it.
impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Programs => f.write_str("a look at its programs"),
            Self::Disks => f.write_str("a look at its disks"),
            Self::RepmgrChecks => f.write_str("repmgr's checks of it"),
            Self::Backups => f.write_str("a look at its backups"),
            Self::Stop => f.write_str("its stop"),
            Self::Start => f.write_str("its start"),
            Self::Unregister => f.write_str("its unregistration"),
            Self::BackUpBase => f.write_str("a base backup"),
            Self::BackUpDump { database: None } => f.write_str("a dump"),
            Self::BackUpDump { database: Some(database) } => write!(f, "a dump of {database}"),
            Self::DeleteBackup { name } => write!(f, "the removal of {name}"),
            Self::RestoreDump { name, database } => write!(f, "the restore of {name} into {database}"),
        }
    }
}

fn check_database(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    if begins && name.len() <= LONGEST_DATABASE && is_of(name, "_-") {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a database that backups take: letters, digits, '_' and '-', a letter or '_' first, and at \
         most {LONGEST_DATABASE} of them"
    ))
}

fn check_backup(name: &str, kinds: &[&str]) -> Result<(), String> {
    let kind = kinds.iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()));
    let whole = !name.ends_with(".part") && !name.contains("..");
    if kind && whole && name.len() <= LONGEST_BACKUP && is_of(name, "_.-") {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a backup that can be taken here: it begins with {}",
        kinds.join(" or ")
    ))
}

fn is_of(name: &str, others: &str) -> bool {
    name.chars().all(|it| it.is_ascii_alphanumeric() || others.contains(it))
}

/// A tool and what it is used on, once that was found to be in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The server.
    pub node: NodeId,
    /// What is looked at or done.
    pub tool: Tool,
    /// The primary that is served, if there is one.
    pub primary: Option<NodeId>,
    /// Why it may be started as a standby only; none if it may also come up writable.
    pub only_as_standby: Option<String>,
    /// It was a standby when it was last heard of: one that was promoted since is not stopped.
    pub was_standby: bool,
}

impl Machine {
    /// Whether a tool may be used on a server now.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn job(&self, now: Instant, node: NodeId, tool: Tool) -> Result<Job, String> {
        tool.check()?;
        let member = self.topology.member(node).ok_or_else(|| format!("there is no node {node}"))?;
        let primary = match self.routing().writes {
            Writes::Open(epoch) => Some(epoch.primary),
            Writes::Held { .. } => None,
        };
        if tool.moves_servers() {
            if let MemberState::Foreign { system_identifier } = member.state {
                return Err(format!(
                    "node {node} belongs to another cluster ({system_identifier}): it is not touched"
                ));
            }
            self.may_move(now, node)?;
        }
        let runs =
            member.is_alive() || matches!(member.state, MemberState::StartingUp | MemberState::ShuttingDown);
        match tool {
            Tool::Start if runs => return Err(format!("node {node} runs already")),
            Tool::Unregister if primary == Some(node) => {
                return Err(format!(
                    "node {node} is the primary: another has to be, before it can be unregistered"
                ));
            }
            Tool::Unregister if runs || self.is_streamed_to(primary, node) => {
                return Err(format!("node {node} runs: stop it before it is unregistered"));
            }
            Tool::Unregister if primary.is_none() => {
                return Err("there is no primary that repmgr could be told by".to_owned());
            }
            Tool::Unregister if member.repmgr.is_none() => {
                return Err(format!("node {node} is not registered with repmgr"));
            }
            _ => {}
        }
        let was_standby = matches!(member.report().map(|it| &it.position), Some(Position::Standby { .. }));
        Ok(Job { node, tool, primary, only_as_standby: self.only_as_standby(node), was_standby })
    }

    /// The primary sends it WAL: it runs, whether or not it can be seen from here.
    fn is_streamed_to(&self, primary: Option<NodeId>, node: NodeId) -> bool {
        let name =
            self.topology.member(node).and_then(|it| it.repmgr.as_ref()).map(|row| row.node_name.as_str());
        let primary = primary.and_then(|id| self.topology.member(id));
        primary.zip(name).is_some_and(|(primary, name)| primary.streams_to(name))
    }

    /// Two primaries are worse than none: a server may come up writable if it is the one that took writes last, and nobody has taken its place.
    fn only_as_standby(&self, node: NodeId) -> Option<String> {
        let leads = match self.routing().writes {
            Writes::Open(epoch) => Some(epoch.primary),
            Writes::Held { .. } => self.state.epoch().map(|epoch| epoch.primary),
        };
        match leads {
            Some(primary) if primary == node => None,
            Some(primary) => Some(format!("node {primary} is the primary")),
            None if self.topology.members.len() == 1 => None,
            None => Some("nobody knows which server is the primary now".to_owned()),
        }
    }

    /// Only the pgherd that decides starts and stops servers, and not while it is at that itself.
    fn may_move(&self, now: Instant, node: NodeId) -> Result<(), String> {
        if let Some(why) = self.looks_on().or_else(|| self.objection(now)) {
            return Err(format!("{why}: give the order to the one that decides"));
        }
        if !self.is_between_attempts() {
            let status = self.status();
            return Err(format!("not now: {}: {}", status.state, status.reason));
        }
        match self.orders.under_way().find(|placed| placed.node == node && !placed.is_harmless()) {
            Some(placed) => Err(format!("not now: a command is under way there: {:?}", placed.step)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_program_should_see_are_refused() {
        let delete = |name: &str| Tool::DeleteBackup { name: name.to_owned() }.check();
        let dump = |name: &str| Tool::BackUpDump { database: Some(name.to_owned()) }.check();
        for name in ["base-20260131T120000Z", "dump-my_db-20260131T120000Z", "dump-a.b"] {
            assert_eq!(delete(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "base-",
            "base",
            "-rf",
            "/etc",
            "base-/../x",
            "base-..",
            "base-a b",
            "base-a;b",
            "base-a\nb",
            "base-'",
            "base-x.part",
            "base-é",
            &format!("base-{}", "x".repeat(LONGEST_BACKUP)),
        ] {
            let refused = delete(name);
            assert!(refused.as_ref().is_err_and(|why| !why.contains('\n')), "{name}: {refused:?}");
        }
        for name in ["a", "_a", "my-db_2", &"x".repeat(LONGEST_DATABASE)] {
            assert_eq!(dump(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "-a",
            "1a",
            "a b",
            "a;b",
            "a'b",
            "a$b",
            "a\"b",
            "a\nb",
            "a\0b",
            "dbname=x",
            &"x".repeat(LONGEST_DATABASE + 1),
        ] {
            assert!(dump(name).is_err(), "{name}");
        }
        let restore = |name: &str| Tool::RestoreDump { name: name.to_owned(), database: "a".to_owned() };
        assert!(restore("base-20260131T120000Z").check().is_err(), "a copy of a server makes no database");
        assert_eq!(Tool::BackUpDump { database: None }.check(), Ok(()));
    }
}
