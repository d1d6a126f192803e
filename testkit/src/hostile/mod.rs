//! Clients that mean harm, and beside them some that do not: those must be served as before, and pgherd must neither end nor grow.

mod attack;
mod calm;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::attack::Attack;
use self::attack::Target;
use self::calm::Latencies;
use crate::certificates::Authority;
use crate::client::RawClient;
use crate::cluster::Cluster;
use crate::pgherd::Pgherd;
use crate::processes;
use crate::wait::eventually;

/// How often memory is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done to a pgherd.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// How long each attack lasts; for half as long it is measured before.
    pub time: Duration,
    /// How many connections attack at once, where they are many; half-open ones are a hundred times as many.
    pub strength: usize,
    /// `memory.limit` in MiB.
    pub memory_limit: u64,
}

/// What an attack came to.
#[derive(Clone, Debug)]
pub struct Siege {
    /// What was done.
    pub attack: Attack,
    /// What it came to, in words.
    pub done: String,
    /// What well-behaved clients measured before and meanwhile, through pgherd.
    pub through: [Latencies; 2],
    /// The same of a client of PostgreSQL itself: what the machine has to do with it.
    pub direct: [Latencies; 2],
    /// The most resident memory of pgherd, in KiB.
    pub most_memory: u64,
}

impl fmt::Display for Siege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [calm, attacked] = self.through;
        let [direct_calm, direct] = self.direct;
        let name = self.attack.name();
        write!(
            f,
            "| {name} | {} | {calm} | {attacked} | {direct_calm} | {direct} | {:.1} |",
            self.done,
            kibibytes(self.most_memory)
        )
    }
}

/// In MiB.
fn kibibytes(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / 1024.0
}

impl Hostile {
    /// The head of the table whose rows are [`Siege`]s.
    pub const HEAD: &'static str = "| attack | what came of it | p50 / p99 before (ms) | meanwhile | PostgreSQL itself before | meanwhile | most memory (MiB) |\n\
        |---|---|---:|---:|---:|---:|---:|";

    /// Besieges a pgherd of its own before the cluster with one attack.
    ///
    /// # Errors
    /// If pgherd ends, panics, takes more memory than it may, lets nobody in afterwards, or answers a well-behaved client with an error.
    pub async fn run(&self, cluster: &Cluster, attack: Attack) -> Result<Siege> {
        let pgherd = self.start(cluster, attack).await?;
        let pid = pgherd.pid().context("pgherd does not run")?;
        let password = cluster.credentials().password("app").to_owned();
        let server = cluster.server(1)?;
        let direct = SocketAddr::from((server.address(), server.port()));
        let (is_over, over) = watch::channel(false);
        let (is_attacked, attacked) = watch::channel(false);
        let mut clients: JoinSet<Result<(SocketAddr, [Vec<u32>; 2])>> = JoinSet::new();
        for address in [pgherd.address(), pgherd.address(), pgherd.address(), direct] {
            // On a machine that has much else to do a pgherd may need a while before it can ask for passwords.
            let client = eventually("a login", PATIENCE, || async {
                Ok(RawClient::login(address, "app", "app", &password).await.ok())
            })
            .await?;
            let (over, attacked) = (over.clone(), attacked.clone());
            clients.spawn(async move { Ok((address, calm::live(client, over, attacked).await?)) });
        }
        tokio::time::sleep(self.time / 2).await;
        is_attacked.send_replace(true);
        let target = Arc::new(Target { address: pgherd.address(), password: password.clone() });
        let watcher = tokio::spawn(watch_memory(pid, over.clone()));
        let done = attack.run(&target, self.strength, tokio::time::Instant::now() + self.time).await?;
        is_over.send_replace(true);
        let (mut through, mut beside) = (<[Vec<u32>; 2]>::default(), <[Vec<u32>; 2]>::default());
        while let Some(ended) = clients.join_next().await {
            let (address, measured): (_, [Vec<u32>; 2]) =
                ended.context("a client panicked")?.context("a well-behaved client")?;
            let all = if address == direct { &mut beside } else { &mut through };
            all.iter_mut().zip(measured).for_each(|(all, one)| all.extend(one));
        }
        let most_memory = watcher.await.context("the watcher panicked")?;
        let bound = self.bound();
        ensure!(most_memory <= bound, "pgherd had {most_memory} KiB: more than {bound}");
        ensure!(!pgherd.log().iter().any(|line| line.contains("panicked")), "pgherd panicked");
        let mut after =
            RawClient::login(pgherd.address(), "app", "app", &password).await.context("afterwards")?;
        ensure!(after.query("SELECT 1").await?.error().is_none(), "afterwards");
        ensure!(processes::resident(pid).is_ok(), "pgherd has ended");
        let (through, direct) = (through.map(Latencies::of), beside.map(Latencies::of));
        Ok(Siege { attack, done, through, direct, most_memory })
    }

    /// The most memory in KiB that pgherd may come to have: a quarter more than its limit, and what it has from the start.
    pub const fn bound(&self) -> u64 {
        (self.memory_limit * 5 / 4 + 32) * 1024
    }

    async fn start(&self, cluster: &Cluster, attack: Attack) -> Result<Pgherd> {
        let directory = cluster.directory();
        let authority = Authority::new("hostile")?;
        let (certificate, key) = authority.server(&["localhost"])?.write(directory, "hostile")?;
        let mut settings = Pgherd::builder(cluster)
            .set("listen.tls.cert", certificate.display().to_string())
            .set("listen.tls.key", key.display().to_string())
            .set("memory.limit", format!("{}MiB", self.memory_limit))
            .set("pool.client_login_timeout", "10s")
            .set("pool.size", 30)
            .set("monitor.timeout", "20s")
            .set("failover.mode", "manual");
        if let Some(limits) = attack.limits() {
            let wrapper = directory.join("limited");
            let program = Pgherd::program()?;
            let script = format!("#!/bin/sh\nexec prlimit {limits} {} \"$@\"\n", program.display());
            std::fs::write(&wrapper, script)?;
            std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            settings = settings.binary(wrapper);
        }
        let pgherd = settings.start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        Ok(pgherd)
    }
}

/// The most resident memory that a process has until it is over, in KiB.
async fn watch_memory(pid: u32, over: watch::Receiver<bool>) -> u64 {
    let mut most = 0;
    while !*over.borrow() {
        most = most.max(processes::resident(pid).unwrap_or(0));
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    most
}
