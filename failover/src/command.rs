//! What the machine asks the executors to do, and what they answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::{Branch, Lsn, NodeId};

use crate::{Limit, Loss, Record};

/// Names one order, so that a late outcome is never taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// One order to the executors. Each ends with exactly one [`Outcome`], at the latest after `deadline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Names it.
    pub id: CommandId,
    /// The server that it is carried out on.
    pub node: NodeId,
    /// What to do there.
    pub step: Step,
    /// How long it may take.
    pub deadline: Duration,
}

/// What to do on one server. By what means is for the executor to know: ssh and repmgr stand for whatever does the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Over ssh, as far as it is reachable: stop PostgreSQL (immediate), and kill backends orphaned by a killed
    /// postmaster, which could still commit. Ends with [`Outcome::Fenced`] only when no process of it is left;
    /// where ssh itself is refused or silent, [`Outcome::Failed`] as soon as that is known.
    Fence,
    /// Drop a physical replication slot that is not in use.
    DropSlot {
        /// Its name.
        name: String,
    },
    /// Ask this standby, over ssh, whether it can log in to `target`: [`Outcome::Done`] if it can,
    /// [`Outcome::Failed`] if the login was tried and failed, [`Outcome::Unknown`] if that could not be found out.
    CanLogIn {
        /// The server that it should try.
        target: NodeId,
    },
    /// Stop the WAL receiver, see it gone, wait until replay has reached the end of the local WAL, read the position.
    /// Ends with [`Outcome::Frozen`].
    Freeze,
    /// Undo [`Step::Freeze`]: the standby follows again whom it followed before.
    Unfreeze,
    /// Take the advisory lock that says "this pgherd promotes" on this standby; held until [`Step::Unlock`] or until
    /// the connection ends. Refused if another holds it or a promotion is under way there.
    Lock,
    /// Release what [`Step::Lock`] took.
    Unlock,
    /// `repmgr standby promote`. The outcome never proves success: look. [`Outcome::Failed`] promises that it cannot
    /// take effect later (it ended, and nothing of it runs any more); otherwise it is [`Outcome::Unknown`].
    Promote,
    /// Commit a small write on the new primary, with `synchronous_commit = local`: nobody follows it yet. Ends with
    /// [`Outcome::Done`] when it is committed.
    VerifyWrite,
    /// `CHECKPOINT`: a rewind from this server sees its timeline then, and a clean stop has little left to write.
    Checkpoint,
    /// Write these rows into repmgr's table of events, on a connection of its own: nothing waits for it. Where there is no such table
    /// there is nothing to do.
    Record(Arc<[Record]>),
    /// Wait until nobody is in a transaction on this primary, to which no new one is sent. [`Outcome::Failed`] names who
    /// still is when `within` is over.
    Quiesce {
        /// How long those that are open may take.
        within: Duration,
    },
    /// Over ssh: is all there that [`Step::Stop`] and [`Step::Start`] need?
    Rehearse,
    /// Over ssh: stop PostgreSQL cleanly, so that every standby that is connected gets all that was written. Ends with
    /// [`Outcome::Stopped`] only when its control file says so; [`Outcome::Failed`] promises that it was not told to.
    Stop,
    /// Over ssh: has [`Step::Stop`] or [`Step::Fence`], by whichever pgherd, ended this server, and has it not run since? Ends with
    /// [`Outcome::Recalled`] if so. [`Outcome::Done`] says that no pgherd has ended it, or that it has run since.
    Recall,
    /// Over ssh: start PostgreSQL as what it was when it was stopped.
    Start,
    /// `repmgr standby follow --upstream-node-id`, or over SQL where the standby is frozen; done is what `pg_stat_replication` of the
    /// upstream says.
    Follow {
        /// The server to follow.
        upstream: NodeId,
    },
    /// Stop, `repmgr node rejoin --force-rewind`, start: an old primary comes back as a standby of `upstream`. Where it can be told what
    /// it loses by that, ends with [`Outcome::Rejoined`], or with [`Outcome::Kept`] if that is more than it may; where its files should tell
    /// it and do not, with [`Outcome::Failed`], unless all may be lost.
    Rejoin {
        /// The server to follow.
        upstream: NodeId,
        /// How much it may lose.
        limit: Limit,
    },
    /// Stop, `repmgr standby clone --force`, start: its data directory is thrown away, and it comes back as a standby of
    /// `upstream`. May take hours.
    Clone {
        /// The server to follow.
        upstream: NodeId,
    },
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, as far as the executor can see.
    Done,
    /// No process of the server is left.
    Fenced {
        /// Its postmaster was running, and this order ended it: whoever stopped it starts it again, as a standby.
        stopped: bool,
    },
    /// The server was shut down cleanly.
    Stopped {
        /// Where its last record begins, the checkpoint of the shutdown.
        checkpoint: Lsn,
    },
    /// It is down, and a pgherd has ended it.
    Recalled {
        /// The timeline that it was on.
        branch: Branch,
        /// How, and where its WAL ends.
        ended: Ended,
    },
    /// The server came back as a standby, and lost this.
    Rejoined(Loss),
    /// The server has this, more than it may lose: it is down, and has all that it had.
    Kept(Loss),
    /// The standby receives no WAL any more and has replayed all that it has.
    Frozen {
        /// The end of its WAL.
        lsn: Lsn,
    },
    /// It cannot be rewound, however often it is tried: what that would need is not there.
    NotRewindable(String),
    /// It was not done, and nothing was changed.
    Failed(String),
    /// The connection was lost or the time was up: it may have been done, or may still be.
    Unknown(String),
}

/// How a pgherd has ended a server that has not run since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Cleanly, as the primary, for a switchover.
    ShutDown {
        /// Where its last record begins, the checkpoint of the shutdown.
        checkpoint: Lsn,
    },
    /// By a fence.
    Fenced {
        /// The end of its WAL.
        end: Lsn,
        /// It was a standby, which has written nothing itself.
        standby: bool,
    },
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown { checkpoint } => write!(f, "shut down at {checkpoint}"),
            Self::Fenced { end, .. } => write!(f, "fenced at {end}"),
        }
    }
}

impl Outcome {
    /// No process of the server was left.
    pub(crate) const fn ended_it(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::Stopped { .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Fenced { stopped: true } => f.write_str("fenced, it was running"),
            Self::Fenced { stopped: false } => f.write_str("fenced, it was not running"),
            Self::Stopped { checkpoint } => write!(f, "shut down at {checkpoint}"),
            Self::Recalled { branch, ended } => write!(f, "{ended} by a pgherd, on {branch}"),
            Self::Rejoined(loss) => write!(f, "rejoined, it lost {loss}"),
            Self::Kept(loss) => write!(f, "it has {loss}, more than failover.max_data_loss"),
            Self::Frozen { lsn } => write!(f, "frozen at {lsn}"),
            Self::NotRewindable(why) => write!(f, "cannot be rewound: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Unknown(why) => write!(f, "outcome unknown: {why}"),
        }
    }
}
