//! The write-ahead log of one server: records, timelines and their histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgherd_health::{Branch, HistoryEntry, Lsn, Relation, TimelineHistory, TimelineId};

use crate::model::TxId;

/// Where every cluster's log begins.
const BEGINNING: u64 = 0x0300_0000;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A transaction of a client.
    Commit(TxId),
    /// A new version of `repmgr.nodes`.
    Rows(usize),
    /// Anything else: a checkpoint, the end of recovery, a small write of pgherd's.
    Other,
}

/// One record. Records of different servers are the same only if their numbers are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) end: u64,
    pub(crate) what: What,
    number: u64,
}

/// The log of one server.
#[derive(Clone, Debug)]
pub(crate) struct Wal {
    records: Vec<Record>,
    pub(crate) branch: Branch,
    /// The history files that are there: a promotion takes the first number that has none.
    files: BTreeMap<TimelineId, Arc<TimelineHistory>>,
}

impl Wal {
    pub(crate) fn new() -> Self {
        let branch = Branch { timeline: TimelineId(1), history: Arc::default() };
        Self { records: Vec::new(), branch, files: BTreeMap::new() }
    }

    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.records.last().map_or(BEGINNING, |record| record.end))
    }

    /// Where the last record begins.
    pub(crate) fn last_begins(&self) -> Lsn {
        Lsn(self.records.iter().nth_back(1).map_or(BEGINNING, |record| record.end))
    }

    pub(crate) fn append(&mut self, number: u64, size: u64, what: What) -> Lsn {
        let end = self.end().0 + size;
        self.records.push(Record { end, what, number });
        Lsn(end)
    }

    /// A promotion: a timeline of its own from here on.
    pub(crate) fn fork(&mut self) {
        let mut timeline = TimelineId(self.branch.timeline.0 + 1);
        while self.files.contains_key(&timeline) {
            timeline.0 += 1;
        }
        let mut history = (*self.branch.history).clone();
        history.0.push(HistoryEntry { timeline: self.branch.timeline, switch_point: self.end() });
        self.branch = Branch { timeline, history: Arc::new(history) };
        self.files.insert(timeline, Arc::clone(&self.branch.history));
    }

    /// The history of a timeline as the server's files tell it.
    pub(crate) fn branch_of(&self, timeline: TimelineId) -> Branch {
        let history = self.files.get(&timeline).cloned().unwrap_or_default();
        Branch { timeline, history }
    }

    /// True if a server with this log can stream from one with that: it lacks nothing but the end.
    pub(crate) fn can_follow(&self, upstream: &Self) -> bool {
        let related =
            matches!(upstream.branch.relation(&self.branch), Relation::Same | Relation::Supersedes { .. });
        related && self.common(upstream) == self.records.len()
    }

    /// Begins to stream from there: its timeline is ours.
    pub(crate) fn adopt(&mut self, upstream: &Self) {
        self.branch = upstream.branch.clone();
        for entry in &upstream.branch.history.0 {
            self.copy_file(upstream, entry.timeline);
        }
        self.copy_file(upstream, upstream.branch.timeline);
    }

    /// Takes what the upstream has more; the records that are new.
    pub(crate) fn take_from(&mut self, upstream: &Self) -> Vec<Record> {
        let new = upstream.records[self.records.len()..].to_vec();
        self.records.extend_from_slice(&new);
        new
    }

    /// What `pg_rewind` makes of it: the other's log up to the fork. What was cut off.
    pub(crate) fn rewind_to(&mut self, source: &Self) -> Vec<Record> {
        let common = self.common(source);
        let lost = self.records.split_off(common);
        self.branch = source.branch.clone();
        self.files = source.files.clone();
        lost
    }

    /// How many records at the beginning both have.
    fn common(&self, other: &Self) -> usize {
        let shorter = self.records.len().min(other.records.len());
        let (mut low, mut high) = (0, shorter);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.records[middle].number == other.records[middle].number {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn copy_file(&mut self, from: &Self, timeline: TimelineId) {
        if let Some(history) = from.files.get(&timeline) {
            self.files.insert(timeline, Arc::clone(history));
        }
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The latest version of `repmgr.nodes` in the log.
    pub(crate) fn rows(&self) -> Option<usize> {
        self.records.iter().rev().find_map(|record| match record.what {
            What::Rows(version) => Some(version),
            _ => None,
        })
    }
}
