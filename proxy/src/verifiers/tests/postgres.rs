//! A PostgreSQL of a test's own. Needs root, to become the user `postgres` that PostgreSQL insists on.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::verifiers::Endpoint;

pub(super) const SUPERUSER_PASSWORD: &str = "superuser's password";

pub(super) struct Postgres {
    directory: TempDir,
    child: Option<Child>,
    pub(super) endpoint: Endpoint,
    template: Arc<Template>,
}

/// What initdb made, once for all tests that run at the same time.
struct Template {
    directory: TempDir,
}

impl Template {
    fn get() -> Arc<Self> {
        static SHARED: Mutex<Weak<Template>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        shared.upgrade().unwrap_or_else(|| {
            let template = Arc::new(Self::make());
            *shared = Arc::downgrade(&template);
            template
        })
    }

    fn make() -> Self {
        let template = Self { directory: owned_by_postgres() };
        let password_file = template.directory.path().join("password");
        std::fs::write(&password_file, SUPERUSER_PASSWORD).unwrap();
        run(Command::new("chown").arg("postgres:").arg(&password_file));
        let mut initdb = as_postgres("initdb");
        initdb.args([
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
            "--username=postgres",
            "--auth=scram-sha-256",
        ]);
        run(initdb.arg("-D").arg(template.data()).arg("--pwfile").arg(&password_file));
        // The method md5 asks for what is stored: SCRAM or md5.
        std::fs::write(template.data().join("pg_hba.conf"), "host all all 127.0.0.0/8 md5\n").unwrap();
        template
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Postgres {
    /// A fresh server that asks for a password of the kind that is stored.
    pub(super) async fn start() -> Self {
        let template = Template::get();
        let directory = owned_by_postgres();
        let mut server = Self { directory, child: None, endpoint: free_endpoint(), template };
        run(Command::new("cp").arg("-a").arg(server.template.data()).arg(server.data()));
        server.run().await;
        server
    }

    /// Starts it again after [`Self::kill`].
    pub(super) async fn run(&mut self) {
        let mut postgres = as_postgres("postgres");
        postgres.arg("-D").arg(self.data());
        postgres.args(["-c", &format!("listen_addresses={}", self.endpoint.host)]);
        postgres.args(["-c", &format!("port={}", self.endpoint.port)]);
        postgres.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
        self.child = Some(postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.connect("postgres", SUPERUSER_PASSWORD).await.is_err() {
            assert!(Instant::now() < deadline, "server {} does not come up", self.endpoint);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it at once, as a crash does to its clients.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_process(Pid::from_child(&child), Signal::QUIT).unwrap();
            child.wait().unwrap();
        }
    }

    pub(super) async fn connect(
        &self,
        user: &str,
        password: &str,
    ) -> Result<(Client, tokio::task::JoinHandle<()>), tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.endpoint.host).port(self.endpoint.port).dbname("postgres");
        let (client, connection) = config.user(user).password(password).connect(NoTls).await?;
        Ok((client, tokio::spawn(async { drop(connection.await) })))
    }

    /// Runs statements as the superuser.
    pub(super) async fn execute(&self, sql: &str) {
        let (client, connection) = self.connect("postgres", SUPERUSER_PASSWORD).await.unwrap();
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        drop(client);
        connection.await.unwrap();
    }

    /// The first column of the first row, as the superuser sees it.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        let (client, _connection) = self.connect("postgres", SUPERUSER_PASSWORD).await.unwrap();
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of loopback that nothing else in this run uses, and a port that is free on it.
pub(super) fn free_endpoint() -> Endpoint {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = u8::try_from(std::process::id() % 250).unwrap() + 1;
    let address = Ipv4Addr::new(127, 97, process, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((IpAddr::V4(address), 0)).unwrap();
    Endpoint { host: address.to_string(), port: listener.local_addr().unwrap().port() }
}

/// A program of the newest PostgreSQL here. It ends with the test's thread, should that die before it drops the server.
fn as_postgres(program: &str) -> Command {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let path = format!("/usr/lib/postgresql/{}/bin/{program}", versions.last().unwrap());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=QUIT", &path]);
    command.current_dir(Path::new("/"));
    command
}

fn owned_by_postgres() -> TempDir {
    let directory = TempDir::new().unwrap();
    run(Command::new("chown").arg("postgres:").arg(directory.path()));
    directory
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
