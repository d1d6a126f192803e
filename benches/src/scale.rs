//! What a transaction costs as there are more clients, and as there are more pools. Of all clients a few are served at a time, others each time:
//! what grows is what the peer has to keep, and to find its way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::peers::Peer;
use crate::postgres::{Login, pool_user};
use crate::procfs::Snapshot;

/// What there is more and more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Clients of one pool.
    Clients,
    /// Pools that [`CLIENTS_OF_POOLS`] clients are spread over, each of a user of its own.
    Pools,
}

impl Of {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Clients, Self::Pools];

    /// How many of it there are, one after the other.
    #[must_use]
    pub const fn counts(self) -> [u32; 4] {
        match self {
            Self::Clients => [10, 100, 1000, MOST_CLIENTS],
            Self::Pools => [1, 10, 100, MOST_POOLS],
        }
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Pools => "pools",
        }
    }
}

/// Each count of each.
pub fn all() -> impl Iterator<Item = (Of, u32)> {
    Of::ALL.into_iter().flat_map(|of| of.counts().map(|count| (of, count)))
}

/// The most clients.
pub const MOST_CLIENTS: u32 = 10_000;
/// The most pools.
pub const MOST_POOLS: u32 = 1000;
/// Clients while pools are counted.
const CLIENTS_OF_POOLS: u32 = 1000;
/// Clients that are served at a time.
const AT_ONCE: usize = 8;
/// Before it is measured: every pool has its connections then.
const WARM_UP: Duration = Duration::from_secs(1);

/// One peer, so many clients or pools, one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scale {
    /// Round, from 1.
    pub round: u32,
    /// Through what.
    pub peer: Peer,
    /// What is counted.
    pub of: Of,
    /// How many there are.
    pub count: u32,
    /// Transactions per second.
    pub tps: f64,
    /// The peer's own CPU time per transaction, microseconds.
    pub peer_cpu_us: f64,
}

impl Scale {
    /// Measures it for so many seconds, through a peer whose processes descend from `root`.
    ///
    /// # Errors
    /// When a client cannot log in, or a query fails.
    pub async fn measure(
        (round, peer): (u32, Peer),
        (of, count): (Of, u32),
        (login, root): (&Login, u32),
        seconds: u32,
    ) -> Result<Self> {
        let (clients, pools) = match of {
            Of::Clients => (count, 1),
            Of::Pools => (CLIENTS_OF_POOLS, count),
        };
        let clients = log_in(login, clients, pools).await?;
        // Each has been served, so that nothing is opened while it is measured.
        for client in &clients {
            client.simple_query("SELECT 1").await?;
        }
        let (done, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut asking = JoinSet::new();
        for share in shares(clients) {
            asking.spawn(ask(share, Arc::clone(&done), Arc::clone(&is_over)));
        }
        sleep(WARM_UP).await;
        let look = || (Instant::now(), done.load(Ordering::Relaxed), Snapshot::of_trees(&[root]));
        let (begun, before, at_first) = look();
        sleep(Duration::from_secs(u64::from(seconds))).await;
        let (ended, after, at_last) = look();
        is_over.store(true, Ordering::Relaxed);
        while let Some(asked) = asking.join_next().await {
            asked??;
        }
        let transactions = (after - before) as f64;
        ensure!(transactions > 0.0, "no transaction in {seconds} s");
        let (first, last) = (at_first.first(), at_last.first());
        let spent = last.zip(first).map(|(last, first)| last.nanoseconds_since(first));
        Ok(Self {
            round,
            peer,
            of,
            count,
            tps: transactions / (ended - begun).as_secs_f64(),
            peer_cpu_us: spent.context("no process to measure")? as f64 / 1e3 / transactions,
        })
    }
}

/// Clients of so many pools in turn.
async fn log_in(login: &Login, count: u32, pools: u32) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut config = login.config();
        config.user(pool_user(number % pools));
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.with_context(|| format!("client {} of {count}", number + 1))?;
        tokio::spawn(connection);
        clients.push(client);
    }
    Ok(clients)
}

/// The clients of each of those who ask, one after the other.
fn shares(clients: Vec<Client>) -> Vec<Vec<Client>> {
    let mut shares: Vec<Vec<Client>> = (0..AT_ONCE.min(clients.len())).map(|_| Vec::new()).collect();
    let askers = shares.len();
    for (number, client) in clients.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(number % askers) {
            share.push(client);
        }
    }
    shares
}

async fn ask(clients: Vec<Client>, done: Arc<AtomicU64>, is_over: Arc<AtomicBool>) -> Result<()> {
    for (number, client) in clients.iter().enumerate().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let account = number * 7919 % 100_000 + 1;
        let query = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {account}");
        client.simple_query(&query).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
