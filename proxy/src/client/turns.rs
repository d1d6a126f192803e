//! Room for turns. A session has a turn only from a message of its client's on; what a turn keeps while it waits is many times as large as what an idle session needs, so
//! whoever has one borrows the room for it from the worker.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::session::{Session, Turn};
use crate::spare::Spare;

/// What a turn comes to: the session, and whether it goes on.
pub(crate) type Taken = (Box<Session>, Turn);

/// The turns of one worker's sessions; `F` is [`Session::take_turn`]'s future.
pub(crate) struct Turns<F> {
    begin: fn(Box<Session>) -> F,
    spare: Spare<Pin<Box<Option<F>>>>,
}

impl<F: Future<Output = Taken>> Turns<F> {
    /// Turns that begin so.
    pub(crate) fn new(begin: fn(Box<Session>) -> F) -> Self {
        Self { begin, spare: Spare::default() }
    }

    /// The session's turn.
    pub(super) fn take(&self, session: Box<Session>) -> Running<'_, F> {
        let mut room = self.spare.take().unwrap_or_else(|| Box::pin(None));
        room.set(Some((self.begin)(session)));
        Running { turns: self, room: Some(room) }
    }

    /// Frees room that was not needed of late.
    pub(crate) fn trim(&self) {
        self.spare.trim();
    }
}

/// A turn under way.
pub(super) struct Running<'a, F> {
    turns: &'a Turns<F>,
    /// None once it has ended.
    room: Option<Pin<Box<Option<F>>>>,
}

impl<F: Future<Output = Taken>> Future for Running<'_, F> {
    type Output = Taken;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Taken> {
        let Some(turn) = self.room.as_mut().and_then(|room| room.as_mut().as_pin_mut()) else {
            return Poll::Pending;
        };
        let taken = ready!(turn.poll(cx));
        if let Some(mut room) = self.room.take() {
            room.set(None);
            self.turns.spare.give(room);
        }
        Poll::Ready(taken)
    }
}
