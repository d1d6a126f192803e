//! Whether a standby has all that a session must see: its own commits, though they were made on the primary.
//!
//! No session asks for that. The prober sees where the primary's write-ahead log is, and how far each standby has replayed it, and asks for that alone while a session
//! waits. A commit is before whatever
//! position was *asked for* after its reply had come, so a standby that has replayed up to there has it.

mod keeper;
mod samples;
#[cfg(test)]
mod tests;
mod wanted;

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use pgherd_health::{Asked, Lsn, NodeId};

pub(crate) use keeper::keep;
pub(crate) use samples::Lag;
use samples::{Samples, end_of_records};
pub(crate) use wanted::Wanted;

use crate::config::MaxLag;

/// What a session asks to see besides what it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// All that was committed until now.
    Now,
    /// All that was committed where a primary's log was at this position.
    Position(Lsn),
}

/// What a session must see: all that was committed when it last wrote something, or to which it was pointed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(Written);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Written {
    /// It has written nothing.
    #[default]
    Nothing,
    /// It was told of its last commit before this moment.
    Before(Instant),
    /// Its last commit is before this position of the primary of this reign.
    Below { reign: u64, lsn: Lsn },
    /// At this moment it was told that what it is to see is before this position of some primary's.
    Named { lsn: Lsn, at: Instant },
}

impl Mark {
    /// The session has read the reply to what may have written. Looks at the clock: the event loop's time may be older than the
    /// reply, and a position that was asked for in between would be taken to cover it.
    pub(crate) fn wrote(&mut self) {
        self.wrote_before(Instant::now());
    }

    const fn wrote_before(&mut self, now: Instant) {
        self.0 = Written::Before(now);
    }

    /// The session is to see this besides.
    pub(crate) fn name(&mut self, after: After, positions: &Positions) {
        self.name_at(Instant::now(), after, positions);
    }

    /// Whatever it is, it was committed by `now`: a position of the primary that is asked for later covers it, too, whichever primary that is
    /// by then.
    fn name_at(&mut self, now: Instant, after: After, positions: &Positions) {
        let lsn = match after {
            After::Now => None,
            After::Position(lsn) => Some(end_of_records(lsn)),
        };
        self.0 = match (self.0, lsn) {
            (Written::Nothing, Some(lsn)) => Written::Named { lsn, at: now },
            (Written::Named { lsn: before, .. }, Some(lsn)) => {
                Written::Named { lsn: before.max(lsn), at: now }
            }
            (Written::Below { reign, lsn: before }, Some(lsn)) if reign == positions.reign => {
                if lsn <= before { self.0 } else { Written::Named { lsn, at: now } }
            }
            _ => Written::Before(now),
        };
    }

    /// Remembers the position that covers what was written, once there is one.
    pub(crate) fn resolve(&mut self, positions: &Positions) {
        let (Written::Before(at) | Written::Named { at, .. }) = self.0 else { return };
        if positions.samples.covering(at).is_some()
            && let Some(lsn) = positions.covering(self)
        {
            self.0 = Written::Below { reign: positions.reign, lsn };
        }
    }
}

/// Where the write-ahead log of the primary was, and how far the standbys have replayed it: immutable, and replaced whenever there is something newer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    /// Counts the primaries, and their runs: a position says nothing in another reign.
    reign: u64,
    /// The primary's first position in this reign: all that earlier ones have left is before it.
    first: Option<Lsn>,
    samples: Samples,
    standbys: Vec<Standby>,
    /// Where servers stand, as repmgr's rows say it.
    locations: Arc<[(NodeId, Box<str>)]>,
}

/// What a standby is known to have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standby {
    node: NodeId,
    /// What it was when it was probed last.
    was: Asked,
    /// It had replayed so much when it was asked, and never has less until it stops.
    replayed: Lsn,
    asked_at: Instant,
    lag: Option<Lag>,
}

impl Positions {
    /// True if a session with this mark may read from `node`, on a connection that was opened at `opened_at`. One that was opened after the
    /// standby was asked may be to a later run of it, which has not replayed as much yet.
    pub(crate) fn allows(&self, mark: &Mark, node: NodeId, opened_at: Instant) -> bool {
        mark.0 == Written::Nothing
            || self.has_all(mark, node).is_some_and(|standby| opened_at < standby.asked_at)
    }

    /// The same but for the connection: one that was opened in time may be there, or will be.
    pub(crate) fn may_allow(&self, mark: &Mark, node: NodeId) -> bool {
        mark.0 == Written::Nothing || self.has_all(mark, node).is_some()
    }

    /// How far the standby was behind when it was asked last; none if that is not known.
    pub(crate) fn lag(&self, node: NodeId) -> Option<Lag> {
        self.standby(node)?.lag
    }

    /// True if the standby is no further behind than that; one of which it is not known may be.
    pub(crate) fn is_within(&self, max_lag: Option<MaxLag>, node: NodeId) -> bool {
        max_lag.is_none_or(|max| self.lag(node).is_some_and(|lag| lag.is_within(max)))
    }

    /// True if the server stands there.
    pub(crate) fn is_at(&self, location: &str, node: NodeId) -> bool {
        self.locations.iter().any(|(its, place)| *its == node && **place == *location)
    }

    fn has_all(&self, mark: &Mark, node: NodeId) -> Option<&Standby> {
        let needed = self.covering(mark)?;
        self.standby(node).filter(|standby| needed <= standby.replayed)
    }

    /// The position up to which a standby must have replayed; none as long as it is not known.
    fn covering(&self, mark: &Mark) -> Option<Lsn> {
        match mark.0 {
            Written::Nothing => Some(Lsn::default()),
            Written::Before(at) => self.samples.covering(at),
            Written::Named { lsn, at } => Some(self.samples.covering(at).map_or(lsn, |later| later.min(lsn))),
            Written::Below { reign, lsn } => match reign.cmp(&self.reign) {
                Ordering::Less => self.first,
                Ordering::Equal => Some(lsn),
                Ordering::Greater => None,
            },
        }
    }

    fn standby(&self, node: NodeId) -> Option<&Standby> {
        self.standbys.iter().find(|standby| standby.node == node)
    }
}
