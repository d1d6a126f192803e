//! The raw results of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::options::Plan;
use crate::peers::Peer;
use crate::pgbench::Measured;
use crate::procfs::Memory;
use crate::scale::Scale;
use crate::transfer::Transfer;
use crate::workload::Workload;

/// One peer, one workload, one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// Round, from 1.
    pub round: u32,
    /// What pgbench went through.
    pub peer: Peer,
    /// What it ran.
    #[serde(flatten)]
    pub workload: Workload,
    /// Transactions per second.
    pub tps: f64,
    /// Average latency, milliseconds.
    pub latency_ms: f64,
    /// Median latency, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the latency, milliseconds.
    pub p99_ms: Option<f64>,
    /// The peer's own CPU time per transaction, microseconds; none for PostgreSQL itself.
    pub peer_cpu_us: Option<f64>,
    /// PostgreSQL's CPU time per transaction, microseconds.
    pub postgres_cpu_us: Option<f64>,
    /// Seconds that were measured.
    pub seconds: f64,
}

impl Load {
    /// The figures of a run whose trees were the peer's, if it has one, and those of all servers of PostgreSQL.
    #[must_use]
    pub fn new(round: u32, peer: Peer, workload: Workload, measured: &Measured) -> Self {
        let per_transaction = |nanoseconds: u64| nanoseconds as f64 / 1e3 / measured.transactions;
        let (own, servers) = measured.cpu_nanoseconds.split_at(usize::from(peer != Peer::Direct));
        Self {
            round,
            peer,
            workload,
            tps: measured.transactions / measured.seconds,
            latency_ms: measured.latency_ms,
            p50_ms: measured.p50_ms,
            p99_ms: measured.p99_ms,
            postgres_cpu_us: Some(per_transaction(servers.iter().sum())),
            peer_cpu_us: own.first().copied().map(per_transaction),
            seconds: measured.seconds,
        }
    }
}

/// The memory of one peer before and after it got idle clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Idle {
    /// Round, from 1.
    pub round: u32,
    /// The peer; for `direct`, PostgreSQL's own processes.
    pub peer: Peer,
    /// They speak TLS.
    pub has_tls: bool,
    /// Idle clients that were there before.
    pub first: u32,
    /// Idle clients that have come then.
    pub clients: u32,
    /// Memory without those.
    pub before: Memory,
    /// Memory with them.
    pub after: Memory,
}

/// How long a peer took to serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Start {
    /// Round, from 1.
    pub round: u32,
    /// The peer.
    pub peer: Peer,
    /// From its start to the first query answered, milliseconds.
    pub first_answer_ms: f64,
    /// The resident memory of a peer that has served one client, KiB.
    pub empty_kib: u64,
}

/// All that a run found.
#[derive(Debug, Serialize)]
pub struct Results {
    /// When it began, seconds since the epoch.
    pub started: u64,
    /// The machine: kernel, cores.
    pub machine: String,
    /// What each peer is.
    pub versions: BTreeMap<&'static str, String>,
    /// Peers that were left out, and why.
    pub left_out: BTreeMap<&'static str, String>,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Server connections of each pool.
    pub pool_size: u32,
    /// pgbench's scale factor.
    pub scale: u32,
    /// Runs of pgbench.
    pub loads: Vec<Load>,
    /// COPY in both directions.
    pub transfers: Vec<Transfer>,
    /// Cold starts.
    pub starts: Vec<Start>,
    /// Memory with idle clients.
    pub idle: Vec<Idle>,
    /// Ever more clients and pools.
    pub scales: Vec<Scale>,
    #[serde(skip)]
    path: PathBuf,
}

impl Results {
    /// Nothing found yet.
    ///
    /// # Errors
    /// When the directory of the raw results cannot be made.
    pub fn new(plan: &Plan) -> Result<Self> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        fs::create_dir_all(&plan.out).with_context(|| format!("create {}", plan.out.display()))?;
        let path = fs::canonicalize(&plan.out)?.join(format!("bench-{started}.json"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism()?;
        Ok(Self {
            started,
            machine: format!("Linux {}, {cores} cores", kernel.trim()),
            versions: BTreeMap::new(),
            left_out: BTreeMap::new(),
            rounds: plan.rounds,
            pool_size: plan.pool_size,
            scale: plan.scale,
            loads: Vec::new(),
            transfers: Vec::new(),
            starts: Vec::new(),
            idle: Vec::new(),
            scales: Vec::new(),
            path,
        })
    }

    /// Writes what was found so far.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }

    /// Where the raw results are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
