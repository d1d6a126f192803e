//! Sessions that go from one worker to another, between two leases.

use std::io;
use std::rc::Rc;

use super::acquire::Access;
use super::listen::Listening;
use super::relay::Front;
use super::session::Session;
use super::watch::Watched;
use crate::cancel::Registration;
use crate::crew::Connected;
use crate::peer::Peer;
use crate::places::Places;
use crate::roster::Listed;
use crate::worker::Worker;

/// A session without a worker. It holds no server connection.
#[derive(Debug)]
pub(crate) struct Traveller {
    front: Front,
    access: Access,
    registration: Registration,
    counted: Places,
    listed: Listed,
    listening: Listening,
    /// It counts as the worker's that it has left, until another counts it.
    _connected: Connected,
}

impl Session {
    /// The client's address.
    pub(crate) fn peer(&self) -> &Peer {
        self.access.peer()
    }

    /// Leaves the worker.
    pub(crate) fn depart(self: Box<Self>) -> Traveller {
        let Self { front, access, registration, counted, listed, listening, _connected, .. } = *self;
        Traveller { front, access, registration, counted, listed, listening, _connected }
    }
}

impl Traveller {
    /// The client's address.
    pub(crate) fn peer(&self) -> &Peer {
        self.access.peer()
    }

    /// Becomes a session of the worker that runs this.
    ///
    /// # Errors
    /// When its event loop does not take the socket.
    pub(crate) fn arrive(self, worker: &Rc<Worker>, connected: Connected) -> io::Result<Session> {
        let Self { mut front, access, registration, counted, listed, listening, .. } = self;
        front.stream.move_here()?;
        front.held_back = false;
        let (watch, worker) = (Watched::new(worker, &access), Rc::clone(worker));
        Ok(Session {
            worker,
            front,
            watch,
            access,
            registration,
            counted,
            listed,
            listening,
            _connected: connected,
        })
    }
}
