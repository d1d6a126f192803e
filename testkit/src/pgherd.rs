use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use toml::{Table, Value};

use crate::client::connection_string;
use crate::cluster::Cluster;
use crate::command::Place;
use crate::credentials::{Credentials, write_secret};
use crate::log_tail::LogTail;
use crate::processes::{self, signal};
use crate::wait::eventually;

/// Where it answers HTTP, at its own address.
const HTTP_PORT: u16 = 8080;
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// How a pgherd shall run; made by [`Pgherd::builder`].
#[derive(Clone, Debug)]
pub struct PgherdBuilder {
    config: Table,
    binary: Option<PathBuf>,
    environment: Vec<(String, String)>,
    listen: SocketAddr,
    directory: PathBuf,
    place: Place,
    credentials: Credentials,
    name: String,
}

impl PgherdBuilder {
    /// Sets one key of the configuration, in dotted form: `pool.mode`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        insert(&mut self.config, key, value.into());
        self
    }

    /// Sets an environment variable of the process.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Listens on this address instead of one of the cluster's.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self.set("listen.address", address.to_string())
    }

    /// Runs this program. The default is `PGHERD_BIN`, else `pgherd` in the directory that cargo built the test into.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Starts it, and waits until it accepts connections.
    pub async fn start(self) -> Result<Pgherd> {
        let mut pgherd = self.prepare()?;
        pgherd.launch()?;
        pgherd.wait_listening().await?;
        Ok(pgherd)
    }

    /// Starts it without waiting: for a start that is to fail, or to wait for servers.
    pub async fn launch(self) -> Result<Pgherd> {
        let mut pgherd = self.prepare()?;
        pgherd.launch()?;
        Ok(pgherd)
    }

    fn prepare(self) -> Result<Pgherd> {
        let binary = match self.binary {
            Some(binary) => binary,
            None => find_binary()?,
        };
        let config = self.directory.join(format!("{}.toml", self.name));
        write_secret(&config, &toml::to_string(&self.config).context("the configuration of pgherd")?)?;
        Ok(Pgherd {
            binary,
            settings: self.config,
            environment: self.environment,
            listen: self.listen,
            log: self.directory.join(format!("{}.log", self.name)),
            config,
            place: self.place,
            credentials: self.credentials,
            child: None,
        })
    }
}

/// What a command of the program came to.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub said: String,
    /// Its standard error.
    pub complained: String,
}

/// A pgherd before a cluster. It is killed when dropped.
#[derive(Debug)]
pub struct Pgherd {
    binary: PathBuf,
    settings: Table,
    config: PathBuf,
    environment: Vec<(String, String)>,
    listen: SocketAddr,
    log: PathBuf,
    place: Place,
    credentials: Credentials,
    child: Option<Child>,
}

impl Pgherd {
    /// A pgherd with everything that it has to know of `cluster` in its configuration, on an address of its own, port 5432.
    pub fn builder(cluster: &Cluster) -> PgherdBuilder {
        let (index, address, place) = cluster.next_pgherd();
        let listen = SocketAddr::new(IpAddr::V4(address), 5432);
        let mut config = Table::new();
        let nodes: Vec<Value> = cluster.backend_nodes().into_iter().map(Value::from).collect();
        let program = cluster.repmgr_program().unwrap_or_default();
        let ssh_port = cluster.servers().first().map_or(222, |server| server.ssh_port());
        let settings: [(&str, Value); 12] = [
            ("listen.address", listen.to_string().into()),
            ("http.address", SocketAddr::new(listen.ip(), HTTP_PORT).to_string().into()),
            ("backends.nodes", nodes.into()),
            ("monitor.user", "repmgr".into()),
            ("monitor.password", cluster.monitor_password().into()),
            ("monitor.database", "repmgr".into()),
            ("failover.ssh.user", "postgres".into()),
            ("failover.ssh.port", i64::from(ssh_port).into()),
            ("failover.ssh.key", text(cluster.ssh_key_path())),
            ("failover.ssh.known_hosts", text(&cluster.known_hosts_path())),
            ("failover.repmgr.config", cluster.repmgr_conf_pattern().into()),
            ("failover.repmgr.binary", text(&program)),
        ];
        for (key, value) in settings {
            insert(&mut config, key, value);
        }
        PgherdBuilder {
            config,
            binary: None,
            environment: Vec::new(),
            listen,
            directory: cluster.directory().to_owned(),
            place,
            credentials: cluster.credentials().clone(),
            name: format!("pgherd-{}", index + 1),
        }
    }

    /// The program that is run where none is named.
    pub fn program() -> Result<PathBuf> {
        find_binary()
    }

    /// Where it answers HTTP.
    pub fn http_address(&self) -> Result<SocketAddr> {
        let address = self.settings.get("http").and_then(|http| http.get("address")).and_then(Value::as_str);
        Ok(address.context("http.address is not set")?.parse()?)
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The generated configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The file that holds what it wrote to its standard output and standard error.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// A connection string through pgherd, with the password in it.
    pub fn connection_string(&self, user: &str, database: &str) -> String {
        let host = self.listen.ip().to_string();
        connection_string(&host, self.listen.port(), user, database, self.credentials.password(user))
    }

    /// Its process, while it was not waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Its resident memory in KiB.
    pub fn resident(&self) -> Result<u64> {
        processes::resident(self.pid().context("pgherd does not run")?)
    }

    /// The status and the body of its answer to GET.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.http_address()?).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: pgherd\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(ANSWERS_WITHIN, stream.read_to_string(&mut answer)).await??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// Everything that it logged, over all its starts.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What it logs from now on.
    pub fn log_tail(&self) -> LogTail {
        LogTail::of(&self.log)
    }

    /// Waits for a line of its log that contains `part`, from its first start on, and gives the line.
    pub async fn wait_log(&self, part: &str, within: Duration) -> Result<String> {
        eventually(format!("a line of pgherd's log with {part:?}"), within, || async {
            Ok(self.log().into_iter().find(|line| line.contains(part)))
        })
        .await
        .with_context(|| self.log().join("\n"))
    }

    /// Runs a command of its program that reads its configuration, such as `status`, and waits for its end.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Asked> {
        self.ask_with(&[], arguments).await
    }

    /// The same with these variables in its environment.
    pub async fn ask_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Result<Asked> {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(&self.config).kill_on_drop(true);
        command.envs(environment.iter().copied());
        let ended = timeout(ENDS_WITHIN, command.output()).await;
        let output =
            ended.map_err(|_| anyhow!("pgherd {arguments:?} does not end within {ENDS_WITHIN:?}"))??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Asked {
            code: output.status.code().unwrap_or(-1),
            said: text(output.stdout),
            complained: text(output.stderr),
        })
    }

    /// Begins a command of its program that does not end by itself. What it says can be read.
    pub fn watch(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(&self.config).stdout(Stdio::piped()).kill_on_drop(true);
        Ok(command.spawn()?)
    }

    /// Starts another process with the same configuration, beside this one, without waiting. It has a log of its own.
    pub fn launch_successor(&self) -> Result<Self> {
        let mut name = self.log.file_stem().unwrap_or_default().to_owned();
        name.push("-next.log");
        let mut next = Self {
            binary: self.binary.clone(),
            settings: self.settings.clone(),
            config: self.config.clone(),
            environment: self.environment.clone(),
            listen: self.listen,
            log: self.log.with_file_name(name),
            place: self.place.clone(),
            credentials: self.credentials.clone(),
            child: None,
        };
        next.launch()?;
        Ok(next)
    }

    /// Sets one key in its configuration file, for its next start or reload.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        insert(&mut self.settings, key, value.into());
        self.write_settings()
    }

    /// Takes one key out of its configuration file.
    pub fn unset(&mut self, key: &str) -> Result<()> {
        remove(&mut self.settings, key);
        self.write_settings()
    }

    fn write_settings(&self) -> Result<()> {
        write_secret(&self.config, &toml::to_string(&self.settings).context("the configuration of pgherd")?)
    }

    /// Has it read its configuration again, and waits until its log says what came of it: that line, and those that it wrote
    /// meanwhile.
    pub async fn reload(&self) -> Result<Vec<String>> {
        let before = self.log().len();
        self.send(Signal::HUP)?;
        eventually("the outcome of a reload in pgherd's log", STARTS_WITHIN, || async {
            let lines: Vec<String> = self.log().into_iter().skip(before).collect();
            let is_outcome = |line: &String| {
                line.contains("the configuration was read again") || line.contains("nothing was changed")
            };
            Ok(lines.iter().any(is_outcome).then_some(lines))
        })
        .await
        .with_context(|| self.log().join("\n"))
    }

    /// Waits until it accepts connections; an error as soon as it has ended.
    pub async fn wait_listening(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + STARTS_WITHIN;
        loop {
            if let Some(status) = self.child_mut()?.try_wait()? {
                bail!("pgherd ended with {status}:\n{}", self.log().join("\n"));
            }
            if TcpStream::connect(self.listen).await.is_ok() {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "pgherd does not listen on {} within {STARTS_WITHIN:?}:\n{}",
                    self.listen,
                    self.log().join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it with SIGKILL and waits for its end.
    pub async fn kill9(&mut self) -> Result<()> {
        self.send(Signal::KILL)?;
        self.wait_exit().await.map(drop)
    }

    /// Sends SIGTERM, which begins the drain.
    pub fn terminate(&self) -> Result<()> {
        self.send(Signal::TERM)
    }

    /// Sends any signal.
    pub fn send(&self, which: Signal) -> Result<()> {
        signal(self.pid().ok_or_else(|| anyhow!("pgherd does not run"))?, which)
    }

    /// Waits for the end that it was told to come to.
    pub async fn wait_exit(&mut self) -> Result<ExitStatus> {
        let ended = timeout(ENDS_WITHIN, self.ended()).await;
        ended.map_err(|_| anyhow!("pgherd does not end within {ENDS_WITHIN:?}"))?
    }

    /// Waits for its end, however long it lives.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let status = self.child_mut()?.wait().await?;
        self.child = None;
        Ok(status)
    }

    /// Starts it again with the same configuration and address, killing it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        if self.pid().is_some() {
            self.kill9().await?;
        }
        self.start().await
    }

    /// Starts it again after its end, and waits until it accepts connections.
    pub async fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_listening().await
    }

    /// Starts it after its end, without waiting.
    pub fn launch(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command();
        command.args(["run", "--config"]).arg(&self.config);
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).kill_on_drop(true);
        // A Ctrl-C of the terminal is for whoever started it.
        command.process_group(0);
        self.child = Some(command.spawn().with_context(|| format!("cannot run {}", self.binary.display()))?);
        Ok(())
    }

    /// Its program, in its place and with its environment.
    fn command(&self) -> Command {
        let mut command = self.place.command(&self.binary);
        // Settings of the test's own environment are not for it: it refuses those that it does not know.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    fn child_mut(&mut self) -> Result<&mut Child> {
        self.child.as_mut().ok_or_else(|| anyhow!("pgherd was not started"))
    }
}

fn is_setting(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("PG") || name == "REPMGRPWD")
}

fn text(path: &Path) -> Value {
    path.display().to_string().into()
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                insert(section, rest, value);
            }
        }
    }
}

fn remove(table: &mut Table, key: &str) {
    match key.split_once('.') {
        None => drop(table.remove(key)),
        Some((section, rest)) => {
            if let Some(Value::Table(section)) = table.get_mut(section) {
                remove(section, rest);
            }
        }
    }
}

/// `PGHERD_BIN`, or `pgherd` beside the running program or one directory above (tests are in `deps/`).
fn find_binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("PGHERD_BIN") {
        return Ok(binary.into());
    }
    let program = std::env::current_exe()?;
    let found = program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("pgherd"))
        .find(|path| path.is_file());
    found.ok_or_else(|| anyhow!("no pgherd near {}: run `cargo build -p pgherd` first", program.display()))
}
