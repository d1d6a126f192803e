//! The model world: servers, the network between them, clients, and the pgherds that are to be shown right.

mod calm;
mod clients;
mod faults;
mod lease;
mod pgherds;
mod power;
mod probes;
mod replication;
mod sql;
mod ssh;
mod work;

use std::sync::Arc;
use std::time::Instant;

use pgherd_failover::{Event, Outcome};
use pgherd_health::{Lsn, Node, ProbeOutcome, RepmgrNode};

use crate::judge::Judge;
use crate::model::{Agenda, Etcd, Id, Network, Rng, Server, Time, TxId, What, first_rows, name, node};
use crate::plan::{Fault, Plan};
use crate::story::{Story, tell};
pub(crate) use clients::Ledger;
pub(crate) use pgherds::Pgherd;
pub(crate) use work::{Run, Trick};

/// What can happen in it.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Started { server: Id, incarnation: u64 },
    Stopped { server: Id, incarnation: u64 },
    Supervise { server: Id },
    ControlFile { server: Id, incarnation: u64 },
    Connect { server: Id, token: u64 },
    Ship { server: Id, connection: u64 },
    Acked { server: Id, connection: u64, lsn: Lsn },
    KeepAlive { server: Id, connection: u64 },
    SenderExpires { server: Id, connection: u64 },
    LockExpires { server: Id, lock: (usize, u64) },
    Send,
    Arrive { tx: TxId, tries: u32 },
    Reply { tx: TxId, from: Id, synchronous: bool },
    PgherdStarts,
    Ask { pgherd: usize, server: Id, token: u64 },
    Question { pgherd: usize, server: Id, asked_at: Time },
    Probed { pgherd: usize, server: Id, asked_at: Time, outcome: Box<ProbeOutcome> },
    Stale { pgherd: usize, event: Box<Event> },
    Tick { pgherd: usize, token: u64 },
    AskEtcd { pgherd: usize },
    EtcdAsked { pgherd: usize, sent: Time },
    EtcdTold { pgherd: usize, sent: Time, holder: Option<usize> },
    LeaseOver { pgherd: usize },
    Act { run: usize, phase: u8 },
    Ends { run: usize, outcome: Outcome, late: bool },
    Deadline { run: usize },
    Fault(Fault),
    Calm,
    Operate,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    base: Instant,
    pub(crate) rng: Rng,
    agenda: Agenda<Happening>,
    pub(crate) plan: Plan,
    pub(crate) servers: Vec<Server>,
    pub(crate) network: Network,
    pub(crate) etcd: Etcd,
    /// The versions of `repmgr.nodes`.
    pub(crate) rows: Vec<Arc<Vec<RepmgrNode>>>,
    pub(crate) pgherds: Vec<Pgherd>,
    pub(crate) runs: Vec<Run>,
    pub(crate) ledger: Ledger,
    pub(crate) clients_wanted: bool,
    pub(crate) story: Story,
    pub(crate) judge: Judge,
    /// No more faults.
    pub(crate) calm: bool,
    numbers: u64,
}

impl World {
    /// A herd at work, whose first server is the primary, and no pgherd yet.
    pub(crate) fn new(seed: u64, plan: Plan, told: bool) -> Self {
        let servers = plan.servers;
        let primary = plan.primary;
        let rows = vec![Arc::new(first_rows(primary, &plan.priorities, &plan.upstreams))];
        let mut world = Self {
            now: Time::ZERO,
            base: Instant::now(),
            rng: Rng::new(seed),
            agenda: Agenda::new(),
            servers: (0..servers).map(|id| Server::new(id, primary)).collect(),
            network: Network::new(servers),
            etcd: Etcd::default(),
            rows,
            pgherds: Vec::new(),
            runs: Vec::new(),
            ledger: Ledger::default(),
            clients_wanted: true,
            story: Story::new(told),
            judge: Judge::default(),
            calm: false,
            numbers: 0,
            plan,
        };
        world.append(primary, 500, What::Rows(0));
        for id in (0..servers).filter(|id| *id != primary) {
            world.servers[id].upstream = world.plan.upstreams[id].or(Some(primary));
            world.servers[id].apply_delay = world.plan.apply_delays[id];
            let [first, standby] = world.servers.get_disjoint_mut([primary, id]).unwrap();
            standby.wal = first.wal.clone();
            standby.replay = standby.wal.end();
            world.reconnect(id, Time::ZERO);
        }
        world.after(Time::ZERO, Happening::Send);
        for (at, fault) in std::mem::take(&mut world.plan.faults) {
            world.agenda.arrange(at, Happening::Fault(fault));
        }
        world
    }

    /// pgherd's list of servers.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let node = |id: Id| Node {
            data_directory: "/data".to_owned(),
            may_be_promoted: self.plan.may_be_promoted[id],
            ..Node::new(node(id), name(id), 5432)
        };
        let told = |id: &Id| self.plan.named.is_none_or(|named| named == *id);
        (0..self.servers.len()).filter(told).map(node).collect()
    }

    /// Lets time pass, up to that moment or to the first violation.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self.judge.violation.is_none()
            && !self.judge.deceived
            && let Some((at, what)) = self.agenda.next_until(until)
        {
            self.now = at;
            match self.noticed_at(&what) {
                Some(later) => self.agenda.arrange(later, what),
                None => self.happen(what),
            }
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn after(&mut self, delay: Time, what: Happening) {
        self.agenda.arrange(self.now + delay, what);
    }

    pub(crate) fn soon_after(&mut self, what: Happening) {
        let delay = self.soon();
        self.after(delay, what);
    }

    pub(crate) fn instant(&self) -> Instant {
        self.base + self.now
    }

    pub(crate) fn time_of(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.base)
    }

    /// A number that nothing else has.
    pub(crate) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// What a message takes.
    pub(crate) fn wire(&mut self) -> Time {
        let (from, to) = self.plan.wire;
        Time::from_micros(self.rng.between(from, to))
    }

    pub(crate) const fn soon(&mut self) -> Time {
        self.rng.millis(3, 30)
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Started { server, incarnation } => self.started(server, incarnation),
            Happening::Stopped { server, incarnation } => self.stopped(server, incarnation),
            Happening::Supervise { server } => self.start(server),
            Happening::ControlFile { server, incarnation } => self.control_file(server, incarnation),
            Happening::Connect { server, token } => self.connect(server, token),
            Happening::Ship { server, connection } => self.ship(server, connection),
            Happening::Acked { server, connection, lsn } => self.acked(server, connection, lsn),
            Happening::KeepAlive { server, connection } => self.keep_alive(server, connection),
            Happening::SenderExpires { server, connection } => self.sender_expires(server, connection),
            Happening::LockExpires { server, lock } => self.release_lock(server, lock),
            Happening::Send => self.send(),
            Happening::Arrive { tx, tries } => self.arrive(tx, tries),
            Happening::Reply { tx, from, synchronous } => self.acknowledge(tx, from, synchronous),
            Happening::PgherdStarts if self.calm && self.living().is_some() => {}
            Happening::PgherdStarts => self.begin_pgherd(),
            Happening::Ask { pgherd, server, token } => self.ask(pgherd, server, token),
            Happening::Question { pgherd, server, asked_at } => self.question(pgherd, server, asked_at),
            Happening::Probed { pgherd, server, asked_at, outcome } => {
                self.probed(pgherd, server, asked_at, *outcome);
            }
            Happening::Stale { pgherd, event } => self.step(pgherd, *event),
            Happening::Tick { pgherd, token } => self.tick(pgherd, token),
            Happening::AskEtcd { pgherd } => self.ask_etcd(pgherd),
            Happening::EtcdAsked { pgherd, sent } => self.etcd_asked(pgherd, sent),
            Happening::EtcdTold { pgherd, sent, holder } => self.etcd_told(pgherd, sent, holder),
            Happening::LeaseOver { pgherd } => self.lease_over(pgherd),
            Happening::Act { run, phase } => self.act(run, phase),
            Happening::Ends { run, outcome, late } => self.ends(run, outcome, late),
            Happening::Deadline { run } => self.deadline(run),
            Happening::Fault(fault) => self.strike(&fault),
            Happening::Calm => self.calm_down(),
            Happening::Operate => self.operate(),
        }
    }

    /// Something must not be.
    pub(crate) fn violate(&mut self, what: String) {
        tell!(self, "VIOLATION: {what}");
        if self.judge.violation.is_none() {
            self.judge.violation = Some(what);
        }
    }
}
