//! A server connection, and how it is lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::postgres::{Backend, Database};
use crate::error::{ClientError, Severity};
use crate::parameters::Parameters;
use crate::prepared::Plans;
use crate::server::ServerState;

/// A server connection of pgherd's.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) backend: Backend,
    pub(super) state: ServerState,
    /// On its way to the server.
    pub(super) to: Vec<u8>,
    /// On its way to pgherd.
    pub(super) from: Vec<u8>,
    /// Read by the server, and not looked at by the test.
    pub(super) got: Vec<u8>,
    pub(super) is_leased: bool,
    pub(super) applied: Option<Arc<Parameters>>,
    /// If it is to be lost.
    pub(super) lifetime: Option<Lifetime>,
}

/// When a server connection is lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lifetime {
    /// So many bytes the server reads, even after the connection is lost for pgherd.
    pub(super) requests: usize,
    /// So many bytes arrive of what it says.
    pub(super) replies: usize,
    /// It says so before it ends.
    pub(super) farewell: bool,
}

impl Server {
    pub(super) fn new(database: &Rc<RefCell<Database>>, prepared_limit: usize, plans: Option<Plans>) -> Self {
        Self {
            backend: Backend::new(database),
            state: ServerState::new(prepared_limit, plans),
            to: Vec::new(),
            from: Vec::new(),
            got: Vec::new(),
            is_leased: false,
            applied: Some(Arc::default()),
            lifetime: None,
        }
    }

    /// True if it reads no more, and all that it said before has arrived, or as much as ever will.
    pub(super) fn is_lost(&self) -> bool {
        match self.lifetime {
            Some(lifetime) => lifetime.replies == 0 || (lifetime.requests == 0 && self.from.is_empty()),
            None => self.backend.ended && self.from.is_empty(),
        }
    }

    pub(super) fn serve(&mut self, len: usize) -> bool {
        let allowed = self.lifetime.map_or(usize::MAX, |lifetime| lifetime.requests);
        let len = len.min(self.to.len()).min(allowed);
        let bytes: Vec<u8> = self.to.drain(..len).collect();
        self.got.extend_from_slice(&bytes);
        self.backend.reads(&bytes);
        self.from.extend(self.backend.said());
        if let Some(lifetime) = &mut self.lifetime {
            lifetime.requests -= len;
            if lifetime.requests == 0 && len > 0 && lifetime.farewell {
                ClientError::new("57P01", "terminating connection due to administrator command")
                    .write(&mut self.from, Severity::Fatal);
            }
        }
        len > 0
    }

    /// It says something out of turn.
    pub(super) fn says(&mut self, bytes: &[u8]) {
        self.from.extend_from_slice(bytes);
    }
}
