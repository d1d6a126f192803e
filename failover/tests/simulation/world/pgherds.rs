//! pgherds: they start, step and die, and keep the pace that their machine wants.

use pgherd_failover::{Cadence, Event, Machine, Routing};

use crate::judge::Notes;
use crate::model::{Id, Memory, Time, server_of};
use crate::story::tell;
use crate::world::{Happening, World};

/// One running pgherd.
#[derive(Debug)]
pub(crate) struct Pgherd {
    pub(crate) machine: Machine,
    pub(crate) alive: bool,
    pub(crate) born: Time,
    /// Until then its process is stopped.
    pub(super) hangs_until: Time,
    pub(crate) routing: Routing,
    pub(super) cadence: Cadence,
    last_tick: Time,
    tick_at: Time,
    tick_token: u64,
    pub(super) watches: Vec<Watch>,
    pub(super) slots: Vec<Slot>,
    /// When its lease is over by its own clock.
    pub(super) lease_until: Time,
    pub(crate) notes: Notes,
}

/// The prober's task for one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    pub(super) asked_at: Time,
    pub(super) asking: bool,
    pub(super) demanded: bool,
    pub(super) token: u64,
    /// It has a connection to this run of the server.
    pub(super) kept: Option<u64>,
    pub(super) memory: Memory,
}

/// The executor's connection to one server: one step at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) busy: Option<usize>,
    pub(super) queue: std::collections::VecDeque<usize>,
    /// Its number, and the run of the server that it is to.
    pub(super) session: Option<(u64, u64)>,
    pub(super) locked: bool,
}

impl World {
    /// A pgherd without any memory.
    pub(crate) fn begin_pgherd(&mut self) {
        let servers = self.servers.len();
        let settings = self.plan.settings.clone();
        let machine = Machine::new(settings, self.nodes(), self.plan.identifier, self.instant());
        let (routing, cadence) = (machine.routing(), machine.cadence());
        let pgherd = self.pgherds.len();
        tell!(self, "pgherd {pgherd} starts");
        self.pgherds.push(Pgherd {
            machine,
            alive: true,
            born: self.now,
            hangs_until: Time::ZERO,
            routing,
            cadence,
            last_tick: self.now,
            tick_at: self.now + cadence.tick,
            tick_token: 0,
            watches: vec![Watch::default(); servers],
            slots: vec![Slot::default(); servers],
            lease_until: Time::ZERO,
            notes: Notes::new(servers, self.now),
        });
        for server in 0..servers {
            self.after(Time::ZERO, Happening::Ask { pgherd, server, token: 0 });
        }
        self.after(cadence.tick, Happening::Tick { pgherd, token: 0 });
        self.begin_lease(pgherd);
    }

    /// kill -9 of pgherd. What it has sent out goes on.
    pub(crate) fn end_pgherd(&mut self, pgherd: usize) {
        if !self.pgherds[pgherd].alive {
            return;
        }
        tell!(self, "pgherd {pgherd} is killed");
        self.pgherds[pgherd].alive = false;
        self.ledger.cut_all(pgherd);
        for server in 0..self.servers.len() {
            self.drop_session(pgherd, server);
        }
    }

    /// When a pgherd that hangs takes notice of this; none if it takes none, or does not hang.
    pub(super) fn noticed_at(&self, what: &Happening) -> Option<Time> {
        let pgherd = match *what {
            Happening::Ask { pgherd, .. }
            | Happening::Probed { pgherd, .. }
            | Happening::Stale { pgherd, .. }
            | Happening::Tick { pgherd, .. }
            | Happening::AskEtcd { pgherd }
            | Happening::EtcdTold { pgherd, .. }
            | Happening::LeaseOver { pgherd } => pgherd,
            Happening::Ends { run, .. } | Happening::Deadline { run } => self.runs[run].pgherd,
            // What was sent is there; what follows from its answer has yet to be.
            Happening::Act { run, phase } if phase > 0 && self.runs[run].is_sql() => self.runs[run].pgherd,
            _ => return None,
        };
        Some(self.pgherds[pgherd].hangs_until).filter(|until| self.now < *until)
    }

    /// One event goes into the machine; what comes out is judged and done.
    pub(crate) fn step(&mut self, pgherd: usize, event: Event) {
        if !self.pgherds[pgherd].alive {
            return;
        }
        let now = self.instant();
        self.judge_before(pgherd, &event);
        let it = &mut self.pgherds[pgherd];
        let commands = it.machine.step(now, event.clone());
        let routing = it.machine.routing();
        if routing != it.routing {
            let before = std::mem::replace(&mut self.pgherds[pgherd].routing, routing);
            let routing = &self.pgherds[pgherd].routing;
            self.ledger.cut(pgherd, routing);
            self.judge_routing(pgherd, &before, &event);
        }
        self.judge_after(pgherd, &event, &commands);
        self.perform(pgherd, commands);
        self.pace(pgherd);
    }

    pub(crate) fn tick(&mut self, pgherd: usize, token: u64) {
        let it = &mut self.pgherds[pgherd];
        if !it.alive || it.tick_token != token {
            return;
        }
        it.last_tick = self.now;
        self.step(pgherd, Event::Tick);
        let it = &mut self.pgherds[pgherd];
        it.tick_token += 1;
        it.tick_at = self.now + it.cadence.tick;
        let (delay, token) = (it.cadence.tick, it.tick_token);
        self.after(delay, Happening::Tick { pgherd, token });
    }

    /// Probes and ticks as often as the machine wants now.
    fn pace(&mut self, pgherd: usize) {
        let it = &mut self.pgherds[pgherd];
        let wanted = it.machine.cadence();
        let before = std::mem::replace(&mut it.cadence, wanted);
        let next_tick = (it.last_tick + wanted.tick).max(self.now);
        if next_tick < it.tick_at {
            it.tick_at = next_tick;
            it.tick_token += 1;
            let (delay, token) = (next_tick - self.now, it.tick_token);
            self.after(delay, Happening::Tick { pgherd, token });
        }
        for server in 0..self.servers.len() {
            if wanted.at_once != before.at_once {
                self.demand(pgherd, server);
            } else if wanted.probe != before.probe {
                self.ask_again(pgherd, server);
            }
        }
    }

    /// The only pgherd that is alive, or the first of several.
    pub(crate) fn living(&self) -> Option<usize> {
        self.pgherds.iter().position(|pgherd| pgherd.alive)
    }

    /// Where a pgherd sends writes.
    pub(crate) fn served(&self, pgherd: usize) -> Option<Id> {
        match &self.pgherds[pgherd].routing.writes {
            pgherd_failover::Writes::Open(epoch) => Some(server_of(epoch.primary)),
            pgherd_failover::Writes::Held { .. } => None,
        }
    }
}
