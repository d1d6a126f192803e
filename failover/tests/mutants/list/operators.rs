//! What operators order, which of several pgherds acts, and when pgherd itself hangs.

use super::{Mutant, mutant};

const SWITCHOVER: &str = "failover/src/switchover.rs";
const WAKING: &str = "failover/src/waking.rs";
const OPERATOR: &str = "failover/src/operator.rs";
const LEASE: &str = "failover/src/lease.rs";
const GUARDS: &str = "failover/src/guards.rs";
const DISCOVER: &str = "failover/src/discover.rs";
const STEADY: &str = "failover/src/steady.rs";
const STATE: &str = "failover/src/state.rs";
const ELECTION: &str = "failover/src/election.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "a switchover is given up when a guard ceases to hold",
        SWITCHOVER,
        "why.or_else(|| ceased(machine, &prospect(machine, now, epoch, to), now))\n        .or_else(",
        "why.or_else(",
    ),
    mutant(
        "the primary is stopped only when nobody is in a transaction",
        SWITCHOVER,
        "let done = machine.orders.outcome(id) == Some(&Outcome::Done);\n                done.then(|| \"no transaction is open\".to_owned())",
        "let done = machine.orders.get(id).is_some();\n                done.then(|| \"no transaction is open\".to_owned())",
    ),
    mutant(
        "what was seen before pgherd hung is old",
        WAKING,
        "if now > self.stepped_at + HANGS {",
        "if now > self.stepped_at + HANGS * 1_000 {",
    ),
    // Switchover.
    mutant(
        "no switchover while a command is under way",
        SWITCHOVER,
        "self.orders.under_way().find(|placed| !placed.is_harmless()) {",
        "self.orders.under_way().find(|placed| !placed.is_harmless() && self.paused) {",
    ),
    // Most of the time a command is under way there.
    mutant(
        "no switchover while a command is under way, or a server is being repaired",
        SWITCHOVER,
        "if !self.care.is_idle() {",
        "if !self.care.is_idle() && self.paused {",
    )
    .and(
        SWITCHOVER,
        "self.orders.under_way().find(|placed| !placed.is_harmless()) {",
        "self.orders.under_way().find(|placed| !placed.is_harmless() && self.paused) {",
    ),
    mutant(
        "no switchover where a guard of a failover does not hold",
        SWITCHOVER,
        "if let Some(why) = ceased(self, &prospect(self, now, epoch, to), now) {",
        "if let Some(why) = ceased(self, &prospect(self, now, epoch, to), now).filter(|_| false) {",
    ),
    mutant(
        "no switchover to a standby that does not stream from the primary",
        SWITCHOVER,
        "if !streams || machine.orders.reshaping(node) {",
        "if false {",
    ),
    mutant("no switchover to a standby that is far behind", SWITCHOVER, "if behind > NEAR {", "if false {"),
    mutant(
        "the primary's checkpoint is done before anybody waits",
        SWITCHOVER,
        "(done(rehearsal) && done(checkpoint))",
        "done(rehearsal)",
    ),
    // The checkpoint is begun when that was seen.
    mutant(
        "it is seen that the primary can be stopped before anybody waits, or the switchover given up",
        SWITCHOVER,
        "(done(rehearsal) && done(checkpoint))",
        "done(checkpoint)",
    )
    .and(
        SWITCHOVER,
        "failed(rehearsal).or_else(|| failed(checkpoint)),",
        "{ let _ = rehearsal; failed(checkpoint) }",
    ),
    mutant(
        "a switchover is given up when its candidate is lost",
        SWITCHOVER,
        "        .or_else(|| successor(machine, now, epoch, to).err())\n",
        "",
    ),
    mutant(
        "a switchover is given up when pgherd hangs in it",
        SWITCHOVER,
        "failed(id).or_else(|| machine.has_hung(held_since?))",
        "failed(id)",
    ),
    mutant(
        "what a primary said before it was stopped is over",
        SWITCHOVER,
        "attempt.fences.insert(epoch.primary, stop);",
        "let _ = stop;",
    ),
    mutant(
        "a primary that was stopped for nothing is started again",
        SWITCHOVER,
        "self.order(now, old, Step::Start);",
        "let _ = (old, now);",
    ),
    mutant(
        "a primary that was stopped for another is brought back as a standby",
        SWITCHOVER,
        "machine.care.stopping(member, now);",
        "let _ = (member, now);",
    ),
    mutant(
        "a switchover that was given up is none any more",
        STATE,
        "Handover { given_up: true, ..it }",
        "Handover { given_up: false, ..it }",
    ),
    mutant(
        "the standby that an operator named takes over if it can",
        ELECTION,
        "it.to == Some(*node));",
        "it.to == Some(*node) && false);",
    ),
    // Other orders.
    mutant(
        "a failover that is ordered loses nothing unless that is accepted",
        OPERATOR,
        "self.wanted.as_ref().is_some_and(|wanted| wanted.terms.accept_data_loss)",
        "self.wanted.is_some()",
    ),
    mutant(
        "a candidate that answers is not given up",
        OPERATOR,
        "self.named_candidate() != Some(candidate) && lost",
        "self.named_candidate() != Some(candidate) && (lost || !self.paused)",
    ),
    mutant(
        "an order that comes while all is well is refused",
        OPERATOR,
        "State::Steady { epoch } | State::Swap { epoch } => {",
        "State::Steady { epoch } | State::Swap { epoch } if self.paused => {",
    ),
    mutant(
        "an order to fail over is not kept for another occasion",
        OPERATOR,
        "if let State::Steady { epoch } = self.state {\n            let node",
        "if let (State::Steady { epoch }, true) = (&self.state, self.paused) {\n            let node",
    ),
    mutant(
        "a timeline that is not the same everywhere is not chosen by its number",
        OPERATOR,
        "(1, Some((_, branch))) => Ok(branch),",
        "(_, Some((_, branch))) => Ok(branch),",
    ),
    mutant(
        "the primary cannot be detached",
        OPERATOR,
        "if self.state.epoch().is_some_and(|epoch| epoch.primary == *node) => {",
        "if self.state.epoch().is_some_and(|epoch| epoch.primary == *node) && self.paused => {",
    ),
    mutant(
        "what an operator has given up is no rival when it comes back",
        OPERATOR,
        "self.knowledge.disown(node, Void::Branch(branch));",
        "let _ = (node, branch);",
    ),
    // The lease.
    mutant(
        "only who holds the lease acts",
        LEASE,
        "        self.ruling.claim.objection(now)\n",
        "        self.ruling.claim.objection(now).filter(|_| self.paused)\n",
    ),
    // That it ends by the clock counts for a second at most, until the keeper is told that etcd does not answer. What is ordered in
    // between is preceded by a look of its own, which the simulation has, too.
    mutant(
        "what another pgherd has served is not gone back behind",
        LEASE,
        "(epoch.timeline < floor && !chosen).then(||",
        "(epoch.timeline < floor && !chosen && self.paused).then(||",
    ),
    mutant(
        "who serves an older timeline than etcd knows of stops",
        STEADY,
        "if let Some(why) = machine.outdated(node) {",
        "if let Some(why) = machine.outdated(node).filter(|_| false) {",
    ),
    mutant(
        "nobody goes on from a timeline after which etcd knows of another",
        GUARDS,
        "machine.floor().filter(|floor| attempt.branch.timeline < *floor);",
        "machine.floor().filter(|floor| attempt.branch.timeline < *floor && machine.paused);",
    ),
    mutant(
        "whom another pgherd has told to promote is waited for",
        GUARDS,
        "if let Some(why) = machine.unaccounted(attempt.branch.timeline) {",
        "if let Some(why) = machine.unaccounted(attempt.branch.timeline).filter(|_| false) {",
    ),
    mutant(
        "no older primary is served while it is not known what became of a promotion",
        DISCOVER,
        "machine.outdated(*node).or_else(|| unaccounted(machine, *node)).map(Assessment::Stuck);",
        "machine.outdated(*node).or_else(|| unaccounted(machine, *node).filter(|_| false)).map(Assessment::Stuck);",
    ),
    mutant(
        "a pgherd knows what became of its own order",
        LEASE,
        "(!later && !answers && !self.ruling.own_candidate).then(||",
        "(!later && !answers).then(||",
    ),
    mutant(
        "nobody is served before etcd was asked",
        DISCOVER,
        "} else if machine.awaits_ruling() {",
        "} else if false {",
    ),
    // pgherd itself hangs.
    mutant(
        "an attempt that pgherd hung in begins anew",
        WAKING,
        "self.has_hung(self.state.attempt().filter(|_| !is_ordered)?.began)",
        "self.has_hung(self.state.attempt().filter(|_| !is_ordered && self.paused)?.began)",
    ),
    mutant(
        "the time that pgherd hung is no silence of the primary",
        STEADY,
        "silence(seen, settings, now).min(now.saturating_duration_since(awake_since));",
        "silence(seen, settings, now);",
    ),
    mutant(
        "a primary is found only by answers since pgherd hung",
        DISCOVER,
        "Some(since.max(machine.awake_since))",
        "Some(since)",
    ),
];
