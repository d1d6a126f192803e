//! The failover machine, told anything in any order: what it must never do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgherd_failover::{
    Claim, Command, CommandId, Ended, Event, Machine, Mode, Order, Outcome, Routing, Ruling, Settings, Step,
    Terms, Writes, transitions,
};
use pgherd_health::{Branch, Lsn, NodeId, ProbeOutcome, Report, TimelineId};

use super::reports::{self, OURS};
use crate::bytes::Bytes;

/// What was told to a machine.
#[derive(Clone, Debug)]
enum Told {
    Event(Box<Event>),
    Ruling(Ruling),
}

/// Settings, and events.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let settings = settings(&mut bytes);
    let begun = Instant::now();
    let mut story = Story::new(settings.clone(), begun);
    let mut events = Vec::new();
    while !bytes.is_empty() && events.len() < 200 {
        story.now += Duration::from_millis([0, 5, 50, 500, 5000][usize::from(bytes.below(5))]);
        let told = story.event(&mut bytes);
        events.push((story.now, told.clone()));
        story.take_in(told);
    }
    // The same events have the same outcome.
    let mut again = machine(settings, begun);
    let mut orders = Vec::new();
    for (now, told) in events {
        match told {
            Told::Event(event) => orders.extend(again.step(now, *event)),
            Told::Ruling(ruling) => again.set_ruling(ruling),
        }
    }
    assert_eq!(orders, story.ordered);
    assert_eq!(again.routing(), story.routing);
}

fn settings(bytes: &mut Bytes<'_>) -> Settings {
    let flags = bytes.byte();
    Settings {
        mode: if flags & 1 == 0 { Mode::Automatic } else { Mode::Manual },
        discover: flags & 2 != 0,
        restart_grace: Duration::from_secs(u64::from(flags & 4)),
        max_data_loss: if flags & 8 == 0 { 1 << 20 } else { 0 },
        synchronous: [None, Some(String::new()), Some("pg02".to_owned())][usize::from(flags >> 6) % 3]
            .clone(),
        needs_repmgr: flags & 16 != 0,
        reclone: flags & 32 != 0,
        ..Settings::default()
    }
}

fn machine(settings: Settings, begun: Instant) -> Machine {
    let mut machine = Machine::new(settings, reports::nodes(), Some(OURS), begun);
    machine.set_ruling(Ruling::alone());
    machine
}

/// What one machine was told, and what it did.
struct Story {
    now: Instant,
    machine: Machine,
    is_manual: bool,
    claim: Claim,
    routing: Routing,
    ordered: Vec<Command>,
    open: BTreeMap<CommandId, Command>,
    /// How the last probe of each server ended, and when it was asked.
    seen: BTreeMap<NodeId, (Instant, Option<Report>)>,
    /// What each server has answered last: one that answers no more may still be the primary, as long as it is not suspected.
    answered: BTreeMap<NodeId, Report>,
    /// When each server was ended last.
    ended: BTreeMap<NodeId, Instant>,
    /// Somebody has ordered a failover or another primary.
    is_ordered: bool,
    orders: usize,
    answers: usize,
}

impl Story {
    fn new(settings: Settings, begun: Instant) -> Self {
        let is_manual = settings.mode == Mode::Manual;
        let machine = machine(settings, begun);
        let routing = machine.routing();
        Self {
            now: begun,
            machine,
            is_manual,
            claim: Claim::Alone,
            routing,
            ordered: Vec::new(),
            open: BTreeMap::new(),
            seen: BTreeMap::new(),
            answered: BTreeMap::new(),
            ended: BTreeMap::new(),
            is_ordered: false,
            orders: 0,
            answers: 0,
        }
    }

    fn event(&mut self, bytes: &mut Bytes<'_>) -> Told {
        match bytes.below(16) {
            0..=7 => {
                let node = reports::server(bytes);
                let late = Duration::from_millis(u64::from(bytes.below(40)));
                let asked_at = self.now.checked_sub(late).unwrap_or(self.now);
                let outcome = self.outcome(node, bytes);
                Told::Event(Event::Probed { node, asked_at, answered_at: self.now, outcome }.into())
            }
            8..=11 => match self.ends(bytes) {
                Some(event) => Told::Event(event.into()),
                None => Told::Event(Event::Tick.into()),
            },
            12 | 13 => Told::Event(Event::Tick.into()),
            14 => Told::Event(Event::Ordered(order(bytes)).into()),
            _ => Told::Ruling(self.ruling(bytes)),
        }
    }

    /// Most servers say what they said before.
    fn outcome(&self, node: NodeId, bytes: &mut Bytes<'_>) -> ProbeOutcome {
        match (bytes.below(3), self.seen.get(&node)) {
            (0, Some((_, Some(report)))) => ProbeOutcome::Answered(Box::new(report.clone())),
            _ => reports::outcome(bytes),
        }
    }

    fn ends(&self, bytes: &mut Bytes<'_>) -> Option<Event> {
        let open: Vec<&Command> = self.open.values().collect();
        let command = open.get(usize::from(bytes.byte()) % open.len().max(1))?;
        let lsn = Lsn(u64::from(bytes.byte()) * 100);
        let good = match command.step {
            Step::Fence => Outcome::Fenced { stopped: bytes.bit() },
            Step::Stop => Outcome::Stopped { checkpoint: lsn },
            Step::Freeze => Outcome::Frozen { lsn },
            Step::Recall if bytes.bit() => Outcome::Recalled {
                branch: Branch { timeline: TimelineId(1), ..Branch::default() },
                ended: if bytes.bit() {
                    Ended::ShutDown { checkpoint: lsn }
                } else {
                    Ended::Fenced { end: lsn, standby: bytes.bit() }
                },
            },
            _ => Outcome::Done,
        };
        let outcome = match bytes.below(8) {
            0 => Outcome::Failed("no".to_owned()),
            1 => Outcome::Unknown("lost".to_owned()),
            2 if matches!(command.step, Step::Rejoin { .. }) => Outcome::NotRewindable("gone".to_owned()),
            _ => good,
        };
        Some(Event::Ended { id: command.id, outcome })
    }

    fn ruling(&mut self, bytes: &mut Bytes<'_>) -> Ruling {
        let claim = match bytes.below(5) {
            0 => Claim::Alone,
            1 => Claim::Held { until: self.now + Duration::from_millis(u64::from(bytes.byte()) * 10) },
            2 => Claim::Other("another".to_owned()),
            3 => Claim::Nobody,
            _ => Claim::Unreachable { why: "silent".to_owned(), until: None },
        };
        let floor = bytes.bit().then(|| TimelineId(u32::from(bytes.below(5))));
        Ruling { claim, cluster: Some(OURS), floor, ..Ruling::alone() }
    }

    fn take_in(&mut self, told: Told) {
        let event = match told {
            Told::Ruling(ruling) => {
                self.claim = ruling.claim.clone();
                return self.machine.set_ruling(ruling);
            }
            Told::Event(event) => *event,
        };
        self.note(&event);
        let commands = self.machine.step(self.now, event);
        self.answers += self.machine.take_answers().len();
        assert!(self.answers <= self.orders, "each order is answered once");
        for command in &commands {
            self.judge_command(command);
        }
        self.judge_routing();
        self.judge_table();
        // What it tells of itself can be told at any time.
        let _ = self.machine.rehearse(self.now, &Order::Switchover { to: None });
        let status = self.machine.status();
        assert!(!status.reason.is_empty());
        self.ordered.extend(commands);
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Probed { node, asked_at, outcome, .. } => {
                if self.seen.get(node).is_none_or(|(before, _)| before <= asked_at) {
                    let report = match outcome {
                        ProbeOutcome::Answered(report) => Some((**report).clone()),
                        _ => None,
                    };
                    self.answered.extend(report.clone().map(|report| (*node, report)));
                    self.seen.insert(*node, (*asked_at, report));
                }
            }
            Event::Ended { id, outcome } => {
                if let Some(command) = self.open.remove(id)
                    && matches!(outcome, Outcome::Fenced { .. } | Outcome::Stopped { .. })
                {
                    self.ended.insert(command.node, self.now);
                }
            }
            Event::Ordered(order) => {
                self.orders += 1;
                self.is_ordered |= matches!(order, Order::Failover(_) | Order::Switchover { .. });
            }
            Event::Tick => {}
        }
    }

    fn judge_command(&mut self, command: &Command) {
        let Command { id, node, step, deadline } = command;
        assert!(self.ordered.iter().chain(self.open.values()).all(|it| it.id <= *id), "{id:?} comes late");
        assert!(self.open.insert(*id, command.clone()).is_none(), "{id:?} is given twice");
        assert!(!deadline.is_zero() && self.machine.nodes().iter().any(|it| it.id == *node), "{command:?}");
        let served = match &self.machine.routing().writes {
            Writes::Open(epoch) => Some(epoch.primary),
            Writes::Held { .. } => None,
        };
        match step {
            Step::Fence | Step::Stop | Step::Clone { .. } | Step::Rejoin { .. } | Step::Promote => {
                assert!(served != Some(*node), "{node} takes writes: {step:?}");
            }
            _ => {}
        }
        if *step == Step::Promote {
            self.judge_promotion(*node);
        }
    }

    fn judge_promotion(&self, candidate: NodeId) {
        assert!(!self.is_manual || self.is_ordered, "{candidate} is promoted, and nobody has ordered it");
        assert!(self.claim.objection(self.now).is_none(), "{candidate} is promoted without the lease");
        let report = self.seen.get(&candidate).and_then(|(_, report)| report.as_ref());
        assert!(
            report.is_some_and(|it| it.system_identifier == OURS),
            "{candidate} is promoted, and has not answered"
        );
        for (node, (asked_at, report)) in &self.seen {
            let Some(report) = report.as_ref().filter(|it| it.system_identifier == OURS) else { continue };
            let is_ended = self.ended.get(node).is_some_and(|at| at >= asked_at);
            assert!(
                !report.is_writable() || is_ended,
                "{candidate} is promoted beside {node}, which takes writes"
            );
        }
    }

    fn judge_routing(&mut self) {
        let routing = self.machine.routing();
        let before = self.routing.generation;
        assert!(
            routing.generation == before || routing.generation == before + 1,
            "{before} {}",
            routing.generation
        );
        if let Writes::Open(epoch) = &routing.writes {
            assert_eq!(epoch.system_identifier, OURS);
            assert!(!routing.readable.contains(&epoch.primary));
            if routing.writes != self.routing.writes {
                let report = self.answered.get(&epoch.primary);
                let is_it = report.is_some_and(|it| {
                    it.is_writable() && it.timeline == epoch.timeline && it.system_identifier == OURS
                });
                assert!(is_it, "{epoch} is opened, and was not seen to take writes: {report:?}");
            }
        }
        for node in &routing.readable {
            let report = self.machine.topology().member(*node).and_then(|member| member.report().cloned());
            assert!(
                report.is_some_and(|it| it.system_identifier == OURS),
                "{node} is read, and none of ours"
            );
            assert!(!self.machine.is_detached(*node), "{node} is read, and detached");
        }
        self.routing = routing;
    }

    /// Each decision is one of the table's.
    fn judge_table(&self) {
        let decisions: Vec<_> =
            self.machine.history().iter().rev().take_while(|it| it.at == self.now).collect();
        for decision in &decisions {
            let row = transitions().find(|row| row.name == decision.name).expect("a row of the table");
            assert_eq!((row.from, row.to), (decision.from, decision.to), "{decision:?}");
        }
    }
}

fn order(bytes: &mut Bytes<'_>) -> Order {
    let node = reports::server(bytes);
    match bytes.below(7) {
        0 => Order::Pause,
        1 => Order::Resume,
        2 => Order::Failover(Terms {
            to: bytes.bit().then_some(node),
            accept_data_loss: bytes.bit(),
            accept_timeline: bytes.bit().then(|| TimelineId(u32::from(bytes.below(5)))),
        }),
        3 => Order::Switchover { to: bytes.bit().then_some(node) },
        4 => Order::Rejoin { node, accept_data_loss: bytes.bit(), reclone: bytes.bit() },
        5 => Order::Attach(node),
        _ => Order::Detach(node),
    }
}
