//! Cancel requests that come while pgherd does something of its own on a session's connection.
//!
//! They are never for that. If the client waits for it with its next statement, they are for the statement.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use super::TaskEnd;
use super::acquire::LeaveAtEnd;
use super::relay::Front;
use crate::cancel::{CancelPoint, OnItsWay};
use crate::seat::Seat;
use crate::stream::Stream;
use crate::worker::Worker;

/// Waits for the answer to a question that is asked while the client is at rest, on the connection that `point` cancels. A request that comes
/// meanwhile is ignored, as PostgreSQL does in an idle session; unless the client has sent something since (`has_input`: and that
/// was read already). Then it ends the question, if that can be done, and what was sent is to be refused: true.
pub(super) async fn asked<T>(
    question: impl Future<Output = T>,
    (stream, has_input): (&mut Stream, bool),
    (seat, point): (&Seat, &Arc<CancelPoint>),
) -> (T, bool) {
    seat.begin_work();
    let _left = LeaveAtEnd(seat);
    let mut question = pin!(question);
    let for_what_was_sent = poll_fn(|cx| {
        loop {
            ready!(seat.poll_wait(cx));
            if has_input || stream.has_unread() {
                return Poll::Ready(());
            }
            seat.begin_work();
        }
    });
    tokio::select! {
        biased;
        answer = &mut question => (answer, false),
        () = for_what_was_sent => {
            let request = OnItsWay::new(Arc::clone(point));
            let (answer, ()) = tokio::join!(question, request.send());
            (answer, true)
        }
    }
}

/// A cancel request for a statement that waits until pgherd has done something of its own.
#[derive(Debug, Default)]
pub(super) struct HeldOver(bool);

impl HeldOver {
    /// Takes one over, if there is one.
    pub(super) fn add(&mut self, is_cancelled: bool) {
        self.0 |= is_cancelled;
    }

    /// True, once, if there is one.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }

    /// Sends it on its way once the server has the statement.
    pub(super) fn send(&mut self, front: &Front, (seat, worker): (&Seat, &Worker)) {
        if !self.0 || front.machine.owes_nothing() || !front.up.is_flushed() {
            return;
        }
        self.0 = false;
        if let Some(request) = seat.cancel() {
            worker.spawn(async move {
                request.send().await;
                TaskEnd::Nothing
            });
        }
    }
}
