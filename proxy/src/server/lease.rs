//! What a pool lends: a connection, or the right to open one.

use std::sync::Arc;

use pgherd_protocol::statement::Pin;

use super::connection::ServerConnection;
use super::pool::{Connection, Pool};
use super::quota::Slot;
use crate::worker::WorkerId;

/// What a client gets from a pool.
#[derive(Debug)]
pub(crate) enum Grant {
    /// An idle connection.
    Lease(Lease),
    /// The right to open one.
    Permit(Permit),
}

/// The right to open a connection. Dropped, it goes to whoever waits.
#[derive(Debug)]
pub(crate) struct Permit {
    pool: Option<Arc<Pool>>,
    slot: Option<Slot>,
}

impl Permit {
    pub(super) fn new(pool: &Arc<Pool>, slot: Slot) -> Self {
        Self { pool: Some(Arc::clone(pool)), slot: Some(slot) }
    }

    /// The connection was opened.
    pub(crate) fn fill(mut self, mut connection: Connection) -> Option<Lease> {
        connection.slot = self.slot.take();
        if let Some(pool) = &self.pool {
            pool.register(&connection);
        }
        self.pool.take().map(|pool| Lease::of(pool, connection, false))
    }

    /// The server takes no more connections now. False if the pool has none that could come free.
    pub(crate) fn refused(mut self) -> bool {
        self.slot = None;
        self.pool.take().is_some_and(|pool| pool.refused())
    }

    /// Ends it without the pool being told.
    pub(super) fn disarm(mut self) {
        self.pool = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            // Before those that wait are told.
            self.slot = None;
            pool.forget(None);
        }
    }
}

/// A connection lent to one session. Dropped, it is closed, unless it was marked clean.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    /// `None` once it is given back or lost.
    connection: Option<Connection>,
    pinned: Option<Pin>,
    clean: bool,
    /// False once the pool needs not be told of its end.
    counted: bool,
}

impl Lease {
    pub(super) fn new(pool: &Arc<Pool>, connection: Connection) -> Self {
        Self::of(Arc::clone(pool), connection, true)
    }

    fn of(pool: Arc<Pool>, connection: Connection, clean: bool) -> Self {
        pool.outstanding.begin();
        Self { pool, connection: Some(connection), pinned: None, clean, counted: true }
    }

    /// The connection; from now on it is closed when the lease is dropped. Always there until the lease ends.
    pub(crate) fn connection(&mut self) -> Option<&mut ServerConnection> {
        self.clean = false;
        self.connection.as_deref_mut()
    }

    /// Takes the connection out without the pool being told.
    pub(super) fn disarm(mut self) -> Option<Connection> {
        self.counted = false;
        self.connection.take()
    }

    /// Brings the connection to the worker that runs this.
    ///
    /// # Errors
    /// When the event loop refuses it.
    pub(crate) fn move_to(&mut self, worker: WorkerId) -> std::io::Result<()> {
        self.connection().map_or(Ok(()), |connection| connection.move_to(worker))
    }

    /// Nothing of the session is left on the connection: the next client may have it.
    pub(crate) fn give_back(mut self) {
        self.clean = true;
    }

    /// The session keeps the connection beyond its transaction: it counts with the pinned ones.
    pub(crate) fn pin(&mut self, pin: Pin) {
        if self.pinned.is_none() {
            self.pinned = Some(pin);
            self.pool.pin(pin);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.outstanding.end();
        match self.connection.take() {
            Some(connection) if self.clean => self.pool.check_in(connection, self.pinned),
            connection => {
                drop(connection);
                if self.counted {
                    self.pool.forget(self.pinned);
                }
            }
        }
    }
}
