//! Many clients that do what clients should not: storms of cancel requests, connections cut in the middle of anything, more work than a pool has
//! connections for, and among it ordinary work. Every row carries its owner, and each client looks at each that it gets. Afterwards nothing
//! may be left of it all.

mod acts;
mod client;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::pgherd::Pgherd;
use crate::wait::eventually;

/// How long the end of what clients left may take.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// What the allocator may keep more after the soak than before, in KiB.
const ALLOWANCE: u64 = 16 * 1024;
/// Rows of each owner.
const ROWS: u32 = 20;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// How long clients go on.
    pub duration: Duration,
    /// How many there are at a time. Every second one never sends a cancel request, and must never be cancelled.
    pub clients: u32,
    /// Where chance begins.
    pub seed: u64,
    /// The most connections that pgherd may have: `pool.size` and `pool.pinned_size`.
    pub most_connections: u32,
}

/// What was done, by name, and what memory it took.
#[derive(Clone, Debug)]
pub struct SoakReport {
    /// How often each act was done, and each tolerable error met.
    pub counts: BTreeMap<&'static str, u64>,
    /// pgherd's resident memory in KiB after a short time of the same, and after all.
    pub resident: (u64, u64),
}

impl fmt::Display for SoakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(f, "{count:>10}  {name}")?;
        }
        write!(f, "resident memory: {} KiB before, {} KiB after", self.resident.0, self.resident.1)
    }
}

/// What clients share.
#[derive(Debug)]
struct Common {
    address: SocketAddr,
    password: String,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Common {
    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }
}

/// What may have become of a client's own counter.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Commits that were acknowledged.
    sure: u64,
    /// Commits that were sent and of which nothing was heard.
    unsure: u64,
}

impl Soak {
    /// Does it all to a pgherd before a cluster of one server.
    ///
    /// # Errors
    /// The first thing that is not as it should be: a row of another, an error that nobody caused, a connection that is left behind,
    /// a counter that does not add up, memory that does not come back.
    pub async fn run(self, cluster: &Cluster, pgherd: &Pgherd) -> Result<SoakReport> {
        let server = cluster.server(1)?;
        server.query_in("app", &schema(self.clients)).await?;
        let common = Arc::new(Common {
            address: pgherd.address(),
            password: cluster.credentials().password("app").to_owned(),
            counts: Mutex::default(),
        });
        // The same for a short time, so that what is kept for good is there.
        let mut accounts = vec![Account::default(); usize::try_from(self.clients)?];
        self.bout(&common, self.duration / 5, 0, &mut accounts).await?;
        self.settle(cluster).await.context("after the first bout")?;
        let before = pgherd.resident()?;
        self.bout(&common, self.duration - self.duration / 5, 1, &mut accounts).await?;
        self.settle(cluster).await.context("after the last bout")?;
        audit(cluster, &accounts).await?;
        let limit = before + ALLOWANCE;
        let resident = eventually("memory is where it was", SETTLES_WITHIN, || async {
            let now = pgherd.resident()?;
            Ok((now <= limit).then_some((before, now)))
        })
        .await?;
        ensure!(!pgherd.log().iter().any(|line| line.contains("panicked")), "pgherd panicked");
        let counts = common.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(SoakReport { counts, resident })
    }

    /// All clients at once, until the time is over.
    async fn bout(
        self,
        common: &Arc<Common>,
        time: Duration,
        bout: u64,
        accounts: &mut [Account],
    ) -> Result<()> {
        let until = Instant::now() + time;
        let mut running = JoinSet::new();
        for (owner, account) in (0..self.clients).zip(accounts.iter()) {
            let seed = self.seed ^ (u64::from(owner) << 32) ^ (bout << 16);
            let client = client::Client::new(Arc::clone(common), owner, seed, *account);
            running.spawn(async move {
                client.live(until).await.with_context(|| format!("client {owner}, seed {}", self.seed))
            });
        }
        while let Some(ended) = running.join_next().await {
            let (owner, account) = ended.context("a client panicked")??;
            *accounts.get_mut(usize::try_from(owner)?).context("an owner")? = account;
        }
        Ok(())
    }

    /// Waits until nothing is left at the server: no more connections than the pool may have, and each of them idle.
    async fn settle(self, cluster: &Cluster) -> Result<()> {
        let server = cluster.server(1)?;
        eventually("all server connections are idle", SETTLES_WITHIN, || async {
            let sql = "SELECT count(*) || ' ' || count(*) FILTER (WHERE state <> 'idle' OR xact_start IS NOT NULL) FROM \
                       pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'";
            let counts = server.scalar(sql).await?;
            let (all, busy) = counts.split_once(' ').unwrap_or_default();
            ensure!(all.parse::<u32>()? <= self.most_connections, "{all} server connections");
            Ok((busy == "0").then_some(()))
        })
        .await
    }
}

fn schema(clients: u32) -> String {
    format!(
        "CREATE TABLE rows (owner int, n int, body text); CREATE INDEX ON rows (owner); \
         INSERT INTO rows SELECT o, n, repeat(md5(o || '/' || n), 1 + n) FROM generate_series(0, {clients} - 1) o, generate_series(1, {ROWS}) n; \
         CREATE TABLE counter (owner int PRIMARY KEY, n bigint); INSERT INTO counter SELECT o, 0 FROM generate_series(0, {clients} - 1) o; \
         CREATE TABLE copied (owner int, nonce bigint, n int); \
         GRANT ALL ON rows, counter, copied TO app; ANALYZE"
    )
}

/// What clients were told to be committed is there, and nothing of what they left open.
async fn audit(cluster: &Cluster, accounts: &[Account]) -> Result<()> {
    let server = cluster.server(1)?;
    for (owner, account) in accounts.iter().enumerate() {
        let sql = format!("SELECT n FROM counter WHERE owner = {owner}");
        let rows = server.query_in("app", &sql).await?;
        let n: u64 = rows.first().and_then(|row| row.get(0)).context("no counter")?.parse()?;
        let most = account.sure + account.unsure;
        ensure!((account.sure..=most).contains(&n), "the counter of {owner} is {n}, and not {account:?}");
    }
    let halves = "SELECT owner, nonce, count(*) FROM copied GROUP BY 1, 2 HAVING count(*) <> 50";
    let halves = server.query_in("app", halves).await?;
    ensure!(halves.is_empty(), "a COPY that was cut left rows: {:?}", halves.first());
    Ok(())
}
