//! The connection that knows a session's numbers of sequences.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::lease::Lease;
use super::{Connection, Pool};

impl Pool {
    /// The connection on which this session has taken the last number of a sequence, if it is idle.
    pub(crate) fn check_out_drawn_by(self: &Arc<Self>, session: u64) -> Option<Lease> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        let is_sought =
            |connection: &Connection| connection.state.drawers.has_last(session) && connection.is_quiet();
        let find = |idle: &mut VecDeque<Connection>| {
            let place = idle.iter().rposition(is_sought)?;
            idle.remove(place)
        };
        let connection = inner.idle.iter_mut().find_map(find)?;
        drop(inner);
        Some(Lease::new(self, connection))
    }
}
