//! Probes: asked at their interval or at once, answered with what the server was when the question arrived.

use pgherd_failover::Event;
use pgherd_health::ProbeOutcome;

use crate::model::{Circumstances, Id, Time, Way, answer, name, node};
use crate::story::tell;
use crate::world::{Happening, World};

/// However many demands come, a server is not asked more often.
const SHORTEST: Time = Time::from_millis(20);

impl World {
    pub(crate) fn ask(&mut self, pgherd: usize, server: Id, token: u64) {
        let it = &mut self.pgherds[pgherd];
        let watch = &mut it.watches[server];
        if !it.alive || watch.asking || watch.token != token {
            return;
        }
        *watch = super::pgherds::Watch { asked_at: self.now, asking: true, demanded: false, ..*watch };
        let asked_at = self.now;
        let delay = self.wire() + self.network.slowness[server] / 2;
        let down = self.servers[server].host_down;
        match self.network.way(self.network.pgherd(), server) {
            Way::Open if !down => self.after(delay, Happening::Question { pgherd, server, asked_at }),
            Way::Rejected => {
                let outcome = Box::new(ProbeOutcome::Refused("no route to host".to_owned()));
                self.after(delay, Happening::Probed { pgherd, server, asked_at, outcome });
            }
            _ => self.times_out(pgherd, server, asked_at),
        }
    }

    /// The question arrives.
    pub(crate) fn question(&mut self, pgherd: usize, server: Id, asked_at: Time) {
        let delay = self.wire() + self.network.slowness[server] / 2;
        let it = &self.servers[server];
        let silent = it.host_down || it.frozen || !self.network.passes(server, self.network.pgherd());
        if silent || self.now + delay > asked_at + self.plan.probe_timeout() {
            return self.times_out(pgherd, server, asked_at);
        }
        let around = Circumstances {
            now: self.now,
            rows: &self.rows,
            synchronous: &self.plan.synchronous,
            receiver_timeout: self.plan.receiver_timeout,
        };
        let memory = &mut self.pgherds[pgherd].watches[server].memory;
        let outcome = Box::new(answer(it, &around, memory));
        self.after(delay, Happening::Probed { pgherd, server, asked_at, outcome });
    }

    fn times_out(&mut self, pgherd: usize, server: Id, asked_at: Time) {
        let delay = (asked_at + self.plan.probe_timeout()).saturating_sub(self.now);
        let outcome = Box::new(ProbeOutcome::TimedOut);
        self.after(delay, Happening::Probed { pgherd, server, asked_at, outcome });
    }

    /// The outcome of a probe is known; the machine hears of it, and sometimes hears it twice.
    pub(crate) fn probed(&mut self, pgherd: usize, server: Id, asked_at: Time, outcome: ProbeOutcome) {
        if !self.pgherds[pgherd].alive {
            return;
        }
        let answers = matches!(outcome, ProbeOutcome::Answered(_));
        let incarnation = self.servers[server].incarnation;
        let known = self.pgherds[pgherd].machine.nodes().iter().any(|it| it.id == node(server));
        let watch = &mut self.pgherds[pgherd].watches[server];
        if !known {
            // As if it had not been asked.
            watch.asking = false;
            return self.ask_again(pgherd, server);
        }
        watch.kept = answers.then_some(incarnation);
        if !answers {
            let how = kind(&outcome);
            tell!(self, "pgherd {pgherd}: probe of {} at {:.3}: {how}", name(server), asked_at.as_secs_f64());
        }
        let event = Event::Probed {
            node: node(server),
            asked_at: self.base + asked_at,
            answered_at: self.instant(),
            outcome,
        };
        if self.tricky() && self.rng.percent(20) {
            let delay = self.rng.millis(1, 3_000);
            self.after(delay, Happening::Stale { pgherd, event: Box::new(event.clone()) });
        }
        self.step(pgherd, event);
        self.pgherds[pgherd].watches[server].asking = false;
        self.ask_again(pgherd, server);
    }

    /// Something calls for a probe now.
    pub(crate) fn demand(&mut self, pgherd: usize, server: Id) {
        self.pgherds[pgherd].watches[server].demanded = true;
        self.ask_again(pgherd, server);
    }

    /// Arranges the next probe, unless one is under way.
    pub(crate) fn ask_again(&mut self, pgherd: usize, server: Id) {
        let interval = self.pgherds[pgherd].cadence.probe.max(SHORTEST);
        let watch = &mut self.pgherds[pgherd].watches[server];
        if watch.asking {
            return;
        }
        watch.token += 1;
        let next = watch.asked_at + if watch.demanded { SHORTEST } else { interval };
        let token = watch.token;
        self.after(next.saturating_sub(self.now), Happening::Ask { pgherd, server, token });
    }

    /// A server's end is seen at once by whoever is connected, if packets pass.
    pub(crate) fn connections_break(&mut self, server: Id) {
        let passes = self.network.passes(server, self.network.pgherd()) && !self.servers[server].host_down;
        for pgherd in 0..self.pgherds.len() {
            let watch = &mut self.pgherds[pgherd].watches[server];
            if passes && watch.kept.take().is_some() && self.pgherds[pgherd].alive {
                self.demand(pgherd, server);
            }
        }
    }
}

const fn kind(outcome: &ProbeOutcome) -> &'static str {
    match outcome {
        ProbeOutcome::Answered(_) => "answered",
        ProbeOutcome::Refused(_) => "refused",
        ProbeOutcome::StartingUp => "starting up",
        ProbeOutcome::ShuttingDown => "shutting down",
        ProbeOutcome::Unwilling { .. } => "unwilling",
        ProbeOutcome::TimedOut => "timed out",
    }
}
