//! Commands under way: side by side on different servers, in their order on one, each with a deadline.

use pgherd_failover::{Command, Event, Loss, Outcome, Step};

use crate::model::{Id, Late, Time, Way, name, server_of};
use crate::story::tell;
use crate::world::{Happening, World};

/// What goes wrong with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    None,
    /// It fails at once, and changes nothing.
    Fails,
    /// It does nothing, and is not heard of again.
    Hangs,
    /// It is done, and not heard of again.
    Unheard,
    /// It is done, and its outcome is lost between the executor and the machine.
    Forgotten,
    /// It says that it is done, and does nothing.
    Lies,
    /// The server cannot be rewound.
    Spoilt,
    /// It takes effect this much later, whether or not anybody still waits for it.
    Late(Time),
}

/// One command.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) pgherd: usize,
    pub(crate) command: Command,
    pub(crate) begun: Time,
    pub(crate) trick: Trick,
    /// Nobody waits for it any more.
    pub(crate) over: bool,
    /// The run of the server that it began to act on.
    pub(crate) incarnation: u64,
    /// What a rejoin throws away, where its files tell that.
    pub(crate) loss: Option<Loss>,
    next: Option<usize>,
}

impl Run {
    pub(crate) fn server(&self) -> Id {
        server_of(self.command.node)
    }

    pub(crate) const fn is_sql(&self) -> bool {
        matches!(
            self.command.step,
            Step::Freeze
                | Step::Unfreeze
                | Step::Lock
                | Step::Unlock
                | Step::VerifyWrite
                | Step::Checkpoint
                | Step::DropSlot { .. }
                | Step::Quiesce { .. }
                | Step::Record(_)
        )
    }
}

impl World {
    pub(crate) const fn tricky(&self) -> bool {
        !self.calm && self.plan.tricks > 0
    }

    /// Carries out what a machine orders.
    pub(crate) fn perform(&mut self, pgherd: usize, commands: Vec<Command>) {
        let mut last: Vec<Option<usize>> = vec![None; self.servers.len()];
        for command in commands {
            let server = server_of(command.node);
            tell!(self, "pgherd {pgherd}: {} on {}: {:?}", command.id.0, name(server), command.step);
            let trick = self.trick(&command.step);
            let run = self.runs.len();
            self.pgherds[pgherd].notes.runs.push(run);
            self.runs.push(Run {
                pgherd,
                command,
                begun: self.now,
                trick,
                over: false,
                incarnation: self.servers[server].incarnation,
                loss: None,
                next: None,
            });
            match last[server].replace(run) {
                Some(earlier) => self.runs[earlier].next = Some(run),
                None => self.begin(run),
            }
        }
    }

    fn trick(&mut self, step: &Step) -> Trick {
        let forced = self
            .plan
            .forced
            .iter()
            .position(|(wanted, _)| std::mem::discriminant(wanted) == std::mem::discriminant(step));
        if let Some(at) = forced {
            return self.plan.forced.remove(at).1;
        }
        if self.calm || !self.rng.percent(self.plan.tricks) {
            return Trick::None;
        }
        let late = self.rng.millis(300, 25_000);
        match step {
            Step::Promote => self.rng.pick(&[
                Trick::Fails,
                Trick::Hangs,
                Trick::Unheard,
                Trick::Forgotten,
                Trick::Lies,
                Trick::Late(late),
                Trick::Late(late),
            ]),
            Step::Unlock => Trick::None,
            Step::Rejoin { .. } if self.rng.percent(40) => Trick::Spoilt,
            // One that hangs is waited for as long as it may take, which is longer than any story.
            Step::Clone { .. } => self.rng.pick(&[Trick::Fails, Trick::Unheard, Trick::Forgotten]),
            _ => self.rng.pick(&[Trick::Fails, Trick::Hangs, Trick::Unheard, Trick::Forgotten]),
        }
    }

    fn begin(&mut self, run: usize) {
        let it = &mut self.runs[run];
        it.begun = self.now;
        let (pgherd, server, deadline) = (it.pgherd, it.server(), it.command.deadline);
        it.incarnation = self.servers[server].incarnation;
        let command = it.command.clone();
        let refused = self.without_lease(pgherd, &command).filter(|_| command.step != Step::Unlock);
        if let Some((outcome, delay)) = refused {
            self.after(deadline, Happening::Deadline { run });
            return self.after(delay, Happening::Ends { run, outcome, late: true });
        }
        if self.runs[run].is_sql() {
            let slot = &mut self.pgherds[pgherd].slots[server];
            if slot.busy.is_some() {
                slot.queue.push_back(run);
            } else {
                slot.busy = Some(run);
                let delay = self.wire();
                self.after(delay, Happening::Act { run, phase: 0 });
            }
        } else {
            self.begin_ssh(run);
        }
        self.after(deadline, Happening::Deadline { run });
    }

    pub(crate) fn act(&mut self, run: usize, phase: u8) {
        if !self.runs[run].is_sql() {
            self.act_over_ssh(run, phase);
        } else if !self.runs[run].over && self.pgherds[self.runs[run].pgherd].alive {
            self.act_over_sql(run, phase);
        }
    }

    pub(crate) fn act_after(&mut self, run: usize, from: u64, to: u64, phase: u8) {
        let delay = self.rng.millis(from, to);
        self.after(delay, Happening::Act { run, phase });
    }

    /// The executor has an outcome, and sends it.
    pub(crate) fn answer(&mut self, run: usize, outcome: Outcome) {
        let delay = self.wire();
        if self.runs[run].trick != Trick::Unheard {
            self.after(delay, Happening::Ends { run, outcome, late: false });
        }
    }

    /// The outcome arrives, unless packets are dropped by now.
    pub(crate) fn ends(&mut self, run: usize, outcome: Outcome, late: bool) {
        let it = &self.runs[run];
        let server = it.server();
        let open = self.network.passes(server, self.network.pgherd()) && !self.servers[server].host_down;
        if open || late || matches!(outcome, Outcome::Failed(_)) {
            self.finish(run, outcome);
        } else if !it.is_sql() {
            let outcome = Outcome::Unknown("ssh: the connection ended before the command did".to_owned());
            self.after(Time::from_secs(4), Happening::Ends { run, outcome, late: true });
        }
    }

    /// The executor waits no longer.
    pub(crate) fn deadline(&mut self, run: usize) {
        let it = &self.runs[run];
        if it.over {
            return;
        }
        let (pgherd, server) = (it.pgherd, it.server());
        if it.is_sql() && self.pgherds[pgherd].slots[server].busy == Some(run) {
            let frozen = self.servers[server].frozen;
            let connected = self.pgherds[pgherd].slots[server].session.is_some();
            let late = match it.command.step {
                Step::Freeze => Some(Late::Freeze),
                Step::Unfreeze => Some(Late::Unfreeze),
                _ => None,
            };
            if let Some(late) = late.filter(|_| frozen && connected && it.trick == Trick::None)
                && self.rng.percent(50)
            {
                self.servers[server].buffered.push(late);
            }
            self.drop_session(pgherd, server);
        }
        self.finish(run, Outcome::Unknown("not done in time".to_owned()));
    }

    fn finish(&mut self, run: usize, outcome: Outcome) {
        let it = &mut self.runs[run];
        if std::mem::replace(&mut it.over, true) {
            return;
        }
        let (pgherd, server, id) = (it.pgherd, it.server(), it.command.id);
        let (next, forgotten) = (it.next.take(), it.trick == Trick::Forgotten);
        if it.is_sql() {
            self.next_in_slot(pgherd, server, run);
        }
        if !self.pgherds[pgherd].alive {
            return;
        }
        if let Some(next) = next {
            self.begin(next);
        }
        tell!(self, "pgherd {pgherd}: {} on {} ends: {outcome}", id.0, name(server));
        if !forgotten {
            self.step(pgherd, Event::Ended { id, outcome });
        }
    }

    fn next_in_slot(&mut self, pgherd: usize, server: Id, run: usize) {
        let slot = &mut self.pgherds[pgherd].slots[server];
        slot.queue.retain(|waiting| *waiting != run);
        if slot.busy == Some(run) {
            slot.busy = slot.queue.pop_front();
            if let Some(next) = slot.busy {
                self.after(Time::ZERO, Happening::Act { run: next, phase: 0 });
            }
        }
    }

    /// A connection of an executor's ends, and with it the lock that it held.
    pub(crate) fn drop_session(&mut self, pgherd: usize, server: Id) {
        let Some((session, incarnation)) = self.pgherds[pgherd].slots[server].session.take() else { return };
        let lock = (pgherd, session);
        if self.servers[server].incarnation == incarnation && self.servers[server].lock == Some(lock) {
            let open = self.network.way(self.network.pgherd(), server) == Way::Open;
            let delay = if open { Time::from_millis(2) } else { Time::from_secs(15) };
            self.after(delay, Happening::LockExpires { server, lock });
        }
    }

    pub(crate) fn release_lock(&mut self, server: Id, lock: (usize, u64)) {
        if self.servers[server].lock == Some(lock) {
            self.servers[server].lock = None;
        }
    }
}
