//! Room for turns. A session has a turn while it holds a server connection, or waits for one; what it keeps for that is many times as large as
//! what it keeps otherwise, so the room for it is lent by the worker.

use std::pin::Pin;

use super::session::Session;
use crate::spare::Spare;

/// Whether the session goes on.
pub(crate) enum Turn {
    Next,
    End,
}

/// What a turn comes to: the session, and whether it goes on.
pub(crate) type TurnEnd = (Box<Session>, Turn);

/// The turns of one worker's sessions; `F` is [`Session::take_turn`]'s future.
pub(crate) struct Turns<F> {
    begin: fn(Box<Session>) -> F,
    spare: Spare<Pin<Box<Option<F>>>>,
}

impl<F: Future<Output = TurnEnd>> Turns<F> {
    /// Turns that begin so.
    pub(crate) fn new(begin: fn(Box<Session>) -> F) -> Self {
        Self { begin, spare: Spare::default() }
    }

    /// The session's turn.
    pub(super) async fn run(&self, session: Box<Session>) -> TurnEnd {
        let mut room = self.spare.take().unwrap_or_else(|| Box::pin(None));
        room.set(Some((self.begin)(session)));
        let Some(turn) = room.as_mut().as_pin_mut() else { unreachable!("it was put there") };
        let end = turn.await;
        room.set(None);
        self.spare.give(room);
        end
    }

    /// Frees half of the room that was not needed of late.
    pub(crate) fn trim(&self) {
        self.spare.trim();
    }
}
