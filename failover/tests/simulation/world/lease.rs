//! pgherds that hold a lease in etcd, or wait for it.

use pgherd_failover::{Claim, Command, Event, Outcome, Ruling, Step};

use crate::model::{OURS, Time};
use crate::story::tell;
use crate::world::{Happening, World};

/// Time between two looks of the keeper.
const PACE: Time = Time::from_secs(1);

impl World {
    /// A pgherd begins to look after its lease, where there is an etcd.
    pub(crate) fn begin_lease(&mut self, pgherd: usize) {
        if self.plan.lease.is_some() {
            self.pgherds[pgherd].machine.set_ruling(Ruling::unknown());
            self.after(Time::ZERO, Happening::AskEtcd { pgherd });
        }
    }

    pub(crate) fn ask_etcd(&mut self, pgherd: usize) {
        let Some(ttl) = self.plan.lease.filter(|_| self.pgherds[pgherd].alive) else { return };
        let sent = self.now;
        self.after(PACE, Happening::AskEtcd { pgherd });
        // Before any server has answered it is not known whose lease it is.
        if self.pgherds[pgherd].machine.cluster() != Some(OURS) {
            return;
        }
        if self.etcd.answers(pgherd) {
            let delay = self.wire();
            self.after(delay, Happening::EtcdAsked { pgherd, sent });
        } else {
            self.after(ttl / 3, Happening::EtcdTold { pgherd, sent, holder: None });
        }
    }

    /// The request arrives.
    pub(crate) fn etcd_asked(&mut self, pgherd: usize, sent: Time) {
        let Some(ttl) = self.plan.lease else { return };
        let served = self.pgherds[pgherd].machine.served();
        let holder = self.etcd.turn(pgherd, self.now, ttl, served);
        let delay = self.wire();
        self.after(delay, Happening::EtcdTold { pgherd, sent, holder: Some(holder) });
    }

    /// The answer arrives; none if there will be none.
    pub(crate) fn etcd_told(&mut self, pgherd: usize, sent: Time, holder: Option<usize>) {
        if !self.pgherds[pgherd].alive {
            return;
        }
        let claim = match holder {
            Some(holder) if holder == pgherd => {
                self.renewed(pgherd, sent);
                Claim::Held { until: self.base + self.pgherds[pgherd].lease_until }
            }
            Some(holder) => Claim::Other(format!("pgherd {holder}")),
            None => {
                let until = self.pgherds[pgherd].lease_until;
                let until = (until > self.now).then(|| self.base + until);
                Claim::Unreachable { why: "no answer in time".to_owned(), until }
            }
        };
        let candidate = self.etcd.candidate.clone();
        let own_candidate = candidate.as_ref().is_some_and(|(by, _)| *by == pgherd);
        let ruling = Ruling {
            claim,
            cluster: Some(OURS),
            floor: self.etcd.timeline,
            candidate: candidate.map(|(_, candidate)| candidate),
            own_candidate,
        };
        self.pgherds[pgherd].machine.set_ruling(ruling);
        self.step(pgherd, Event::Tick);
    }

    /// By its own clock, which may be a little slow, a lease ends before it ends in etcd.
    fn renewed(&mut self, pgherd: usize, sent: Time) {
        let Some(ttl) = self.plan.lease else { return };
        let slow = u32::try_from(pgherd % 4).unwrap_or_default();
        let until = sent + (ttl - ttl / 20) * (100 + slow) / 100;
        let known = &mut self.pgherds[pgherd].lease_until;
        *known = until.max(*known);
        let delay = known.saturating_sub(self.now);
        self.after(delay, Happening::LeaseOver { pgherd });
    }

    /// What is under way without a lease is given up; on the servers it may go on.
    pub(crate) fn lease_over(&mut self, pgherd: usize) {
        if !self.pgherds[pgherd].alive || self.now < self.pgherds[pgherd].lease_until {
            return;
        }
        let under_way = |at: &usize| self.runs[*at].pgherd == pgherd && !self.runs[*at].over;
        let runs: Vec<usize> = (0..self.runs.len()).filter(under_way).collect();
        if !runs.is_empty() {
            tell!(self, "the lease of pgherd {pgherd} is over");
        }
        for run in runs {
            self.deadline(run);
        }
    }

    /// A command is about to be carried out: is the lease held? Why it is not done, and when that is known.
    pub(crate) fn without_lease(&mut self, pgherd: usize, command: &Command) -> Option<(Outcome, Time)> {
        let ttl = self.plan.lease?;
        if !self.etcd.answers(pgherd) {
            return Some((Outcome::Failed("etcd does not answer".to_owned()), ttl / 3));
        }
        let served = self.pgherds[pgherd].machine.served();
        let holder = self.etcd.turn(pgherd, self.now, ttl, served);
        if holder == pgherd {
            self.renewed(pgherd, self.now);
            if command.step == Step::Promote {
                let candidacy = self.pgherds[pgherd].machine.candidacy(command.node);
                self.etcd.candidate = candidacy.map(|it| (pgherd, it));
            }
            return None;
        }
        Some((Outcome::Failed(format!("pgherd {holder} holds the lease")), Time::from_millis(2)))
    }
}
