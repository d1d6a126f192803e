//! What must hold of the logs: promotions, acknowledged commits, and what is cut off.

use std::collections::BTreeSet;

use pgherd_health::Branch;

use super::routing::commits;
use crate::judge::Promotion;
use crate::model::{Id, Record, Time, TxId, name};
use crate::world::World;

/// A pgherd has seen by then what another has done.
const LEARNT_WITHIN: Time = Time::from_secs(5);

impl World {
    /// I5: of one branch, one promotion. `run` is the command that caused it; none where somebody else did.
    pub(crate) fn judge_promotion(&mut self, server: Id, parent: &Branch, run: Option<usize>) {
        let pgherd = run.map(|run| self.runs[run].pgherd);
        if pgherd.is_none() {
            self.judge.excused.usurped = true;
        }
        let at = self.now;
        let twice = self.judge.promotions.iter().find(|it| {
            let ours = it.pgherd.is_some() && pgherd.is_some();
            ours && it.parent == *parent && !self.unknowable(it, pgherd) && !self.void(it)
        });
        let excused = self.judge.excused.any();
        if let Some(other) = twice.filter(|_| !excused) {
            let what = format!("I5: {} and {} are promoted from {parent}", name(other.server), name(server));
            self.violate(what);
        }
        self.judge.promotions.push(Promotion { server, parent: parent.clone(), pgherd, at });
    }

    /// A promotion by a pgherd that died before this one was born, of a server that is not to be seen: without memory
    /// this one cannot know of it.
    fn unknowable(&self, earlier: &Promotion, pgherd: Option<usize>) -> bool {
        let born = pgherd.map_or(self.now, |pgherd| self.pgherds[pgherd].born);
        let away = !self.servers[earlier.server].is_writable() || !self.servers[earlier.server].is_ours();
        earlier.pgherd != pgherd && earlier.at < born && away
    }

    /// A candidate that died of its promotion, before it was seen: it is fenced, and nobody has written there.
    pub(super) fn void(&self, earlier: &Promotion) -> bool {
        let opened = |pgherd: usize| {
            let opened = self.pgherds[pgherd].notes.opened.as_ref();
            opened.is_some_and(|(server, branch)| *server == earlier.server && *branch != earlier.parent)
        };
        let server = &self.servers[earlier.server];
        let gone = !server.is_up() || !server.is_ours();
        gone && !earlier.pgherd.is_some_and(opened)
    }

    /// A commit is acknowledged by a server: on the lineage of the one before. Of two pgherds that live at once, one may
    /// learn of the other's promotion a probe later.
    pub(crate) fn judge_acknowledged(&mut self, id: Id) {
        let branch = self.servers[id].wal.branch.clone();
        let (before, since) = match &self.judge.acknowledged {
            None => (None, self.now),
            Some((server, of, since)) => (Some((*server, of.clone())), *since),
        };
        let same = before.as_ref() == Some(&(id, branch.clone()));
        let continues = same || before.as_ref().is_none_or(|(_, of)| branch.supersedes(of));
        if continues {
            self.judge.acknowledged = Some((id, branch, if same { since } else { self.now }));
            return;
        }
        let alone = self.pgherds.iter().filter(|it| it.alive).count() == 1;
        let grace = if alone { Time::ZERO } else { LEARNT_WITHIN };
        if !self.judge.excused.any() && self.now > since + grace {
            let what =
                format!("I3: {} acknowledges on {branch}, after {:?}", name(id), self.judge.acknowledged);
            self.violate(what);
        }
    }

    /// I2, at the end of the story.
    pub(crate) fn judge_end(&mut self) {
        let excused = self.judge.excused.any();
        if let Some(primary) = self.living().and_then(|at| self.served(at)).filter(|_| !excused) {
            self.judge_complete(primary);
        }
    }

    /// A rewind cuts off nothing that was acknowledged when standbys had it, and that is nowhere else.
    pub(crate) fn judge_rewound(&mut self, server: Id, upstream: Id, lost: &[Record]) {
        if self.judge.excused.any() || lost.is_empty() {
            return;
        }
        let lost: BTreeSet<TxId> = commits(lost).collect();
        let kept: BTreeSet<TxId> = commits(self.servers[upstream].wal.records()).collect();
        let gone: Vec<TxId> =
            self.ledger.durable().filter(|tx| lost.contains(tx) && !kept.contains(tx)).collect();
        if !gone.is_empty() {
            self.violate(format!("I2: the rewind of {} destroys {gone:?}", name(server)));
        }
    }
}
