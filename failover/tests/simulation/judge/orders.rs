//! What must hold of the commands.

use pgherd_failover::{Command, Step};

use pgherd_health::{MemberState, Standing};

use super::Known;
use super::routing::commits;
use crate::model::{Id, Time, Way, name, node, server_of};
use crate::world::World;

/// A receiver that began to stream only just now could not be seen yet.
const UNSEEN: Time = Time::from_millis(1_600);

impl World {
    /// A machine gives a command.
    pub(crate) fn judge_command(&mut self, pgherd: usize, command: &Command) {
        let id = server_of(command.node);
        match &command.step {
            Step::Promote => self.judge_promote(pgherd, id),
            Step::Fence if self.served(pgherd) == Some(id) => {
                self.violate(format!("{} takes writes, and is fenced", name(id)));
            }
            Step::Stop => self.judge_stop(pgherd, id),
            Step::Start => self.judge_start(pgherd, id),
            Step::Unfreeze => {
                let notes = &mut self.pgherds[pgherd].notes;
                notes.frozen[id] = None;
                notes.tried.clear();
            }
            Step::Freeze => self.pgherds[pgherd].notes.frozen[id] = None,
            Step::Rejoin { upstream, .. } | Step::Clone { upstream } => {
                self.judge_rejoin(pgherd, id, server_of(*upstream));
            }
            Step::Follow { upstream } => self.judge_follow(pgherd, id, server_of(*upstream)),
            _ => {}
        }
    }

    /// Whom standbys follow: the primary that is served, or the standby that was above it.
    fn judge_follow(&mut self, pgherd: usize, id: Id, upstream: Id) {
        let topology = self.pgherds[pgherd].machine.topology();
        let row = |of: Id| topology.member(node(of)).and_then(|member| member.repmgr.as_ref());
        let was_above = row(id)
            .zip(row(upstream))
            .is_some_and(|(below, above)| below.upstream_node_id == Some(above.node_id));
        let standby = topology.member(node(upstream)).is_some_and(|it| it.state == MemberState::Standby);
        if self.served(pgherd) != Some(upstream) && !(was_above && standby) {
            self.violate(format!("{} is told to follow a server that is not served", name(id)));
        }
        let mut above = Some(upstream);
        for _ in 0..self.servers.len() {
            above = above.and_then(|it| self.servers[it].receiver).map(|receiver| receiver.from);
            if above == Some(id) {
                self.violate(format!(
                    "{} is told to follow {}, which is beneath it",
                    name(id),
                    name(upstream)
                ));
                return;
            }
        }
    }

    fn judge_promote(&mut self, pgherd: usize, candidate: Id) {
        if let Some(what) = self
            .writable_beside(pgherd)
            .or_else(|| self.receives(pgherd))
            .or_else(|| self.better_than(pgherd, candidate))
            .or_else(|| self.lacks(pgherd, candidate))
            .or_else(|| self.lacks_what_was_handed_over(pgherd, candidate))
        {
            self.violate(what);
        }
        self.pgherds[pgherd].notes.tried.insert(candidate);
    }

    /// I1: a server was seen to accept writes, and has not been stopped since.
    fn writable_beside(&self, pgherd: usize) -> Option<String> {
        let notes = &self.pgherds[pgherd].notes;
        let ended = |id: Id| notes.fenced[id].max(notes.stopped.get(&id).copied());
        let writes = |(id, known): &(Id, &Known)| {
            known.writable && notes.answered_last[*id] && ended(*id).is_none_or(|at| known.asked_at >= at)
        };
        let (id, _) = notes.of_ours().find(writes)?;
        Some(format!("I1: {} accepts writes, and a promotion is ordered", name(id)))
    }

    /// I6: a standby that can be reached still receives WAL.
    fn receives(&self, pgherd: usize) -> Option<String> {
        let notes = &self.pgherds[pgherd].notes;
        for (id, known) in notes.of_ours() {
            let since = notes.frozen[id].map(|(_, at)| at);
            if notes.answered_last[id]
                && self.receives_from_primary(id)
                && known.receiving
                && since.is_none_or(|at| known.asked_at >= at)
            {
                return Some(format!("I6: {} was seen to receive, and a promotion is ordered", name(id)));
            }
        }
        let streaming = self.servers.iter().find(|server| {
            let since = server.receiver.map(|receiver| receiver.since);
            let seen = self.network.way(self.network.pgherd(), server.id) == Way::Open
                && self.network.slowness[server.id].is_zero();
            let primary = self.receives_from_primary(server.id);
            seen && primary
                && notes.answered_last[server.id]
                && server.is_up()
                && !server.unwilling
                && since.is_some_and(|at| at + UNSEEN < self.now)
        });
        streaming.map(|server| format!("I6: {} receives WAL, and a promotion is ordered", server.name()))
    }

    fn receives_from_primary(&self, id: Id) -> bool {
        self.servers[id].receiver.is_some_and(|receiver| !self.servers[receiver.from].standby)
    }

    /// I7: another eligible standby that was frozen has more.
    fn better_than(&self, pgherd: usize, candidate: Id) -> Option<String> {
        let notes = &self.pgherds[pgherd].notes;
        let Some((own, _)) = notes.frozen[candidate] else {
            return Some(format!("I7: {} is promoted, and was not frozen", name(candidate)));
        };
        let topology = self.pgherds[pgherd].machine.topology();
        let better = notes.of_ours().find(|(id, known)| {
            let eligible = self.plan.may_be_promoted[*id]
                && self.plan.priorities[*id] > 0
                && self.plan.apply_delays[*id].is_zero()
                && !known.paused
                && !notes.tried.contains(id);
            let counts = eligible || self.plan.needed > 0;
            let same = known.branch == notes.known[candidate].as_ref().unwrap().branch;
            let member = topology.member(node(*id));
            let diverged = member.is_some_and(|member| member.standing == Standing::Diverged);
            let ahead = !diverged && notes.frozen[*id].is_some_and(|(lsn, _)| lsn > own);
            counts && same && ahead && !known.writable && notes.answered_last[*id]
        });
        let excused = self.judge.excused.loss;
        better
            .filter(|_| !excused)
            .map(|(id, _)| format!("I7: {} is promoted at {own}, and {} has more", name(candidate), name(id)))
    }

    /// (d): the candidate lacks more of what the primary was known to have than may be lost.
    fn lacks(&self, pgherd: usize, candidate: Id) -> Option<String> {
        let notes = &self.pgherds[pgherd].notes;
        let (_, branch) = notes.opened.as_ref()?;
        let (own, _) = notes.frozen[candidate]?;
        let same = notes.known[candidate].as_ref()?.branch == *branch;
        let behind = notes.primary_at.bytes_since(own);
        let too_much = behind > self.plan.settings.max_data_loss && self.plan.needed == 0;
        (same && too_much && !self.judge.excused.loss)
            .then(|| format!("(d): {} is {behind} bytes behind", name(candidate)))
    }

    /// I2: who takes the place of a primary that was stopped for it has every commit of that, also where none waited.
    fn lacks_what_was_handed_over(&self, pgherd: usize, candidate: Id) -> Option<String> {
        let notes = &self.pgherds[pgherd].notes;
        let old = &self.servers[notes.handed_over?];
        let same = notes.opened.as_ref().is_some_and(|(_, branch)| *branch == old.wal.branch);
        if !same || !old.is_ours() || self.judge.excused.loss {
            return None;
        }
        let have = self.commits_of(candidate);
        let missing = commits(old.wal.records()).find(|tx| !have.contains(tx))?;
        Some(format!("I2: {} takes the place of {}, and lacks {missing}", name(candidate), old.name()))
    }

    /// Only who takes writes is stopped for another.
    fn judge_stop(&mut self, pgherd: usize, id: Id) {
        let notes = &mut self.pgherds[pgherd].notes;
        notes.told_to_stop.insert(id);
        if notes.opened.as_ref().is_none_or(|(primary, _)| *primary != id) {
            self.violate(format!("{} is stopped for a switchover, and is not the primary", name(id)));
        }
    }

    /// A primary that was stopped for another does not come back beside it.
    fn judge_start(&mut self, pgherd: usize, id: Id) {
        self.pgherds[pgherd].notes.handed_over = None;
        let branch = self.servers[id].wal.branch.clone();
        let promotions = self.judge.promotions.iter();
        let mut others = promotions.filter(|it| it.pgherd == Some(pgherd) && it.parent == branch);
        if let Some(other) = others.find(|it| !self.void(it)) {
            let what = format!("{} is started again, and {} was promoted", name(id), name(other.server));
            self.violate(what);
        }
    }

    /// Only what pgherd has stopped, or what is superseded and stands by, is rewound; never who takes writes.
    fn judge_rejoin(&mut self, pgherd: usize, id: Id, upstream: Id) {
        let living = (0..self.pgherds.len()).filter(|at| self.pgherds[*at].alive);
        let served = living.clone().any(|at| self.served(at) == Some(id));
        let alone = living.count() == 1;
        let notes = &self.pgherds[pgherd].notes;
        let standby = notes.answered_last[id] && notes.known[id].as_ref().is_some_and(|it| !it.writable);
        if served && alone {
            self.violate(format!("{} takes writes, and is rewound", name(id)));
        } else if self.served(pgherd) != Some(upstream) {
            self.violate(format!("{} is rewound to a server that is not served", name(id)));
        } else if !standby
            && !self.judge.ordered.contains(&id)
            && !notes.stopped.contains_key(&id)
            && !notes.told_to_stop.contains(&id)
            && self.servers[id].ended().is_none()
        {
            self.violate(format!("{} is started again, and pgherd has not stopped it", name(id)));
        }
        let now = self.now;
        self.pgherds[pgherd].notes.stopped.entry(id).or_insert(now);
    }
}
