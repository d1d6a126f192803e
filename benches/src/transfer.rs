//! COPY in both directions, and of rows of 1 MiB: CPU time by the megabyte, and how much memory it takes to pass them on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tokio::time::timeout;

use crate::peers::Peer;
use crate::postgres::{Login, USER};
use crate::procfs::{PeakMemory, Snapshot};
use crate::server::{Account, command};

/// Longer than any transfer takes.
const LIMIT: Duration = Duration::from_secs(120);

/// What is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// pgbench's accounts, read by COPY.
    CopyOut,
    /// The same, written by COPY.
    CopyIn,
    /// 1 GiB in rows of 1 MiB, read by COPY.
    CopyOutWide,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::CopyOut, Self::CopyIn, Self::CopyOutWide];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CopyOut => "COPY out",
            Self::CopyIn => "COPY in",
            Self::CopyOutWide => "COPY out, rows of 1 MiB",
        }
    }

    const fn statement(self) -> &'static str {
        match self {
            Self::CopyOut => "COPY pgbench_accounts TO STDOUT",
            Self::CopyIn => "COPY bench_copied FROM STDIN",
            Self::CopyOutWide => "COPY (SELECT repeat('x', 1048576) FROM generate_series(1, 1024)) TO STDOUT",
        }
    }
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transfer {
    /// Round, from 1.
    pub round: u32,
    /// Through what.
    pub peer: Peer,
    /// What.
    pub kind: Kind,
    /// Bytes of data, without what the protocol adds.
    pub bytes: u64,
    /// Seconds, with the login.
    pub seconds: f64,
    /// The peer's CPU time by 100 MB, milliseconds; none for PostgreSQL itself.
    pub peer_cpu_ms: Option<f64>,
    /// How much the peer's resident memory grew at most, KiB; none if it has several processes.
    pub grown_kib: Option<u64>,
}

/// pgbench's accounts in a file.
#[derive(Debug)]
pub struct Accounts {
    file: PathBuf,
}

impl Accounts {
    /// Has PostgreSQL write them, and makes the table that they are copied to.
    ///
    /// # Errors
    /// When psql fails.
    pub async fn new(bindir: &Path, login: &Login, scratch: &Path) -> Result<Self> {
        let file = scratch.join("accounts.copy");
        psql(bindir, login, Kind::CopyOut.statement(), (None, Some(&file))).await?;
        let table = "CREATE UNLOGGED TABLE IF NOT EXISTS bench_copied (LIKE pgbench_accounts)";
        psql(bindir, login, table, (None, None)).await?;
        Ok(Self { file })
    }

    /// Transfers once; `direct` is where PostgreSQL itself is reached.
    ///
    /// # Errors
    /// When psql fails.
    pub async fn transfer(
        &self,
        bindir: &Path,
        (login, direct): (&Login, &Login),
        (round, peer, kind): (u32, Peer, Kind),
        root: Option<u32>,
    ) -> Result<Transfer> {
        let input = (kind == Kind::CopyIn).then_some(self.file.as_path());
        if input.is_some() {
            psql(bindir, direct, "TRUNCATE bench_copied", (None, None)).await?;
        }
        let bytes = if kind == Kind::CopyOutWide { 1 << 30 } else { fs::metadata(&self.file)?.len() };
        let roots: Vec<u32> = root.into_iter().collect();
        // Of a peer that has a process for each client, the first one's says nothing.
        let memory = root.filter(|_| peer != Peer::Pgpool).map(PeakMemory::begin).transpose()?;
        let (before, begun) = (Snapshot::of_trees(&roots), Instant::now());
        psql(bindir, login, kind.statement(), (input, None)).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = Snapshot::of_trees(&roots);
        let spent = after.first().zip(before.first()).map(|(after, before)| after.nanoseconds_since(before));
        let by_100_mb = |nanoseconds: u64| nanoseconds as f64 / 1e6 / (bytes as f64 / 1e8);
        let grown_kib = memory.map(|memory| memory.grown()).transpose()?;
        Ok(Transfer { round, peer, kind, bytes, seconds, peer_cpu_ms: spent.map(by_100_mb), grown_kib })
    }
}

/// Runs one statement with this input, and its output in this file or nowhere.
async fn psql(
    bindir: &Path,
    login: &Login,
    statement: &str,
    (input, output): (Option<&Path>, Option<&Path>),
) -> Result<()> {
    let mut psql = command(Account::Own, "TERM", bindir.join("psql"));
    psql.env("PGPASSWORD", &login.password).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--username", USER]);
    psql.args(["--host", &login.host, "--port", &login.port.to_string(), "--command", statement]);
    psql.arg(&login.database).stderr(Stdio::piped());
    psql.stdin(input.map_or_else(|| Ok(Stdio::null()), |input| File::open(input).map(Stdio::from))?);
    psql.stdout(output.map_or_else(|| Ok(Stdio::null()), |output| File::create(output).map(Stdio::from))?);
    let mut psql = tokio::process::Command::from(psql);
    let ended = timeout(LIMIT, psql.kill_on_drop(true).spawn().context("start psql")?.wait_with_output());
    let ended = ended.await.with_context(|| format!("no end within {LIMIT:?}: {statement}"))??;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "psql ended with {}: {statement}\n{said}", ended.status);
    Ok(())
}
