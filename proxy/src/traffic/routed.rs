//! Why queries run where they do.

use std::fmt;

use pgherd_protocol::statement::Why;

/// Why a query runs where it does. One of a lease has the reason of its first, until that keeps its server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reason {
    /// On a standby: it only reads.
    Read,
    /// What it says is for the primary.
    Text(Why),
    /// By the configuration, or by what the session asks for, reads are the primary's.
    #[default]
    Setting,
    /// It is to see all that anybody has committed.
    Strong,
    /// Its session keeps a connection of the primary.
    Pinned,
    /// No standby is known to have what it must see.
    OwnWrites,
    /// All standbys are further behind than they may be.
    Lag,
    /// There is no standby to read.
    NoStandby,
    /// It was the primary's turn.
    Turn,
    /// There was no connection to a standby.
    Connection,
}

impl Reason {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 19] = [
        Self::Read,
        Self::Setting,
        Self::Strong,
        Self::Pinned,
        Self::OwnWrites,
        Self::Lag,
        Self::NoStandby,
        Self::Turn,
        Self::Connection,
        Self::Text(Why::Writes),
        Self::Text(Why::Transaction),
        Self::Text(Why::Session),
        Self::Text(Why::Function),
        Self::Text(Why::Name),
        Self::Text(Why::Server),
        Self::Text(Why::Hint),
        Self::Text(Why::Unread),
        Self::Text(Why::Refused),
        Self::Text(Why::Unclear),
    ];

    /// Its place among all.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Setting => 1,
            Self::Strong => 2,
            Self::Pinned => 3,
            Self::OwnWrites => 4,
            Self::Lag => 5,
            Self::NoStandby => 6,
            Self::Turn => 7,
            Self::Connection => 8,
            Self::Text(why) => 9 + why as usize,
        }
    }

    /// Where it runs.
    pub(crate) const fn runs_on(self) -> &'static str {
        if matches!(self, Self::Read) { "standby" } else { "primary" }
    }

    /// One word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Text(why) => why.word(),
            Self::Setting => "setting",
            Self::Strong => "strong",
            Self::Pinned => "pinned",
            Self::OwnWrites => "own_writes",
            Self::Lag => "lag",
            Self::NoStandby => "no_standby",
            Self::Turn => "turn",
            Self::Connection => "connection",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "it only reads",
            Self::Text(why) => return why.fmt(f),
            Self::Setting => "reads are the primary's, by routing.reads or pgherd.reads",
            Self::Strong => "it is to see all that anybody has committed",
            Self::Pinned => "its session keeps its server connection",
            Self::OwnWrites => "no standby is known to have what its session must see",
            Self::Lag => "the standbys are further behind than routing.max_lag",
            Self::NoStandby => "there is no standby to read",
            Self::Turn => "it was the primary's turn, by routing.reads = \"any\" or by what is preferred",
            Self::Connection => "there was no connection to a standby",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_of_its_own() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
        }
        for why in Why::ALL {
            assert!(Reason::ALL.contains(&Reason::Text(why)));
        }
    }
}
