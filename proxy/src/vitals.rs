//! Whether the threads of the process turn, and what has gone wrong within them: defects of pgherd, each of which is told.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pgherd_failover::actor::Pulse;

use crate::reactor::Beat;

/// What the threads say of themselves.
#[derive(Debug)]
pub(crate) struct Vitals {
    workers: Box<[Arc<Beat>]>,
    control: Pulse,
    /// Turns of the main thread.
    main: AtomicU64,
    panics: AtomicU64,
    /// Found by the watchdog, which looks at all of them.
    stuck: Mutex<Vec<Stuck>>,
}

/// A thread, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    Main,
    Control,
    Worker(usize),
}

/// A thread that has not turned for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    pub(crate) thread: Thread,
    pub(crate) lasts: Duration,
}

impl Vitals {
    /// Of a process with so many workers.
    pub(crate) fn new(workers: usize, control: Pulse) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            control,
            main: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            stuck: Mutex::default(),
        }
    }

    /// What a worker says of itself.
    pub(crate) fn worker(&self, number: usize) -> Arc<Beat> {
        self.workers.get(number).cloned().unwrap_or_default()
    }

    /// The main thread has turned.
    pub(crate) fn main_turns(&self) {
        self.main.fetch_add(1, Ordering::Relaxed);
    }

    /// A session has ended by a panic.
    pub(crate) fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that have ended by a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Where each thread is: something that is another after each of its turns; none where it waits to be woken.
    pub(super) fn turns(&self) -> Vec<(Thread, Option<u64>)> {
        let mut turns = vec![
            (Thread::Main, Some(self.main.load(Ordering::Relaxed))),
            (Thread::Control, Some(self.control.turns())),
        ];
        let workers = self.workers.iter().enumerate();
        turns.extend(workers.map(|(number, beat)| (Thread::Worker(number), beat.turn())));
        turns
    }

    /// Tasks that have not ended, of the threads that are known to have any: logins, sessions, probes, orders.
    pub(crate) fn tasks(&self) -> Vec<(Thread, usize)> {
        let mut tasks = vec![(Thread::Control, self.control.tasks())];
        let workers = self.workers.iter().enumerate();
        tasks.extend(workers.map(|(number, beat)| (Thread::Worker(number), beat.tasks())));
        tasks
    }

    /// Threads that stand still.
    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        self.stuck.lock().clone()
    }

    /// By the watchdog alone.
    pub(super) fn tell_stuck(&self, stuck: Vec<Stuck>) {
        *self.stuck.lock() = stuck;
    }
}

impl fmt::Display for Thread {
    /// The name of the thread, as the kernel knows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("main"),
            Self::Control => f.write_str("control"),
            Self::Worker(number) => write!(f, "pgherd-worker-{number}"),
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread {} has not turned for {} s", self.thread, self.lasts.as_secs())
    }
}
