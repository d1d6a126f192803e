//! CPU time and memory of a tree of processes, from /proc.
//!
//! CPU time is taken from `/proc/PID/task/TID/schedstat`, in nanoseconds. What ended between two snapshots shows only
//! in its process (threads) or its parent (reaped children), in clock ticks; those stand in where something ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The fields of `/proc/PID/stat` that are needed here; see proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime + stime, in clock ticks: all threads, also those that ended.
    own_ticks: u64,
    /// cutime + cstime, in clock ticks: all children that ended and were waited for.
    children_ticks: u64,
    /// When it started; tells a process from a later one of the same id.
    started: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything, parentheses and spaces included.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(11)? + number(12)?,
            children_ticks: number(13)? + number(14)?,
            started: number(19)?,
        })
    }
}

#[derive(Debug, Clone)]
struct Process {
    stat: Stat,
    /// Nanoseconds on a CPU of every thread that lives.
    threads: BTreeMap<u32, u64>,
}

impl Process {
    fn read(pid: u32, stat: Stat) -> Option<Self> {
        let mut threads = BTreeMap::new();
        for thread in numbered(&format!("/proc/{pid}/task")) {
            if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")) {
                threads.insert(thread, parse_schedstat(&text)?);
            }
        }
        Some(Self { stat, threads })
    }

    fn nanoseconds(&self, tick: u64) -> u64 {
        self.threads.values().sum::<u64>().max(self.stat.own_ticks * tick)
    }

    fn nanoseconds_since(&self, before: &Self, tick: u64) -> u64 {
        let thread = |(id, now): (&u32, &u64)| now - before.threads.get(id).unwrap_or(&0).min(now);
        let living: u64 = self.threads.iter().map(thread).sum();
        if before.threads.keys().all(|id| self.threads.contains_key(id)) {
            return living;
        }
        living.max((self.stat.own_ticks - before.stat.own_ticks.min(self.stat.own_ticks)) * tick)
    }
}

/// The CPU time of a process and of its descendants, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    processes: BTreeMap<u32, Process>,
    /// Nanoseconds in a clock tick.
    tick: u64,
}

impl Snapshot {
    /// Reads one snapshot for each of `roots`, all from the same listing of processes.
    #[must_use]
    pub fn of_trees(roots: &[u32]) -> Vec<Self> {
        let stats = all_stats();
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let snapshot = |&root: &u32| {
            let tree = tree(&stats, root).into_iter();
            let processes = tree.filter_map(|pid| Some((pid, Process::read(pid, *stats.get(&pid)?)?)));
            Self { processes: processes.collect(), tick }
        };
        roots.iter().map(snapshot).collect()
    }

    /// Nanoseconds that the tree spent on a CPU since `before`.
    #[must_use]
    pub fn nanoseconds_since(&self, before: &Self) -> u64 {
        let tick = self.tick;
        let same = |pid: &u32, process: &Process| {
            before.processes.get(pid).filter(|earlier| earlier.stat.started == process.stat.started)
        };
        let (mut living, mut reaped) = (0, 0);
        for (pid, process) in &self.processes {
            let earlier = same(pid, process);
            living += earlier.map_or_else(
                || process.nanoseconds(tick),
                |earlier| process.nanoseconds_since(earlier, tick),
            );
            let reaped_before = earlier.map_or(0, |earlier| earlier.stat.children_ticks);
            reaped += (process.stat.children_ticks - reaped_before.min(process.stat.children_ticks)) * tick;
        }
        // A parent is told of a child's whole life; what was seen before is not part of this interval.
        let ended = before.processes.iter().filter(|(pid, process)| {
            self.processes.get(pid).is_none_or(|later| later.stat.started != process.stat.started)
        });
        let seen: u64 = ended.map(|(_, process)| process.nanoseconds(tick)).sum();
        living + reaped.saturating_sub(seen)
    }
}

/// Resident memory of a tree of processes, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident pages; those that processes share count once for each.
    pub rss: u64,
    /// Resident pages, each divided by the number of processes that share it.
    pub pss: u64,
    /// Resident pages that no other process has.
    pub private: u64,
}

impl Memory {
    /// The memory of `root` and its descendants.
    #[must_use]
    pub fn of_tree(root: u32) -> Self {
        let mut sum = Self::default();
        for pid in tree(&all_stats(), root) {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let process = Self::parse(&text);
            sum.rss += process.rss;
            sum.pss += process.pss;
            sum.private += process.private;
        }
        sum
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| kibibytes(text, name).unwrap_or(0);
        Self {
            rss: field("Rss"),
            pss: field("Pss"),
            private: field("Private_Clean") + field("Private_Dirty"),
        }
    }
}

/// The most resident memory that a process has had since this was made.
#[derive(Debug)]
pub struct PeakMemory {
    pid: u32,
    before: u64,
}

impl PeakMemory {
    /// From now on; see proc_pid_clear_refs(5).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn begin(pid: u32) -> Result<Self> {
        let file = format!("/proc/{pid}/clear_refs");
        fs::write(&file, "5").with_context(|| format!("write {file}"))?;
        Ok(Self { pid, before: status(pid, "VmRSS")? })
    }

    /// By how much it was more than at first, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn grown(&self) -> Result<u64> {
        Ok(status(self.pid, "VmHWM")?.saturating_sub(self.before))
    }
}

/// A field of `/proc/PID/status` that is in KiB.
fn status(pid: u32, name: &str) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    kibibytes(&text, name).with_context(|| format!("{file} has no {name}"))
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The entries of a directory whose names are numbers; none when it is gone.
fn numbered(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn all_stats() -> BTreeMap<u32, Stat> {
    let stat = |pid| Some((pid, Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?));
    numbered("/proc").into_iter().filter_map(stat).collect()
}

/// `root`, if it lives, and its descendants.
fn tree(stats: &BTreeMap<u32, Stat>, root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (&pid, stat) in stats {
        children.entry(stat.parent).or_default().push(pid);
    }
    let mut tree = BTreeSet::new();
    let mut unvisited: Vec<u32> = stats.contains_key(&root).then_some(root).into_iter().collect();
    while let Some(pid) = unvisited.pop() {
        if tree.insert(pid) {
            unvisited.extend(children.get(&pid).into_iter().flatten());
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 10_000_000;

    fn process(started: u64, own: u64, children: u64, threads: &[(u32, u64)]) -> Process {
        let stat = Stat { parent: 1, own_ticks: own, children_ticks: children, started };
        Process { stat, threads: threads.iter().copied().collect() }
    }

    fn snapshot(processes: &[(u32, Process)]) -> Snapshot {
        Snapshot { processes: processes.iter().cloned().collect(), tick: TICK }
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 54 2 3 1 20 0 1 0 115870 16961536";
        let expected = Stat { parent: 7, own_ticks: 56, children_ticks: 4, started: 115_870 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (cut off) S 7"), None);
    }

    #[test]
    fn memory_sums_the_private_pages_and_skips_similar_names() {
        let text = "0-f ---p 00000000 00:00 0 [rollup]\nRss:    4044 kB\nPss:     928 kB\nPss_Dirty: 559 kB\n\
                    Private_Clean:  100 kB\nPrivate_Dirty:  20 kB\n";
        assert_eq!(Memory::parse(text), Memory { rss: 4044, pss: 928, private: 120 });
    }

    #[test]
    fn living_threads_count_in_nanoseconds() {
        let before = snapshot(&[(1, process(5, 3, 0, &[(1, 100), (2, 200)]))]);
        let after = snapshot(&[(1, process(5, 9, 0, &[(1, 150), (2, 275), (3, 7)]))]);
        assert_eq!(after.nanoseconds_since(&before), 50 + 75 + 7);
    }

    #[test]
    fn a_thread_that_ended_counts_by_the_ticks_of_its_process() {
        let before = snapshot(&[(1, process(5, 3, 0, &[(1, 100), (2, 200)]))]);
        let after = snapshot(&[(1, process(5, 9, 0, &[(1, 150)]))]);
        assert_eq!(after.nanoseconds_since(&before), 6 * TICK);
    }

    #[test]
    fn a_child_that_was_reaped_counts_without_what_was_seen_of_it() {
        let child = process(6, 2, 0, &[(9, 2 * TICK)]);
        let before = snapshot(&[(1, process(5, 0, 0, &[(1, 100)])), (9, child)]);
        let after = snapshot(&[(1, process(5, 0, 5, &[(1, 100)]))]);
        assert_eq!(after.nanoseconds_since(&before), 3 * TICK);
    }

    #[test]
    fn a_new_process_with_an_old_id_counts_from_its_start() {
        let before = snapshot(&[(9, process(6, 0, 0, &[(9, 400)]))]);
        let after = snapshot(&[(9, process(8, 0, 0, &[(9, 300)]))]);
        assert_eq!(after.nanoseconds_since(&before), 300);
    }

    #[test]
    fn work_done_here_shows_in_this_process() {
        let this = std::process::id();
        let before = Snapshot::of_trees(&[this]);
        let end = std::time::Instant::now() + std::time::Duration::from_millis(50);
        while std::time::Instant::now() < end {}
        let after = Snapshot::of_trees(&[this]);
        assert!(after[0].nanoseconds_since(&before[0]) > 5_000_000);
        assert!(Memory::of_tree(this).rss > 0);
    }

    #[test]
    fn the_most_that_a_process_had_is_known_when_it_has_less() {
        let peak = PeakMemory::begin(std::process::id()).unwrap();
        drop(std::hint::black_box(vec![1_u8; 32 << 20]));
        assert!((16 << 10..512 << 10).contains(&peak.grown().unwrap()));
    }
}
