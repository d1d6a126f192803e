//! The control loop: probes and outcomes in, commands and a routing out.
//!
//! It has a thread and a runtime of its own, so that no load of clients can blind it. It decides nothing itself: the
//! machine does.

mod journal;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use pgherd_health::{Node, NodeId, Probe, Prober, ProberSettings, Topology};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::{
    Cadence, Event, Executor, ExecutorSettings, Machine, Order, RepmgrRows, Routing, Settings, Status,
};
use journal::Journal;
use work::Work;

/// Outcomes, hints and orders that may wait for the loop. Senders of outcomes wait; hints beyond it are dropped.
const QUEUE: usize = 256;

/// Everything that the control loop needs to know.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// The servers.
    pub nodes: Vec<Node>,
    /// The cluster's system identifier, if it is configured.
    pub system_identifier: Option<u64>,
    /// How to decide.
    pub machine: Settings,
    /// How to ask the servers.
    pub prober: ProberSettings,
    /// How to act on them.
    pub executor: ExecutorSettings,
}

/// What the rest of the program sees of the control loop.
#[derive(Clone, Debug)]
pub struct Control {
    /// Where statements go now. Its sender ends with the loop.
    pub routing: watch::Receiver<Arc<Routing>>,
    /// The herd as it was last seen; new after every probe.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// The machine's state and its reason.
    pub status: watch::Receiver<Arc<Status>>,
    hints: mpsc::Sender<NodeId>,
    orders: mpsc::Sender<Order>,
}

impl Control {
    /// A client's connection to `node` failed: makes the next probe come at once, and decides nothing.
    pub fn hint(&self, node: NodeId) {
        // A full queue holds hints enough.
        let _ = self.hints.try_send(node);
    }

    /// Passes on an operator's order; false if the loop has ended.
    pub async fn order(&self, order: Order) -> bool {
        self.orders.send(order).await.is_ok()
    }
}

/// Starts the control loop on a thread of its own; it ends when `cancel` is cancelled, and the thread is to be joined
/// then.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn start(
    settings: ControlSettings,
    cancel: CancellationToken,
) -> io::Result<(Control, std::thread::JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (control, actor) = Actor::new(settings);
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || runtime.block_on(actor.run(cancel)))?;
    Ok((control, thread))
}

/// The control loop before it runs.
#[derive(Debug)]
pub struct Actor {
    machine: Machine,
    executor: Executor,
    nodes: Vec<Node>,
    prober: Arc<ProberSettings>,
    routing: watch::Sender<Arc<Routing>>,
    topology: watch::Sender<Arc<Topology>>,
    status: watch::Sender<Arc<Status>>,
    hints: mpsc::Receiver<NodeId>,
    orders: mpsc::Receiver<Order>,
    work: Work,
    journal: Journal,
    cadence: Cadence,
    last_tick: Instant,
}

/// What the loop was woken by.
enum Woken {
    Cancelled,
    Probed(Probe),
    Ended(Event),
    Tick,
    Hinted(NodeId),
    Ordered(Order),
}

impl Actor {
    /// A loop that has seen nothing yet, and what the rest of the program sees of it.
    #[must_use]
    pub fn new(settings: ControlSettings) -> (Control, Self) {
        let now = Instant::now();
        let prober = Arc::new(settings.prober);
        let executor = Executor::new(&settings.nodes, &prober, settings.executor);
        let machine = Machine::new(settings.machine, settings.nodes.clone(), settings.system_identifier, now);
        let (routing, routing_seen) = watch::channel(Arc::new(machine.routing()));
        let (topology, topology_seen) = watch::channel(machine.topology());
        let (status, status_seen) = watch::channel(Arc::new(machine.status()));
        let (hint_sender, hints) = mpsc::channel(QUEUE);
        let (order_sender, orders) = mpsc::channel(QUEUE);
        let control = Control {
            routing: routing_seen,
            topology: topology_seen,
            status: status_seen,
            hints: hint_sender,
            orders: order_sender,
        };
        let cadence = machine.cadence();
        let actor = Self {
            machine,
            executor,
            nodes: settings.nodes,
            prober,
            routing,
            topology,
            status,
            hints,
            orders,
            work: Work::default(),
            journal: Journal::default(),
            cadence,
            last_tick: now,
        };
        (control, actor)
    }

    /// Runs until it is cancelled. Commands that are under way then are given up, as they would be by a crash.
    pub async fn run(mut self, cancel: CancellationToken) {
        let (probe_sender, mut probes) = mpsc::channel(QUEUE);
        let prober = Prober::start(&self.nodes, &self.prober, &probe_sender, &cancel);
        drop(probe_sender);
        let mut sessions = JoinSet::new();
        for node in &self.nodes {
            let (executor, node) = (self.executor.clone(), node.id);
            sessions.spawn(async move { executor.keep_sessions(node).await });
        }
        self.pace(&prober, true);
        loop {
            match self.wake(&mut probes, &cancel).await {
                Woken::Cancelled => break,
                Woken::Probed(Probe { node, asked_at, answered_at, outcome }) => {
                    self.journal.probed(node, &outcome);
                    self.step(Event::Probed { node, asked_at, answered_at, outcome });
                }
                Woken::Ended(event) => self.step(event),
                Woken::Tick => {
                    self.last_tick = Instant::now();
                    self.step(Event::Tick);
                }
                Woken::Ordered(order) => self.step(Event::Ordered(order)),
                Woken::Hinted(node) => prober.demand(node),
            }
            self.pace(&prober, false);
        }
        self.work.abandon().await;
        sessions.shutdown().await;
        prober.stopped().await;
    }

    /// Waits for the next thing to happen. Cancel safety: whatever is not picked stays in its queue.
    async fn wake(&mut self, probes: &mut mpsc::Receiver<Probe>, cancel: &CancellationToken) -> Woken {
        let next_tick = self.last_tick + self.cadence.tick;
        tokio::select! {
            () = cancel.cancelled() => Woken::Cancelled,
            Some(event) = self.work.ended() => Woken::Ended(event),
            Some(probe) = probes.recv() => Woken::Probed(probe),
            Some(node) = self.hints.recv() => Woken::Hinted(node),
            Some(order) = self.orders.recv() => Woken::Ordered(order),
            () = sleep_until(next_tick.into()) => Woken::Tick,
        }
    }

    fn step(&mut self, event: Event) {
        let commands = self.machine.step(Instant::now(), event);
        self.topology.send_replace(self.machine.topology());
        let routing = self.machine.routing();
        let before = Arc::clone(&self.routing.borrow());
        if *before != routing {
            if before.generation != routing.generation {
                self.journal.routed(&routing);
            }
            self.routing.send_replace(Arc::new(routing));
        }
        let status = self.machine.status();
        if **self.status.borrow() != status {
            let last = self.machine.history().iter().next_back().map_or("", |decision| decision.name);
            self.journal.moved(&self.status.borrow(), &status, last);
            self.status.send_replace(Arc::new(status));
        }
        if !commands.is_empty() {
            let rows = self.repmgr_rows();
            self.work.begin(&self.executor, commands, &rows);
        }
    }

    /// Makes the prober keep the machine's pace.
    fn pace(&mut self, prober: &Prober, anyway: bool) {
        let wanted = self.machine.cadence();
        for node in &self.nodes {
            if anyway || wanted.probe != self.cadence.probe {
                prober.set_interval(node.id, wanted.probe);
            }
            if wanted.at_once != self.cadence.at_once {
                prober.demand(node.id);
            }
        }
        self.cadence = wanted;
    }

    fn repmgr_rows(&self) -> RepmgrRows {
        let topology = self.machine.topology();
        let rows = topology.members.iter().filter_map(|member| Some((member.node, member.repmgr.clone()?)));
        Arc::new(rows.collect::<BTreeMap<_, _>>())
    }
}
