//! The states of the machine, and what each holds.

use std::fmt;

use crate::Epoch;

/// The name of a state, as in `status`, the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Finding out who is the primary.
    Discover,
    /// All is well.
    Steady,
    /// A probe of the primary failed.
    Suspect,
    /// The primary is given up, if all guards hold.
    Confirm,
    /// The epoch has ended; the old primary is stopped as far as it is reachable.
    Fence,
    /// The standbys stop receiving.
    Freeze,
    /// The best standby is chosen.
    Elect,
    /// It is locked, looked at once more, and promoted.
    Promote,
    /// The new primary is seen writable on a timeline of its own, and a write commits.
    Verify,
    /// Writes go to the new primary.
    Swap,
    /// A standby is told whom to follow (in the background).
    Repoint,
    /// An old primary is made a standby (in the background).
    Rejoin,
    /// Nothing can be decided safely: reads go on, writes wait.
    Hold,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 13] = [
        Self::Discover,
        Self::Steady,
        Self::Suspect,
        Self::Confirm,
        Self::Fence,
        Self::Freeze,
        Self::Elect,
        Self::Promote,
        Self::Verify,
        Self::Swap,
        Self::Repoint,
        Self::Rejoin,
        Self::Hold,
    ];
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the machine shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: StateName,
    /// Why, in words for an operator.
    pub reason: String,
    /// The epoch that takes or last took writes.
    pub epoch: Option<Epoch>,
    /// Things that are wrong but stop nothing: unreachable members, servers that cannot be rejoined.
    pub warnings: Vec<String>,
}
