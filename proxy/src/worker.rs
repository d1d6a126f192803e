//! The threads that serve clients: each has its own event loop and its own sessions.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pgherd_protocol::prepared::{Lookup, Repeated};
use pgherd_protocol::session::Sequences;
use pgherd_protocol::startup::CancelKey;
use pgherd_protocol::statement::RecentScans;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffers;
use crate::client::{self, Connection, Moment, Session, TaskEnd, Traveller, Turns, Watch};
use crate::config::Config;
use crate::crew::{Connected, Crew, Effort, PULSE, Relief};
use crate::hidden;
use crate::peer::Peer;
use crate::reactor::{Executor, Panicked, Socket};
use crate::refill;
use crate::server::pool::Pool;
use crate::shared::Shared;
use crate::stream::Stream;

/// How often idle server connections are looked at.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// How long sessions are served as before when nobody new comes any more: who connects for one transaction leaves by itself.
const GRACE: Duration = Duration::from_millis(300);
/// How often a pool is looked at while sessions wait for it.
const TEND_INTERVAL: Duration = Duration::from_millis(2);
/// Sessions that are told to end at the deadline get this long to say goodbye.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A worker's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerId(pub(crate) usize);

/// What is handed to a worker.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A connection that was just accepted.
    Accepted(Accepted),
    /// A session that another worker sends.
    Session(Box<Traveller>),
}

/// What a worker receives its work from.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    /// Cancel requests that another pgherd has passed on.
    pub(crate) cancels: mpsc::Receiver<CancelKey>,
    /// Every session is to look whether it is to go on.
    pub(crate) look: Arc<Notify>,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) counted: Connected,
}

/// What sessions of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) buffers: Buffers,
    /// What its sessions' texts amount to.
    pub(crate) recent: RecentScans,
    /// What they parse again and again without a name.
    repeated: Repeated,
    pub(crate) shared: Arc<Shared>,
    crew: Arc<Crew>,
    /// What is to be sent away.
    relief: Cell<Option<Relief>>,
    /// Changed by [`Clients::next_stage`] only, which wakes all tasks.
    stage: Cell<Stage>,
    /// The pools that sessions of this worker wait for, or did when it saw to them last.
    tended: RefCell<Vec<Arc<Pool>>>,
    begun_tending: Notify,
    /// Tasks that others than clients have begun.
    tasks: RefCell<Vec<Task>>,
    tasks_begun: Notify,
    /// The sessions of this worker.
    pub(crate) watches: RefCell<Slab<Rc<Watch>>>,
}

struct Task(Pin<Box<dyn Future<Output = TaskEnd>>>);

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// How far the worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Sessions are served.
    Serving,
    /// Nobody new comes. Those who have just come are served, and many leave by themselves.
    Draining,
    /// Sessions end when they are at rest.
    Parting,
    /// Sessions end now.
    Ending,
}

impl Worker {
    /// What a session of this kind looks up.
    pub(crate) fn lookup<'a>(&'a self, sequences: &'a Sequences) -> Lookup<'a> {
        let Self { shared, recent, repeated, .. } = self;
        Lookup { statements: &shared.statements, recent, views: self, sequences, repeated }
    }

    /// The present stage.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whom a session that is at rest is to go to, if it is not to stay: each is asked once.
    pub(crate) fn sends_away(&self) -> Option<WorkerId> {
        let Relief { to, sessions } = self.relief.get().filter(|_| self.stage() == Stage::Serving)?;
        let left = sessions.checked_sub(1);
        self.relief.set(left.map(|sessions| Relief { to, sessions }));
        left.map(|_| to)
    }

    /// Has every session of every worker look whether it is to go on.
    pub(crate) fn summon_all(&self) {
        self.crew.look();
    }

    /// Connections of all workers, logged in or not.
    pub(crate) fn connections(&self) -> usize {
        self.crew.connections()
    }

    /// Runs a task beside the sessions; the worker does not end before it.
    pub(crate) fn spawn(&self, task: impl Future<Output = TaskEnd> + 'static) {
        self.tasks.borrow_mut().push(Task(Box::pin(task)));
        self.tasks_begun.notify_one();
    }

    /// Ends when sessions begin to end as soon as they are at rest.
    pub(crate) async fn parting(&self) {
        poll_fn(|_| if self.stage() < Stage::Parting { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Has a pool tended as long as sessions of this worker wait for it.
    pub(crate) fn tend(&self, pool: &Arc<Pool>) {
        if pool.begin_tending(self.id) {
            self.tended.borrow_mut().push(Arc::clone(pool));
            self.begun_tending.notify_one();
        }
    }

    /// Tends the pools that sessions wait for. Never ends.
    async fn tend_pools(&self, executor: &Executor<TaskEnd>) {
        loop {
            self.begun_tending.notified().await;
            while !self.tended.borrow().is_empty() {
                executor.sleep(TEND_INTERVAL).await;
                // Who is granted something is woken by that, and polled later.
                self.tended.borrow_mut().retain(|pool| pool.tend(self.id));
            }
        }
    }
}

/// A running worker, seen from outside.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    thread: JoinHandle<()>,
}

impl WorkerHandle {
    /// Starts a worker. It serves until the crew is [closed](Crew::close); `ended` tells when it serves no more. Its timers are
    /// those of the runtime that this is called in.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn start(
        id: WorkerId,
        shared: Arc<Shared>,
        (crew, inbox): (Arc<Crew>, Inbox),
        ended: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = Handle::current();
        let serve = move || {
            let _told_whatever_ends_it = ended.drop_guard();
            let _timers = runtime.enter();
            let beat = shared.vitals.worker(id.0);
            let served = Executor::new(shared.epoch)
                .map(|executor| executor.tells(beat))
                .and_then(|executor| executor.block_on(run(id, shared, crew, inbox, &executor)));
            if let Err(error) = served {
                tracing::error!(worker = id.0, %error, "a worker has no event loop");
            }
        };
        let thread = thread::Builder::new().name(format!("pgherd-worker-{}", id.0)).spawn(serve)?;
        Ok(Self { thread })
    }

    /// Waits until the thread ends: with its last session, or at the drain deadline.
    pub(crate) fn join(self) {
        // A panic was logged by the thread itself.
        drop(self.thread.join());
    }
}

async fn run(
    id: WorkerId,
    shared: Arc<Shared>,
    crew: Arc<Crew>,
    mut inbox: Inbox,
    executor: &Executor<TaskEnd>,
) {
    let worker = Rc::new(Worker {
        id,
        buffers: Buffers::default(),
        recent: RecentScans::default(),
        repeated: Repeated::default(),
        shared,
        crew,
        relief: Cell::new(None),
        stage: Cell::new(Stage::Serving),
        tended: RefCell::default(),
        begun_tending: Notify::new(),
        tasks: RefCell::default(),
        tasks_begun: Notify::new(),
        watches: RefCell::default(),
    });
    tokio::select! {
        () = worker.tend_pools(executor) => {}
        // The first worker does it for all.
        () = keep_pools(&worker) => {}
        () = keep_catalogues(&worker) => {}
        () = serve_all(&worker, &mut inbox, executor) => {}
    }
}

/// Never ends.
async fn keep_pools(worker: &Worker) {
    if worker.id.0 == 0 {
        refill::keep_filled(worker).await;
    }
    std::future::pending::<()>().await;
}

/// Never ends.
async fn keep_catalogues(worker: &Worker) {
    if worker.id.0 == 0 {
        hidden::keep_read(worker).await;
    }
    std::future::pending::<()>().await;
}

/// Serves connections until no more are handed over and all sessions have ended, or until the drain deadline.
async fn serve_all(worker: &Rc<Worker>, inbox: &mut Inbox, executor: &Executor<TaskEnd>) {
    let turns = Rc::new(Turns::default());
    let clients = Clients { worker, executor, turns, heeded: RefCell::new(worker.shared.config.load_full()) };
    let mut reap = tokio::time::interval(REAP_INTERVAL);
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut effort = Effort::begin();
    // The end of the present stage, once nobody new comes.
    let mut until = None;
    while until.is_none() || executor.len() > 0 || !worker.tasks.borrow().is_empty() {
        tokio::select! {
            next = inbox.arrivals.recv(), if until.is_none() => match next {
                Some(Arrival::Accepted(accepted)) => clients.serve(accepted),
                Some(Arrival::Session(traveller)) => clients.take_in(*traveller),
                None => until = clients.next_stage(),
            },
            Some(key) = inbox.cancels.recv() => clients.cancel(key),
            () = inbox.look.notified() => executor.wake_all(),
            Some(ended) = executor.next_ended() => {
                clients.go_on(ended);
                if executor.len() == 0 {
                    worker.crew.rests(worker.id);
                }
            }
            () = worker.tasks_begun.notified() => {
                worker.tasks.take().into_iter().for_each(|Task(task)| executor.spawn(task));
            }
            // Who has nothing to do is not woken for it.
            _ = pulse.tick(), if executor.len() > 0 => {
                worker.relief.set(worker.crew.report(worker.id, effort.measure()));
                worker.buffers.trim();
                clients.turns.trim();
                clients.look();
            }
            // The first worker does it for all.
            _ = reap.tick(), if worker.id.0 == 0 => {
                worker.shared.backends.reap(Instant::now());
                worker.shared.traffic.note(Instant::now());
                worker.shared.end_if_left();
                worker.shared.strangers.tell_of_left_out(Instant::now());
            }
            () = tokio::time::sleep_until(until.unwrap_or_else(tokio::time::Instant::now)), if until.is_some() => {
                until = clients.next_stage();
                if until.is_none() {
                    let sessions = executor.len();
                    tracing::warn!(worker = worker.id.0, sessions, "sessions were cut at the drain deadline");
                    break;
                }
            }
        }
    }
}

/// The logins and sessions of a worker: one task for each, and every task is waited for.
struct Clients<'a> {
    worker: &'a Rc<Worker>,
    executor: &'a Executor<TaskEnd>,
    turns: Rc<Turns>,
    /// The configuration that its sessions go by.
    heeded: RefCell<Arc<Config>>,
}

impl Clients<'_> {
    fn serve(&self, accepted: Accepted) {
        let Accepted { socket, peer, counted } = accepted;
        match Socket::new(socket) {
            Ok(socket) => {
                let connection = Connection { stream: Stream::new(socket), peer, counted };
                self.executor.spawn(client::greet(Rc::clone(self.worker), connection));
            }
            Err(error) => tracing::warn!(%peer, %error, "cannot serve a connection"),
        }
    }

    /// A session arrives from another worker.
    fn take_in(&self, traveller: Traveller) {
        let peer = traveller.peer().address.clone();
        match traveller.arrive(self.worker, self.worker.crew.count(self.worker.id)) {
            Ok(session) => self.begin(Box::new(session)),
            Err(error) => tracing::warn!(%peer, %error, "a session was lost on its way to another thread"),
        }
    }

    fn begin(&self, session: Box<Session>) {
        self.executor.spawn(session.run(Rc::clone(&self.turns)));
    }

    fn send_away(&self, session: Box<Session>, to: WorkerId) {
        tracing::debug!(peer = %session.peer(), from = self.worker.id.0, to = to.0, "a session goes to another thread");
        let traveller = Box::new(session.depart());
        if let Err(Arrival::Session(traveller)) = self.worker.crew.pass_on(to, Arrival::Session(traveller)) {
            self.take_in(*traveller);
        }
    }

    /// A login that has succeeded becomes a session. A panic ends its own session only.
    fn go_on(&self, ended: Result<TaskEnd, Panicked>) {
        match ended {
            Ok(TaskEnd::Session(session)) => self.begin(session),
            Ok(TaskEnd::Leaves(session, to)) => self.send_away(session, to),
            Ok(TaskEnd::Nothing) => {}
            Err(Panicked) => {
                self.worker.shared.vitals.note_panic();
                tracing::error!("a session ended by a panic; this is a defect of pgherd");
            }
        }
    }

    /// Looks whether a session does for too long what it does.
    fn look(&self) {
        let now = Moment::now();
        let config = self.worker.shared.config.load();
        if !config.pool.has_timeouts() {
            return;
        }
        let watches = self.worker.watches.borrow();
        if !Arc::ptr_eq(&config, &self.heeded.borrow()) {
            watches.iter().for_each(|(_, watch)| watch.heed(self.worker));
            self.heeded.replace(Arc::clone(&config));
        }
        for request in watches.iter().filter_map(|(_, watch)| watch.look(now)) {
            self.executor.spawn(async {
                request.send().await;
                TaskEnd::Nothing
            });
        }
    }

    /// Carries out a cancel request.
    fn cancel(&self, key: CancelKey) {
        let worker = Rc::clone(self.worker);
        self.executor.spawn(async move {
            worker.shared.cancel_keys.cancel(key).await;
            TaskEnd::Nothing
        });
    }

    /// Goes on to the next stage, and says when that ends; none if the last has ended.
    fn next_stage(&self) -> Option<tokio::time::Instant> {
        let drain_timeout = self.worker.shared.config.load().runtime.drain_timeout;
        let (stage, lasts) = match self.worker.stage() {
            Stage::Serving => (Stage::Draining, GRACE.min(drain_timeout)),
            Stage::Draining => (Stage::Parting, drain_timeout.saturating_sub(GRACE)),
            Stage::Parting => (Stage::Ending, LAST_WORDS),
            Stage::Ending => return None,
        };
        self.worker.stage.set(stage);
        self.executor.wake_all();
        Some(tokio::time::Instant::now() + lasts)
    }
}
