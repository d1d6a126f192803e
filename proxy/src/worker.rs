//! The threads that serve clients: each has its own runtime and its own sessions, and hands none to another.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffers;
use crate::client::{self, Connection, Session};
use crate::server::pool::Pool;
use crate::shared::Shared;

/// Accepted connections that wait for a worker.
const ACCEPTED: usize = 1024;
/// How often idle server connections are looked at.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// How often a pool is looked at while sessions wait for it.
const TEND_INTERVAL: Duration = Duration::from_millis(2);
/// Sessions that are told to end at the deadline get this long to say goodbye.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A worker's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerId(pub(crate) usize);

/// A connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
}

/// What sessions of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) buffers: Buffers,
    pub(crate) shared: Arc<Shared>,
    stage: Cell<Stage>,
    sessions: RefCell<Slab<Option<Waker>>>,
    /// The pools that sessions of this worker wait for, once for each.
    waits: RefCell<Slab<Arc<Pool>>>,
    begun_waiting: Notify,
}

/// How far the worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Sessions are served.
    Serving,
    /// Sessions end when they are at rest.
    Draining,
    /// Sessions end now.
    Ending,
}

impl Worker {
    /// The present stage.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// A place for a session's waker.
    pub(crate) fn enter(self: &Rc<Self>) -> Membership {
        Membership { worker: Rc::clone(self), key: self.sessions.borrow_mut().insert(None) }
    }

    /// Has a pool tended as long as what is returned lives.
    pub(crate) fn wait_for(&self, pool: &Arc<Pool>) -> Waiting<'_> {
        let mut waits = self.waits.borrow_mut();
        if waits.is_empty() {
            self.begun_waiting.notify_one();
        }
        Waiting { worker: self, key: waits.insert(Arc::clone(pool)) }
    }

    /// Tends the pools that sessions wait for. Never ends.
    async fn tend_pools(&self) {
        loop {
            self.begun_waiting.notified().await;
            while !self.waits.borrow().is_empty() {
                tokio::time::sleep(TEND_INTERVAL).await;
                let mut pools: Vec<_> =
                    self.waits.borrow().iter().map(|(_, pool)| Arc::clone(pool)).collect();
                pools.sort_unstable_by_key(Arc::as_ptr);
                pools.dedup_by(|one, other| Arc::ptr_eq(one, other));
                pools.iter().for_each(|pool| pool.tend(self.id, self.shared.pool.query_wait_timeout));
            }
        }
    }

    fn advance(&self, stage: Stage) {
        self.stage.set(stage);
        let sessions = self.sessions.borrow();
        sessions.iter().filter_map(|(_, waker)| waker.as_ref()).for_each(Waker::wake_by_ref);
    }
}

/// A session that waits for a pool.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    worker: &'a Worker,
    key: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.worker.waits.borrow_mut().try_remove(self.key);
    }
}

/// A session's place among those that are woken when the stage changes.
#[derive(Debug)]
pub(crate) struct Membership {
    worker: Rc<Worker>,
    key: usize,
}

impl Membership {
    /// Wakes this task when the stage changes. One task at a time.
    pub(crate) fn register(&self, waker: &Waker) {
        if let Some(place) = self.worker.sessions.borrow_mut().get_mut(self.key)
            && !place.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *place = Some(waker.clone());
        }
    }
}

impl Membership {
    /// Ends when the worker begins to drain.
    pub(crate) async fn draining(&self) {
        poll_fn(|cx| {
            self.register(cx.waker());
            if self.worker.stage() == Stage::Serving { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.worker.sessions.borrow_mut().try_remove(self.key);
    }
}

/// A running worker, seen from outside.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    accepted: mpsc::Sender<Accepted>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<io::Result<()>>,
}

impl WorkerHandle {
    /// Starts a worker. It serves until its handle is [ended](Self::end); `ended` tells when it serves no more.
    ///
    /// # Errors
    /// When the thread or its event loop cannot be made.
    pub(crate) fn start(id: WorkerId, shared: Arc<Shared>, ended: CancellationToken) -> io::Result<Self> {
        let (accepted, receiver) = mpsc::channel(ACCEPTED);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serve = move || {
            let _told_whatever_ends_it = ended.drop_guard();
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            runtime.block_on(run(id, shared, receiver, count));
            Ok(())
        };
        let thread = thread::Builder::new().name(format!("pgherd-worker-{}", id.0)).spawn(serve)?;
        Ok(Self { accepted, connections, thread })
    }

    /// Connections that it serves.
    pub(crate) fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands a connection over; it is closed if the worker has ended.
    pub(crate) async fn serve(&self, accepted: Accepted) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.accepted.send(accepted).await.is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets sessions end when they are at rest; the thread ends with its last session, or at the deadline.
    pub(crate) fn end(self) -> JoinHandle<io::Result<()>> {
        self.thread
    }
}

async fn run(
    id: WorkerId,
    shared: Arc<Shared>,
    mut accepted: mpsc::Receiver<Accepted>,
    count: Arc<AtomicUsize>,
) {
    let worker = Rc::new(Worker {
        id,
        buffers: Buffers::default(),
        shared,
        stage: Cell::new(Stage::Serving),
        sessions: RefCell::default(),
        waits: RefCell::default(),
        begun_waiting: Notify::new(),
    });
    tokio::select! {
        () = worker.tend_pools() => {}
        () = serve_all(&worker, &mut accepted, &count) => {}
    }
}

/// Serves connections until no more are handed over and all sessions have ended, or until the drain deadline.
async fn serve_all(worker: &Rc<Worker>, accepted: &mut mpsc::Receiver<Accepted>, count: &Arc<AtomicUsize>) {
    let mut tasks = Tasks(JoinSet::new());
    let mut reap = tokio::time::interval(REAP_INTERVAL);
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some(next) => tasks.serve(Rc::clone(worker), next, Connected(Arc::clone(count))),
                None => break,
            },
            Some(ended) = tasks.0.join_next() => tasks.go_on(ended),
            // The first worker does it for all.
            _ = reap.tick(), if worker.id.0 == 0 => worker.shared.backends.reap(Instant::now()),
        }
    }
    worker.advance(Stage::Draining);
    if tokio::time::timeout(worker.shared.drain_timeout, tasks.all_ended()).await.is_err() {
        worker.advance(Stage::Ending);
        if tokio::time::timeout(LAST_WORDS, tasks.all_ended()).await.is_err() {
            tracing::warn!(
                worker = worker.id.0,
                sessions = tasks.0.len(),
                "sessions were cut at the drain deadline"
            );
        }
    }
}

/// The logins and sessions of a worker: one task for each, and every task is waited for.
struct Tasks(JoinSet<Option<Session>>);

impl Tasks {
    fn serve(&mut self, worker: Rc<Worker>, accepted: Accepted, counted: Connected) {
        let Accepted { stream, peer } = accepted;
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => {
                drop(self.0.spawn_local(client::greet(worker, Connection { stream, peer, counted })));
            }
            Err(error) => tracing::warn!(%peer, %error, "cannot serve a connection"),
        }
    }

    /// A login that has succeeded becomes a session. A panic ends its own session only.
    fn go_on(&mut self, ended: Result<Option<Session>, JoinError>) {
        match ended {
            Ok(Some(session)) => drop(self.0.spawn_local(session.run())),
            Ok(None) => {}
            Err(error) if error.is_panic() => {
                tracing::error!("a session ended by a panic; this is a defect of pgherd");
            }
            Err(_) => {}
        }
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            self.go_on(ended);
        }
    }
}

/// Counts a connection as long as it is served.
#[derive(Debug)]
pub(crate) struct Connected(Arc<AtomicUsize>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
