//! Timeline lineage: which server's history contains which other's.
//!
//! Timeline *numbers* prove nothing: two servers can each fork their own timeline 2. Only whole histories compare.

use std::fmt;
use std::sync::Arc;

use crate::{HistoryEntry, Lsn, Report, TimelineHistory, TimelineId};

/// A timeline together with all of its ancestors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Branch {
    /// The timeline that is written or replayed.
    pub timeline: TimelineId,
    /// Its ancestors.
    pub history: Arc<TimelineHistory>,
}

/// How one branch stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same timeline with the same history. Two *writable* servers of one branch are a fork all the same:
    /// both may have been promoted at one and the same position.
    Same,
    /// This one contains the other and all of its history.
    Supersedes {
        /// Where it left the other: what the other wrote past it is divergence.
        switch_point: Lsn,
    },
    /// The other contains this one.
    SupersededBy {
        /// Where the other left this one.
        switch_point: Lsn,
    },
    /// Neither contains the other.
    Siblings,
}

/// How a server stands to the lineage that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no lineage yet, or the server never told its own.
    Unknown,
    /// All that it has is on the lineage.
    OnLineage,
    /// The lineage left its timeline, and it has WAL past that point: to be rewound.
    Superseded {
        /// Where the lineage left its timeline.
        switch_point: Lsn,
        /// Bytes that it has past the switch point.
        divergence: u64,
    },
    /// Its history contains the lineage: somebody was promoted.
    Ahead,
    /// Neither contains the other, or it has WAL that the primary of its own timeline never wrote.
    Diverged,
}

impl Branch {
    /// The branch that a report is on.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        Self { timeline: report.timeline, history: Arc::clone(&report.history) }
    }

    /// How `self` stands to `other`.
    #[must_use]
    pub fn relation(&self, other: &Self) -> Relation {
        if self == other {
            Relation::Same
        } else if let Some(switch_point) = self.left(other) {
            Relation::Supersedes { switch_point }
        } else if let Some(switch_point) = other.left(self) {
            Relation::SupersededBy { switch_point }
        } else {
            Relation::Siblings
        }
    }

    /// True if `self` contains `other` and all of its history.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.left(other).is_some()
    }

    /// True if it is the timeline of a promotion from `parent`.
    #[must_use]
    pub fn grew_from(&self, parent: &Self) -> bool {
        self.history.0.split_last().is_some_and(|(last, before)| {
            last.timeline == parent.timeline && before == parent.history.0.as_slice()
        })
    }

    /// How a server on `other` with WAL up to `furthest` stands to the lineage `self`.
    #[must_use]
    pub fn standing_of(&self, other: &Self, furthest: Lsn) -> Standing {
        match self.relation(other) {
            Relation::Same => Standing::OnLineage,
            Relation::Supersedes { switch_point } if furthest <= switch_point => Standing::OnLineage,
            Relation::Supersedes { switch_point } => {
                Standing::Superseded { switch_point, divergence: furthest.bytes_since(switch_point) }
            }
            Relation::SupersededBy { .. } => Standing::Ahead,
            Relation::Siblings => Standing::Diverged,
        }
    }

    /// Where `self` left `other`'s timeline, if it contains it and all of its history.
    fn left(&self, other: &Self) -> Option<Lsn> {
        let ancestors = &self.history.0;
        let at = ancestors.iter().position(|entry| entry.timeline == other.timeline)?;
        let (before, from) = ancestors.split_at_checked(at)?;
        let own: &[HistoryEntry] = &other.history.0;
        (before == own).then(|| from.first().map(|entry| entry.switch_point)).flatten()
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeline {}", self.timeline.0)?;
        match self.history.0.last() {
            Some(parent) => write!(f, " (forked from {} at {})", parent.timeline.0, parent.switch_point),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(timeline: u32, ancestors: &[(u32, u64)]) -> Branch {
        let history = ancestors
            .iter()
            .map(|&(id, lsn)| HistoryEntry { timeline: TimelineId(id), switch_point: Lsn(lsn) })
            .collect();
        Branch { timeline: TimelineId(timeline), history: Arc::new(TimelineHistory(history)) }
    }

    #[test]
    fn a_promoted_server_supersedes_the_old_primary_from_the_switch_point_on() {
        let (old, new) = (branch(1, &[]), branch(2, &[(1, 100)]));
        assert_eq!(new.relation(&old), Relation::Supersedes { switch_point: Lsn(100) });
        assert_eq!(old.relation(&new), Relation::SupersededBy { switch_point: Lsn(100) });
        assert!(!old.supersedes(&new) && !old.supersedes(&old));
        assert!(new.grew_from(&old) && !old.grew_from(&new) && !old.grew_from(&old));
        assert!(!branch(3, &[(1, 100), (2, 300)]).grew_from(&old));
    }

    #[test]
    fn equal_numbers_are_not_equal_histories() {
        let (one, other) = (branch(2, &[(1, 100)]), branch(2, &[(1, 120)]));
        assert_eq!(one.relation(&other), Relation::Siblings);
        let grandchild = branch(3, &[(1, 100), (2, 300)]);
        assert_eq!(grandchild.relation(&one), Relation::Supersedes { switch_point: Lsn(300) });
        assert_eq!(grandchild.relation(&other), Relation::Siblings);
    }

    #[test]
    fn a_number_in_the_history_is_not_enough_if_the_ancestors_differ() {
        let (mine, theirs) = (branch(3, &[(1, 100), (2, 300)]), branch(2, &[(1, 90)]));
        assert_eq!(mine.relation(&theirs), Relation::Siblings);
        assert_eq!(theirs.relation(&mine), Relation::Siblings);
    }

    #[test]
    fn a_timeline_may_be_skipped() {
        let (first, third) = (branch(1, &[]), branch(3, &[(1, 200)]));
        assert_eq!(third.relation(&first), Relation::Supersedes { switch_point: Lsn(200) });
        assert_eq!(third.relation(&branch(2, &[(1, 100)])), Relation::Siblings);
    }

    #[test]
    fn a_standby_is_on_the_lineage_up_to_the_switch_point_and_diverged_past_it() {
        let (old, new) = (branch(1, &[]), branch(2, &[(1, 100)]));
        assert_eq!(new.standing_of(&old, Lsn(99)), Standing::OnLineage);
        assert_eq!(new.standing_of(&old, Lsn(100)), Standing::OnLineage);
        let past = Standing::Superseded { switch_point: Lsn(100), divergence: 1 };
        assert_eq!(new.standing_of(&old, Lsn(101)), past);
        assert_eq!(old.standing_of(&new, Lsn(500)), Standing::Ahead);
        assert_eq!(new.standing_of(&branch(2, &[(1, 90)]), Lsn(80)), Standing::Diverged);
    }
}
