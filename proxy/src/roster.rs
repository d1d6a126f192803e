//! Who is logged in: each session's seat, by a number that no other session of this process has had.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use pgherd_protocol::parameters::Parameters;

use crate::client::Replication;
use crate::peer::Peer;
use crate::seat::Seat;

/// What others may know of a session.
#[derive(Debug)]
pub(crate) struct Card {
    /// Its number.
    pub(crate) id: u64,
    /// Its database.
    pub(crate) database: Arc<str>,
    /// Its user.
    pub(crate) user: Arc<str>,
    /// The client's address.
    pub(crate) peer: Peer,
    /// The address that it has connected to; none over a Unix socket.
    pub(crate) local: Option<Arc<SocketAddr>>,
    /// Whether it is for replication.
    pub(crate) replication: Replication,
    /// When it logged in.
    pub(crate) connected_at: SystemTime,
    /// What is in force in it.
    pub(crate) parameters: Mutex<Arc<Parameters>>,
    /// Prepared statements that it has under names.
    pub(crate) prepared: AtomicU64,
    /// When it has asked for something last, in microseconds since the roster's epoch; 0 for never.
    pub(crate) asked_at: AtomicU64,
}

impl Card {
    /// See `asked_at`.
    pub(crate) fn asked(&self) -> u64 {
        self.asked_at.load(Ordering::Relaxed)
    }

    /// Of a session that begins now: of this number, database and user, between these addresses.
    pub(crate) fn new(
        id: u64,
        (database, user): (Arc<str>, Arc<str>),
        (peer, local): (Peer, Option<Arc<SocketAddr>>),
        parameters: Arc<Parameters>,
    ) -> Self {
        Self {
            id,
            database,
            user,
            peer,
            local,
            replication: Replication::No,
            connected_at: SystemTime::now(),
            parameters: Mutex::new(parameters),
            prepared: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
        }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    last: AtomicU64,
    seats: Mutex<BTreeMap<u64, Arc<Seat>>>,
}

impl Roster {
    /// A number for one more session.
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Lists a session as long as what is returned lives.
    pub(crate) fn enter(self: &Arc<Self>, seat: &Arc<Seat>) -> Listed {
        let id = seat.card().id;
        self.seats.lock().insert(id, Arc::clone(seat));
        Listed { roster: Arc::clone(self), id }
    }

    /// The session of this number.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Seat>> {
        self.seats.lock().get(&id).cloned()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.seats.lock().len()
    }

    /// All of this moment, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Seat>> {
        self.seats.lock().values().cloned().collect()
    }
}

/// Keeps a session in the roster.
#[derive(Debug)]
pub(crate) struct Listed {
    roster: Arc<Roster>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.roster.seats.lock().remove(&self.id);
    }
}
