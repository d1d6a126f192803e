use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use tokio::process::Command;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::client::{Session, connection_string};
use crate::command::{Place, run, succeeded};
use crate::credentials::Credentials;
use crate::processes::{children, named_by, signal, state, wait_gone, working_in};
use crate::sshd::SSHD;
use crate::wait::eventually;

/// How long a server may take to do what it was told.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server of a cluster: PostgreSQL, its sshd, its files, and the faults that a test can cause. Clones are handles of the
/// same server.
#[derive(Clone, Debug)]
pub struct Server(Arc<Parts>);

/// What a server is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) id: i32,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) ssh_port: u16,
    pub(crate) directory: PathBuf,
    pub(crate) programs: PathBuf,
    pub(crate) place: Place,
    pub(crate) credentials: Credentials,
    pub(crate) ssh_key: PathBuf,
    pub(crate) known_hosts: PathBuf,
}

impl Server {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// repmgr's node id, from 1.
    pub fn id(&self) -> i32 {
        self.0.id
    }

    /// The id in `PG_BACKEND_NODE_LIST`, from 0.
    pub fn backend_id(&self) -> i32 {
        self.0.id - 1
    }

    /// repmgr's node name: `pg01`, ...
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The address that PostgreSQL and sshd listen on.
    pub fn address(&self) -> Ipv4Addr {
        self.0.address
    }

    /// PostgreSQL's port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// sshd's port.
    pub fn ssh_port(&self) -> u16 {
        self.0.ssh_port
    }

    /// The directory that holds the server's configuration, log and data directory. The unix socket is in it too.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// PGDATA.
    pub fn data_directory(&self) -> PathBuf {
        self.0.directory.join("data")
    }

    /// PostgreSQL's log.
    pub fn log_path(&self) -> PathBuf {
        self.0.directory.join("postgres.log")
    }

    /// The server's `repmgr.conf`.
    pub fn repmgr_conf(&self) -> PathBuf {
        self.0.directory.join("repmgr.conf")
    }

    /// The last 50 lines of PostgreSQL's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(50)..).unwrap_or_default().join("\n")
    }

    /// A connection string to this server, past pgherd, with the password in it.
    pub fn connection_string(&self, user: &str, database: &str) -> String {
        connection_string(
            &self.0.address.to_string(),
            self.0.port,
            user,
            database,
            self.0.credentials.password(user),
        )
    }

    pub(crate) fn password(&self, user: &str) -> &str {
        self.0.credentials.password(user)
    }

    /// A connection to this server, past pgherd.
    pub async fn connect(&self, user: &str, database: &str) -> Result<Session> {
        Session::connect(&self.connection_string(user, database)).await.with_context(|| self.0.name.clone())
    }

    /// Runs statements as the superuser in the database `postgres`, on a connection of their own; gives the rows of all.
    pub async fn query(&self, sql: &str) -> Result<Vec<SimpleQueryRow>> {
        self.query_in("postgres", sql).await
    }

    /// Like [`Server::query`], in another database.
    pub async fn query_in(&self, database: &str, sql: &str) -> Result<Vec<SimpleQueryRow>> {
        let session = self.connect("postgres", database).await?;
        let messages = session.simple_query(sql).await.with_context(|| format!("{}: {sql}", self.0.name))?;
        Ok(messages.into_iter().filter_map(only_row).collect())
    }

    /// The first column of the first row, as text; an error when there is no row or the value is null.
    pub async fn scalar(&self, sql: &str) -> Result<String> {
        let rows = self.query(sql).await?;
        let value = rows.first().and_then(|row| row.get(0));
        value.map(str::to_owned).ok_or_else(|| anyhow!("{}: no value from {sql}", self.0.name))
    }

    /// Whether it is a standby; an error when it does not answer.
    pub async fn is_in_recovery(&self) -> Result<bool> {
        Ok(self.scalar("SELECT pg_is_in_recovery()").await? == "t")
    }

    /// The timeline that it writes; an error while it is a standby.
    pub async fn timeline(&self) -> Result<u32> {
        let name = self.scalar("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)").await?;
        u32::from_str_radix(&name, 16).with_context(|| format!("{}: timeline {name}", self.0.name))
    }

    /// Waits until this server is a standby that receives WAL.
    pub async fn wait_streaming(&self) -> Result<()> {
        eventually(format!("{} streams", self.0.name), PATIENCE, || async {
            let rows = self.query("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'").await?;
            Ok((!rows.is_empty()).then_some(()))
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// Waits until this standby has replayed the WAL up to this place.
    pub async fn wait_replayed(&self, lsn: &str) -> Result<()> {
        eventually(format!("{} has replayed {lsn}", self.0.name), PATIENCE, || async {
            let replayed = self.scalar(&format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'")).await?;
            Ok((replayed == "t").then_some(()))
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// Waits until it answers queries.
    pub async fn wait_ready(&self) -> Result<()> {
        eventually(format!("{} answers", self.0.name), PATIENCE, || async {
            self.query("SELECT 1").await.map(|_| Some(()))
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// The postmaster's process, if it runs (or is frozen).
    pub fn postmaster_pid(&self) -> Option<u32> {
        let data = self.data_directory();
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        let works_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data);
        (works_there && state(pid).is_some()).then_some(pid)
    }

    /// Whether PostgreSQL runs here, or a program works on its files: one that rewinds it, starts it or stops it.
    pub fn is_attended(&self) -> bool {
        let data = self.data_directory();
        !working_in(&data).is_empty() || [&data, &self.repmgr_conf()].into_iter().any(|path| named_by(path))
    }

    /// Starts PostgreSQL and waits until it answers.
    pub async fn start(&self) -> Result<()> {
        self.launch().await?;
        self.wait_ready().await
    }

    /// Starts PostgreSQL, without waiting for more than its process. Backends that outlived a kill of their postmaster are waited
    /// for first: while they hold the shared memory it cannot start.
    pub async fn launch(&self) -> Result<()> {
        ensure!(self.postmaster_pid().is_none(), "{} runs already", self.0.name);
        let left = working_in(&self.data_directory());
        wait_gone(&format!("{}: processes of the last start", self.0.name), &left, PATIENCE).await?;
        let mut pg_ctl = self.pg_ctl();
        let log = self.log_path();
        run(
            &format!("{}: pg_ctl start", self.0.name),
            pg_ctl.arg("--log").arg(log).args(["--no-wait", "start"]),
        )
        .await
        .map(drop)
    }

    /// Stops it in PostgreSQL's mode `fast`: a shutdown checkpoint, and all its WAL sent to the standbys.
    pub async fn stop_clean(&self) -> Result<()> {
        run(&format!("{}: stop", self.0.name), self.pg_ctl().args(["--mode=fast", "--wait", "stop"]))
            .await
            .map(drop)
    }

    /// Stops it in mode `immediate`: no checkpoint, crash recovery at the next start.
    pub async fn stop_immediate(&self) -> Result<()> {
        run(&format!("{}: stop", self.0.name), self.pg_ctl().args(["--mode=immediate", "--wait", "stop"]))
            .await
            .map(drop)
    }

    /// Kills the postmaster with SIGKILL, and it alone: its backends find out by themselves.
    pub async fn kill9(&self) -> Result<()> {
        let pid = self.postmaster_pid().ok_or_else(|| anyhow!("{} does not run", self.0.name))?;
        signal(pid, Signal::KILL)?;
        wait_gone(&self.0.name, &[pid], PATIENCE).await
    }

    /// Kills every process of PostgreSQL at once, as the loss of the machine does, except that its sockets are closed.
    pub async fn kill9_all(&self) -> Result<()> {
        let mut killed = Vec::new();
        loop {
            let running: Vec<u32> =
                working_in(&self.data_directory()).into_iter().filter(|pid| !killed.contains(pid)).collect();
            if running.is_empty() {
                return wait_gone(&self.0.name, &killed, PATIENCE).await;
            }
            for pid in running {
                signal(pid, Signal::KILL)?;
                killed.push(pid);
            }
        }
    }

    /// Stops every process of PostgreSQL with SIGSTOP: connections stay open and nothing answers.
    pub async fn freeze(&self) -> Result<()> {
        let what = format!("{} is frozen", self.0.name);
        eventually(what, PATIENCE, || async {
            let pids = working_in(&self.data_directory());
            ensure!(!pids.is_empty(), "it does not run");
            let running: Vec<u32> =
                pids.into_iter().filter(|pid| state(*pid).is_some_and(|state| state != 'T')).collect();
            for pid in &running {
                signal(*pid, Signal::STOP)?;
            }
            Ok(running.is_empty().then_some(()))
        })
        .await
    }

    /// Lets a frozen server go on.
    pub async fn thaw(&self) -> Result<()> {
        working_in(&self.data_directory()).into_iter().try_for_each(|pid| signal(pid, Signal::CONT))
    }

    /// Leaves no room on its disk, until [`Server::free_disk`]. Needs [`ClusterBuilder::disk`](crate::ClusterBuilder::disk).
    pub async fn fill_disk(&self) -> Result<()> {
        let is_mounted =
            fs::metadata(self.directory())?.dev() != fs::metadata(self.directory().join(".."))?.dev();
        ensure!(is_mounted, "{} has no disk of its own", self.0.name);
        let mut ballast = fs::File::options().create(true).append(true).open(self.ballast())?;
        for size in [1 << 20, 1 << 12] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Gives back what [`Server::fill_disk`] took.
    pub async fn free_disk(&self) -> Result<()> {
        fs::remove_file(self.ballast()).with_context(|| format!("{}: the disk is not full", self.0.name))
    }

    fn ballast(&self) -> PathBuf {
        self.0.directory.join("ballast")
    }

    /// Stops it cleanly if it runs, and starts it.
    pub async fn restart(&self) -> Result<()> {
        if self.postmaster_pid().is_some() {
            self.stop_clean().await?;
        }
        self.start().await
    }

    /// Has it read its configuration again.
    pub async fn reload(&self) -> Result<()> {
        run(&format!("{}: reload", self.0.name), self.pg_ctl().arg("reload")).await.map(drop)
    }

    /// Starts sshd.
    pub async fn start_sshd(&self) -> Result<()> {
        let mut command = self.0.place.command_as_postgres(SSHD);
        let directory = self.directory();
        command.arg("-f").arg(directory.join("sshd_config")).arg("-E").arg(directory.join("sshd.log"));
        run(&format!("{}: sshd", self.0.name), &mut command).await?;
        eventually(format!("{}: sshd", self.0.name), PATIENCE, || async { Ok(self.sshd_pid().map(drop)) })
            .await
    }

    /// Ends sshd and its sessions.
    pub async fn stop_sshd(&self) -> Result<()> {
        let pid = self.sshd_pid().ok_or_else(|| anyhow!("{}: sshd does not run", self.0.name))?;
        let mut all = children(pid);
        all.push(pid);
        for pid in all.iter().rev() {
            signal(*pid, Signal::KILL)?;
        }
        fs::remove_file(self.sshd_pid_path())?;
        wait_gone(&format!("{}: sshd", self.0.name), &all, PATIENCE).await
    }

    /// sshd's process, if it runs.
    pub fn sshd_pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.sshd_pid_path()).ok()?.trim().parse().ok()?;
        state(pid).map(|_| pid)
    }

    /// Runs a command over ssh as the user `postgres`, as pgherd does; an exit status other than 0 is no error here.
    pub async fn ssh(&self, command: &str) -> Result<Output> {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .arg("-i")
            .arg(&self.0.ssh_key)
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.0.known_hosts.display()))
            .args(["-p", &self.0.ssh_port.to_string(), &format!("postgres@{}", self.0.address), command])
            .stdin(std::process::Stdio::null());
        ssh.output().await.context("cannot run ssh")
    }

    /// Runs repmgr with this server's configuration over ssh.
    pub async fn repmgr(&self, arguments: &str) -> Result<Output> {
        let repmgr = self.0.programs.join("repmgr");
        self.ssh(&format!("{} -f {} {arguments}", repmgr.display(), self.repmgr_conf().display())).await
    }

    /// Like [`Server::repmgr`]; an exit status other than 0 is an error that shows what it wrote.
    pub async fn must_repmgr(&self, arguments: &str) -> Result<()> {
        let output = self.repmgr(arguments).await?;
        succeeded(&format!("{}: repmgr {arguments}", self.0.name), &output).map(drop)
    }

    fn sshd_pid_path(&self) -> PathBuf {
        self.0.directory.join("sshd.pid")
    }

    fn pg_ctl(&self) -> Command {
        let mut command = self.command("pg_ctl");
        command.arg("--pgdata").arg(self.data_directory());
        command
    }

    /// One of PostgreSQL's programs or repmgr's, as the user `postgres` at this server.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.0.place.command_as_postgres(self.0.programs.join(program));
        command.env("PGPASSFILE", self.0.directory.join("pgpass"));
        command
    }
}

fn only_row(message: SimpleQueryMessage) -> Option<SimpleQueryRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }
}
