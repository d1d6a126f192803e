//! What strikes, and what undoes it.

use pgherd_failover::Event;

use crate::model::{Id, Time, name};
use crate::plan::{Fault, Packets, Whom};
use crate::story::tell;
use crate::world::{Happening, World};

/// A server ends a connection that holds the promotion lock and is silent for so long.
const LOCK_OUTLIVES_SILENCE: Time = Time::from_secs(3);

impl World {
    pub(crate) fn strike(&mut self, fault: &Fault) {
        match *fault {
            Fault::Kill { whom, orphans, back } => {
                let id = self.target(whom);
                self.kill(id, orphans);
                self.later(back, Fault::Start { whom: Whom::This(id) });
            }
            Fault::Stop { whom, back } => {
                let id = self.target(whom);
                self.stop(id);
                self.later(back.map(|back| back + Time::from_secs(1)), Fault::Start { whom: Whom::This(id) });
            }
            Fault::Start { whom } => self.start(self.target(whom)),
            Fault::Freeze { whom, lasts } => {
                let id = self.target(whom);
                self.freeze(id);
                self.later(Some(lasts), Fault::Thaw { whom: Whom::This(id) });
            }
            Fault::Thaw { whom } => self.thaw(self.target(whom)),
            Fault::HostDown { whom, lasts } => {
                let id = self.target(whom);
                self.host(id, true);
                self.later(Some(lasts), Fault::HostUp { whom: Whom::This(id) });
            }
            Fault::HostUp { whom } => {
                let id = self.target(whom);
                self.host(id, false);
                self.start(id);
            }
            Fault::Part { one, other, packets, lasts } => {
                let (one, other) = (self.target(one), self.target(other));
                self.part(one, other, packets);
                self.later(Some(lasts), Fault::Mend { one, other });
            }
            Fault::Mend { one, other } => self.mend(one, other),
            Fault::Isolate { whom, lasts } => {
                let party = self.target(whom);
                self.isolate(party, true);
                self.later(Some(lasts), Fault::Rejoin { party });
            }
            Fault::Rejoin { party } => self.isolate(party, false),
            _ => self.strike_mildly(fault),
        }
    }

    /// What leaves processes and packets as they are.
    fn strike_mildly(&mut self, fault: &Fault) {
        match *fault {
            Fault::Slow { whom, by } => {
                let id = self.target(whom);
                if id < self.servers.len() {
                    tell!(self, "{} answers {by:?} later", name(id));
                    self.network.slowness[id] = by;
                }
            }
            Fault::Unwilling { whom, on, lasts } => {
                let id = self.change(whom, "unwilling", on, |server| server.unwilling = on);
                self.ends_after(on, lasts, Fault::Unwilling { whom: Whom::This(id), on: false, lasts });
            }
            Fault::Repmgrd { whom, on, lasts } => {
                let id = self.change(whom, "under repmgrd", on, |server| server.repmgrd = on);
                self.ends_after(on, lasts, Fault::Repmgrd { whom: Whom::This(id), on: false, lasts });
            }
            Fault::PauseReplay { whom, on, lasts } => {
                let id = self.change(whom, "paused in its replay", on, |server| {
                    server.replay_paused = on && server.standby;
                    if !on {
                        server.replay = server.wal.end();
                    }
                });
                self.ends_after(on, lasts, Fault::PauseReplay { whom: Whom::This(id), on: false, lasts });
            }
            Fault::Busy { whom, lasts } => {
                let (id, until) = (self.target(whom), self.now + lasts);
                tell!(self, "a client of {} is in a transaction for {lasts:?}", name(id));
                self.servers[id].busy_until = until;
            }
            Fault::Lag { whom, on, lasts } => {
                let id = self.change(whom, "lagging", on, |server| server.lagging = on);
                self.ends_after(on, lasts, Fault::Lag { whom: Whom::This(id), on: false, lasts });
            }
            Fault::Usurp { whom } => {
                let id = self.target(whom);
                if self.promote(id, None) {
                    self.record_promotion(id);
                }
            }
            Fault::Foreign { whom } => self.replace_by_foreign(self.target(whom)),
            Fault::Lose { whom } => {
                let id = self.target(whom);
                self.kill(id, false);
                self.servers[id].lost = true;
                tell!(self, "{} never comes back", name(id));
            }
            Fault::Ordered(ref order) => {
                tell!(self, "an operator orders {order:?}");
                for pgherd in 0..self.pgherds.len() {
                    self.judge_ordered(pgherd, order);
                    self.step(pgherd, Event::Ordered(order.clone()));
                }
            }
            _ => self.strike_pgherds(fault),
        }
    }

    /// What comes to pgherds, and to the etcd between them.
    fn strike_pgherds(&mut self, fault: &Fault) {
        match *fault {
            Fault::LoseEtcd { alone, lasts } => {
                tell!(self, "etcd does not answer {alone:?}");
                (self.etcd.down, self.etcd.cut_off) = (alone.is_none(), alone);
                self.later(Some(lasts), Fault::EtcdIsBack);
            }
            Fault::EtcdIsBack => (self.etcd.down, self.etcd.cut_off) = (false, None),
            Fault::KillPgherd { back } => {
                (0..self.pgherds.len()).for_each(|pgherd| self.end_pgherd(pgherd));
                self.after(back, Happening::PgherdStarts);
            }
            Fault::SecondPgherd { lasts } => {
                let pgherd = self.pgherds.len();
                self.begin_pgherd();
                self.later(Some(lasts), Fault::EndPgherd { pgherd });
            }
            Fault::HangPgherd { pgherd, lasts } if pgherd < self.pgherds.len() => {
                tell!(self, "pgherd {pgherd} hangs for {lasts:?}");
                self.pgherds[pgherd].hangs_until = self.now + lasts;
                if lasts > LOCK_OUTLIVES_SILENCE {
                    self.locks_expire(pgherd);
                }
            }
            Fault::EndPgherd { pgherd } if self.pgherds.iter().filter(|it| it.alive).count() > 1 => {
                self.end_pgherd(pgherd);
            }
            _ => {}
        }
    }

    fn locks_expire(&mut self, pgherd: usize) {
        for server in 0..self.servers.len() {
            if let Some(lock) = self.servers[server].lock.filter(|(holder, _)| *holder == pgherd) {
                self.after(LOCK_OUTLIVES_SILENCE, Happening::LockExpires { server, lock });
            }
        }
    }

    fn change(
        &mut self,
        whom: Whom,
        how: &str,
        on: bool,
        change: impl FnOnce(&mut crate::model::Server),
    ) -> Id {
        let id = self.target(whom);
        tell!(self, "{} is {}{how}", name(id), if on { "" } else { "no longer " });
        change(&mut self.servers[id]);
        id
    }

    fn later(&mut self, delay: Option<Time>, fault: Fault) {
        if let Some(delay) = delay {
            self.after(delay, Happening::Fault(fault));
        }
    }

    fn ends_after(&mut self, on: bool, lasts: Time, end: Fault) {
        self.later(on.then_some(lasts), end);
    }

    /// The party that is meant now.
    pub(crate) fn target(&self, whom: Whom) -> Id {
        let servers = self.servers.len();
        match whom {
            Whom::This(id) => id,
            Whom::Pgherd => self.network.pgherd(),
            Whom::Primary => {
                let primaries = self.servers.iter().filter(|it| it.is_writable() && it.is_ours());
                primaries.max_by_key(|it| it.wal.branch.timeline).map_or(0, |it| it.id)
            }
            Whom::Standby(from) => {
                let mut from_there = (0..servers).map(|step| (from + step) % servers);
                from_there.find(|id| self.servers[*id].standby).unwrap_or(from)
            }
        }
    }

    fn part(&mut self, one: Id, other: Id, packets: Packets) {
        if one == other {
            return;
        }
        tell!(self, "{} and {}: {packets:?}", self.party(one), self.party(other));
        match packets {
            Packets::There => self.network.drop_packets(one, other, true),
            Packets::Back => self.network.drop_packets(other, one, true),
            Packets::Both => {
                self.network.drop_packets(one, other, true);
                self.network.drop_packets(other, one, true);
            }
            Packets::Rejected => self.network.reject(one, other, true),
        }
    }

    fn mend(&mut self, one: Id, other: Id) {
        tell!(self, "{} and {} reach each other again", self.party(one), self.party(other));
        self.network.drop_packets(one, other, false);
        self.network.drop_packets(other, one, false);
        self.network.reject(one, other, false);
    }

    fn isolate(&mut self, party: Id, cut: bool) {
        tell!(self, "{} is {}", self.party(party), if cut { "isolated" } else { "reachable again" });
        for other in (0..=self.servers.len()).filter(|other| *other != party) {
            self.network.drop_packets(party, other, cut);
            self.network.drop_packets(other, party, cut);
        }
    }

    fn party(&self, party: Id) -> String {
        if party == self.network.pgherd() { "pgherd".to_owned() } else { name(party) }
    }
}
