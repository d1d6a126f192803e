//! The machine: events in, commands and a routing out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::{Branch, Knowledge, Leadership, Member, Node, NodeId, Report, Topology, Void};

use crate::care::Care;
use crate::events::Events;
use crate::history::{Decision, History};
use crate::lease::Ruling;
use crate::operator::Wanted;
use crate::orders::Orders;
use crate::recall::Recalls;
use crate::rehearsal::Outlook;
use crate::slots::Slots;
use crate::state::{Attempt, Hold, HoldKind, Phase, Stage, State};
use crate::switchover::{Plan, Switching};
use crate::transition::{On, Transition, transitions};
use crate::{
    Answer, Cadence, Command, CommandId, Epoch, Event, Routing, Settings, StateName, Status, Step, Writes,
    care, discover, guards, reading, recall, slots,
};

/// More transitions than this in one step would be a loop in the table: the rest is left to the next event.
const TRANSITIONS_A_STEP: usize = 64;
/// Time between two ticks while something is under way: the granularity of all waits.
const BUSY_TICK: Duration = Duration::from_millis(20);
/// Time between two probes while a promotion is under way: it is seen, not told.
const PROMOTING_INTERVAL: Duration = Duration::from_millis(50);

/// The decision machine of one herd.
#[derive(Debug)]
pub struct Machine {
    pub(crate) settings: Settings,
    pub(crate) knowledge: Knowledge,
    pub(crate) topology: Arc<Topology>,
    pub(crate) state: State,
    pub(crate) orders: Orders,
    pub(crate) care: Care,
    pub(crate) slots: Slots,
    pub(crate) recalls: Recalls,
    pub(crate) started: Instant,
    /// Since when it has been told of the time without a gap.
    pub(crate) awake_since: Instant,
    pub(crate) stepped_at: Instant,
    /// Since when nobody has been seen writable.
    pub(crate) leaderless_since: Option<Instant>,
    pub(crate) last_promotion: Option<Instant>,
    /// Candidates that were fenced although their promotion from this branch may have taken place.
    pub(crate) disarmed: BTreeMap<NodeId, Branch>,
    /// The branch that last took writes.
    pub(crate) served: Option<Branch>,
    pub(crate) paused: bool,
    /// Servers that an operator wants neither read nor promoted.
    pub(crate) detached: BTreeSet<NodeId>,
    /// Another pgherd decides; this one looks on.
    pub(crate) aside: bool,
    /// What the lock service says.
    pub(crate) ruling: Ruling,
    /// The servers of the configuration.
    pub(crate) configured: Vec<Node>,
    /// An operator wants a failover.
    pub(crate) wanted: Option<Wanted>,
    /// A switchover that an operator has just ordered, and that can be begun.
    pub(crate) requested: Option<(Option<NodeId>, Plan)>,
    pub(crate) switching: Option<Switching>,
    /// How orders have ended, until that is told.
    pub(crate) answers: Vec<Answer>,
    /// What has happened of late.
    pub(crate) events: Events,
    /// What an operator is shown beside the state.
    pub(crate) outlook: Outlook,
    pub(crate) at_once: u64,
    reason: String,
    history: History,
    routing: Routing,
}

impl Machine {
    /// A machine that knows nothing but which servers there should be. `system_identifier` is the configured one.
    #[must_use]
    pub fn new(settings: Settings, nodes: Vec<Node>, system_identifier: Option<u64>, now: Instant) -> Self {
        let knowledge = Knowledge::new(nodes.clone(), system_identifier);
        let topology = Arc::new(Topology::derive(&knowledge, now, None));
        let (configured, nodes) = (nodes, knowledge.shared_nodes());
        let reason = "pgherd has just started".to_owned();
        let writes = Writes::Held { keep: None, quiesces: false, reason: reason.clone() };
        Self {
            settings,
            knowledge,
            topology,
            state: State::Discover { since: now },
            orders: Orders::default(),
            care: Care::default(),
            slots: Slots::default(),
            recalls: Recalls::default(),
            started: now,
            awake_since: now,
            stepped_at: now,
            leaderless_since: None,
            last_promotion: None,
            disarmed: BTreeMap::new(),
            served: None,
            paused: false,
            detached: BTreeSet::new(),
            aside: false,
            ruling: Ruling::alone(),
            configured,
            wanted: None,
            requested: None,
            switching: None,
            answers: Vec::new(),
            events: Events::default(),
            outlook: Outlook::default(),
            at_once: 0,
            reason,
            history: History::default(),
            routing: Routing { generation: 1, writes, readable: Vec::new(), nodes },
        }
    }

    /// Takes in one event. The commands that come out are to be carried out in parallel where they are for different
    /// servers, and in their order where they are for one; each is answered by exactly one [`Event::Ended`].
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Command> {
        let kind = match &event {
            Event::Probed { .. } | Event::Tick => On::Look,
            Event::Ended { .. } => On::Ended,
            Event::Ordered(_) => On::Order,
        };
        self.note_time(now);
        self.take_in(now, event);
        for _ in 0..TRANSITIONS_A_STEP {
            if !self.transit(now, kind) {
                break;
            }
        }
        self.drop_request();
        if let Some(why) = discover::awaited(self, now).or_else(|| guards::awaited(self, now)) {
            self.reason = why;
        }
        if self.objection(now).is_none() {
            recall::tend(self, now);
            care::tend(self, now);
            slots::tend(self, now);
        }
        self.follow_registrations(now);
        self.record(now);
        self.close_orders(now);
        self.look_out(now);
        self.route(now);
        self.orders.take()
    }

    /// Where statements go now.
    #[must_use]
    pub fn routing(&self) -> Routing {
        self.routing.clone()
    }

    /// How often to probe and to tick.
    #[must_use]
    pub fn cadence(&self) -> Cadence {
        let Settings { interval, suspicious_interval, .. } = self.settings;
        let probe = match &self.state {
            State::Steady { .. } | State::Swap { .. } if self.care.is_idle() => interval,
            State::Promote { stage: Stage::Ordered { .. } | Stage::Relock { .. }, .. }
            | State::Verify { .. } => PROMOTING_INTERVAL,
            _ => suspicious_interval,
        };
        let tick = if matches!(self.state, State::Steady { .. }) { suspicious_interval } else { BUSY_TICK };
        Cadence { probe: probe.min(interval), tick, at_once: self.at_once }
    }

    /// The state, its reason, and what else is wrong.
    #[must_use]
    pub fn status(&self) -> Status {
        let reason = match &self.state {
            State::Hold(hold) => hold.reason.clone(),
            _ => self.reason.clone(),
        };
        Status {
            state: self.state.name(),
            reason,
            epoch: self.state.epoch(),
            decider: self.decider(),
            decides: self.looks_on().is_none(),
            warnings: reading::warnings(self),
            advice: self.outlook.advice.clone(),
            checks: self.outlook.checks.clone(),
            paused: self.paused,
            detached: self.detached.iter().copied().collect(),
        }
    }

    /// The servers.
    #[must_use]
    pub fn nodes(&self) -> Arc<Vec<Node>> {
        self.knowledge.shared_nodes()
    }

    /// The herd as it was last seen.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    /// The last decisions.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    fn take_in(&mut self, now: Instant, event: Event) {
        match event {
            Event::Probed { node, asked_at, answered_at, outcome } => {
                self.knowledge.observe(node, asked_at, answered_at, outcome);
            }
            Event::Ended { id, outcome } => self.orders.end(now, id, outcome),
            Event::Tick => {}
            Event::Ordered(order) => self.take_order(now, &order),
        }
        self.orders.expire(now);
        self.refresh(now);
    }

    /// Derives the topology from what is known now.
    pub(crate) fn refresh(&mut self, now: Instant) {
        self.topology = Arc::new(Topology::derive(&self.knowledge, now, Some(&self.topology)));
        if matches!(self.topology.leadership, Leadership::Nobody | Leadership::OnlyFalse(_)) {
            self.leaderless_since.get_or_insert(now);
        } else {
            self.leaderless_since = None;
        }
    }

    /// Takes the first transition whose guard holds; false if none does.
    fn transit(&mut self, now: Instant, kind: On) -> bool {
        let from = self.state.name();
        let taken: Option<(&Transition, String)> = transitions()
            .filter(|row| row.from == from && (row.on == On::Any || row.on == kind))
            .find_map(|row| Some((row, (row.when)(self, now)?)));
        let Some((row, seen)) = taken else { return false };
        (row.then)(self, now, &seen);
        let to = self.state.name();
        if to != from || to == StateName::Switchover {
            self.reason.clone_from(&seen);
        }
        let switched = self.switching.is_some();
        self.note_transition(now, from, &seen, switched);
        self.conclude(now, &seen);
        if to == StateName::Hold && from != to {
            self.conclude_failover(&seen);
        }
        self.history.note(Decision { at: now, name: row.name, from, to, seen, times: 1 });
        true
    }

    fn route(&mut self, now: Instant) {
        let writes = match &self.state {
            State::Steady { epoch }
            | State::Swap { epoch }
            | State::Switchover { epoch, phase: Phase::Prepare { .. }, .. } => Writes::Open(*epoch),
            state => {
                let reason = format!("{}: {}", state.name(), self.status().reason);
                let quiesces = matches!(state, State::Switchover { .. });
                Writes::Held { keep: state.epoch(), quiesces, reason }
            }
        };
        let readable = reading::readable(self, now);
        // The generation does not grow with the wording of a wait.
        let nodes = self.knowledge.shared_nodes();
        let grows = !writes.is_as(&self.routing.writes)
            || readable != self.routing.readable
            || !Arc::ptr_eq(&nodes, &self.routing.nodes);
        let generation = self.routing.generation + u64::from(grows);
        self.routing = Routing { generation, writes, readable, nodes };
    }

    // What the rows of the table are made of.

    /// Gives a command.
    pub(crate) fn order(&mut self, now: Instant, node: NodeId, step: Step) -> CommandId {
        let deadline = match step {
            Step::Fence | Step::Rejoin { .. } | Step::Checkpoint | Step::Recall => {
                self.settings.care_deadline
            }
            Step::Clone { .. } => self.settings.clone_deadline,
            Step::Stop => self.settings.stop_deadline,
            Step::Start => self.settings.start_grace,
            // The executor names who is in a transaction.
            Step::Quiesce { within } => within + self.settings.command_deadline,
            // While it goes on the standby cannot be frozen, should the new primary be lost too.
            Step::Follow { .. } => self.settings.care_deadline / 3,
            Step::Promote => self.settings.promote_deadline,
            // Of a server that is silent it is known only when psql and pg_isready have waited 2 s each.
            Step::CanLogIn { .. } => self.settings.command_deadline * 2,
            _ => self.settings.command_deadline,
        };
        self.orders.place(now, node, step, deadline)
    }

    /// Makes sure that a promotion ordered there cannot fire late.
    pub(crate) fn fence_candidate(&mut self, now: Instant, candidate: NodeId) -> CommandId {
        let fence = self.order(now, candidate, Step::Fence);
        self.care.fencing(candidate, fence);
        fence
    }

    /// True if the servers that answer are the right cluster, or those that might say otherwise have had their time.
    pub(crate) fn knows_the_cluster(&self, now: Instant) -> bool {
        pgherd_health::settled(&self.knowledge).is_some() || now >= self.started + self.settings.cold_grace
    }

    /// True if the report is of a server of our cluster.
    pub(crate) fn is_ours(&self, report: &Report) -> bool {
        matches!(self.topology.system_identifier, Ok(Some(right)) if right == report.system_identifier)
    }

    /// It can be told to do something: it is registered with repmgr, or nobody is and repmgr is not needed.
    pub(crate) fn may_act_on(&self, member: &Member) -> bool {
        let unmanaged = || self.topology.members.iter().all(|member| member.repmgr.is_none());
        member.repmgr.is_some() || (!self.settings.needs_repmgr && unmanaged())
    }

    /// Every server is to be probed now.
    pub(crate) const fn look_at_once(&mut self) {
        self.at_once += 1;
    }

    /// The attempt of the present state, to be moved into the next one.
    pub(crate) fn take_attempt(&mut self, now: Instant) -> Option<Attempt> {
        let mut attempt = self.state.attempt()?.clone();
        attempt.since = now;
        Some(attempt)
    }

    /// Undoes what an attempt did to the standbys; it did not end in a promotion.
    pub(crate) fn undo(&mut self, now: Instant, attempt: &Attempt) {
        for node in attempt.locks.keys() {
            self.order(now, *node, Step::Unlock);
        }
        for node in attempt.freezes.keys() {
            self.order(now, *node, Step::Unfreeze);
        }
    }

    /// Undoes what an attempt did, also to a primary that was stopped for it; the same attempt before its beginning.
    pub(crate) fn take_back(&mut self, now: Instant, attempt: &Attempt) -> Attempt {
        self.undo(now, attempt);
        self.give_back(now, attempt);
        let ended = !attempt.fences.is_empty() || !attempt.freezes.is_empty();
        let mut afresh = attempt.clone().afresh(now);
        if ended {
            // Its connections are cut: what comes back is looked at as new.
            afresh.epoch = None;
        }
        afresh
    }

    /// The primary of the epoch goes on, or begins, to take writes.
    pub(crate) fn resume(&mut self) {
        if let Some(epoch) = self.state.epoch() {
            self.state = State::Steady { epoch };
        }
    }

    /// The primary of the epoch may be lost.
    pub(crate) fn suspect(&mut self, now: Instant) {
        if let Some(epoch) = self.state.epoch() {
            self.state = State::Suspect { epoch, since: now };
            self.look_at_once();
        }
    }

    /// Everything is looked at afresh.
    pub(crate) fn discover(&mut self, now: Instant) {
        if let Some(attempt) = self.state.attempt().cloned() {
            self.undo(now, &attempt);
        }
        self.state = State::Discover { since: now };
        self.look_at_once();
    }

    /// Nothing can be done now; what was frozen is let go.
    pub(crate) fn hold(&mut self, now: Instant, reason: &str) {
        let retry_at = now + self.settings.retry_after;
        let kind = match self.state.attempt().cloned() {
            Some(attempt) => HoldKind::Guarded(self.take_back(now, &attempt)),
            None => HoldKind::Undecided,
        };
        self.state = State::Hold(Hold { reason: reason.to_owned(), since: now, retry_at, kind });
    }

    /// Takes a standby's later timeline for the lineage: somebody else has promoted, and nobody is seen to lead.
    pub(crate) fn follow_newest(&mut self, now: Instant) {
        let newest = self.topology.newest.clone();
        let ahead =
            self.topology.standbys().find(|member| member.branch() == newest).map(|member| member.node);
        if newest.is_some()
            && newest != self.topology.lineage
            && ahead.is_some_and(|it| self.knowledge.accept(it))
        {
            self.topology = Arc::new(Topology::derive(&self.knowledge, now, Some(&self.topology)));
        }
    }

    /// Serves `node` as the primary.
    pub(crate) fn serve(&mut self, node: NodeId) {
        if let Some(epoch) = self.epoch_of(node) {
            let chosen = self.knowledge.trusted() == Some(node);
            self.knowledge.accept(node);
            self.disown(node);
            if let Some(branch) = self.topology.member(node).and_then(Member::branch).filter(|_| chosen) {
                self.disown_rivals(node, &branch);
            }
            self.care.leads(node);
            self.served = self.topology.member(node).and_then(Member::branch);
            self.state = State::Steady { epoch };
            slots::note_succession(self, epoch);
        }
    }

    /// Once `node` leads, whatever grew by the promotions that were given up counts for nothing.
    pub(crate) fn disown(&mut self, node: NodeId) {
        for (given_up, parent) in std::mem::take(&mut self.disarmed) {
            if given_up != node {
                self.knowledge.disown(given_up, Void::GrownFrom(parent));
            }
        }
    }

    /// The epoch that `node` leads, by its last report.
    pub(crate) fn epoch_of(&self, node: NodeId) -> Option<Epoch> {
        let report = self.topology.member(node)?.report()?;
        Some(Epoch { system_identifier: report.system_identifier, timeline: report.timeline, primary: node })
    }
}
