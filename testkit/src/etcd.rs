//! A real etcd of one member.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::certificates::Authority;
use crate::cluster::Cluster;
use crate::command::Place;
use crate::processes::signal;
use crate::wait::eventually;

const PROGRAM: &str = "etcd";
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// An etcd of one member, on an address of a cluster's. It is killed when dropped.
#[derive(Debug)]
pub struct Etcd {
    clients: SocketAddr,
    peers: SocketAddr,
    directory: PathBuf,
    place: Place,
    /// Certificate, key, and the authority of clients, where it speaks TLS.
    tls: Option<[PathBuf; 3]>,
    child: Option<Child>,
}

impl Etcd {
    /// Starts one beside `cluster`, at the place of a pgherd, and waits until it answers.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let (_, address, place) = cluster.next_pgherd();
        let directory = cluster.directory().join("etcd");
        fs::create_dir(&directory)?;
        let mut etcd = Self {
            clients: SocketAddr::new(address.into(), 2379),
            peers: SocketAddr::new(address.into(), 2380),
            directory,
            place,
            tls: None,
            child: None,
        };
        etcd.start_again().await?;
        Ok(etcd)
    }

    /// Where its clients reach it, as `failover.etcd.endpoints` has it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.clients)
    }

    /// Starts it after its end, with what it had.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "etcd runs");
        let log = fs::File::options().create(true).append(true).open(self.directory.join("log"))?;
        let mut command = self.place.command(PROGRAM);
        let (clients, peers) = (self.url(), format!("http://{}", self.peers));
        command
            .args(["--name", "test", "--data-dir"])
            .arg(self.directory.join("data"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("test={peers}")]);
        if let Some([certificate, key, authority]) = &self.tls {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(authority);
        }
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        self.child = Some(command.spawn().context("cannot run etcd: scripts/setup installs it")?);
        eventually("etcd is healthy", STARTS_WITHIN, || async {
            if self.tls.is_some() {
                return Ok(TcpStream::connect(self.clients).await.ok().map(drop));
            }
            Ok(self.ask("GET /health", "").await?.contains("\"true\"").then_some(()))
        })
        .await
    }

    /// Lets only this user in from now on, who may do everything. It must not speak TLS yet.
    pub async fn require_login(&self, password: &str) -> Result<()> {
        let root = format!("{{\"name\":\"root\",\"password\":\"{password}\"}}");
        for (path, body) in [
            ("user/add", root.as_str()),
            ("role/add", "{\"name\":\"root\"}"),
            ("user/grant", "{\"user\":\"root\",\"role\":\"root\"}"),
            ("enable", "{}"),
        ] {
            let answer = self.ask(&format!("POST /v3/auth/{path}"), body).await?;
            ensure!(answer.contains("200 OK"), "auth/{path}: {answer}");
        }
        Ok(())
    }

    /// Speaks TLS from now on, and only with clients whose certificates are of this authority.
    pub async fn speak_tls(&mut self, authority: &Authority) -> Result<()> {
        self.kill9().await?;
        let identity = authority.member(&self.clients.ip().to_string())?;
        let (certificate, key) = identity.write(&self.directory, "etcd")?;
        self.tls = Some([certificate, key, authority.write(&self.directory, "clients")?]);
        self.start_again().await
    }

    /// One request without TLS, and all of the answer.
    async fn ask(&self, what: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.clients).await?;
        let request = format!("{what} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub async fn kill9(&mut self) -> Result<()> {
        self.send(Signal::KILL)?;
        let child = self.child.as_mut().ok_or_else(|| anyhow!("etcd does not run"))?;
        child.wait().await?;
        self.child = None;
        Ok(())
    }

    /// Stops it with SIGSTOP: connections stay open, and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.send(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.send(Signal::CONT)
    }

    fn send(&self, which: Signal) -> Result<()> {
        let pid = self.child.as_ref().and_then(Child::id).ok_or_else(|| anyhow!("etcd does not run"))?;
        signal(pid, which)
    }
}
