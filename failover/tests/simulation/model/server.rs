//! One PostgreSQL server.

use pgherd_failover::Ended;
use pgherd_health::{Lsn, ReplicationSlot};

use crate::model::{Id, Time, TxId, Wal};

/// The identifier of the cluster that is ours.
pub(crate) const OURS: u64 = 7_000_000_001;

/// What its processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    Down,
    /// It starts, or recovers from a crash.
    Starting,
    Up,
    /// It shuts down.
    Stopping,
}

/// Its WAL receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    pub(crate) connection: u64,
    pub(crate) from: Id,
    pub(crate) since: Time,
    pub(crate) last_message: Time,
}

/// One of its WAL senders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) connection: u64,
    pub(crate) to: Id,
    pub(crate) flushed: Lsn,
    pub(crate) last_reply: Time,
    /// A message with WAL is on its way.
    pub(crate) due: bool,
}

/// A statement that lies in the socket of a frozen server, whoever sent it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    Freeze,
    Unfreeze,
}

/// One PostgreSQL server and its host.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent faults")]
pub(crate) struct Server {
    pub(crate) id: Id,
    pub(crate) system_identifier: u64,
    pub(crate) wal: Wal,
    /// What the control file says; it lags behind.
    pub(crate) control_timeline: u32,
    /// `standby.signal` is there.
    pub(crate) standby: bool,
    /// Whom `primary_conninfo` names.
    pub(crate) upstream: Option<Id>,
    /// pgherd has put a connection string there that leads nowhere.
    pub(crate) cut_off: bool,
    pub(crate) process: Process,
    /// SIGSTOP.
    pub(crate) frozen: bool,
    /// The whole host does not answer, sshd included.
    pub(crate) host_down: bool,
    /// The postmaster was killed, and backends live on.
    pub(crate) orphans: bool,
    /// Counts its starts, and its moments of death.
    pub(crate) incarnation: u64,
    /// It lets nobody in before it has replayed so far.
    pub(crate) consistent_at: Lsn,
    pub(crate) receiver: Option<Receiver>,
    pub(crate) has_streamed: bool,
    pub(crate) senders: Vec<Sender>,
    /// Attempts to connect that were arranged before the last one are void.
    pub(crate) connect_token: u64,
    pub(crate) replay: Lsn,
    pub(crate) replay_paused: bool,
    pub(crate) apply_delay: Time,
    pub(crate) slots: Vec<ReplicationSlot>,
    /// Commits that wait for standbys.
    pub(crate) waiting: Vec<(Lsn, TxId)>,
    /// Until then a client is in a transaction.
    pub(crate) busy_until: Time,
    /// It was shut down cleanly, and its last record begins there.
    pub(crate) shut_down_at: Option<Lsn>,
    /// It was a pgherd that shut it down.
    pub(crate) stopped_by_pgherd: bool,
    /// A pgherd has fenced it, and nothing has run there since.
    pub(crate) fenced: bool,
    /// Who holds the promotion lock: a pgherd, and which of its connections.
    pub(crate) lock: Option<(usize, u64)>,
    pub(crate) promoting: bool,
    pub(crate) rejoining: bool,
    pub(crate) unwilling: bool,
    pub(crate) repmgrd: bool,
    pub(crate) buffered: Vec<Late>,
    /// It takes no WAL for now, although it is connected.
    pub(crate) lagging: bool,
    /// When an operator has cloned it last.
    pub(crate) cloned_at: Time,
    /// It never comes back.
    pub(crate) lost: bool,
}

impl Server {
    pub(crate) fn new(id: Id, primary: Id) -> Self {
        let wal = Wal::new();
        Self {
            id,
            system_identifier: OURS,
            replay: wal.end(),
            consistent_at: wal.end(),
            wal,
            control_timeline: 1,
            standby: id != primary,
            upstream: (id != primary).then_some(primary),
            cut_off: false,
            process: Process::Up,
            frozen: false,
            host_down: false,
            orphans: false,
            incarnation: 1,
            receiver: None,
            has_streamed: false,
            senders: Vec::new(),
            connect_token: 0,
            replay_paused: false,
            apply_delay: Time::ZERO,
            slots: Vec::new(),
            waiting: Vec::new(),
            busy_until: Time::ZERO,
            shut_down_at: None,
            stopped_by_pgherd: false,
            fenced: false,
            lock: None,
            promoting: false,
            rejoining: false,
            unwilling: false,
            repmgrd: false,
            buffered: Vec::new(),
            lagging: false,
            cloned_at: Time::ZERO,
            lost: false,
        }
    }

    pub(crate) const fn is_ours(&self) -> bool {
        self.system_identifier == OURS
    }

    /// It has its volume, and may come back.
    pub(crate) const fn is_whole(&self) -> bool {
        self.is_ours() && !self.lost
    }

    /// Its processes run and are not stopped.
    pub(crate) fn responds(&self) -> bool {
        self.process != Process::Down && !self.frozen && !self.host_down
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process == Process::Up && self.responds()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.is_up() && !self.standby
    }

    pub(crate) fn name(&self) -> String {
        name(self.id)
    }

    /// Where a pgherd has shut it down as a primary, if it has not run since.
    pub(crate) fn recalled_at(&self) -> Option<Lsn> {
        self.shut_down_at.filter(|_| self.stopped_by_pgherd && !self.standby)
    }

    /// How a pgherd has ended it, if it has not run since.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let shut_down = self.recalled_at().map(|checkpoint| Ended::ShutDown { checkpoint });
        shut_down
            .or_else(|| self.fenced.then(|| Ended::Fenced { end: self.wal.end(), standby: self.standby }))
    }

    pub(crate) fn streams_to(&self, standby: Id) -> bool {
        self.senders.iter().any(|sender| sender.to == standby)
    }

    /// The end of a crash recovery is a checkpoint, and so is a clean stop.
    pub(crate) fn recover_control_file(&mut self) {
        if !self.standby {
            self.control_timeline = self.wal.branch.timeline.0;
        }
    }

    /// Everything that ends with its processes.
    pub(crate) fn forget_processes(&mut self) {
        self.incarnation += 1;
        self.frozen = false;
        self.senders.clear();
        self.receiver = None;
        self.has_streamed = false;
        self.waiting.clear();
        self.busy_until = Time::ZERO;
        self.shut_down_at = None;
        self.stopped_by_pgherd = false;
        self.fenced = false;
        self.lock = None;
        self.promoting = false;
        self.buffered.clear();
        self.connect_token += 1;
    }
}

/// repmgr's name of a server, which is that of its host.
pub(crate) fn name(server: Id) -> String {
    format!("pg{:02}", server + 1)
}
