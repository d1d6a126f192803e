//! A session's seat: what others can reach of it. A cancel request finds there the server connection that the session holds
//! or the wait that it is in; a pool puts there what the session waits for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::statement::Pin;

use crate::cancel::{CancelPoint, OnItsWay};
use crate::peer::Peer;
use crate::roster::Card;
use crate::server::lease::Grant;

/// One seat a session, for its life.
#[derive(Debug)]
pub(crate) struct Seat {
    state: Mutex<State>,
    card: Card,
    /// Somebody has ended the session.
    is_dismissed: AtomicBool,
}

/// What a session does at the moment.
#[derive(Debug)]
pub(crate) enum Business {
    /// It holds no server connection and needs none.
    Idle,
    /// It waits for one.
    Waiting,
    /// It holds this one.
    Holding(Arc<CancelPoint>),
}

#[derive(Debug, Default)]
struct State {
    held: Option<Arc<CancelPoint>>,
    wait: Option<Wait>,
    /// Why the session keeps it.
    pin: Option<Pin>,
    /// Numbers the waits, so that what comes late for one is not taken for the next.
    last: Ticket,
}

#[derive(Debug)]
struct Wait {
    /// It waits for no server connection: pgherd does something of its own on the one that it has.
    is_work: bool,
    waker: Option<Waker>,
    end: Option<WaitEnd>,
    /// A cancel request has come since it ended, and before the session has seen that.
    is_cancelled: bool,
}

/// One wait of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// How a wait for a server connection ended.
#[derive(Debug)]
pub(crate) enum WaitEnd {
    /// It is the session's turn.
    Granted(Grant),
    /// A cancel request came for the session.
    Cancelled,
    /// It took longer than `pool.query_wait_timeout`.
    TimedOut,
    /// The server is out of the table.
    Closed,
}

impl Seat {
    /// The seat of a session that was just logged in.
    pub(crate) fn new(card: Card) -> Self {
        Self { state: Mutex::default(), card, is_dismissed: AtomicBool::new(false) }
    }

    /// A seat for something of pgherd's own that waits for connections as clients do.
    pub(crate) fn internal(database: &Arc<str>, user: &Arc<str>, parameters: &Arc<Parameters>) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let names = (Arc::clone(database), Arc::clone(user));
        Self::new(Card::new(0, names, (Peer::new(nowhere.into()), None), Arc::clone(parameters)))
    }

    /// What is known of the session.
    pub(crate) const fn card(&self) -> &Card {
        &self.card
    }

    /// What the session does, and why it keeps its server connection if it does.
    pub(crate) fn business(&self) -> (Business, Option<Pin>) {
        let state = self.state.lock();
        let business = match (&state.held, &state.wait) {
            (Some(point), _) => Business::Holding(Arc::clone(point)),
            (None, Some(wait)) if !wait.is_work => Business::Waiting,
            (None, _) => Business::Idle,
        };
        (business, state.pin)
    }

    /// The session keeps its server connection.
    pub(crate) fn pin(&self, pin: Pin) {
        self.state.lock().pin = Some(pin);
    }

    /// The session is to end; its worker has to look.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Relaxed);
    }

    /// True if it is.
    #[inline]
    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::Relaxed)
    }

    /// The session now holds this server connection.
    pub(crate) fn hold(&self, point: &Arc<CancelPoint>) {
        self.state.lock().held = Some(Arc::clone(point));
    }

    /// The session holds no server connection any more: from now on no new request can reach it.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.held = None;
        state.pin = None;
    }

    /// Begins a wait.
    pub(crate) fn begin_wait(&self) -> Ticket {
        self.begin(false)
    }

    /// pgherd begins something of its own on the session's connection: no cancel request is to hit that, and one that comes is told
    /// as the end of a wait.
    pub(crate) fn begin_work(&self) {
        self.begin(true);
    }

    fn begin(&self, is_work: bool) -> Ticket {
        let mut state = self.state.lock();
        state.last.0 += 1;
        state.wait = Some(Wait { is_work, waker: None, end: None, is_cancelled: false });
        state.last
    }

    /// That work has ended. True if a cancel request has come meanwhile that nobody was told of.
    pub(crate) fn end_work(&self) -> bool {
        self.state.lock().wait.take().is_some_and(|wait| wait.is_cancelled)
    }

    /// Ready when the wait has ended; none is under way afterwards.
    pub(crate) fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<WaitEnd> {
        let mut state = self.state.lock();
        let Some(wait) = &mut state.wait else { return Poll::Ready(WaitEnd::Closed) };
        if let Some(end) = wait.end.take() {
            let is_cancelled = wait.is_cancelled;
            state.wait = None;
            drop(state);
            // What was granted goes back, outside of the lock: it may be put on another's seat.
            return Poll::Ready(if is_cancelled { WaitEnd::Cancelled } else { end });
        }
        if !wait.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            wait.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// True if the session is in the wait of this ticket.
    pub(crate) fn waits(&self, ticket: Ticket) -> bool {
        let state = self.state.lock();
        state.last == ticket && state.wait.is_some()
    }

    /// Gives the wait up; what was granted meanwhile goes back.
    pub(crate) fn leave(&self) {
        // Dropped outside of the lock: a grant that goes back may be put on another's seat.
        let wait = self.state.lock().wait.take();
        drop(wait);
    }

    /// Ends the wait of this ticket; what was to be granted comes back if the session does not wait any more.
    pub(crate) fn end_wait(&self, ticket: Ticket, end: WaitEnd) -> Result<(), WaitEnd> {
        let mut state = self.state.lock();
        let waits = state.last == ticket;
        match &mut state.wait {
            Some(wait) if waits && wait.end.is_none() => {
                wait.end = Some(end);
                let waker = wait.waker.take();
                drop(state);
                waker.into_iter().for_each(Waker::wake);
                Ok(())
            }
            _ => Err(end),
        }
    }

    /// A cancel request has come: ends the wait that the session is in, or gives the request that has to be sent to the
    /// server. Under the lock, so that a release that comes later sees the request.
    pub(crate) fn cancel(&self) -> Option<OnItsWay> {
        let mut state = self.state.lock();
        if let Some(point) = &state.held {
            return Some(OnItsWay::new(Arc::clone(point)));
        }
        // Where nobody waits it is ignored, as in PostgreSQL by an idle session.
        if let Some(wait) = &mut state.wait {
            wait.is_cancelled = true;
            let waker = wait.waker.take();
            wait.end.get_or_insert(WaitEnd::Cancelled);
            drop(state);
            waker.into_iter().for_each(Waker::wake);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat() -> Seat {
        Seat::internal(&"app".into(), &"app".into(), &Arc::default())
    }

    fn poll(seat: &Seat) -> Poll<WaitEnd> {
        seat.poll_wait(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_comes_for_an_earlier_wait_does_not_end_the_next() {
        let seat = seat();
        let first = seat.begin_wait();
        seat.leave();
        let second = seat.begin_wait();
        assert!(seat.end_wait(first, WaitEnd::TimedOut).is_err() && poll(&seat).is_pending());
        assert!(seat.end_wait(second, WaitEnd::Closed).is_ok());
        assert!(seat.end_wait(second, WaitEnd::TimedOut).is_err(), "it has ended");
        assert!(matches!(poll(&seat), Poll::Ready(WaitEnd::Closed)));
    }

    #[test]
    fn a_cancel_request_that_comes_between_the_grant_and_the_session_is_not_lost() {
        let seat = seat();
        let ticket = seat.begin_wait();
        assert!(poll(&seat).is_pending());
        assert!(seat.end_wait(ticket, WaitEnd::Closed).is_ok(), "as a grant does");
        assert!(seat.cancel().is_none());
        assert!(matches!(poll(&seat), Poll::Ready(WaitEnd::Cancelled)));
        seat.begin_wait();
        assert!(poll(&seat).is_pending(), "the next wait is another");
    }

    #[test]
    fn a_cancel_request_that_comes_while_pgherd_works_for_the_session_is_told_once() {
        let seat = seat();
        seat.begin_work();
        assert!(matches!(seat.business(), (Business::Idle, None)), "it waits for nobody");
        assert!(seat.cancel().is_none(), "it is not sent to the server");
        assert!(seat.end_work() && !seat.end_work());
        seat.begin_work();
        assert!(!seat.end_work());
    }

    #[test]
    fn a_cancel_request_ends_a_wait_and_is_ignored_by_an_idle_session() {
        let seat = seat();
        assert!(seat.cancel().is_none());
        seat.begin_wait();
        assert!(poll(&seat).is_pending());
        assert!(seat.cancel().is_none());
        assert!(matches!(poll(&seat), Poll::Ready(WaitEnd::Cancelled)));
    }
}
