//! The faults are over: the herd comes to rest by itself, or tells an operator what to decide.

use pgherd_failover::{Event, Mode, Order, StateName, Terms, Writes};
use pgherd_health::{Leadership, NodeId};

use crate::model::{Id, OURS, Process, Server, Time, name, node, server_of};
use crate::story::tell;
use crate::world::{Happening, World};

const LOSSY: Terms = Terms { to: None, accept_data_loss: true, accept_timeline: None };

/// How long an operator looks at a hold before they act.
const PATIENCE: Time = Time::from_secs(12);

impl World {
    /// Everything is repaired that is not pgherd's to repair.
    pub(crate) fn calm_down(&mut self) {
        tell!(self, "the faults are over");
        self.calm = true;
        self.network.heal();
        (self.etcd.down, self.etcd.cut_off) = (false, None);
        for id in 0..self.servers.len() {
            self.host(id, false);
            self.thaw(id);
            let server = &mut self.servers[id];
            server.unwilling = false;
            server.repmgrd = false;
            server.lagging = false;
            if server.replay_paused {
                server.replay_paused = false;
                server.replay = server.wal.end();
            }
            let delay = self.rng.millis(1_000, 5_000);
            self.after(delay, Happening::Supervise { server: id });
        }
        let living: Vec<usize> = (0..self.pgherds.len()).filter(|at| self.pgherds[*at].alive).collect();
        match living.split_last() {
            None => self.begin_pgherd(),
            Some((_, others)) => others.iter().for_each(|at| self.end_pgherd(*at)),
        }
        if let Some(pgherd) = self.living() {
            self.step(pgherd, Event::Ordered(Order::Resume));
            for id in 0..self.servers.len() {
                self.step(pgherd, Event::Ordered(Order::Attach(node(id))));
            }
        }
        self.after(Time::from_secs(1), Happening::Operate);
    }

    /// Looks after the herd as an operator would, who reads the reason of a hold and gives the order that it asks for.
    pub(crate) fn operate(&mut self) {
        self.after(Time::from_secs(1), Happening::Operate);
        let Some(pgherd) = self.living() else { return };
        let status = self.pgherds[pgherd].machine.status();
        if self.served(pgherd).is_some() {
            self.pgherds[pgherd].notes.held_since = self.now;
            self.rejoin_by_hand(&status.warnings);
            return;
        }
        let since = self.pgherds[pgherd].notes.held_since.max(self.plan.calm_at);
        if status.state != StateName::Hold || self.now < since + PATIENCE {
            return;
        }
        let Some(order) = self.way_out(pgherd, &status.reason) else { return };
        tell!(self, "an operator reads \"{}\" and orders {order:?}", status.reason);
        self.judge.operated.push(status.reason);
        self.pgherds[pgherd].notes.held_since = self.now;
        self.judge_ordered(pgherd, &order);
        self.step(pgherd, Event::Ordered(order));
        for answer in self.pgherds[pgherd].machine.take_answers() {
            tell!(self, "the operator is told: {:?}", answer.told);
            // No order overrules that: it is changed on the server.
            if answer.told.is_err_and(|why| why.contains("recovery_min_apply_delay")) {
                self.servers.iter_mut().for_each(|server| server.apply_delay = Time::ZERO);
            }
        }
    }

    fn way_out(&mut self, pgherd: usize, reason: &str) -> Option<Order> {
        let topology = self.pgherds[pgherd].machine.topology();
        if reason.contains("set monitor.system_identifier") {
            self.end_pgherd(pgherd);
            self.plan.identifier = Some(OURS);
            self.begin_pgherd();
            return None;
        }
        if reason.contains("order the failover") {
            return Some(Order::Failover(LOSSY));
        }
        let choose = |chosen: NodeId| {
            let timeline = topology.member(chosen)?.branch()?.timeline;
            let terms = Terms { to: Some(chosen), accept_timeline: Some(timeline), ..Terms::default() };
            Some(Order::Failover(terms))
        };
        if reason.contains("may accept the timeline of node") {
            return topology.leadership.primary().and_then(choose);
        }
        let forked = ["fork", "is superseded but", "may accept the earlier one"];
        if forked.iter().any(|part| reason.contains(part)) {
            let chosen = match &topology.leadership {
                Leadership::Contested { nodes, .. } => nodes.first().copied(),
                other => other.primary().or_else(|| Some(other.false_primaries().first()?.node)),
            };
            return chosen.and_then(choose);
        }
        let accepts = ["may be lost", "has more WAL", "bytes behind", "latest timeline", "last promotion"];
        if accepts.iter().any(|part| reason.contains(part)) {
            return Some(Order::Failover(LOSSY));
        }
        if reason.contains("nobody can be promoted") {
            return self.promote_by_hand(pgherd);
        }
        let manual = self.plan.settings.mode == Mode::Manual;
        manual.then(|| Order::Failover(Terms::default()))
    }

    /// Where nobody may be promoted unasked, an operator promotes the standby that has most.
    fn promote_by_hand(&mut self, pgherd: usize) -> Option<Order> {
        let standbys = self.servers.iter().filter(|it| it.standby && it.is_up() && it.is_ours());
        let Some(best) = standbys.max_by_key(|it| it.wal.end()).map(|it| it.id) else {
            let writable =
                self.servers.iter().find(|it| it.is_writable() && it.is_ours()).map(|it| node(it.id));
            let timeline = writable.and_then(|it| {
                let topology = self.pgherds[pgherd].machine.topology();
                Some(topology.member(it)?.branch()?.timeline)
            });
            return timeline.map(|timeline| {
                Order::Failover(Terms { to: writable, accept_timeline: Some(timeline), ..Terms::default() })
            });
        };
        tell!(self, "an operator promotes {}", name(best));
        self.judge.operated.push("nobody can be promoted".to_owned());
        if self.promote(best, None) {
            self.record_promotion(best);
        }
        None
    }

    /// Servers that pgherd leaves alone, and says so, are cloned again.
    fn rejoin_by_hand(&mut self, warnings: &[String]) {
        let Some(primary) = self.living().and_then(|pgherd| self.served(pgherd)) else { return };
        for id in 0..self.servers.len() {
            let named = warnings.iter().any(|warning| {
                let of_it = warning.starts_with(&format!("node {id}: "))
                    || warning.starts_with(&format!("node {id} "));
                of_it
                    && ["an operator must rejoin", "is on a fork", "is on a later timeline"]
                        .iter()
                        .any(|part| warning.contains(part))
            });
            let it = &self.servers[id];
            let stuck = it.wal.end() < it.consistent_at;
            let idle = !it.rejoining && (it.process != Process::Starting || stuck);
            // What cannot finish its start, and was left so by a pgherd that has died, is seen by its long silence.
            let named = named || (stuck && self.now > self.plan.calm_at + Time::from_secs(90));
            let patient = self.now > it.cloned_at + PATIENCE * 2;
            if named && id != primary && idle && patient && !it.lost {
                tell!(self, "an operator clones {} from {}", name(id), name(primary));
                self.clone_from(id, primary);
            }
        }
    }

    pub(crate) fn clone_from(&mut self, id: Id, primary: Id) {
        self.end_processes(id);
        let now = self.now;
        let [target, source] = self.servers.get_disjoint_mut([id, primary]).unwrap();
        target.wal = source.wal.clone();
        target.system_identifier = source.system_identifier;
        target.standby = true;
        target.upstream = Some(primary);
        target.cut_off = false;
        target.orphans = false;
        target.control_timeline = source.control_timeline;
        target.consistent_at = source.wal.end();
        target.cloned_at = now;
        self.judge.operated.push("a server had to be cloned".to_owned());
        self.start(id);
    }

    /// What is not at rest yet; none when all is well.
    pub(crate) fn unrest(&self) -> Option<String> {
        self.unrest_but(&[])
    }

    /// The same of all servers but these.
    pub(crate) fn unrest_but(&self, apart: &[Id]) -> Option<String> {
        let pgherd = self.living()?;
        let it = &self.pgherds[pgherd];
        let dead = |server: &Server| {
            server.lost || !server.is_ours() || (!server.is_up() && server.wal.end() < server.consistent_at)
        };
        if self.judge.deceived || self.servers.iter().all(dead) {
            return None;
        }
        let Writes::Open(epoch) = it.routing.writes else {
            let status = it.machine.status();
            return Some(format!("pgherd is in {}: {}", status.state, status.reason));
        };
        let primary = server_of(epoch.primary);
        if !self.servers[primary].is_writable() || !self.servers[primary].is_ours() {
            return Some(format!("{} takes writes, and is no primary", name(primary)));
        }
        let branch = &self.servers[primary].wal.branch;
        let others = self
            .servers
            .iter()
            .filter(|it| it.id != primary && it.is_ours() && !it.lost && !apart.contains(&it.id));
        for server in others {
            if !server.standby {
                return Some(format!("{} is no standby", server.name()));
            }
            if !server.is_up() || server.wal.branch != *branch || !self.leads_to(server.id, primary) {
                return Some(format!("{} does not stream from {}", server.name(), name(primary)));
            }
            if !it.routing.readable.contains(&node(server.id)) {
                return Some(format!("{} is not read", server.name()));
            }
        }
        None
    }

    fn leads_to(&self, from: Id, primary: Id) -> bool {
        let mut at = from;
        for _ in 0..self.servers.len() {
            match self.servers[at].receiver {
                Some(receiver) if receiver.from == primary => return true,
                Some(receiver) => at = receiver.from,
                None => return false,
            }
        }
        false
    }
}
