//! The tasks of an event loop.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::{EVENTS, HERE, Reactor, TaskId};

/// How often those that were woken by others of the same turn are polled before the loop looks for events.
const ROUNDS: usize = 4;

/// The event loop of this thread and its tasks, each of which ends with a `T`.
#[derive(Debug)]
pub(crate) struct Tasks<T> {
    reactor: Arc<Reactor>,
    crowd: RefCell<Crowd<T>>,
    /// How those ended of which the main future does not know yet.
    ended: RefCell<VecDeque<Result<T, Panicked>>>,
    main: Arc<Alert>,
    main_is_due: Cell<bool>,
    /// When the main future is due.
    alarm: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Crowd<T> {
    slots: Slab<Slot<T>>,
    /// To be polled in this turn.
    due: Vec<TaskId>,
}

impl<T> Crowd<T> {
    #[inline]
    fn set_due(&mut self, task: TaskId) {
        if let Some(slot) = self.slots.get_mut(task.index())
            && !std::mem::replace(&mut slot.is_due, true)
        {
            self.due.push(task);
        }
    }
}

/// A task ended by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

#[derive(Debug)]
struct Slot<T> {
    /// `None` while it is polled.
    resting: Option<Resting<T>>,
    alert: Arc<Alert>,
    is_due: bool,
}

struct Resting<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    waker: Waker,
}

impl<T> fmt::Debug for Resting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resting").finish_non_exhaustive()
    }
}

/// Wakes a task from anywhere.
#[derive(Debug)]
struct Alert {
    reactor: Arc<Reactor>,
    task: TaskId,
    /// It is among those that were woken.
    is_listed: AtomicBool,
}

impl Alert {
    fn new(reactor: &Arc<Reactor>, task: TaskId) -> Arc<Self> {
        Arc::new(Self { reactor: Arc::clone(reactor), task, is_listed: AtomicBool::new(false) })
    }
}

impl Wake for Alert {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_listed.swap(true, Ordering::SeqCst) {
            self.reactor.wake(self.task);
        }
    }
}

impl<T: 'static> Tasks<T> {
    /// Makes the event loop of this thread.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub(crate) fn new() -> io::Result<Rc<Self>> {
        let reactor = Reactor::new()?;
        HERE.with(|here| here.reactor.replace(Some(Arc::clone(&reactor))));
        Ok(Rc::new(Self {
            crowd: RefCell::new(Crowd { slots: Slab::new(), due: Vec::new() }),
            ended: RefCell::default(),
            main: Alert::new(&reactor, TaskId::MAIN),
            main_is_due: Cell::new(true),
            alarm: Cell::new(None),
            reactor,
        }))
    }

    /// Starts a task. It is polled when whoever calls this rests.
    pub(crate) fn spawn(&self, future: impl Future<Output = T> + 'static) {
        let mut crowd = self.crowd.borrow_mut();
        let vacant = crowd.slots.vacant_entry();
        // There is no memory for more than four billion.
        let Ok(number) = u32::try_from(vacant.key()) else { return };
        let task = TaskId(number);
        let alert = Alert::new(&self.reactor, task);
        let resting = Resting { future: Box::pin(future), waker: Waker::from(Arc::clone(&alert)) };
        vacant.insert(Slot { resting: Some(resting), alert, is_due: true });
        crowd.due.push(task);
    }

    /// Tasks that have not ended, and those of which the main future does not know yet that they have.
    pub(crate) fn len(&self) -> usize {
        self.crowd.borrow().slots.len() + self.ended.borrow().len()
    }

    /// How the next one ended; none if there are no tasks. For the main future.
    pub(crate) async fn next_ended(&self) -> Option<Result<T, Panicked>> {
        poll_fn(|_| match self.ended.borrow_mut().pop_front() {
            None if self.crowd.borrow().slots.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
            ended => Poll::Ready(ended),
        })
        .await
    }

    /// Has every task look again: something that all of them go by has changed.
    pub(crate) fn wake_all(&self) {
        let mut crowd = self.crowd.borrow_mut();
        let all: Vec<_> = crowd.slots.iter().map(|(_, slot)| slot.alert.task).collect();
        all.into_iter().for_each(|task| crowd.set_due(task));
    }

    /// Waits so long. For the main future, one at a time: such a wait costs no other thread anything.
    pub(crate) async fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        self.alarm.set(Some(end));
        poll_fn(|_| if Instant::now() < end { Poll::Pending } else { Poll::Ready(()) }).await;
        self.alarm.set(None);
    }

    /// Runs the tasks and the main future until this ends.
    ///
    /// # Errors
    /// When the kernel does not let it wait for events.
    pub(crate) fn run<O>(&self, main: impl Future<Output = O>) -> io::Result<O> {
        let mut main = pin!(main);
        let waker = Waker::from(Arc::clone(&self.main));
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            if self.main_is_due.take() || !self.ended.borrow().is_empty() {
                HERE.with(|here| here.task.set(TaskId::MAIN));
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            for _ in 0..ROUNDS {
                self.poll_due();
                self.take_woken();
                if self.crowd.borrow().due.is_empty() {
                    break;
                }
            }
            let patience = self.patience();
            let mut crowd = self.crowd.borrow_mut();
            self.reactor.turn(&mut events, patience, |task| crowd.set_due(task))?;
            drop(crowd);
            let now = Instant::now();
            HERE.with(|here| here.now.set(Some(now)));
            if self.alarm.get().is_some_and(|alarm| alarm <= now) {
                self.main_is_due.set(true);
            }
            self.take_woken();
        }
    }

    /// How long the loop may wait for events.
    fn patience(&self) -> Option<Duration> {
        if self.main_is_due.get() || !self.ended.borrow().is_empty() || !self.crowd.borrow().due.is_empty() {
            return Some(Duration::ZERO);
        }
        self.alarm.get().map(|alarm| alarm.saturating_duration_since(Instant::now()))
    }

    fn take_woken(&self) {
        let mut crowd = self.crowd.borrow_mut();
        let mut woken = self.reactor.woken.lock();
        for task in woken.drain(..) {
            // Before it is polled: who wakes it from now on lists it again.
            if task == TaskId::MAIN {
                self.main.is_listed.store(false, Ordering::SeqCst);
                self.main_is_due.set(true);
            } else if let Some(slot) = crowd.slots.get(task.index()) {
                slot.alert.is_listed.store(false, Ordering::SeqCst);
                crowd.set_due(task);
            }
        }
    }

    fn poll_due(&self) {
        let mut due = std::mem::take(&mut self.crowd.borrow_mut().due);
        due.drain(..).for_each(|task| self.poll(task));
        let mut crowd = self.crowd.borrow_mut();
        due.append(&mut crowd.due);
        crowd.due = due;
    }

    fn poll(&self, task: TaskId) {
        let resting = match self.crowd.borrow_mut().slots.get_mut(task.index()) {
            Some(slot) => {
                slot.is_due = false;
                slot.resting.take()
            }
            None => None,
        };
        let Some(mut resting) = resting else { return };
        HERE.with(|here| here.task.set(task));
        let polled = catch_unwind(AssertUnwindSafe(move || {
            match resting.future.as_mut().poll(&mut Context::from_waker(&resting.waker)) {
                Poll::Pending => Err(resting),
                Poll::Ready(output) => Ok(output),
            }
        }));
        let ended = match polled {
            Ok(Err(resting)) => {
                if let Some(slot) = self.crowd.borrow_mut().slots.get_mut(task.index()) {
                    slot.resting = Some(resting);
                }
                return;
            }
            Ok(Ok(output)) => Ok(output),
            Err(_) => Err(Panicked),
        };
        self.crowd.borrow_mut().slots.try_remove(task.index());
        self.ended.borrow_mut().push_back(ended);
    }
}
