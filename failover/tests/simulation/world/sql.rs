//! The steps that are taken over SQL, as `executor/sql.rs` takes them.

use pgherd_failover::{Outcome, Step};

use crate::model::{Id, Process, Time, Way, What};
use crate::world::{Happening, Trick, World};

/// What a connection to a server gives.
enum Access {
    Granted,
    /// Nothing comes back, for now.
    Pending,
    Denied(&'static str),
}

impl World {
    pub(super) fn act_over_sql(&mut self, run: usize, phase: u8) {
        let (pgherd, server) = (self.runs[run].pgherd, self.runs[run].server());
        match self.runs[run].trick {
            Trick::Fails => return self.answer(run, Outcome::Failed("out of memory".to_owned())),
            Trick::Hangs => return,
            _ => {}
        }
        if self.runs[run].command.step == Step::Unlock {
            self.unlock(pgherd, server);
            return self.answer(run, Outcome::Done);
        }
        match self.access(pgherd, server) {
            Access::Granted => {}
            Access::Pending => {
                return self.after(Time::from_millis(50), Happening::Act { run, phase });
            }
            Access::Denied(why) => return self.answer(run, Outcome::Failed(why.to_owned())),
        }
        match self.runs[run].command.step.clone() {
            Step::Freeze => self.freeze_wal(run, server, phase),
            Step::Unfreeze => {
                self.unfreeze_wal(server);
                self.answer(run, Outcome::Done);
            }
            Step::Lock => self.lock(run, pgherd, server),
            Step::VerifyWrite if self.servers[server].standby => {
                self.answer(run, Outcome::Failed("recovery is in progress".to_owned()));
            }
            Step::VerifyWrite => {
                self.append(server, 90, What::Other);
                self.servers[server].cut_off = false;
                self.answer(run, Outcome::Done);
            }
            Step::Record(_) if self.servers[server].standby => {
                self.answer(run, Outcome::Failed("recovery is in progress".to_owned()));
            }
            Step::Record(ref records) => {
                let wal = 100 * records.len() as u64;
                self.append(server, wal, What::Other);
                self.answer(run, Outcome::Done);
            }
            Step::Quiesce { within } => self.quiesce(run, server, within, phase),
            Step::DropSlot { name } => {
                self.servers[server].slots.retain(|slot| slot.name != name);
                self.answer(run, Outcome::Done);
            }
            Step::Checkpoint if phase == 0 => self.act_after(run, 30, 500, 1),
            Step::Checkpoint => {
                self.servers[server].control_timeline = self.servers[server].wal.branch.timeline.0;
                self.answer(run, Outcome::Done);
            }
            _ => {}
        }
    }

    /// A connection that is open is used; what lets nobody in lets it go on.
    fn access(&mut self, pgherd: usize, server: Id) -> Access {
        let it = &self.servers[server];
        match self.network.way(self.network.pgherd(), server) {
            Way::Rejected => return Access::Denied("no route to host"),
            Way::Silent => return Access::Pending,
            Way::Open if it.host_down || it.frozen => return Access::Pending,
            Way::Open => {}
        }
        let slot = &mut self.pgherds[pgherd].slots[server];
        slot.session = slot.session.filter(|(_, incarnation)| *incarnation == it.incarnation);
        match it.process {
            Process::Up if slot.session.is_some() => Access::Granted,
            Process::Up if it.unwilling => Access::Denied("too many clients already"),
            Process::Up => {
                let incarnation = it.incarnation;
                let session = self.number();
                self.pgherds[pgherd].slots[server].session = Some((session, incarnation));
                Access::Granted
            }
            Process::Down => Access::Denied("connection refused"),
            Process::Starting => Access::Denied("the database system is starting up"),
            Process::Stopping => Access::Denied("the database system is shutting down"),
        }
    }

    /// In phase 1 nobody was in a transaction at the look before.
    fn quiesce(&mut self, run: usize, server: Id, within: Time, phase: u8) {
        let (pgherd, begun) = (self.runs[run].pgherd, self.runs[run].begun);
        let it = &self.servers[server];
        let busy = it.busy_until > self.now || !it.waiting.is_empty();
        let quiet = !busy && !self.ledger.is_open(pgherd, server, it.incarnation);
        if quiet && phase == 1 {
            self.answer(run, Outcome::Done);
        } else if !quiet && self.now >= begun + within {
            self.answer(run, Outcome::Failed("process 1 is idle in transaction".to_owned()));
        } else {
            self.act_after(run, 10, 14, u8::from(quiet));
        }
    }

    /// Cut it off from its upstream, see the receiver gone, read the end of its log.
    fn freeze_wal(&mut self, run: usize, server: Id, phase: u8) {
        let it = &mut self.servers[server];
        if !it.standby {
            return self.answer(run, Outcome::Failed("it is not in recovery".to_owned()));
        }
        match phase {
            0 => {
                it.cut_off = true;
                self.act_after(run, 5, 40, 1);
            }
            1 => {
                self.detach(server, false);
                let receiver_stays = self.servers[server].replay_paused;
                let (from, to) = if receiver_stays { (200, 300) } else { (20, 60) };
                self.act_after(run, from, to, 2);
            }
            _ if it.receiver.is_some() || !it.cut_off => self.act_after(run, 10, 10, 1),
            _ => {
                let held_back = it.replay_paused || !it.apply_delay.is_zero();
                let received = if it.has_streamed { it.wal.end() } else { it.replay };
                let lsn = if held_back { received } else { it.wal.end() };
                self.answer(run, Outcome::Frozen { lsn });
            }
        }
    }

    pub(super) fn unfreeze_wal(&mut self, server: Id) {
        let it = &mut self.servers[server];
        if std::mem::replace(&mut it.cut_off, false) && it.standby {
            let delay = self.soon();
            self.reconnect(server, delay);
        }
    }

    fn lock(&mut self, run: usize, pgherd: usize, server: Id) {
        let it = &self.servers[server];
        let Some((session, _)) = self.pgherds[pgherd].slots[server].session else { return };
        let refusal = if !it.standby {
            Some("it is not in recovery")
        } else if it.lock.is_some_and(|(holder, of)| (holder, of) != (pgherd, session)) {
            Some("another pgherd holds its promotion lock")
        } else if it.promoting {
            Some("a promotion is under way there")
        } else {
            None
        };
        self.pgherds[pgherd].slots[server].locked = refusal.is_none();
        match refusal {
            Some(why) => self.answer(run, Outcome::Failed(why.to_owned())),
            None => {
                self.servers[server].lock = Some((pgherd, session));
                self.answer(run, Outcome::Done);
            }
        }
    }

    fn unlock(&mut self, pgherd: usize, server: Id) {
        let slot = &mut self.pgherds[pgherd].slots[server];
        slot.locked = false;
        let Some((session, _)) = slot.session else { return };
        let reachable =
            self.network.way(self.network.pgherd(), server) == Way::Open && self.servers[server].responds();
        if reachable {
            self.release_lock(server, (pgherd, session));
        } else {
            self.drop_session(pgherd, server);
        }
    }

    /// True if a pgherd's promotion lock there went with its connection.
    pub(super) fn has_lost_lock(&self, pgherd: usize, server: Id) -> bool {
        let slot = &self.pgherds[pgherd].slots[server];
        let held =
            slot.session.is_some_and(|(session, _)| self.servers[server].lock == Some((pgherd, session)));
        slot.locked && !held
    }
}
