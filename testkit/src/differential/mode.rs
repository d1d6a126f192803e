//! The ways in which pgherd serves, and what each of them makes different.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use toml::Value;

/// A way in which pgherd serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `pool.mode = "session"`, with everything on the primary.
    Session,
    /// `pool.mode = "transaction"`, with everything on the primary.
    Transaction,
    /// `pool.mode = "statement"`, with everything on the primary.
    Statement,
    /// `pool.mode = "transaction"`, with unnamed statements that are kept prepared.
    Unnamed,
    /// `pool.mode = "transaction"`, with reads on a standby.
    Standbys,
    /// `pool.mode = "session"`, with reads on a standby.
    Home,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Session, Self::Transaction, Self::Statement, Self::Unnamed, Self::Standbys, Self::Home];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
            Self::Unnamed => "unnamed",
            Self::Standbys => "standbys",
            Self::Home => "home",
        }
    }

    /// Whether there may be transaction blocks.
    pub(super) const fn has_blocks(self) -> bool {
        !matches!(self, Self::Statement)
    }

    /// Whether a session sees at once what another has written: on a standby it may be a moment later.
    pub(super) const fn shows_others_at_once(self) -> bool {
        !matches!(self, Self::Standbys | Self::Home)
    }

    /// What pgherd is told.
    pub(super) fn settings(self) -> Vec<(&'static str, Value)> {
        let mode = match self {
            Self::Session | Self::Home => "session",
            Self::Statement => "statement",
            Self::Transaction | Self::Unnamed | Self::Standbys => "transaction",
        };
        let reads = if matches!(self, Self::Standbys | Self::Home) { "standbys" } else { "primary" };
        let mut settings: Vec<(&'static str, Value)> = vec![
            ("pool.mode", mode.into()),
            ("routing.reads", reads.into()),
            // Few, so that they are used again by whoever comes next.
            ("pool.size", 2.into()),
            ("pool.pinned_size", 2.into()),
            // A machine that has much else to do is no reason to replace a primary.
            ("monitor.timeout", "20s".into()),
            ("failover.mode", "manual".into()),
        ];
        if self == Self::Unnamed {
            settings.push(("pool.prepare_unnamed", "custom".into()));
        }
        settings
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|mode| mode.name() == name) {
            Some(mode) => Ok(mode),
            None => bail!("no mode {name:?}: there are {}", Self::ALL.map(Self::name).join(", ")),
        }
    }
}
