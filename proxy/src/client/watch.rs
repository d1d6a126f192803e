//! Sessions that do for too long what they do. Nothing is timed where it happens: a session notes what it does, and its worker
//! looks at all of them several times a second; who is still at the same thing is timed from the first look that saw it.

use std::cell::{Cell, OnceCell, RefCell};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use pgherd_protocol::error::ClientError;
use pgherd_protocol::session::{Overtime, Rounds, Session as Machine, Transaction, transaction_timeout};

use super::acquire::Access;
use crate::cancel::OnItsWay;
use crate::config::Timeouts;
use crate::reactor;
use crate::roster::Card;
use crate::seat::Seat;
use crate::worker::Worker;

/// What a session does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nothing, outside of a transaction.
    #[default]
    Idle,
    /// It waits for a server connection, which has a time-out of its own.
    Waiting,
    /// The server works for it.
    Running,
    /// The server commits: that is left to end by itself.
    Committing,
    /// The client is to say how its transaction, or its batch of messages, goes on.
    InTransaction,
}

impl Activity {
    /// What a session does that holds a server connection.
    pub(super) fn of(machine: &Machine) -> Self {
        if !machine.is_answered() {
            if machine.commits() { Self::Committing } else { Self::Running }
        } else if machine.is_at_rest() {
            Self::Idle
        } else {
            Self::InTransaction
        }
    }
}

/// What a session has done for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// What the server does: it is being cancelled.
    Running(Overtime),
    /// The server has not acted on that within this time.
    Unheard(Duration),
    /// Nothing, in a transaction that takes too long.
    Transaction,
    /// Nothing, in a transaction.
    IdleInTransaction,
    /// Nothing.
    Idle,
}

impl Overdue {
    /// What PostgreSQL says before it closes such a connection.
    pub(super) fn last_words(self) -> ClientError {
        let (sqlstate, what) = match self {
            Self::Running(_) | Self::Unheard(_) | Self::Transaction => return transaction_timeout(),
            Self::IdleInTransaction => ("25P03", "idle-in-transaction timeout"),
            Self::Idle => ("57P05", "idle-session timeout"),
        };
        ClientError::new(sqlstate, format!("terminating connection due to {what}"))
    }
}

/// One session, as its worker sees it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// None if nothing is too long.
    limits: RefCell<Option<Arc<Limits>>>,
    seat: Arc<Seat>,
    /// Of the session's task, once it runs.
    waker: OnceCell<Waker>,
    now: Cell<State>,
    seen: Cell<Seen>,
    verdict: Cell<Option<Overdue>>,
    /// A cancel request was sent for what the session did, and it may have come to an end before.
    is_cancelled: Cell<bool>,
}

/// For how long a session may do something. Sessions share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    timeouts: Timeouts,
    cancel_wait: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    activity: Activity,
    /// Counts the changes of `activity`.
    changes: u32,
    rounds: Rounds,
}

/// What the worker saw, and since when.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: State,
    since: Moment,
    transaction_since: Moment,
    cancelled_at: Option<Moment>,
}

/// A time of the event loops' clock, in microseconds. Never zero, so that none takes no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    /// The time, as of the events that are dealt with now.
    pub(crate) fn now() -> Self {
        Self(NonZeroU64::MIN.saturating_add(reactor::micros()))
    }

    fn since(self, before: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(before.0.get()))
    }
}

impl Watch {
    fn new(seat: &Arc<Seat>, limits: Option<Arc<Limits>>) -> Self {
        let now = Moment::now();
        let state = State::default();
        let seen = Seen { state, since: now, transaction_since: now, cancelled_at: None };
        Self {
            limits: RefCell::new(limits),
            seat: Arc::clone(seat),
            waker: OnceCell::new(),
            now: Cell::new(state),
            seen: Cell::new(seen),
            verdict: Cell::new(None),
            is_cancelled: Cell::new(false),
        }
    }

    /// Other settings are in force.
    pub(crate) fn heed(&self, worker: &Worker) {
        self.limits.replace(limits_for(worker, &self.seat));
    }

    /// The session's task runs, and is to be woken so.
    pub(super) fn begin(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// The session does this from now on; what was found of something else holds no more.
    pub(super) fn note(&self, activity: Activity, rounds: Rounds) {
        let before = self.now.get();
        if activity != before.activity || rounds != before.rounds {
            let changes = before.changes.wrapping_add(u32::from(activity != before.activity));
            self.now.set(State { activity, changes, rounds });
            self.verdict.set(None);
        }
    }

    /// What the session has done for too long; told once.
    pub(super) fn take_verdict(&self) -> Option<Overdue> {
        self.verdict.take()
    }

    /// True if a cancel request was sent that may meet what the session does next.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    /// As [`Watch::is_cancelled`]; told once.
    pub(super) fn take_cancelled(&self) -> bool {
        self.is_cancelled.take()
    }

    /// Looks at the session. What is returned has to be sent for it; its task is woken to hear of it.
    pub(crate) fn look(&self, now: Moment) -> Option<OnItsWay> {
        let overdue = self.overdue(now, **self.limits.borrow().as_ref()?)?;
        self.verdict.set(Some(overdue));
        self.waker.get().into_iter().for_each(Waker::wake_by_ref);
        // Nothing to cancel: it has come to an end meanwhile, or its server connection is looked after.
        let request = matches!(overdue, Overdue::Running(_)).then(|| self.seat.cancel()).flatten();
        if request.is_some() {
            self.is_cancelled.set(true);
        }
        request
    }

    fn overdue(&self, now: Moment, limits: Limits) -> Option<Overdue> {
        let (state, mut seen) = (self.now.get(), self.seen.get());
        if state != seen.state {
            (seen.since, seen.cancelled_at) = (now, None);
        }
        let is_outside = matches!(state.activity, Activity::Idle | Activity::Waiting);
        if is_outside || state.rounds.transactions != seen.state.rounds.transactions {
            seen.transaction_since = now;
        }
        seen.state = state;
        let is_over =
            |since: Moment, limit: Option<Duration>| limit.filter(|limit| now.since(since) >= *limit);
        let Limits { timeouts, cancel_wait } = limits;
        let transaction = is_over(seen.transaction_since, timeouts.transaction);
        let overdue = match (state.activity, seen.cancelled_at) {
            (Activity::InTransaction, _) if transaction.is_some() => Some(Overdue::Transaction),
            (Activity::InTransaction, _) => {
                is_over(seen.since, timeouts.idle_transaction).map(|_| Overdue::IdleInTransaction)
            }
            (Activity::Running, None) => {
                let query = is_over(seen.since, timeouts.query);
                let why = transaction.map(|_| Overtime::Transaction).or(query.map(Overtime::Statement));
                seen.cancelled_at = why.map(|_| now);
                why.map(Overdue::Running)
            }
            (Activity::Running, Some(at)) => is_over(at, Some(cancel_wait)).map(Overdue::Unheard),
            (Activity::Idle, _) => is_over(seen.since, timeouts.client_idle).map(|_| Overdue::Idle),
            (Activity::Waiting | Activity::Committing, _) => None,
        };
        self.seen.set(seen);
        overdue
    }
}

/// A session that its worker looks at as long as this lives.
#[derive(Debug)]
pub(super) struct Watched {
    watch: Rc<Watch>,
    worker: Rc<Worker>,
    key: usize,
}

impl Watched {
    pub(super) fn new(worker: &Rc<Worker>, access: &Access) -> Self {
        let watch = Rc::new(Watch::new(&access.seat, limits_for(worker, &access.seat)));
        let key = worker.watches.borrow_mut().insert(Rc::clone(&watch));
        Self { watch, worker: Rc::clone(worker), key }
    }
}

impl Deref for Watched {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.worker.watches.borrow_mut().try_remove(self.key);
    }
}

fn limits_for(worker: &Worker, seat: &Seat) -> Option<Arc<Limits>> {
    let settings = &worker.shared.config.load().pool;
    let Card { database, user, .. } = seat.card();
    let timeouts = settings.timeouts_for(database, user);
    let limits = Limits { timeouts, cancel_wait: settings.cancel_wait_timeout };
    (timeouts != Timeouts::default()).then(|| worker.shared.limits.share(limits))
}

/// What a session does while it has no server connection and its client is to go on.
pub(super) fn without_server(transaction: Transaction) -> Activity {
    if transaction == Transaction::Idle { Activity::Idle } else { Activity::InTransaction }
}
