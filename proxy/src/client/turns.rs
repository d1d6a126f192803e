//! Room for turns. A session has a turn while it holds a server connection, or waits for one; what it keeps for that is many times as large as
//! what it keeps otherwise, so the room for it is lent by the worker.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::session::Session;
use crate::spare::Spare;

/// Whether the session goes on.
pub(crate) enum Turn {
    Next,
    End,
}

/// What a turn comes to: the session, and whether it goes on.
pub(crate) type TurnEnd = (Box<Session>, Turn);

/// The turns of one worker's sessions; `F` is the future of [`take_turns`].
pub(crate) struct Turns<F> {
    begin: fn(Rc<Doorway>) -> F,
    spare: Spare<Room<F>>,
}

/// Turn after turn is taken in it, of whichever session: a future for each would have to be moved into its room, and that is a kilobyte.
struct Room<F> {
    turns: Pin<Box<F>>,
    doorway: Rc<Doorway>,
}

/// Where sessions come into a room and leave it.
#[derive(Default)]
pub(crate) struct Doorway {
    enters: Cell<Option<Box<Session>>>,
    leaves: Cell<Option<TurnEnd>>,
}

/// Takes the turns of those who come in.
pub(crate) async fn take_turns(doorway: Rc<Doorway>) -> Infallible {
    loop {
        let mut session = poll_fn(|_| doorway.enters.take().map_or(Poll::Pending, Poll::Ready)).await;
        let turn = session.turn().await;
        doorway.leaves.set(Some((session, turn)));
    }
}

impl<F: Future<Output = Infallible>> Turns<F> {
    /// Turns that are taken so.
    pub(crate) fn new(begin: fn(Rc<Doorway>) -> F) -> Self {
        Self { begin, spare: Spare::default() }
    }

    /// The session's turn.
    pub(super) async fn run(&self, session: Box<Session>) -> TurnEnd {
        let mut room = self.spare.take().unwrap_or_else(|| self.furnish());
        room.doorway.enters.set(Some(session));
        let end = poll_fn(|cx| match room.turns.as_mut().poll(cx) {
            Poll::Pending => room.doorway.leaves.take().map_or(Poll::Pending, Poll::Ready),
            Poll::Ready(never) => match never {},
        });
        let end = end.await;
        self.spare.give(room);
        end
    }

    fn furnish(&self) -> Room<F> {
        let doorway = Rc::default();
        Room { turns: Box::pin((self.begin)(Rc::clone(&doorway))), doorway }
    }

    /// Frees half of the room that was not needed of late.
    pub(crate) fn trim(&self) {
        self.spare.trim();
    }
}
