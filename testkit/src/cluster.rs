use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::task::{JoinHandle, JoinSet};

use crate::command::Place;
use crate::credentials::Credentials;
use crate::files::{make_client_key, node, prepare};
use crate::lease::Lease;
use crate::network::{Namespaces, Network, Party, address, proxy_host, proxy_namespace, server_namespace};
use crate::postgres::program_directory;
use crate::processes::adopt_daemons;
use crate::repmgr::replace_rows;
use crate::server::{Parts, Server};
use crate::sshd::ClientKey;
use crate::template::Template;
use crate::wait::eventually;

const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// What a cluster shall be; made by [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    servers: u8,
    network: Network,
    synchronous: u8,
    durable: bool,
    disk_mebibytes: Option<u32>,
    fresh: bool,
    port: u16,
    ssh_port: u16,
    block: Option<u8>,
    settings: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// How many servers: the first is the primary. Default 3, at most 9.
    pub fn servers(mut self, count: u8) -> Self {
        self.servers = count;
        self
    }

    /// Loopback addresses (the default) or network namespaces.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// How many standbys a commit waits for (`ANY k`), whichever server is the primary. Default 0.
    pub fn synchronous(mut self, standbys: u8) -> Self {
        self.synchronous = standbys;
        self
    }

    /// `fsync = on`. By default it is off: nothing here loses the page cache.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Each server has a disk of its own of this size, which [`Server::fill_disk`] fills. 256 MiB is enough for a server.
    pub fn disk(mut self, mebibytes: u32) -> Self {
        self.disk_mebibytes = Some(mebibytes);
        self
    }

    /// With `false` the cluster is made by an initdb of its own, and so has a system identifier that no other has.
    pub fn template_cache(mut self, cached: bool) -> Self {
        self.fresh = !cached;
        self
    }

    /// One more setting of `postgresql.conf` on every server.
    pub fn setting(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// PostgreSQL's port, 5432 by default.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// sshd's port, 222 by default.
    pub fn ssh_port(mut self, port: u16) -> Self {
        self.ssh_port = port;
        self
    }

    /// Use the addresses 127.0.`block`.1, ... if they are free.
    pub fn block(mut self, block: u8) -> Self {
        self.block = Some(block);
        self
    }

    /// Starts the cluster: all standbys stream and all servers are in `repmgr.nodes`.
    pub async fn start(self) -> Result<Cluster> {
        ensure!((1..=9).contains(&self.servers), "a cluster has 1 to 9 servers");
        ensure!(self.synchronous < self.servers, "there are not {} standbys", self.synchronous);
        let programs = program_directory()?;
        let ports = [self.port, self.ssh_port];
        let block = self.block;
        // The lease may sweep what others left behind, which takes a while.
        let lease = tokio::task::spawn_blocking(move || Lease::take(&ports, block)).await??;
        let template = if self.fresh {
            Template::fresh(&programs, &lease.directory().join("template")).await?
        } else {
            Template::cached(&programs).await?
        };
        let namespaces = match self.network {
            Network::Loopback => None,
            Network::Namespaces => Some(Namespaces::create(lease.block(), &self.names()).await?),
        };
        let key = make_client_key(lease.directory()).await?;
        let directory = lease.directory().to_owned();
        let mut cluster = Cluster {
            servers: Vec::new(),
            credentials: template.credentials.clone(),
            key,
            namespaces,
            pgherds: AtomicU8::new(0),
            network: self.network,
            lease,
            undertaker: tokio::spawn(adopt_daemons()?),
        };
        let settings = self.settings();
        let mut preparations = JoinSet::new();
        for (name, host) in self.names().into_iter().zip(1_u8..) {
            let server = cluster.plan_server(&self, name, host, &programs);
            let primary = address(self.network, cluster.lease.block(), 1);
            let preparation = prepare(
                server.clone(),
                template.data_directory.clone(),
                primary,
                directory.clone(),
                settings.clone(),
                self.disk_mebibytes,
            );
            preparations.spawn(preparation);
            cluster.servers.push(server);
        }
        let mut known_hosts = String::new();
        while let Some(prepared) = preparations.join_next().await {
            known_hosts += &prepared??;
        }
        fs::write(cluster.known_hosts_path(), known_hosts)?;
        cluster.launch(&programs).await?;
        Ok(cluster)
    }

    fn names(&self) -> Vec<String> {
        (1..=self.servers).map(|id| format!("pg{id:02}")).collect()
    }

    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        if !self.durable {
            settings.push(("fsync".to_owned(), "off".to_owned()));
        }
        if self.synchronous > 0 {
            let names: Vec<String> = self.names().iter().map(|name| format!("\"{name}\"")).collect();
            let value = format!("ANY {} ({})", self.synchronous, names.join(", "));
            settings.push(("synchronous_standby_names".to_owned(), value));
        }
        settings.extend(self.settings.iter().cloned());
        settings
    }
}

/// A primary and its standbys. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    credentials: Credentials,
    key: ClientKey,
    namespaces: Option<Namespaces>,
    pgherds: AtomicU8,
    network: Network,
    lease: Lease,
    undertaker: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.undertaker.abort();
    }
}

impl Cluster {
    /// A cluster of three servers on loopback, unless told otherwise.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            servers: 3,
            network: Network::Loopback,
            synchronous: 0,
            durable: false,
            disk_mebibytes: None,
            fresh: false,
            port: 5432,
            ssh_port: 222,
            block: None,
            settings: Vec::new(),
        }
    }

    /// All servers, in the order of their ids.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server with a node id, from 1.
    pub fn server(&self, id: i32) -> Result<Server> {
        let server = self.servers.iter().find(|server| server.id() == id);
        server.cloned().ok_or_else(|| anyhow!("the cluster has no server {id}"))
    }

    /// The server that is not in recovery, found by looking now; an error unless there is exactly one.
    pub async fn primary(&self) -> Result<Server> {
        let mut writable = Vec::new();
        for server in &self.servers {
            if server.is_in_recovery().await.is_ok_and(|in_recovery| !in_recovery) {
                writable.push(server.clone());
            }
        }
        match writable.as_slice() {
            [primary] => Ok(primary.clone()),
            [] => bail!("no server is writable"),
            several => bail!("writable: {:?}", several.iter().map(Server::name).collect::<Vec<_>>()),
        }
    }

    /// The servers that are in recovery now.
    pub async fn standbys(&self) -> Vec<Server> {
        let mut standbys = Vec::new();
        for server in &self.servers {
            if server.is_in_recovery().await.is_ok_and(|in_recovery| in_recovery) {
                standbys.push(server.clone());
            }
        }
        standbys
    }

    /// Waits until one server is writable and all others stream from it.
    pub async fn wait_healthy(&self) -> Result<()> {
        eventually("a primary from which all others stream", HEALTHY_WITHIN, || async {
            Ok(self.is_healthy().await?.then_some(()))
        })
        .await
    }

    /// Whether one server is writable and all others stream from it, by a look now.
    pub async fn is_healthy(&self) -> Result<bool> {
        let primary = self.primary().await?;
        let streaming = primary
            .scalar("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name LIKE 'pg%'")
            .await?;
        Ok(streaming == (self.servers.len() - 1).to_string())
    }

    /// Makes a standby the primary with repmgr, without pgherd; all others follow it.
    pub async fn make_primary(&self, id: i32) -> Result<()> {
        let (old, new) = (self.primary().await?, self.server(id)?);
        if old.id() == id {
            return Ok(());
        }
        old.stop_clean().await?;
        new.must_repmgr("standby promote").await?;
        for other in self.servers.iter().filter(|server| ![id, old.id()].contains(&server.id())) {
            other.must_repmgr(&format!("standby follow --upstream-node-id={id}")).await?;
        }
        let upstream = format!("host={} port={} user=repmgr dbname=repmgr", new.address(), new.port());
        old.must_repmgr(&format!("node rejoin -d '{upstream}'")).await?;
        self.wait_healthy().await
    }

    /// The elements of `backends.nodes`: `id:host:port:weight:datadir:flag`, ids from 0.
    pub fn backend_nodes(&self) -> Vec<String> {
        let node = |server: &Server| {
            let data = server.data_directory();
            format!(
                "{}:{}:{}:1:{}:ALLOW_TO_FAILOVER",
                server.backend_id(),
                server.address(),
                server.port(),
                data.display()
            )
        };
        self.servers.iter().map(node).collect()
    }

    /// The passwords of the users that every cluster has.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The password of `repmgr`, pgherd's user for looking.
    pub fn monitor_password(&self) -> &str {
        self.credentials.password("repmgr")
    }

    /// The private key that every sshd of the cluster lets in as user `postgres`.
    pub fn ssh_key_path(&self) -> &Path {
        &self.key.private
    }

    /// The servers' host keys, in the format of OpenSSH's `known_hosts`.
    pub fn known_hosts(&self) -> Result<String> {
        fs::read_to_string(self.known_hosts_path()).context("known_hosts")
    }

    /// The file with the servers' host keys.
    pub fn known_hosts_path(&self) -> PathBuf {
        self.directory().join("known_hosts")
    }

    /// The path of every server's `repmgr.conf`, where `{host}` stands for the server's address.
    pub fn repmgr_conf_pattern(&self) -> String {
        format!("{}/by-host/{{host}}/repmgr.conf", self.directory().display())
    }

    /// repmgr's program on every server.
    pub fn repmgr_program(&self) -> Result<PathBuf> {
        Ok(program_directory()?.join("repmgr"))
    }

    /// The directory with everything of the cluster.
    pub fn directory(&self) -> &Path {
        self.lease.directory()
    }

    /// Drops all packets from one party to another, until [`Cluster::heal`]. Needs [`Network::Namespaces`].
    pub async fn cut(&self, from: Party, to: Party) -> Result<()> {
        self.namespaces()?.cut(from, to).await
    }

    /// Lets packets from one party to another through again.
    pub async fn mend(&self, from: Party, to: Party) -> Result<()> {
        self.namespaces()?.mend(from, to).await
    }

    /// Drops all packets between two parties, both ways.
    pub async fn partition(&self, one: Party, other: Party) -> Result<()> {
        self.cut(one, other).await?;
        self.cut(other, one).await
    }

    /// Cuts a party from all others but the observer, both ways.
    pub async fn isolate(&self, party: Party) -> Result<()> {
        let servers = self.servers.iter().map(|server| Party::Server(server.id()));
        for other in servers.chain([Party::Proxy]).filter(|other| *other != party) {
            self.partition(party, other).await?;
        }
        Ok(())
    }

    /// Lets all packets through again.
    pub async fn heal(&self) -> Result<()> {
        self.namespaces()?.heal().await
    }

    fn namespaces(&self) -> Result<&Namespaces> {
        self.namespaces
            .as_ref()
            .ok_or_else(|| anyhow!("only a cluster with Network::Namespaces can be partitioned"))
    }

    /// Where the next pgherd of this cluster runs: its number from 0, its address and its place.
    pub(crate) fn next_pgherd(&self) -> (u8, Ipv4Addr, Place) {
        let index = self.pgherds.fetch_add(1, Ordering::Relaxed);
        let namespace = self.namespaces.as_ref().map(|_| proxy_namespace(self.lease.block()));
        let address = address(self.network, self.lease.block(), proxy_host(index));
        (index, address, Place::new(self.directory().to_owned(), namespace))
    }

    fn plan_server(&self, builder: &ClusterBuilder, name: String, host: u8, programs: &Path) -> Server {
        let block = self.lease.block();
        let namespace = self.namespaces.as_ref().map(|_| server_namespace(block, &name));
        Server::new(Parts {
            id: i32::from(host),
            address: address(self.network, block, host),
            port: builder.port,
            ssh_port: builder.ssh_port,
            directory: self.directory().join(&name),
            programs: programs.to_owned(),
            place: Place::new(self.directory().to_owned(), namespace),
            credentials: self.credentials.clone(),
            ssh_key: self.key.private.clone(),
            known_hosts: self.known_hosts_path(),
            name,
        })
    }

    /// Starts all servers at once, registers them, and waits until the standbys stream and have all that is registered.
    async fn launch(&self, programs: &Path) -> Result<()> {
        let mut starts = JoinSet::new();
        for server in &self.servers {
            let server = server.clone();
            starts.spawn(async move {
                server.launch().await?;
                server.start_sshd().await?;
                server.wait_ready().await
            });
        }
        while let Some(started) = starts.join_next().await {
            started??;
        }
        let Some((primary, standbys)) = self.servers.split_first() else { return Ok(()) };
        let rows: Vec<String> = self
            .servers
            .iter()
            .map(|server| node(server, programs, self.directory()).row(primary.id()))
            .collect();
        primary.query_in("repmgr", &replace_rows(&rows)).await?;
        let registered = primary.scalar("SELECT pg_current_wal_lsn()").await?;
        for standby in standbys {
            standby.wait_streaming().await?;
            standby.wait_replayed(&registered).await?;
        }
        Ok(())
    }
}
