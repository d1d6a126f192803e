//! Processes as /proc shows them.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use tokio::signal::unix::{SignalKind, signal as listen};

use crate::wait::eventually;

/// Every process that works in `directory`. All processes of a PostgreSQL server work in its data directory, also those
/// whose postmaster was killed.
pub(crate) fn working_in(directory: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory))
        .collect()
}

/// Whether the command line of a process names `path`.
pub(crate) fn named_by(path: &Path) -> bool {
    let (path, Ok(entries)) = (path.display().to_string(), fs::read_dir("/proc")) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&path)
    })
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The state letter of a process (`R`, `S`, `T`, ...); nothing when it is gone or a zombie.
pub(crate) fn state(pid: u32) -> Option<char> {
    let state = Stat::of(&pid.to_string())?.state()?;
    (!matches!(state, 'Z' | 'X')).then_some(state)
}

/// The resident memory of a process in KiB.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("VmRSS is empty")?.parse()?)
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(target, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {pid}")),
    }
}

/// Waits until none of the processes is left, not even as a zombie.
pub(crate) async fn wait_gone(what: &str, pids: &[u32], within: Duration) -> Result<()> {
    eventually(format!("{what}: the end of {pids:?}"), within, || async {
        bury_daemons();
        Ok((!pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists())).then_some(()))
    })
    .await
}

/// Makes this process adopt the daemons of its clusters, and buries those that end, for as long as the returned future runs.
///
/// A postmaster that was killed is a zombie until its parent looks, and PostgreSQL takes the zombie for a server that still
/// runs and refuses to start. The init process of a container may take seconds, or never look.
pub(crate) fn adopt_daemons() -> Result<impl Future<Output = ()>> {
    set_child_subreaper(Some(getpid())).context("cannot adopt daemons")?;
    let mut deaths = listen(SignalKind::child())?;
    Ok(async move {
        while deaths.recv().await.is_some() {
            bury_daemons();
        }
    })
}

/// Waits for every dead child that this process adopted. Its own children, which tokio waits for, are in its own session;
/// daemons made sessions of their own.
pub(crate) fn bury_daemons() {
    let Some(own_session) = Stat::of("self").and_then(|stat| stat.session()) else { return };
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return };
    let children =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok()).flat_map(
            |children| children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>(),
        );
    for pid in children {
        let Some(stat) = Stat::of(&pid.to_string()) else { continue };
        if stat.state() == Some('Z') && stat.session().is_some_and(|session| session != own_session) {
            let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
        }
    }
}

/// What /proc/PID/stat says behind the name of the program (proc(5)).
struct Stat(String);

impl Stat {
    fn of(process: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        Some(Self(stat.rsplit_once(") ")?.1.to_owned()))
    }

    fn state(&self) -> Option<char> {
        self.0.chars().next()
    }

    /// The session; 0 when its leader is outside of this PID namespace, which getsid(2) says too, but not every wrapper
    /// of it takes for an answer.
    fn session(&self) -> Option<i32> {
        self.0.split(' ').nth(3)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_daemon_that_ended_is_buried_and_an_own_child_is_not() {
        set_child_subreaper(Some(getpid())).expect("adopting daemons");
        let mut own = Command::new("true").spawn().expect("true");
        let forked = Command::new("setsid").args(["--fork", "sh", "-c", "echo $$"]).output().expect("setsid");
        let daemon: u32 = String::from_utf8_lossy(&forked.stdout).trim().parse().expect("the daemon's pid");
        wait_gone("the daemon", &[daemon], Duration::from_secs(10)).await.expect("it is buried");
        assert!(own.wait().is_ok_and(|status| status.success()), "the own child was buried by another");
    }

    /// As in a container that somebody entered: the session's leader is a process of which nothing can be seen.
    #[test]
    fn daemons_are_buried_in_a_pid_namespace_below_the_session() {
        let test = "processes::tests::a_daemon_that_ended_is_buried_and_an_own_child_is_not";
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(env::current_exe().expect("this program"))
            .args(["--exact", test])
            .output()
            .expect("unshare");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
