//! The tasks of an event loop.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::{CURRENT, EVENTS, Reactor, TaskId, begin, has_spent_all};

/// How often those that were woken by others of the same turn are polled before the loop looks for events.
const ROUNDS: usize = 4;

/// The event loop of this thread and its tasks, each of which ends with a `T`.
#[derive(Debug)]
pub(crate) struct Executor<T> {
    reactor: Arc<Reactor>,
    tasks: RefCell<TaskSet<T>>,
    /// How those ended of which the main future does not know yet.
    ended: RefCell<VecDeque<Result<T, Panicked>>>,
    main: Arc<TaskWaker>,
    /// When the main future is due.
    deadline: Cell<Option<Instant>>,
    /// What microseconds are counted from.
    epoch: Instant,
    beat: Arc<Beat>,
}

/// What an event loop says of itself to other threads; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Beat {
    /// When the present turn began, in microseconds since the epoch, from 1 on; 0 while the loop waits.
    turn: AtomicU64,
    tasks: AtomicUsize,
}

impl Beat {
    /// Something that is another in each turn; none while the loop waits.
    pub(crate) fn turn(&self) -> Option<u64> {
        Some(self.turn.load(Ordering::Relaxed)).filter(|turn| *turn > 0)
    }

    /// Tasks that have not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct TaskSet<T> {
    all: Slab<Task<T>>,
    /// To be polled in this turn.
    due: Vec<TaskId>,
    main_is_due: bool,
}

impl<T> TaskSet<T> {
    #[inline]
    fn set_due(&mut self, id: TaskId) {
        if id == TaskId::MAIN {
            self.main_is_due = true;
        } else if let Some(task) = self.all.get_mut(id.index())
            && !std::mem::replace(&mut task.is_due, true)
        {
            self.due.push(id);
        }
    }
}

/// A task ended by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

#[derive(Debug)]
struct Task<T> {
    /// `None` while it is polled.
    parked: Option<Parked<T>>,
    state: Arc<TaskWaker>,
    is_due: bool,
}

struct Parked<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    waker: Waker,
}

impl<T> fmt::Debug for Parked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked").finish_non_exhaustive()
    }
}

/// Wakes a task from anywhere.
#[derive(Debug)]
struct TaskWaker {
    reactor: Arc<Reactor>,
    id: TaskId,
    /// It is among those that were woken.
    is_queued: AtomicBool,
}

impl TaskWaker {
    fn new(reactor: &Arc<Reactor>, id: TaskId) -> Arc<Self> {
        Arc::new(Self { reactor: Arc::clone(reactor), id, is_queued: AtomicBool::new(false) })
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            self.reactor.wake(self.id);
        }
    }
}

impl<T: 'static> Executor<T> {
    /// Makes the event loop of this thread. `epoch` is what [`super::micros`] counts from.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub(crate) fn new(epoch: Instant) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        CURRENT.with(|current| current.reactor.replace(Some(Arc::clone(&reactor))));
        Ok(Self {
            tasks: RefCell::new(TaskSet { all: Slab::new(), due: Vec::new(), main_is_due: true }),
            ended: RefCell::default(),
            main: TaskWaker::new(&reactor, TaskId::MAIN),
            deadline: Cell::new(None),
            epoch,
            reactor,
            beat: Arc::default(),
        })
    }

    /// Tells there how it is.
    pub(crate) fn tells(self, beat: Arc<Beat>) -> Self {
        Self { beat, ..self }
    }

    /// Starts a task. It is polled when whoever calls this rests.
    pub(crate) fn spawn(&self, future: impl Future<Output = T> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        let vacant = tasks.all.vacant_entry();
        // There is no memory for more than four billion.
        let Ok(number) = u32::try_from(vacant.key()) else { return };
        let id = TaskId(number);
        let state = TaskWaker::new(&self.reactor, id);
        let parked = Parked { future: Box::pin(future), waker: Waker::from(Arc::clone(&state)) };
        vacant.insert(Task { parked: Some(parked), state, is_due: true });
        tasks.due.push(id);
    }

    /// Tasks that have not ended, and those of which the main future does not know yet that they have.
    pub(crate) fn len(&self) -> usize {
        self.tasks.borrow().all.len() + self.ended.borrow().len()
    }

    /// How the next one ended; none if there are no tasks. For the main future.
    pub(crate) async fn next_ended(&self) -> Option<Result<T, Panicked>> {
        poll_fn(|_| match self.ended.borrow_mut().pop_front() {
            None if self.tasks.borrow().all.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
            ended => Poll::Ready(ended),
        })
        .await
    }

    /// Has every task look again: something that all of them go by has changed.
    pub(crate) fn wake_all(&self) {
        let mut tasks = self.tasks.borrow_mut();
        let ids: Vec<_> = tasks.all.iter().map(|(_, task)| task.state.id).collect();
        ids.into_iter().for_each(|id| tasks.set_due(id));
    }

    /// Waits so long. For the main future, one at a time: such a wait costs no other thread anything.
    pub(crate) async fn sleep(&self, length: Duration) {
        let end = Instant::now() + length;
        self.deadline.set(Some(end));
        poll_fn(|_| if Instant::now() < end { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Runs the tasks and the main future until this ends.
    ///
    /// # Errors
    /// When the kernel does not let it wait for events.
    pub(crate) fn block_on<O>(&self, main: impl Future<Output = O>) -> io::Result<O> {
        let mut main = pin!(main);
        let waker = Waker::from(Arc::clone(&self.main));
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let main_is_due = std::mem::take(&mut self.tasks.borrow_mut().main_is_due);
            if main_is_due || !self.ended.borrow().is_empty() {
                begin(TaskId::MAIN);
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    self.beat.turn.store(0, Ordering::Relaxed);
                    return Ok(output);
                }
                self.tasks.borrow_mut().main_is_due |= has_spent_all();
            }
            for _ in 0..ROUNDS {
                self.poll_due();
                self.take_woken();
                if self.tasks.borrow().due.is_empty() {
                    break;
                }
            }
            self.beat.tasks.store(self.tasks.borrow().all.len(), Ordering::Relaxed);
            self.beat.turn.store(0, Ordering::Relaxed);
            self.reactor.wait(&mut events, self.wait_timeout())?;
            let now = Instant::now();
            let since = now.saturating_duration_since(self.epoch);
            let micros = since.as_secs() * 1_000_000 + u64::from(since.subsec_micros());
            self.beat.turn.store(micros + 1, Ordering::Relaxed);
            CURRENT.with(|current| {
                current.now.set(Some(now));
                current.micros.set(micros);
            });
            let mut tasks = self.tasks.borrow_mut();
            self.reactor.dispatch(&events, |id| tasks.set_due(id));
            if self.deadline.get().is_some_and(|deadline| deadline <= now) {
                self.deadline.set(None);
                tasks.main_is_due = true;
            }
            drop(tasks);
            self.take_woken();
        }
    }

    /// How long the loop may wait for events; `None`: until there is one.
    fn wait_timeout(&self) -> Option<Duration> {
        let tasks = self.tasks.borrow();
        if tasks.main_is_due || !tasks.due.is_empty() || !self.ended.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        self.deadline.get().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn take_woken(&self) {
        let mut tasks = self.tasks.borrow_mut();
        let mut woken = self.reactor.woken.lock();
        for id in woken.drain(..) {
            let state = if id == TaskId::MAIN {
                Some(&self.main)
            } else {
                tasks.all.get(id.index()).map(|task| &task.state)
            };
            // Before it is polled: who wakes it from now on queues it again.
            if let Some(state) = state {
                state.is_queued.store(false, Ordering::SeqCst);
            }
            tasks.set_due(id);
        }
    }

    fn poll_due(&self) {
        let mut due = std::mem::take(&mut self.tasks.borrow_mut().due);
        due.drain(..).for_each(|id| self.poll(id));
        let mut tasks = self.tasks.borrow_mut();
        due.append(&mut tasks.due);
        tasks.due = due;
    }

    fn poll(&self, id: TaskId) {
        let parked = match self.tasks.borrow_mut().all.get_mut(id.index()) {
            Some(task) => {
                task.is_due = false;
                task.parked.take()
            }
            None => None,
        };
        let Some(mut parked) = parked else { return };
        begin(id);
        let polled = catch_unwind(AssertUnwindSafe(move || {
            match parked.future.as_mut().poll(&mut Context::from_waker(&parked.waker)) {
                Poll::Pending => Err(parked),
                Poll::Ready(output) => Ok(output),
            }
        }));
        let ended = match polled {
            Ok(Err(parked)) => {
                let mut tasks = self.tasks.borrow_mut();
                if let Some(task) = tasks.all.get_mut(id.index()) {
                    task.parked = Some(parked);
                }
                if has_spent_all() {
                    tasks.set_due(id);
                }
                return;
            }
            Ok(Ok(output)) => Ok(output),
            Err(_) => Err(Panicked),
        };
        self.tasks.borrow_mut().all.try_remove(id.index());
        self.ended.borrow_mut().push_back(ended);
    }
}
