//! What must hold of the routing and of the table.

use std::collections::BTreeSet;

use pgherd_failover::{Command, Event, Routing, StateName, Writes, transitions};
use pgherd_health::{Branch, Relation, Standing};

use crate::model::{Id, OURS, TxId, What, name, node, server_of, started_at};
use crate::story::tell;
use crate::world::World;

/// More decisions than this in one step go in a circle.
const DECISIONS_A_STEP: usize = 20;
/// More changes of state than this within a second are no decisions.
const CHANGES_A_SECOND: usize = 60;

impl World {
    /// The routing has changed.
    pub(crate) fn judge_routing(&mut self, pgherd: usize, before: &Routing, event: &Event) {
        let after = self.pgherds[pgherd].routing.clone();
        if after.generation == before.generation {
            return self.judge_words(before, &after);
        }
        tell!(
            self,
            "pgherd {pgherd}: routing {}: {:?}, reads {:?}",
            after.generation,
            after.writes,
            after.readable
        );
        if after.generation != before.generation + 1 {
            self.violate(format!("generation {} follows {}", after.generation, before.generation));
        }
        let (was, is) = (&before.writes, &after.writes);
        if let (Writes::Open(epoch), Writes::Held { .. }) = (was, is) {
            self.pgherds[pgherd].notes.held_since = self.now;
            self.judge_closed(pgherd, server_of(epoch.primary), event);
        }
        if let Writes::Open(epoch) = is
            && was != is
        {
            self.judge_opened(pgherd, server_of(epoch.primary), *epoch);
        }
    }

    /// Within a generation nothing changes but the words of a reason.
    fn judge_words(&mut self, before: &Routing, after: &Routing) {
        let state = |reason: &str| reason.split(':').next().map(str::to_owned);
        let only_words = match (&before.writes, &after.writes) {
            (Writes::Held { keep, reason, .. }, Writes::Held { keep: kept, reason: said, .. }) => {
                keep == kept && state(reason) == state(said) && before.readable == after.readable
            }
            _ => false,
        };
        if !only_words {
            self.violate(format!("{before:?} became {after:?} within a generation"));
        }
    }

    /// I11: no silence of a standby, and no mere time, closes the writes, unless an operator wants another primary.
    fn judge_closed(&mut self, pgherd: usize, primary: Id, event: &Event) {
        let blameless = match event {
            Event::Probed { node, outcome, .. } => {
                server_of(*node) != primary && !matches!(outcome, pgherd_health::ProbeOutcome::Answered(_))
            }
            Event::Tick | Event::Ended { .. } => true,
            Event::Ordered(_) => false,
        };
        let status = self.pgherds[pgherd].machine.status();
        let ordered = status.state == StateName::Switchover;
        // Another pgherd has served a later timeline.
        let last = self.pgherds[pgherd].machine.history().iter().next_back();
        let told = last.is_some_and(|decision| decision.seen.contains("etcd knows"));
        if blameless && !ordered && !told {
            self.violate(format!("I11: writes to {} were closed by {event:?}", name(primary)));
        }
    }

    /// I2, I3, I4, I12: who is opened was seen writable, on a timeline that continues the last one, with all commits.
    fn judge_opened(&mut self, pgherd: usize, id: Id, epoch: pgherd_failover::Epoch) {
        let notes = &self.pgherds[pgherd].notes;
        let Some(known) = notes.known[id].clone().filter(|known| known.ours) else {
            // Where for all of cold_grace nobody but an empty server answers, nothing says that it is not the herd.
            let alone = notes.of_ours().next().is_none()
                && self.plan.identifier.is_none()
                && self.now >= self.pgherds[pgherd].born + self.plan.settings.cold_grace;
            self.judge.deceived = alone;
            if !alone {
                self.violate(format!("I4: {} was never seen as one of ours, and is opened", name(id)));
            }
            return;
        };
        let resumed = notes.opened.as_ref() == Some(&(id, known.branch.clone()));
        if resumed && !notes.answered_last[id] && !self.servers[id].is_ours() {
            // A wrong password and an empty cluster answer alike to who was cut off.
            self.judge.deceived = true;
            return;
        }
        if !resumed && !notes.answered_last[id] {
            return self.violate(format!("I12: {} does not answer, and is opened", name(id)));
        }
        if notes.stopped.contains_key(&id) {
            return self.violate(format!("I12: {} was fenced since it answered, and is opened", name(id)));
        }
        if epoch.system_identifier != OURS || !known.writable || known.branch.timeline != epoch.timeline {
            return self
                .violate(format!("I12: {} was not seen writable on that timeline: {known:?}", name(id)));
        }
        let excused = self.judge.excused.any();
        // What a pgherd without memory cannot know, it cannot be blamed for.
        let before = notes.opened.clone();
        let forks = |before: &Option<(Id, Branch)>| {
            before.as_ref().is_some_and(|(server, before)| match known.branch.relation(before) {
                Relation::Same => *server != id,
                Relation::Supersedes { .. } => false,
                Relation::SupersededBy { .. } | Relation::Siblings => true,
            })
        };
        let fork = forks(&self.judge.opened);
        let replaced = self.servers.iter().any(|it| it.is_ours() && it.wal.branch.supersedes(&known.branch));
        self.judge.excused.forgotten |= (fork || replaced) && !forks(&before);
        if forks(&before) && !excused {
            self.violate(format!("I3: {} is opened on {}, after {before:?}", name(id), known.branch));
        }
        let server = &self.servers[id];
        let same = server.is_ours() && started_at(server) == known.run;
        if !excused && !fork && same && server.wal.branch == known.branch {
            self.judge_complete(id);
        }
        if !fork {
            self.judge.opened = Some((id, known.branch.clone()));
        }
        let notes = &mut self.pgherds[pgherd].notes;
        notes.primary_at = known.furthest;
        notes.opened = Some((id, known.branch));
        notes.handed_over = None;
        if !resumed {
            notes.tried.clear();
        }
    }

    /// I2: what was acknowledged when enough standbys had it is there.
    pub(super) fn judge_complete(&mut self, id: Id) {
        let have = self.commits_of(id);
        let missing: Vec<TxId> = self.ledger.durable().filter(|tx| !have.contains(tx)).collect();
        if !missing.is_empty() {
            self.violate(format!("I2: {} lacks the acknowledged commits {missing:?}", name(id)));
        }
    }

    /// The transactions that a server has.
    pub(crate) fn commits_of(&self, id: Id) -> BTreeSet<TxId> {
        commits(self.servers[id].wal.records()).collect()
    }

    /// After every step.
    pub(crate) fn judge_after(&mut self, pgherd: usize, event: &Event, commands: &[Command]) {
        self.judge_table(pgherd);
        self.judge_served(pgherd);
        if let Event::Probed { node, .. } = event {
            self.judge_readable(pgherd, server_of(*node));
        }
        for command in commands {
            self.judge_command(pgherd, command);
        }
    }

    /// Every row that is taken leads where it says.
    fn judge_table(&mut self, pgherd: usize) {
        let now = self.instant();
        let machine = &self.pgherds[pgherd].machine;
        let decisions: Vec<_> = machine.history().iter().rev().take_while(|it| it.at == now).collect();
        let mut wrong = None;
        for decision in &decisions {
            let row = transitions().find(|row| row.name == decision.name);
            let right = row.is_some_and(|row| row.from == decision.from && row.to == decision.to);
            self.judge.taken.insert(decision.name);
            if !right {
                wrong = Some(format!("the table says otherwise: {decision:?}"));
            }
        }
        if decisions.len() > DECISIONS_A_STEP {
            wrong = Some(format!("the table goes in a circle: {:?}", decisions[0]));
        }
        let changes = decisions.iter().filter(|it| it.from != it.to).count();
        let lines: Vec<String> = decisions
            .iter()
            .rev()
            .filter(|_| self.story.told)
            .map(|it| format!("pgherd {pgherd}: {} -> {} ({}): {}", it.from, it.to, it.name, it.seen))
            .collect();
        for line in lines {
            tell!(self, "{line}");
        }
        let notes = &mut self.pgherds[pgherd].notes;
        let second = self.now.as_secs();
        notes.changes =
            if notes.changes.0 == second { (second, notes.changes.1 + changes) } else { (second, changes) };
        if notes.changes.1 > CHANGES_A_SECOND {
            wrong = Some("the machine finds no rest".to_owned());
        }
        if let Some(wrong) = wrong {
            self.violate(wrong);
        }
    }

    /// I3: nobody who was ever heard of supersedes who takes writes. I4: who takes them is ours.
    fn judge_served(&mut self, pgherd: usize) {
        let Some(id) = self.served(pgherd) else { return };
        if self.judge.excused.trust || self.judge.excused.loss {
            return;
        }
        let notes = &self.pgherds[pgherd].notes;
        let Some((_, branch)) = &notes.opened else { return };
        // A candidate that was fenced after its promotion, unseen, and given up, supersedes nobody.
        let void = |other: Id, of: &Branch| {
            self.judge.promotions.iter().any(|it| {
                let fenced = notes.fenced[other].is_some_and(|at| at > it.at);
                it.server == other && it.pgherd == Some(pgherd) && of.grew_from(&it.parent) && fenced
            })
        };
        let above = notes
            .of_ours()
            .find(|(other, known)| known.branch.supersedes(branch) && !void(*other, &known.branch));
        if let Some((other, known)) = above {
            let what = format!(
                "I3: {} takes writes on {branch}, and {} was seen on {}",
                name(id),
                name(other),
                known.branch
            );
            self.violate(what);
        }
    }

    /// I10: a standby on the lineage that answers is read, and nothing else is.
    fn judge_readable(&mut self, pgherd: usize, id: Id) {
        let it = &self.pgherds[pgherd];
        let topology = it.machine.topology();
        let (Some(known), Some(lineage)) = (&it.notes.known[id], &topology.lineage) else { return };
        let member = topology.member(node(id));
        let readable = it.routing.readable.contains(&node(id));
        let standing = lineage.standing_of(&known.branch, known.furthest);
        let marked = member.is_some_and(|member| member.standing == Standing::Diverged);
        let valid = known.ours && !known.writable && standing == Standing::OnLineage && !marked;
        let young = self.now < it.born + self.plan.settings.cold_grace && it.notes.opened.is_none();
        let settled = matches!(topology.system_identifier, Ok(Some(_))) && !young;
        if readable && !valid {
            self.violate(format!("I4, I10: {} is read, and may not be: {known:?}", name(id)));
        } else if readable && it.machine.is_detached(node(id)) {
            self.violate(format!("{} is read, and is detached", name(id)));
        } else if !readable
            && valid
            && settled
            && !it.machine.is_detached(node(id))
            && it.notes.answered_last[id]
        {
            self.violate(format!("I10: {} is a valid standby that answers, and is not read", name(id)));
        }
    }
}

pub(crate) fn commits(records: &[crate::model::Record]) -> impl Iterator<Item = TxId> {
    records.iter().filter_map(|record| match record.what {
        What::Commit(tx) => Some(tx),
        _ => None,
    })
}
