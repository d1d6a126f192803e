//! What an operator may set.

use std::time::Duration;

/// Who decides on a failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// pgherd promotes by itself.
    #[default]
    Automatic,
    /// pgherd waits for an operator's [`crate::Order::Failover`], and shows what it would do.
    Manual,
}

/// The settings of the decision machine, in terms of the keys that set them; those without a key are fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `failover.mode`.
    pub mode: Mode,
    /// `backends.discover`: servers that repmgr has registered are watched like those that are configured.
    pub discover: bool,
    /// `monitor.interval`: time between two probes of a server while all is well.
    pub interval: Duration,
    /// Time between two probes while something is wrong.
    pub suspicious_interval: Duration,
    /// `failover.confirm`: a primary that does not answer in time is given up after this long.
    pub confirm: Duration,
    /// `failover.restart_grace`: a primary that refuses connections is waited for this long.
    pub restart_grace: Duration,
    /// `failover.start_grace`: a server that starts up, a crash recovery for one, is waited for this long.
    pub start_grace: Duration,
    /// `failover.cold_grace`: at pgherd's start, a primary that nobody has seen is waited for this long.
    pub cold_grace: Duration,
    /// `failover.max_data_loss`, bytes: how far behind the primary's last known position an asynchronous standby may
    /// be and still be promoted; also how much of a false primary's own WAL may be rewound unasked.
    pub max_data_loss: u64,
    /// `failover.min_interval`: time from one promotion to the next.
    pub min_interval: Duration,
    /// `failover.switchover_timeout`: how long a switchover waits for the open transactions before it is given up.
    pub switchover_timeout: Duration,
    /// What `synchronous_standby_names` is on the primary, for a start with the primary down; empty says that no commit
    /// waits for a standby, none that nothing is known. No key sets it yet.
    pub synchronous: Option<String>,
    /// What acts on the servers needs repmgr's rows of them: a server without one is neither promoted nor repointed.
    pub needs_repmgr: bool,
    /// How long the failover waits for the fence of the old primary: frozen standbys and the lineage are the safety,
    /// the fence only spares the old primary's own clients.
    pub fence_wait: Duration,
    /// How long the look before a promotion waits for a server that was silent before.
    pub look_wait: Duration,
    /// Deadline of a command that a standby's SQL answers (freeze, lock, verify); a login that is tried over ssh has twice
    /// as long.
    pub command_deadline: Duration,
    /// Deadline of `repmgr standby promote`.
    pub promote_deadline: Duration,
    /// Deadline of a clean stop. It waits for the standbys, and what it has begun cannot be taken back.
    pub stop_deadline: Duration,
    /// Deadline of fence, rejoin and checkpoint; a follow has a third of it.
    pub care_deadline: Duration,
    /// How long a standby that streams from nobody is left to help itself before it is told whom to follow.
    pub repoint_after: Duration,
    /// How long a slot of repmgr's must have been needless before it is dropped.
    pub slot_grace: Duration,
    /// `failover.reclone`: a server that cannot be rewound is cloned again.
    pub reclone: bool,
    /// Deadline of a clone: it copies all that there is.
    pub clone_deadline: Duration,
    /// Pause after a hold that had frozen standbys, and after a failed repair of one server (doubled at each failure).
    pub retry_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Automatic,
            discover: false,
            interval: Duration::from_millis(500),
            suspicious_interval: Duration::from_millis(100),
            confirm: Duration::from_secs(4),
            restart_grace: Duration::ZERO,
            start_grace: Duration::from_secs(30),
            cold_grace: Duration::from_secs(10),
            max_data_loss: 1 << 20,
            min_interval: Duration::from_secs(10),
            switchover_timeout: Duration::from_secs(10),
            synchronous: None,
            needs_repmgr: true,
            // What is waited for beyond `confirm` is to be less than a second in all, with the promotion (a third of one) and what a
            // standby takes to follow. In campaigns of `make faults` 200 and 300 ms were 10 ms too much.
            fence_wait: Duration::from_millis(150),
            look_wait: Duration::from_millis(200),
            command_deadline: Duration::from_secs(3),
            promote_deadline: Duration::from_secs(10),
            stop_deadline: Duration::from_secs(5),
            care_deadline: Duration::from_secs(60),
            repoint_after: Duration::from_secs(10),
            slot_grace: Duration::from_secs(10),
            reclone: false,
            clone_deadline: Duration::from_secs(24 * 3600),
            retry_after: Duration::from_secs(5),
        }
    }
}
