//! The control loop: probes and outcomes in, commands and a routing out.
//!
//! It has a thread and a runtime of its own, so that no load of clients can blind it. It decides nothing itself: the
//! machine does.

mod journal;
mod pulse;
mod request;
mod tie;
mod tools;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::{Node, NodeId, Probe, Prober, ProberSettings, Samples, Topology};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::{
    Cadence, Clients, Command, Decision, EtcdSettings, Event, Executor, ExecutorSettings, Happened, Machine,
    Order, Rehearsal, RepmgrRows, Routing, Ruling, Settings, Status, Tool,
};
use journal::Journal;
pub use pulse::Pulse;
pub use request::Taken;
use request::{Request, Wishes};
use tie::Tie;
use tools::{Tools, Use};
use work::Work;

/// Outcomes, hints and orders that may wait for the loop. Senders of outcomes wait; hints beyond it are dropped.
const QUEUE: usize = 256;
/// Lines of a look that may wait for whoever takes them.
const LINES: usize = 64;
/// The loop turns at least as often, so that it can be seen to turn.
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// What an operator is told whom nobody answers.
const HAS_ENDED: &str = "the control loop has ended";
/// Decisions that are told.
const TOLD: usize = 32;

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
    /// Where the lease is, without which nothing is done to the servers. None where this is the only pgherd.
    pub etcd: Option<EtcdSettings>,
    /// Another pgherd decides until [`Control::lead`] is called.
    pub aside: bool,
}

/// What the loop has decided of late.
#[derive(Clone, Debug)]
pub struct Chronicle {
    /// Since when the machine is in its present state.
    pub since: Instant,
    /// The last decisions, oldest first.
    pub decisions: Vec<Decision>,
    /// What has happened of late, oldest first.
    pub events: Vec<Happened>,
    /// How many of all could not be written to repmgr's table of events.
    pub events_lost: u64,
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
    /// How it came to that.
    pub chronicle: watch::Receiver<Arc<Chronicle>>,
    /// Positions between two probes, for whoever waits for one. They decide nothing.
    pub samples: Samples,
    /// Whether the loop turns.
    pub pulse: Pulse,
    hints: mpsc::Sender<NodeId>,
    requests: mpsc::Sender<Request>,
}

impl Control {
    /// A client's connection to `node` failed: makes the next probe come at once, and decides nothing.
    pub fn hint(&self, node: NodeId) {
        // A full queue holds hints enough.
        let _ = self.hints.try_send(node);
    }

    /// What an operator's order would do now.
    pub async fn rehearse(&self, order: Order) -> Rehearsal {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::Rehearse(order, reply)).await;
        match (asked, answer.await) {
            (Ok(()), Ok(rehearsal)) => rehearsal,
            _ => Rehearsal { would: Err(HAS_ENDED.to_owned()), checks: Vec::new() },
        }
    }

    /// Passes on an operator's order. Ready when it was carried out; whoever does not wait for it does not take it back.
    ///
    /// # Errors
    /// Why it was not, or not to its end.
    pub async fn order(&self, order: Order) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::Order(order, reply)).await;
        match (asked, answer.await) {
            (Ok(()), Ok(told)) => told,
            _ => Err(HAS_ENDED.to_owned()),
        }
    }

    /// Uses a tool on a server, beside all decisions, and hands on what it says, line by line. Ready when that has ended. A look ends when
    /// nobody takes its lines any more; anything else goes on, whoever waits for it.
    ///
    /// # Errors
    /// Why it was not done, or not to its end.
    pub async fn tool(&self, node: NodeId, tool: Tool, lines: mpsc::Sender<String>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::Tool(Use { node, tool, lines, reply })).await;
        match (asked, answer.await) {
            (Ok(()), Ok(used)) => used,
            _ => Err(HAS_ENDED.to_owned()),
        }
    }

    /// Looks at a server with a tool; gives all that it says.
    ///
    /// # Errors
    /// Why that could not be seen.
    pub async fn look(&self, node: NodeId, tool: Tool) -> Result<Vec<String>, String> {
        let (sender, mut receiver) = mpsc::channel(LINES);
        let take = async {
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
            lines
        };
        let (looked, lines) = tokio::join!(self.tool(node, tool, sender), take);
        looked.map(|()| lines)
    }

    /// Whether a tool could be used on a server now.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub async fn rehearse_tool(&self, node: NodeId, tool: Tool) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::RehearseTool(node, tool, reply)).await;
        match (asked, answer.await) {
            (Ok(()), Ok(told)) => told,
            _ => Err(HAS_ENDED.to_owned()),
        }
    }

    /// Has the loop go by other settings, at once or as soon as nothing under way needs the present ones.
    ///
    /// # Errors
    /// Why they cannot be taken; nothing has changed then.
    pub async fn reconfigure(&self, settings: ControlSettings) -> Result<Taken, String> {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::Reconfigure(Box::new(settings), reply)).await;
        match (asked, answer.await) {
            (Ok(()), Ok(taken)) => taken,
            _ => Err(HAS_ENDED.to_owned()),
        }
    }

    /// Has the loop decide nothing any more, and look on. Ready when what was under way has ended: from then on no command is
    /// given. False if the loop has ended.
    pub async fn stand_aside(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::StandAside(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// Has the loop decide, again or for the first time; false if it has ended.
    pub async fn lead(&self) -> bool {
        self.requests.send(Request::Lead).await.is_ok()
    }
}

/// Starts the control loop on a thread of its own; `clients` are those whose statements it routes. It ends when `cancel` is cancelled, and the thread is to be joined
/// then.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn start(
    settings: ControlSettings,
    clients: Arc<dyn Clients>,
    cancel: CancellationToken,
) -> io::Result<(Control, std::thread::JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut control, actor) = Actor::new(settings, clients);
    control.pulse.within(runtime.metrics());
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
    prober: Arc<ProberSettings>,
    clients: Arc<dyn Clients>,
    executor_settings: ExecutorSettings,
    routing: watch::Sender<Arc<Routing>>,
    topology: watch::Sender<Arc<Topology>>,
    status: watch::Sender<Arc<Status>>,
    chronicle: watch::Sender<Arc<Chronicle>>,
    samples: Samples,
    pulse: Pulse,
    hints: mpsc::Receiver<NodeId>,
    requests: mpsc::Receiver<Request>,
    wishes: Wishes,
    work: Work,
    tools: Tools,
    tie: Tie,
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
    Asked(Request),
    Told,
}

/// What asks the servers, and keeps sessions with them.
struct Contacts {
    prober: Prober,
    sessions: JoinSet<()>,
    probes: mpsc::Receiver<Probe>,
}

impl Actor {
    /// A loop that has seen nothing yet, and what the rest of the program sees of it.
    #[must_use]
    pub fn new(settings: ControlSettings, clients: Arc<dyn Clients>) -> (Control, Self) {
        let now = Instant::now();
        let prober = Arc::new(settings.prober);
        let executor =
            Executor::new(&settings.nodes, &prober, settings.executor.clone(), Some(Arc::clone(&clients)));
        let mut machine = Machine::new(settings.machine, settings.nodes, settings.system_identifier, now);
        if settings.aside {
            machine.stand_aside();
        }
        if settings.etcd.is_some() {
            machine.set_ruling(Ruling::unknown());
        }
        let (routing, routing_seen) = watch::channel(Arc::new(machine.routing()));
        let (topology, topology_seen) = watch::channel(machine.topology());
        let (status, status_seen) = watch::channel(Arc::new(machine.status()));
        let chronicle =
            Arc::new(Chronicle { since: now, decisions: Vec::new(), events: Vec::new(), events_lost: 0 });
        let (chronicle, chronicle_seen) = watch::channel(chronicle);
        let (hint_sender, hints) = mpsc::channel(QUEUE);
        let (request_sender, requests) = mpsc::channel(QUEUE);
        let control = Control {
            routing: routing_seen,
            topology: topology_seen,
            status: status_seen,
            chronicle: chronicle_seen,
            samples: Samples::default(),
            pulse: Pulse::default(),
            hints: hint_sender,
            requests: request_sender,
        };
        let (cadence, samples) = (machine.cadence(), control.samples.clone());
        let pulse = control.pulse.clone();
        let actor = Self {
            machine,
            executor,
            prober,
            clients,
            executor_settings: settings.executor,
            routing,
            topology,
            status,
            chronicle,
            samples,
            pulse,
            hints,
            requests,
            wishes: Wishes::none(settings.aside),
            work: Work::default(),
            tools: Tools::default(),
            tie: Tie::new(settings.etcd),
            journal: Journal::default(),
            cadence,
            last_tick: now,
        };
        (control, actor)
    }

    /// Runs until it is cancelled. Commands that are under way then are given up, as they would be by a crash.
    pub async fn run(mut self, cancel: CancellationToken) {
        self.tie.begin(!self.wishes.looks_on);
        let mut contacts = self.contact(&cancel);
        self.pace(&contacts.prober, true);
        loop {
            let woken = self.wake(&mut contacts.probes, &cancel).await;
            self.pulse.beat();
            match woken {
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
                Woken::Asked(request) => self.heed(request),
                Woken::Told => {
                    self.machine.set_ruling(self.tie.ruling());
                    self.step(Event::Tick);
                }
                Woken::Hinted(node) => contacts.prober.demand(node),
            }
            if self.fulfil() {
                contacts = self.contact_anew(contacts, &cancel).await;
                self.step(Event::Tick);
            }
            self.pace(&contacts.prober, false);
        }
        self.work.abandon().await;
        self.tools.abandon().await;
        self.tie.end().await;
        contacts.sessions.shutdown().await;
        contacts.prober.stopped().await;
    }

    /// Begins to ask the servers, and opens sessions with them.
    fn contact(&self, cancel: &CancellationToken) -> Contacts {
        let (sender, probes) = mpsc::channel(QUEUE);
        let nodes = &self.machine.nodes();
        let prober = Prober::start(nodes, &self.prober, (&sender, &self.samples), cancel);
        let mut sessions = JoinSet::new();
        for node in nodes.iter() {
            let (executor, node) = (self.executor.clone(), node.id);
            sessions.spawn(async move { executor.keep_sessions(node).await });
        }
        Contacts { prober, sessions, probes }
    }

    /// The same by other settings, or with other servers. Commands that are under way keep what they use; what was asked of the
    /// servers before is not heard any more, since another may have got a server's number.
    async fn contact_anew(&mut self, mut before: Contacts, cancel: &CancellationToken) -> Contacts {
        before.sessions.shutdown().await;
        drop(before);
        let nodes = &self.machine.nodes();
        self.executor = Executor::new(
            nodes,
            &self.prober,
            self.executor_settings.clone(),
            Some(Arc::clone(&self.clients)),
        );
        let contacts = self.contact(cancel);
        self.pace(&contacts.prober, true);
        contacts
    }

    /// Waits for the next thing to happen. Cancel safety: whatever is not picked stays in its queue.
    async fn wake(&mut self, probes: &mut mpsc::Receiver<Probe>, cancel: &CancellationToken) -> Woken {
        let next_tick = self.last_tick + self.cadence.tick.min(LONGEST_TICK);
        tokio::select! {
            () = cancel.cancelled() => Woken::Cancelled,
            Some(event) = self.work.ended() => Woken::Ended(event),
            Some(probe) = probes.recv() => Woken::Probed(probe),
            Some(node) = self.hints.recv() => Woken::Hinted(node),
            Some(request) = self.requests.recv() => Woken::Asked(request),
            () = self.tie.changed() => Woken::Told,
            () = sleep_until(next_tick.into()) => Woken::Tick,
        }
    }

    fn step(&mut self, event: Event) {
        let nodes = self.machine.nodes();
        let commands = self.machine.step(Instant::now(), event);
        if !Arc::ptr_eq(&nodes, &self.machine.nodes()) {
            self.journal.herd(&nodes, &self.machine.nodes());
            self.wishes.contact_anew = true;
        }
        self.topology.send_replace(self.machine.topology());
        let routing = self.machine.routing();
        let before = Arc::clone(&self.routing.borrow());
        if *before != routing {
            if before.generation != routing.generation {
                self.journal.routed(&routing);
            }
            self.routing.send_replace(Arc::new(routing));
        }
        self.tie.tell(&self.machine);
        self.chronicle();
        let status = self.machine.status();
        if **self.status.borrow() != status {
            let last = self.machine.history().iter().next_back().map_or("", |decision| decision.name);
            self.journal.moved(&self.status.borrow(), &status, last);
            self.status.send_replace(Arc::new(status));
        }
        for answer in self.machine.take_answers() {
            self.tell(answer);
        }
        if !commands.is_empty() {
            self.begin(commands);
        }
    }

    /// Publishes what was decided, if anything was.
    fn chronicle(&self) {
        let last = self.machine.history().iter().next_back();
        let known = Arc::clone(&self.chronicle.borrow());
        let state = self.machine.status().state;
        let moved = self.status.borrow().state != state;
        let happened = self.machine.events().iter().next_back() != known.events.last();
        let events_lost = self.machine.events().lost();
        if moved || happened || events_lost != known.events_lost || last != known.decisions.last() {
            let mut decisions: Vec<_> = self.machine.history().iter().rev().take(TOLD).cloned().collect();
            decisions.reverse();
            let since = if moved { Instant::now() } else { known.since };
            let events =
                if happened { self.machine.events().iter().cloned().collect() } else { known.events.clone() };
            self.chronicle.send_replace(Arc::new(Chronicle { since, decisions, events, events_lost }));
        }
    }

    /// Makes the prober keep the machine's pace.
    fn pace(&mut self, prober: &Prober, anyway: bool) {
        let wanted = self.machine.cadence();
        for node in self.machine.nodes().iter() {
            if anyway || wanted.probe != self.cadence.probe {
                prober.set_interval(node.id, wanted.probe);
            }
            if wanted.at_once != self.cadence.at_once {
                prober.demand(node.id);
            }
        }
        self.cadence = wanted;
    }

    fn begin(&mut self, commands: Vec<Command>) {
        if self.wishes.looks_on {
            // Whatever the machine thinks of it: there is another that acts.
            return self.work.refuse(commands, "another pgherd decides");
        }
        let rows = self.repmgr_rows();
        let candidacy = |node| self.machine.candidacy(node);
        self.work.begin((&self.executor, self.tie.lease()), commands, &rows, candidacy);
    }

    fn repmgr_rows(&self) -> RepmgrRows {
        let topology = self.machine.topology();
        let rows = topology.members.iter().filter_map(|member| Some((member.node, member.repmgr.clone()?)));
        Arc::new(rows.collect::<BTreeMap<_, _>>())
    }
}
