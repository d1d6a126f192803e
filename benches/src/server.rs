//! A server process that ends when its owner lets go of it, however that comes about.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getuid, kill_process, kill_process_group};

/// How long a server may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Whom a program runs as when this one is run by root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// This program's user.
    Own,
    /// `postgres`: PostgreSQL, pgbouncer and pgpool refuse root.
    Postgres,
}

/// A command with a clean environment that runs as `account`, and is sent `on_death` (`INT` or `TERM`) when this
/// program is killed without a chance to end it.
#[must_use]
pub fn command(account: Account, on_death: &str, program: impl AsRef<OsStr>) -> Command {
    prefixed(account, on_death, &[], program)
}

/// A [`command`] in a session of its own, as a service has one: Ctrl-C reaches this program alone, which then ends things
/// in order, and a kernel that shares the CPUs by session (autogroup) does not make it share with pgbench.
#[must_use]
pub fn server_command(account: Account, on_death: &str, program: impl AsRef<OsStr>) -> Command {
    prefixed(account, on_death, &["setsid"], program)
}

fn prefixed(account: Account, on_death: &str, session: &[&str], program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", on_death]);
    if account == Account::Postgres && getuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.arg("--").args(session).arg(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/");
    command.stdin(Stdio::null());
    command
}

/// A running server. Dropping it ends it, and waits until it is gone.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    stop: Signal,
    log: PathBuf,
}

impl Server {
    /// Starts a [`server_command`]; its output goes to `NAME.log` in `directory`, and `stop` ends it.
    ///
    /// # Errors
    /// When the log cannot be written or the program cannot be started.
    pub fn start(name: &str, directory: &Path, mut command: Command, stop: Signal) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, stop, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says why it ended, if it did.
    ///
    /// # Errors
    /// When the server is not running, with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended with {status}; its log ends with:\n{}", self.name, self.log_tail())
            }
        }
    }

    /// The last lines of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let asked = kill_process(pid, self.stop);
        if asked.is_err() || !self.ended_within(GRACE) {
            eprintln!("{} did not end within {GRACE:?}: killing it", self.name);
            // The group is gone already, or is killed: either way nothing more can be done here.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The last lines of a log; nothing when it is not there.
#[must_use]
pub fn log_tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
