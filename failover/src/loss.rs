//! What a server loses when it is rejoined.

use std::fmt;

use pgherd_health::{Branch, Lsn, Relation};

/// WAL that a server has past the point where the lineage left its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where the lineage left its timeline.
    pub from: Lsn,
    /// The end of its WAL.
    pub to: Lsn,
}

impl Loss {
    /// That of a server on `branch`; none where the lineage did not leave its timeline: what it has then is not told by a position.
    #[must_use]
    pub fn of(lineage: &Branch, branch: &Branch, end: Lsn) -> Option<Self> {
        match lineage.relation(branch) {
            Relation::Supersedes { switch_point } => {
                Some(Self { from: switch_point, to: end.max(switch_point) })
            }
            _ => None,
        }
    }

    /// The same, also of a server that went on from the lineage to a timeline of its own: what it has past the point where it left.
    #[must_use]
    pub fn past_fork(lineage: &Branch, branch: &Branch, end: Lsn) -> Option<Self> {
        match lineage.relation(branch) {
            Relation::SupersededBy { switch_point } => {
                Some(Self { from: switch_point, to: end.max(switch_point) })
            }
            _ => Self::of(lineage, branch, end),
        }
    }

    /// How much it is.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.to.bytes_since(self.from)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            0 => f.write_str("no WAL of its own"),
            bytes => write!(f, "{bytes} bytes of WAL of its own, from {} to {}", self.from, self.to),
        }
    }
}

/// How much a server may lose when it is rejoined.
#[derive(Clone, PartialEq, Eq)]
pub struct Limit {
    /// What is served.
    pub lineage: Branch,
    /// How much.
    pub bytes: u64,
}

impl Limit {
    /// False if it would lose more.
    #[must_use]
    pub const fn allows(&self, loss: &Loss) -> bool {
        loss.bytes() <= self.bytes
    }

    /// True if whatever it has may be lost.
    #[must_use]
    pub const fn allows_all(&self) -> bool {
        self.bytes == u64::MAX
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            u64::MAX => f.write_str("none"),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgherd_health::{HistoryEntry, TimelineHistory, TimelineId};

    use super::*;

    fn branch(timeline: u32, forked: Option<(u32, u64)>) -> Branch {
        let entry = |(id, lsn)| HistoryEntry { timeline: TimelineId(id), switch_point: Lsn(lsn) };
        let history = Arc::new(TimelineHistory(forked.map(entry).into_iter().collect()));
        Branch { timeline: TimelineId(timeline), history }
    }

    #[test]
    fn what_is_past_the_fork_is_lost_and_that_is_nothing_where_the_server_had_not_come_so_far() {
        let (old, new) = (branch(1, None), branch(2, Some((1, 0x100))));
        let lost = |end| Loss::of(&new, &old, Lsn(end)).unwrap();
        assert_eq!((lost(0xF0).bytes(), lost(0xF0).to_string()), (0, "no WAL of its own".to_owned()));
        assert_eq!(lost(0x100).bytes(), 0);
        assert_eq!(lost(0x180).to_string(), "128 bytes of WAL of its own, from 0/100 to 0/180");
        let limit = Limit { lineage: new.clone(), bytes: 128 };
        assert!(limit.allows(&lost(0x180)) && !limit.allows(&lost(0x181)));
        // Another server may have written to a timeline of that name.
        assert_eq!(Loss::of(&new, &new, Lsn(0x180)), None);
        assert_eq!(Loss::of(&new, &branch(2, Some((1, 0x80))), Lsn(0x180)), None);
        assert_eq!(Loss::of(&old, &new, Lsn(0x180)), None);
        let past_fork = |one, other| Loss::past_fork(one, other, Lsn(0x180));
        assert_eq!([past_fork(&old, &new), past_fork(&new, &old)], [Some(lost(0x180)); 2]);
        assert_eq!(past_fork(&new, &new), None);
    }
}
