//! What is measured: what pgbench's clients do, and how many of them there are.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// A subject of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// pgbench's select-only script.
    Select,
    /// pgbench's TPC-B-like script.
    Tpcb,
    /// Select-only, with two standbys, of which some peers read.
    Reads,
    /// Nine select-only transactions for each TPC-B-like one, with two standbys.
    Mixed,
    /// Rows of 100 kB.
    Rows,
    /// A connection for each transaction.
    Churn,
    /// The same, with TLS.
    ChurnTls,
    /// Select-only, with TLS between clients and the peer.
    Tls,
    /// Select-only, beside clients that are idle.
    Crowd,
    /// Select-only, while the configuration is read again and again.
    Reload,
    /// COPY in both directions, and of rows of 1 MiB.
    Copy,
    /// From the start of a peer to the first answer.
    Start,
    /// The memory of idle clients.
    Idle,
    /// Ever more clients, and ever more pools.
    Scale,
}

impl Subject {
    /// Every subject, in the order of a round.
    pub const ALL: [Self; 14] = [
        Self::Select,
        Self::Tls,
        Self::Rows,
        Self::Churn,
        Self::ChurnTls,
        Self::Reload,
        Self::Reads,
        Self::Mixed,
        Self::Tpcb,
        Self::Crowd,
        Self::Copy,
        Self::Start,
        Self::Idle,
        Self::Scale,
    ];

    /// True if clients speak TLS, which the peer must end.
    #[must_use]
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::ChurnTls | Self::Tls)
    }

    /// True if there are standbys.
    #[must_use]
    pub const fn has_standbys(self) -> bool {
        matches!(self, Self::Reads | Self::Mixed)
    }

    /// What pgbench is to run, as its arguments; none where it is not pgbench that is run. `rows` is a script's path.
    #[must_use]
    pub fn script(self, rows: &str) -> Option<Vec<String>> {
        let arguments: &[&str] = match self {
            Self::Select | Self::Tls | Self::Crowd | Self::Reload | Self::Reads => &["--builtin=select-only"],
            Self::Churn | Self::ChurnTls => &["--builtin=select-only", "--connect"],
            Self::Tpcb => &["--builtin=tpcb-like"],
            Self::Mixed => &["--builtin=select-only@9", "--builtin=tpcb-like@1"],
            Self::Rows => &["--file", rows],
            Self::Copy | Self::Start | Self::Idle | Self::Scale => return None,
        };
        Some(arguments.iter().map(|&argument| argument.to_owned()).collect())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Select => "select-only",
            Self::Tpcb => "TPC-B",
            Self::Reads => "select-only, two standbys",
            Self::Mixed => "select-only and TPC-B, 9:1, two standbys",
            Self::Rows => "rows of 100 kB",
            Self::Churn => "a connection each",
            Self::ChurnTls => "a connection each, TLS",
            Self::Tls => "select-only, TLS",
            Self::Crowd => "select-only beside idle clients",
            Self::Reload => "select-only while reloading",
            Self::Copy => "COPY",
            Self::Start => "start",
            Self::Idle => "idle clients",
            Self::Scale => "scale",
        })
    }
}

/// How queries are sent: pgbench's `--protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Simple query.
    Simple,
    /// Extended query, parsed each time.
    Extended,
    /// Extended query, parsed once per session.
    Prepared,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        })
    }
}

/// One run of pgbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Workload {
    /// What the clients do.
    pub subject: Subject,
    /// Query protocol.
    pub mode: Mode,
    /// Number of clients.
    pub clients: u32,
    /// Clients that have logged in before and do nothing.
    pub idle: u32,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, mode, clients, idle } = self;
        write!(f, "{subject}, {mode}, {clients} clients")?;
        if *idle > 0 { write!(f, " beside {idle} idle ones") } else { Ok(()) }
    }
}
