//! What the looks at a server show, read from what its programs write.
//!
//! Lines that say something else, as of a program that warns of something, are passed over.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A program that supervisord runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name, with its group before it where that has another.
    pub name: String,
    /// supervisord's word for it, such as `RUNNING`.
    pub state: String,
    /// What supervisord adds: its process and since when it runs, or why it does not.
    pub detail: String,
}

/// supervisord's words for the state of a program.
const STATES: [&str; 8] =
    ["STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN"];

impl Program {
    /// Reads what `supervisorctl status` writes.
    #[must_use]
    pub fn all(lines: &[String]) -> Vec<Self> {
        let program = |line: &String| {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            let rest = rest.trim_start();
            let (state, detail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            STATES.contains(&state).then(|| Self {
                name: name.to_owned(),
                state: state.to_owned(),
                detail: detail.trim().to_owned(),
            })
        };
        lines.iter().filter_map(program).collect()
    }
}

/// What a disk is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The data directory.
    Data,
    /// Archived WAL.
    Archive,
    /// Backups.
    Backup,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Archive => "archive",
            Self::Backup => "backup",
        })
    }
}

/// The disk that a directory is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The directory.
    pub path: String,
    /// What is in it.
    pub what: Stored,
    /// Bytes that the disk has.
    pub size: u64,
    /// Bytes that are in use.
    pub used: u64,
    /// Bytes that PostgreSQL may yet use; some of the others are often reserved.
    pub available: u64,
}

impl Disk {
    /// Reads a line that names the directory and the one below it, which `df -P -B1` has written.
    #[must_use]
    pub fn all(lines: &[String]) -> Vec<Self> {
        let mut below = lines.iter().skip(1);
        lines.iter().filter_map(|line| Self::read(line, below.next()?)).collect()
    }

    fn read(named: &str, row: &str) -> Option<Self> {
        let (word, path) = named.strip_prefix("disk ")?.split_once(' ')?;
        let what =
            [Stored::Data, Stored::Archive, Stored::Backup].into_iter().find(|it| it.to_string() == word)?;
        // Names of devices may have spaces, and so have the places where they are mounted: the percentage is between them.
        let words: Vec<&str> = row.split_whitespace().collect();
        words.windows(4).find_map(|window| {
            let [size, used, available, percent] = window else { return None };
            percent.strip_suffix('%')?;
            let (size, used) = (size.parse().ok()?, used.parse().ok()?);
            Some(Self { path: path.to_owned(), what, size, used, available: available.parse().ok()? })
        })
    }

    /// How much of what can be used is in use, rounded up, as `df` does.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let (used, usable) = (u128::from(self.used), u128::from(self.used) + u128::from(self.available));
        // Nothing is left of a disk that nothing can be written to.
        (used * 100).div_ceil(usable.max(1)).try_into().unwrap_or(100)
    }
}

/// One of repmgr's checks of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCheck {
    /// What was looked at.
    pub check: String,
    /// It is well.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

impl NodeCheck {
    /// Reads what `repmgr node check` writes. (What it writes with `--csv` has quotes within quotes, and lacks half of the details.)
    #[must_use]
    pub fn all(lines: &[String]) -> Vec<Self> {
        let check = |line: &String| {
            let (check, found) = line.strip_prefix('\t')?.split_once(": ")?;
            let (status, detail) = found.split_once(' ').unwrap_or((found, ""));
            let detail = detail.trim();
            let bare = detail.strip_prefix('(').and_then(|it| it.strip_suffix(')')).unwrap_or(detail);
            let detail = if status == "OK" || status == "CRITICAL" {
                bare.to_owned()
            } else {
                format!("{}: {bare}", status.to_lowercase())
            };
            let known = ["OK", "WARNING", "CRITICAL", "UNKNOWN"].contains(&status);
            known.then(|| Self { check: check.to_owned(), ok: status == "OK", detail })
        };
        lines.iter().filter_map(check).collect()
    }
}

/// What a backup is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// The whole server.
    Base,
    /// One database.
    Dump,
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Dump => "dump",
        })
    }
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name, by which it is restored and removed.
    pub name: String,
    /// What it is of.
    pub kind: BackupKind,
    /// Of which database, if it is a dump.
    pub database: Option<String>,
    /// When it was begun.
    pub at: SystemTime,
    /// How large it is, as `du -h` says.
    pub size: String,
}

impl Backup {
    /// Reads what `backup list` writes.
    #[must_use]
    pub fn all(lines: &[String]) -> Vec<Self> {
        let backup = |line: &String| {
            let (name, size) = line.split_once('\t')?;
            let (of, at) = name.rsplit_once('-')?;
            let (kind, database) = match of.split_once('-') {
                None if of == "base" => (BackupKind::Base, None),
                Some(("dump", database)) => (BackupKind::Dump, Some(database.to_owned())),
                _ => return None,
            };
            let (name, size) = (name.to_owned(), size.trim().to_owned());
            Some(Self { name, kind, database, at: time(at)?, size })
        };
        lines.iter().filter_map(backup).collect()
    }
}

/// A time as in `20260131T120000Z`.
fn time(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let all_digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    if date.len() != 8 || clock.len() != 6 || !all_digits(date) || !all_digits(clock) {
        return None;
    }
    let number = |text: &str, from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(date, 0, 4)?, number(date, 4, 6)?, number(date, 6, 8)?);
    let (hour, minute, second) = (number(clock, 0, 2)?, number(clock, 2, 4)?, number(clock, 4, 6)?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if year < 1970 || !in_range {
        return None;
    }
    let days = days_before(year, month)? + day - 1;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// Days from 1970 to a month's first.
fn days_before(year: u64, month: u64) -> Option<u64> {
    // March is the first month here, so that a leap day is the last of its year.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn programs_are_read_as_supervisorctl_shows_them() {
        let said = lines(
            "bad                              BACKOFF   Exited too quickly (process log may have details)\n\
             done                             EXITED    Dec 01 05:50 AM\n\
             many:many_0                      RUNNING   pid 1271, uptime 0:00:07\n\
             nothere                          FATAL     can't find command '/no/such'\n\
             stopped                          STOPPED   Not started\n\
             starting                         STARTING  \n\
             unix:///run/supervisor.sock no such file\n\
             no supervisord there\n",
        );
        let shown: Vec<String> =
            Program::all(&said).iter().map(|it| format!("{}|{}|{}", it.name, it.state, it.detail)).collect();
        assert_eq!(
            shown,
            [
                "bad|BACKOFF|Exited too quickly (process log may have details)",
                "done|EXITED|Dec 01 05:50 AM",
                "many:many_0|RUNNING|pid 1271, uptime 0:00:07",
                "nothere|FATAL|can't find command '/no/such'",
                "stopped|STOPPED|Not started",
                "starting|STARTING|",
            ]
        );
    }

    #[test]
    fn disks_are_read_whatever_they_are_called() {
        let said = lines(
            "disk data /data\n\
             /dev/vda       270553174016 27211280384 70361468928      28% /\n\
             disk archive /my archive\n\
             //nas/a share  1000 600 300 67% /mnt/10 20 30 40%\n\
             disk backup /backup\n\
             df: /backup: Stale file handle\n\
             disk of nothing\n",
        );
        let disks = Disk::all(&said);
        let data = Disk {
            path: "/data".to_owned(),
            what: Stored::Data,
            size: 270_553_174_016,
            used: 27_211_280_384,
            available: 70_361_468_928,
        };
        let archive = Disk {
            path: "/my archive".to_owned(),
            what: Stored::Archive,
            size: 1000,
            used: 600,
            available: 300,
        };
        assert_eq!(disks.iter().map(Disk::percent).collect::<Vec<_>>(), [28, 67]);
        assert_eq!(disks, [data, archive]);
        assert_eq!(Disk { size: 0, used: 0, available: 0, ..disks[0].clone() }.percent(), 0);
        assert_eq!(Disk { used: u64::MAX, available: 0, ..disks[0].clone() }.percent(), 100);
    }

    #[test]
    fn checks_of_repmgr_are_read_with_their_details() {
        let said = lines(
            "WARNING: something else\n\
             Node \"pg02\":\n\
             \tServer role: OK (node is standby)\n\
             \tReplication lag: WARNING (400 seconds)\n\
             \tUpstream connection: OK (node \"pg02\" (ID: 2) is attached to expected upstream node \"pg01\" (ID: 1))\n\
             \tDownstream servers: CRITICAL (1 of 2 downstream nodes not attached; missing: pg03 (ID: 3))\n\
             \tWAL archiving: UNKNOWN\n\
             DETAIL: \n\
             \tIs the server running on that host and accepting TCP/IP connections?\n",
        );
        let shown: Vec<String> =
            NodeCheck::all(&said).iter().map(|it| format!("{}|{}|{}", it.check, it.ok, it.detail)).collect();
        assert_eq!(
            shown,
            [
                "Server role|true|node is standby",
                "Replication lag|false|warning: 400 seconds",
                "Upstream connection|true|node \"pg02\" (ID: 2) is attached to expected upstream node \"pg01\" (ID: 1)",
                "Downstream servers|false|1 of 2 downstream nodes not attached; missing: pg03 (ID: 3)",
                "WAL archiving|false|unknown: ",
            ]
        );
    }

    #[test]
    fn backups_are_known_by_their_names() {
        let said = lines(
            "base-20260131T120000Z\t12M\n\
             dump-my-db-20240229T235959Z\t4.0K\n\
             dump-a-19700101T000000Z\t0\n\
             dump-a-20261301T000000Z\t0\n\
             dump-20260131T120000Z\t1K\n\
             base-x-20260131T120000Z\t1K\n\
             base-2026013é120000Z\t1K\n\
             other-20260131T120000Z\t1K\n\
             base-20260131T120000Z\n",
        );
        let backups = Backup::all(&said);
        let shown: Vec<String> = backups
            .iter()
            .map(|it| {
                let at = it.at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                format!("{}|{:?}|{at}|{}", it.kind, it.database, it.size)
            })
            .collect();
        assert_eq!(
            shown,
            ["base|None|1769860800|12M", "dump|Some(\"my-db\")|1709251199|4.0K", "dump|Some(\"a\")|0|0",]
        );
        assert_eq!(backups[0].name, "base-20260131T120000Z");
    }
}
