//! What is known of a server connection between leases.

use std::collections::{BTreeMap, VecDeque};

use crate::customs::Customs;
use crate::prepared::{Plans, ServerStatements};
use crate::session::{Drawers, Expected};

/// The state of one server connection that outlives a lease.
#[derive(Debug)]
pub struct ServerState {
    /// The server process's id, as its BackendKeyData said; 0 before that.
    pub pid: u32,
    /// What is prepared there.
    pub statements: ServerStatements,
    /// Run-time parameters as the server reported them.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
    /// The custom parameters that there may be.
    pub customs: Customs,
    /// Some of what the last startup packet said is not in force any more.
    pub parameters_lost: bool,
    /// Whose numbers of sequences it knows.
    pub drawers: Drawers,
    /// What the client has sent in the present lease, if it may have to be sent again: see
    /// [`Session::may_run_again`](crate::session::Session::may_run_again).
    pub request: Vec<u8>,
    /// Room for what a session expects, lent for a lease: a session without one needs none.
    pub(crate) owed: VecDeque<Expected>,
}

impl ServerState {
    /// A connection that has just been opened. `unnamed`: how what stands for unnamed statements is planned, if anything does.
    #[must_use]
    pub fn new(max_prepared_statements: usize, unnamed: Option<Plans>) -> Self {
        Self {
            pid: 0,
            statements: ServerStatements::new(max_prepared_statements).with_stand_ins(unnamed),
            parameters: BTreeMap::new(),
            customs: Customs::default(),
            parameters_lost: false,
            drawers: Drawers::Nobody,
            request: Vec::new(),
            owed: VecDeque::new(),
        }
    }

    /// Takes in the body of a ParameterStatus; one that is malformed is left out.
    pub fn on_parameter_status(&mut self, body: &[u8]) {
        let parts = crate::frame::split_cstr(body)
            .and_then(|(name, rest)| Some((name, crate::frame::split_cstr(rest)?.0)))
            .and_then(|(name, value)| {
                Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
            });
        if let Some((name, value)) = parts
            && (self.parameters.len() < MAX_PARAMETERS || self.parameters.contains_key(name))
        {
            self.parameters.insert(name.into(), value.into());
        }
    }
}

/// PostgreSQL reports about fifteen; extensions may add their own.
const MAX_PARAMETERS: usize = 256;
