//! Who reaches whom. ssh and SQL take the same way, and all pgherds stand at the same place.

use crate::model::{Id, Time};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Packets are dropped.
    Silent,
    /// Somebody between them rejects connections.
    Rejected,
}

#[derive(Clone, Debug)]
pub(crate) struct Network {
    parties: usize,
    /// Row by row: from whom, to whom.
    dropped: Vec<bool>,
    rejected: Vec<bool>,
    /// What a message between pgherd and a server takes longer than usual.
    pub(crate) slowness: Vec<Time>,
}

impl Network {
    pub(crate) fn new(servers: usize) -> Self {
        let parties = servers + 1;
        let all = parties * parties;
        Self {
            parties,
            dropped: vec![false; all],
            rejected: vec![false; all],
            slowness: vec![Time::ZERO; servers],
        }
    }

    /// The place where pgherd runs.
    pub(crate) const fn pgherd(&self) -> Id {
        self.parties - 1
    }

    pub(crate) fn drop_packets(&mut self, from: Id, to: Id, dropped: bool) {
        self.dropped[from * self.parties + to] = dropped;
    }

    pub(crate) fn reject(&mut self, one: Id, other: Id, rejected: bool) {
        self.rejected[one * self.parties + other] = rejected;
        self.rejected[other * self.parties + one] = rejected;
    }

    /// True if a packet from one arrives at the other.
    pub(crate) fn passes(&self, from: Id, to: Id) -> bool {
        let at = from * self.parties + to;
        !self.dropped[at] && !self.rejected[at]
    }

    /// What becomes of a connection, which needs both directions.
    pub(crate) fn way(&self, from: Id, to: Id) -> Way {
        if self.rejected[from * self.parties + to] {
            Way::Rejected
        } else if self.passes(from, to) && self.passes(to, from) {
            Way::Open
        } else {
            Way::Silent
        }
    }

    pub(crate) fn heal(&mut self) {
        self.dropped.fill(false);
        self.rejected.fill(false);
        self.slowness.fill(Time::ZERO);
    }
}
