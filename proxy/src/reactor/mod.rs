//! The event loop of a worker: one epoll instance, and the tasks whose sockets it watches.
//!
//! A transaction costs a worker two events, and a general runtime makes much of each (ARCHITECTURE.md has the figures). Here an
//! event says which task it is for, the task is polled at once, and a look at a socket is a look at a bit. Timers, name look-ups
//! and channels are tokio's: they are driven by the main thread's runtime, and wake tasks from there.

mod executor;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;
use slab::Slab;

pub(crate) use executor::{Beat, Executor, Panicked};
pub(crate) use socket::Socket;

/// Events that are taken at once.
const EVENTS: usize = 256;
/// Reads and writes of a task before others have their turn.
const BUDGET: u32 = 32;
/// The event that says that a task was woken from another thread.
const WOKEN: u64 = u64::MAX;

/// A task of one event loop. May come to stand for a later task: who is woken for nothing looks and waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TaskId(u32);

impl TaskId {
    /// The future that the loop ends with.
    const MAIN: Self = Self(u32::MAX);
    /// Nobody.
    const NONE: Self = Self(u32::MAX - 1);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What this thread runs.
struct Current {
    reactor: RefCell<Option<Arc<Reactor>>>,
    task: Cell<TaskId>,
    /// When the events came that are dealt with now.
    now: Cell<Option<Instant>>,
    /// The same in microseconds since the executor's epoch.
    micros: Cell<u64>,
    /// Reads and writes that the task may still do in this turn.
    budget: Cell<u32>,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            reactor: RefCell::new(None),
            task: Cell::new(TaskId::NONE),
            now: Cell::new(None),
            micros: Cell::new(0),
            budget: Cell::new(BUDGET),
        }
    };
}

/// The time, as of the events that are dealt with now: asking for it costs a transaction as much as finding its connection.
pub(crate) fn now() -> Instant {
    CURRENT.with(|current| current.now.get()).unwrap_or_else(Instant::now)
}

/// As [`now`], in microseconds since the epoch that the executor of this thread was made with: for sums and differences that cost
/// next to nothing.
#[inline]
pub(crate) fn micros() -> u64 {
    CURRENT.with(|current| current.micros.get())
}

/// A task is polled from now on.
fn begin(task: TaskId) {
    CURRENT.with(|current| {
        current.task.set(task);
        current.budget.set(BUDGET);
    });
}

/// True if the task that was polled may have rested for want of budget.
fn has_spent_all() -> bool {
    CURRENT.with(|current| current.budget.get()) == 0
}

/// Takes one read or write from the budget of the task that is polled now; false if it has none left: it is polled again when
/// others have had their turn.
fn spend() -> bool {
    CURRENT.with(|current| {
        let left = current.budget.get();
        current.budget.set(left.saturating_sub(1));
        left > 0
    })
}

/// The event loop of this thread.
fn current_reactor() -> io::Result<Arc<Reactor>> {
    let reactor = CURRENT.with(|current| current.reactor.borrow().clone());
    reactor.ok_or_else(|| io::Error::other("this thread runs no event loop: a defect of pgherd"))
}

/// An epoll instance, and which task each of its sockets is for.
#[derive(Debug)]
struct Reactor {
    epoll: OwnedFd,
    registrations: Mutex<Registrations>,
    /// The tasks that were woken.
    woken: Mutex<Vec<TaskId>>,
    /// An eventfd, written to where the loop would not look otherwise.
    wakeup: OwnedFd,
    /// The loop waits, or is about to: who wakes a task has to wake the loop, too.
    is_parked: AtomicBool,
}

/// The sockets by the number that their events bear.
#[derive(Debug, Default)]
struct Registrations {
    sockets: Slab<Registration>,
    /// Tells a socket from those that had its place before.
    generation: u32,
}

#[derive(Debug)]
struct Registration {
    generation: u32,
    source: Arc<Source>,
}

impl Reactor {
    fn new() -> io::Result<Arc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // It needs not be read: each write is an event.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &wakeup, epoll::EventData::new_u64(WOKEN), flags)?;
        Ok(Arc::new(Self {
            epoll,
            registrations: Mutex::default(),
            woken: Mutex::default(),
            wakeup,
            is_parked: AtomicBool::new(false),
        }))
    }

    /// Watches a socket; under which number.
    fn register(&self, source: &Arc<Source>) -> io::Result<usize> {
        let (key, data) = {
            let mut registrations = self.registrations.lock();
            registrations.generation = registrations.generation.wrapping_add(1);
            let generation = registrations.generation;
            let key = registrations.sockets.insert(Registration { generation, source: Arc::clone(source) });
            let number = u32::try_from(key).map_err(io::Error::other)?;
            (key, u64::from(generation) << 32 | u64::from(number))
        };
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, &source.stream, epoll::EventData::new_u64(data), flags) {
            self.registrations.lock().sockets.try_remove(key);
            return Err(error.into());
        }
        Ok(key)
    }

    /// Watches it no more.
    fn deregister(&self, source: &Source, key: usize) {
        // It fails only for what is not registered.
        let _ = epoll::delete(&self.epoll, &source.stream);
        self.registrations.lock().sockets.try_remove(key);
    }

    /// Waits for events, unless a task was woken.
    fn wait(&self, events: &mut Vec<epoll::Event>, timeout: Option<Duration>) -> io::Result<()> {
        // Before the look at who was woken: who comes after it sees that the loop has to be woken, too.
        self.is_parked.store(true, Ordering::SeqCst);
        let timeout = if self.woken.lock().is_empty() { timeout } else { Some(Duration::ZERO) };
        // Whole milliseconds: for less than one a kernel before 5.11 has no call.
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_micros().div_ceil(1000).min(999)) * 1_000_000,
        });
        events.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref());
        self.is_parked.store(false, Ordering::Relaxed);
        match waited {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what the events say, and gives the tasks that they are for.
    fn dispatch(&self, events: &[epoll::Event], mut due: impl FnMut(TaskId)) {
        let registrations = self.registrations.lock();
        for event in events {
            let data = event.data.u64();
            if data == WOKEN {
                continue;
            }
            let (Ok(key), Ok(generation)) = (usize::try_from(data & 0xFFFF_FFFF), u32::try_from(data >> 32))
            else {
                continue;
            };
            // Another thread may have closed the socket since, and a new one have its place.
            if let Some(registration) = registrations.sockets.get(key)
                && registration.generation == generation
            {
                registration.source.set(event.flags);
                due(registration.source.task());
            }
        }
    }

    fn wake(&self, task: TaskId) {
        self.woken.lock().push(task);
        if self.is_parked.swap(false, Ordering::SeqCst) {
            // It fails only when it has been written to more often than anybody could.
            let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
        }
    }
}

/// A connection, what is known of it, and who waits for more. Changed by the thread alone whose event loop watches it; others may
/// look.
#[derive(Debug)]
struct Source {
    stream: OwnedFd,
    bits: AtomicU8,
    task: AtomicU32,
}

/// A read may give something.
const READABLE: u8 = 1;
/// A write may take something.
const WRITABLE: u8 = 2;
/// The peer writes no more, or the connection is broken: there will be no other event for reads.
const CLOSED: u8 = 4;

impl Source {
    /// Of what it is ready for, an attempt will tell.
    fn new(stream: OwnedFd) -> Arc<Self> {
        let (bits, task) = (AtomicU8::new(READABLE | WRITABLE), AtomicU32::new(TaskId::NONE.0));
        Arc::new(Self { stream, bits, task })
    }

    /// As at first: of what it is ready for, an attempt will tell.
    fn set_untried(&self) {
        self.bits.fetch_or(READABLE | WRITABLE, Ordering::Relaxed);
        self.task.store(TaskId::NONE.0, Ordering::Relaxed);
    }

    fn is(&self, bits: u8) -> bool {
        self.bits.load(Ordering::Relaxed) & bits != 0
    }

    fn set(&self, flags: epoll::EventFlags) {
        let broken = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let mut bits = self.bits.load(Ordering::Relaxed);
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP | broken) {
            bits |= READABLE;
        }
        if flags.intersects(epoll::EventFlags::RDHUP | broken) {
            bits |= CLOSED;
        }
        if flags.intersects(epoll::EventFlags::OUT | broken) {
            bits |= WRITABLE;
        }
        self.bits.store(bits, Ordering::Relaxed);
    }

    /// An attempt has shown that there is nothing more: the next event says when there is.
    fn clear(&self, bit: u8) {
        self.bits.store(self.bits.load(Ordering::Relaxed) & !bit, Ordering::Relaxed);
    }

    fn task(&self) -> TaskId {
        TaskId(self.task.load(Ordering::Relaxed))
    }

    /// The next event is for the task that is polled now.
    fn register_current_task(&self) {
        self.task.store(CURRENT.with(|current| current.task.get()).0, Ordering::Relaxed);
    }
}
