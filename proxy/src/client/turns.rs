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
pub(super) enum Turn {
    Next,
    End,
}

/// What a turn comes to: the session, and whether it goes on.
type TurnEnd = (Box<Session>, Turn);

/// The turns of one worker's sessions.
#[derive(Default)]
pub(crate) struct Turns(Spare<Room>);

/// Turn after turn is taken in it, of whichever session: a future for each would have to be moved into its room, and that is a kilobyte.
struct Room {
    turns: Pin<Box<dyn Future<Output = Infallible>>>,
    doorway: Rc<Doorway>,
}

/// Where sessions come into a room and leave it.
#[derive(Default)]
struct Doorway {
    enters: Cell<Option<Box<Session>>>,
    leaves: Cell<Option<TurnEnd>>,
}

/// Takes the turns of those who come in.
async fn take_turns(doorway: Rc<Doorway>) -> Infallible {
    loop {
        let mut session = poll_fn(|_| doorway.enters.take().map_or(Poll::Pending, Poll::Ready)).await;
        let turn = session.turn().await;
        doorway.leaves.set(Some((session, turn)));
    }
}

impl Turns {
    /// The session's turn.
    pub(super) async fn run(&self, session: Box<Session>) -> TurnEnd {
        let mut room = self.0.take().unwrap_or_default();
        room.doorway.enters.set(Some(session));
        let end = poll_fn(|cx| match room.turns.as_mut().poll(cx) {
            Poll::Pending => room.doorway.leaves.take().map_or(Poll::Pending, Poll::Ready),
            Poll::Ready(never) => match never {},
        });
        let end = end.await;
        self.0.give(room);
        end
    }

    /// Frees half of the room that was not needed of late.
    pub(crate) fn trim(&self) {
        self.0.trim();
    }
}

impl Default for Room {
    fn default() -> Self {
        let doorway = Rc::default();
        Self { turns: Box::pin(take_turns(Rc::clone(&doorway))), doorway }
    }
}
