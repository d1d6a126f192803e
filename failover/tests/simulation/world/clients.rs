//! Clients commit wherever the routing of the moment sends them.

use pgherd_failover::{Epoch, Routing, Writes};
use pgherd_health::Lsn;

use crate::model::{Id, Time, TxId, What, server_of};
use crate::story::tell;
use crate::world::{Happening, Pgherd, World};

/// One transaction, from the client's COMMIT to its reply.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pgherd: usize,
    epoch: Epoch,
    /// The run of the server that it was sent to.
    incarnation: u64,
    size: u64,
    /// pgherd has cut its connection: nothing is acknowledged any more.
    cut: bool,
    /// It was lost on its way, or its answer was.
    lost: bool,
    pub(crate) acknowledged: Option<Time>,
    /// Enough standbys had it before it was acknowledged.
    pub(crate) synchronous: bool,
}

/// All transactions.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) flights: Vec<Flight>,
    /// Below this one all are over.
    settled: usize,
}

impl Ledger {
    /// Cuts the connections of the epochs that a routing does not keep.
    pub(crate) fn cut(&mut self, pgherd: usize, routing: &Routing) {
        let kept = kept(routing);
        for flight in &mut self.flights[self.settled..] {
            if flight.pgherd == pgherd && Some(flight.epoch) != kept {
                flight.cut = true;
            }
        }
    }

    /// Nothing of a pgherd that has died is acknowledged.
    pub(crate) fn cut_all(&mut self, pgherd: usize) {
        for flight in self.flights.iter_mut().filter(|flight| flight.pgherd == pgherd) {
            flight.cut = true;
        }
    }

    /// A client of this pgherd waits for the answer of this run of a server.
    pub(crate) fn is_open(&self, pgherd: usize, server: Id, incarnation: u64) -> bool {
        self.flights[self.settled..].iter().any(|it| {
            let there = server_of(it.epoch.primary) == server && it.incarnation == incarnation;
            let over = it.cut || it.lost || it.acknowledged.is_some();
            it.pgherd == pgherd && there && !over
        })
    }

    /// Transactions whose clients were told an error, or will be.
    pub(crate) fn failed(&self) -> usize {
        self.flights.iter().filter(|it| it.acknowledged.is_none() && (it.cut || it.lost)).count()
    }

    /// All commits that were acknowledged, whoever had them.
    pub(crate) fn all_acknowledged(&self) -> impl Iterator<Item = TxId> {
        let flights = self.flights.iter().enumerate();
        flights.filter(|(_, it)| it.acknowledged.is_some()).map(|(tx, _)| tx)
    }

    /// Acknowledged commits that standbys had when they were.
    pub(crate) fn durable(&self) -> impl Iterator<Item = TxId> {
        let flights = self.flights.iter().enumerate();
        flights.filter(|(_, it)| it.synchronous && it.acknowledged.is_some()).map(|(tx, _)| tx)
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.flights.iter().filter(|flight| flight.acknowledged.is_some()).count()
    }
}

/// The epoch whose connections may go on.
pub(crate) const fn kept(routing: &Routing) -> Option<Epoch> {
    match &routing.writes {
        Writes::Open(epoch) => Some(*epoch),
        Writes::Held { keep, .. } => *keep,
    }
}

impl World {
    /// A client commits, through any pgherd that is there.
    pub(crate) fn send(&mut self) {
        let pause = self.rng.millis(self.plan.commit_every / 2, self.plan.commit_every * 3 / 2);
        if self.clients_wanted {
            self.after(pause, Happening::Send);
        }
        let works = |it: &Pgherd| it.alive && it.hangs_until <= self.now;
        let working: Vec<usize> = (0..self.pgherds.len()).filter(|at| works(&self.pgherds[*at])).collect();
        if working.is_empty() {
            return;
        }
        let pgherd = self.rng.pick(&working);
        let Writes::Open(epoch) = self.pgherds[pgherd].routing.writes else { return };
        let size = if self.rng.percent(self.plan.big_writes) { 700_000 } else { self.rng.between(60, 900) };
        let tx = self.ledger.flights.len();
        let incarnation = self.servers[server_of(epoch.primary)].incarnation;
        let flight = Flight {
            pgherd,
            epoch,
            incarnation,
            size,
            cut: false,
            lost: false,
            acknowledged: None,
            synchronous: false,
        };
        self.ledger.flights.push(flight);
        let delay = self.wire();
        self.after(delay, Happening::Arrive { tx, tries: 0 });
    }

    /// The COMMIT arrives; what was sent before a cut is done all the same.
    pub(crate) fn arrive(&mut self, tx: TxId, tries: u32) {
        let Flight { epoch, size, .. } = self.ledger.flights[tx];
        let id = server_of(epoch.primary);
        let server = &self.servers[id];
        let late = server.frozen || !self.network.passes(self.network.pgherd(), id);
        if late && !server.host_down {
            // It lies in a socket.
            if tries < 200 {
                self.after(Time::from_millis(100), Happening::Arrive { tx, tries: tries + 1 });
            } else {
                self.ledger.flights[tx].lost = true;
            }
            return;
        }
        if server.orphans && tries == 0 {
            let number = self.number();
            self.servers[id].wal.append(number, size, What::Commit(tx));
            if self.plan.needed == 0 {
                self.reply(tx, id, false);
            }
        } else if server.is_writable() && server.is_ours() {
            let lsn = self.append(id, size, What::Commit(tx));
            if self.plan.needed == 0 {
                self.reply(tx, id, false);
            } else {
                self.servers[id].waiting.push((lsn, tx));
                self.release_commits(id);
            }
        } else {
            self.ledger.flights[tx].lost = true;
        }
    }

    /// Answers the commits that enough standbys have by now.
    pub(crate) fn release_commits(&mut self, id: Id) {
        if self.servers[id].waiting.is_empty() || self.servers[id].standby {
            return;
        }
        let mut flushed: Vec<Lsn> = self.servers[id]
            .senders
            .iter()
            .filter(|sender| self.plan.listed.contains(&sender.to))
            .map(|sender| sender.flushed)
            .collect();
        flushed.sort_unstable();
        let Some(reached) = flushed.len().checked_sub(self.plan.needed).map(|at| flushed[at]) else { return };
        let waiting = std::mem::take(&mut self.servers[id].waiting);
        let (done, still) = waiting.into_iter().partition(|(lsn, _)| *lsn <= reached);
        self.servers[id].waiting = still;
        for (_, tx) in done {
            self.reply(tx, id, true);
        }
    }

    fn reply(&mut self, tx: TxId, from: Id, synchronous: bool) {
        let delay = self.wire();
        self.after(delay, Happening::Reply { tx, from, synchronous });
    }

    /// The server's word arrives; the client has it if its connection was not cut.
    pub(crate) fn acknowledge(&mut self, tx: TxId, from: Id, synchronous: bool) {
        if !self.network.passes(from, self.network.pgherd()) || self.servers[from].host_down {
            self.ledger.flights[tx].lost = true;
            return;
        }
        let flight = &mut self.ledger.flights[tx];
        if flight.cut || !self.pgherds[flight.pgherd].alive {
            return;
        }
        flight.acknowledged = Some(self.now);
        flight.synchronous = synchronous;
        if self.servers[from].is_ours() {
            self.judge_acknowledged(from);
        }
        if tx.is_multiple_of(64) {
            self.settle();
        }
    }

    /// Flights of long ago need not be looked at again.
    fn settle(&mut self) {
        let recent = self.ledger.flights.len().saturating_sub(2_000);
        self.ledger.settled = self.ledger.settled.max(recent);
        tell!(self, "{} commits are acknowledged", self.ledger.acknowledged());
    }
}
