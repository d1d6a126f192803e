//! The run's own PostgreSQL: initialised, filled by pgbench, quiet, gone at the end.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Config, NoTls};

use crate::environment::{Environment, POSTGRES_PORT, give_to_postgres, random_password};
use crate::server::{Account, Server, command, server_command};

/// The role that every client logs in as.
pub const USER: &str = "bench";
/// The database with pgbench's tables.
pub const DATABASE: &str = "bench";
/// The role of pgherd's probes, which may read the verifiers.
pub const MONITOR_USER: &str = "bench_monitor";

/// Of users that each have a pool of their own, the one of this number: [`USER`], and others with the same password.
#[must_use]
pub fn pool_user(number: u32) -> String {
    if number == 0 { USER.to_owned() } else { format!("{USER}_{number}") }
}

/// Where a client logs in, as [`USER`].
#[derive(Clone)]
pub struct Login {
    /// Address of the server or proxy.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Database name, as that server or proxy knows it.
    pub database: String,
    /// [`USER`]'s password. No `Debug` here: it would print it.
    pub password: String,
}

impl Login {
    /// For tokio-postgres.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(&self.host).port(self.port).user(USER).dbname(&self.database).password(&self.password);
        config.connect_timeout(Duration::from_secs(10));
        config
    }
}

/// A running PostgreSQL, with pgbench's tables.
pub struct Postgres {
    server: Server,
    standbys: Vec<Server>,
    /// Where it is reached directly.
    pub login: Login,
    /// [`USER`]'s SCRAM verifier.
    pub verifier: String,
    /// [`MONITOR_USER`]'s password.
    pub monitor_password: String,
}

impl Postgres {
    /// Initialises a data directory, starts PostgreSQL on it, and fills pgbench's tables.
    ///
    /// # Errors
    /// When one of PostgreSQL's programs fails, with what it said.
    pub async fn start(environment: &Environment, max_connections: u32, scale: u32) -> Result<Self> {
        let password = random_password()?;
        let monitor_password = random_password()?;
        let directory = environment.directory("postgres", &[])?;
        give_to_postgres(&directory)?;
        let data = directory.join("data");
        let mut initdb = command(Account::Postgres, "TERM", environment.pg_bindir.join("initdb"));
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        initdb.arg("--pgdata").arg(&data);
        run("initdb", initdb).await?;
        std::fs::write(
            data.join("pg_hba.conf"),
            format!(
                "local all,replication all trust\nhost all {MONITOR_USER} 127.0.0.0/8 md5\n\
                 host all all 127.0.0.0/8 scram-sha-256\n"
            ),
        )?;
        let address = environment.address;
        std::fs::write(data.join("postgresql.auto.conf"), settings(address, &directory, max_connections))?;

        let mut postgres = server_command(Account::Postgres, "INT", environment.pg_bindir.join("postgres"));
        postgres.arg("-D").arg(&data).current_dir(&directory);
        let mut server = Server::start("postgres", environment.scratch(), postgres, Signal::INT)?;
        let mut superuser = Config::new();
        superuser.host_path(&directory).port(POSTGRES_PORT).user("postgres").dbname("postgres");
        wait_until_ready(&superuser, Some(&mut server)).await?;
        let verifier = create_users(&superuser, &password, &monitor_password).await?;

        let login =
            Login { host: address.to_string(), port: POSTGRES_PORT, database: DATABASE.into(), password };
        let mut fill = command(Account::Own, "TERM", environment.pg_bindir.join("pgbench"));
        fill.env("PGPASSWORD", &login.password).args(["-i", "-q", "-U", USER, "-h", &login.host]);
        fill.args(["-p", &login.port.to_string(), "-s", &scale.to_string(), DATABASE]);
        run("pgbench -i", fill).await?;
        execute(&superuser, &["CHECKPOINT"]).await?;
        let standbys = Vec::new();
        Ok(Self { server, standbys, login, verifier, monitor_password })
    }

    /// Creates so many of [`pool_user`], of which the first is there.
    ///
    /// # Errors
    /// When the server refuses that.
    pub async fn create_pool_users(&self, count: u32) -> Result<()> {
        let has_all = self.login.config().user(MONITOR_USER).password(&self.monitor_password).clone();
        let create = |number| {
            let (user, verifier) = (pool_user(number), &self.verifier);
            format!("CREATE ROLE {user} LOGIN PASSWORD '{verifier}' IN ROLE pg_read_all_data")
        };
        let statements: Vec<String> = (1..count).map(create).collect();
        execute(&has_all, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Sees to it that there are so many standbys, of which each has all that was committed so far.
    ///
    /// # Errors
    /// When one of PostgreSQL's programs fails, with what it said.
    pub async fn with_standbys(&mut self, environment: &Environment, count: u16) -> Result<()> {
        self.standbys.truncate(usize::from(count));
        for number in (1..=count).skip(self.standbys.len()) {
            let standby = Self::start_standby(environment, number).await?;
            self.standbys.push(standby);
        }
        Ok(())
    }

    async fn start_standby(environment: &Environment, number: u16) -> Result<Server> {
        let name = format!("standby{number}");
        let directory = environment.directory(&name, &[])?;
        give_to_postgres(&directory)?;
        let data = directory.join("data");
        let mut backup = command(Account::Postgres, "TERM", environment.pg_bindir.join("pg_basebackup"));
        let primary = environment.scratch().join("postgres");
        backup.args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf", "--username=postgres"]);
        backup.arg("--host").arg(primary).args(["--port", &POSTGRES_PORT.to_string()]);
        backup.arg("--pgdata").arg(&data);
        run("pg_basebackup", backup).await?;
        let mut postgres = server_command(Account::Postgres, "INT", environment.pg_bindir.join("postgres"));
        let port = POSTGRES_PORT + number;
        postgres.args(["-p", &port.to_string(), "-k"]).arg(&directory).arg("-D").arg(&data);
        postgres.current_dir(&directory);
        let mut server = Server::start(&name, environment.scratch(), postgres, Signal::INT)?;
        let mut own = Config::new();
        own.host_path(&directory).port(port).user("postgres").dbname("postgres");
        wait_until_ready(&own, Some(&mut server)).await?;
        Ok(server)
    }

    /// The ports of the primary and of its standbys.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        (POSTGRES_PORT..).take(1 + self.standbys.len()).collect()
    }

    /// The process ids of the postmasters.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        [self.server.id()].into_iter().chain(self.standbys.iter().map(Server::id)).collect()
    }
}

fn settings(address: std::net::Ipv4Addr, socket_directory: &Path, max_connections: u32) -> String {
    format!(
        "listen_addresses = '{address}'\nport = {POSTGRES_PORT}\nunix_socket_directories = '{}'\n\
         max_connections = {max_connections}\npassword_encryption = 'scram-sha-256'\nshared_buffers = '256MB'\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_wal_size = '4GB'\nautovacuum = off\n\
         jit = off\nlog_checkpoints = off\n",
        socket_directory.display()
    )
}

async fn create_users(superuser: &Config, password: &str, monitor_password: &str) -> Result<String> {
    let user = format!("CREATE ROLE {USER} LOGIN PASSWORD '{password}'");
    let monitor = format!("CREATE ROLE {MONITOR_USER} SUPERUSER LOGIN PASSWORD '{monitor_password}'");
    // Whose keys cost 4096 rounds: too long under valgrind.
    let by_md5 = "SET password_encryption = 'md5'";
    let database = format!("CREATE DATABASE {DATABASE} OWNER {USER}");
    execute(superuser, &[&user, by_md5, &monitor, &database]).await?;
    let (client, connection) = superuser.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = client.query_one("SELECT rolpassword FROM pg_authid WHERE rolname = $1", &[&USER]).await?;
    drop(client);
    driver.await??;
    Ok(row.try_get(0)?)
}

async fn execute(config: &Config, statements: &[&str]) -> Result<()> {
    let (client, connection) = config.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    for statement in statements {
        // Not the statement itself: it may hold a password.
        client.batch_execute(statement).await.context("set up PostgreSQL")?;
    }
    drop(client);
    driver.await??;
    Ok(())
}

/// Logs in until it works and a query is answered; gives up when the server ends, or after 20 seconds.
///
/// # Errors
/// When it gives up, with the last error and the end of the server's log.
pub async fn wait_until_ready(config: &Config, mut server: Option<&mut Server>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let error = match execute(config, &["SELECT 1"]).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if let Some(server) = server.as_deref_mut() {
            server.check_running()?;
        }
        if Instant::now() > deadline {
            let log = server.map(|server| server.log_tail()).unwrap_or_default();
            bail!("no login within 20 s: {error:#}; the server's log ends with:\n{log}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// True if it can be logged in, and a query is answered.
pub async fn is_ready(config: &Config) -> bool {
    execute(config, &["SELECT 1"]).await.is_ok()
}

/// Runs a program to its end; it is killed when the future is dropped.
async fn run(name: &str, command: Command) -> Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("start {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}:\n{said}", output.status);
    Ok(output)
}
