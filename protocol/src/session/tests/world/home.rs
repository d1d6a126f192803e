//! Sessions that have a connection for life, and leave it aside while they read on a standby.

use super::{Client, Place, World};
use crate::parameters::Parameters;
use crate::session::Session;

impl World {
    /// Has a session read on a standby what comes next, if it is at home and that can be; true if so.
    pub(super) fn leaves_home(&mut self, number: usize) -> bool {
        let Client { session, up, down, place, .. } = &self.clients[number];
        let Place::Joined(home) = *place else { return false };
        let is_rested = session.is_at_home() && session.is_at_rest() && !up.flow.is_inside_message();
        let is_told = down.input.is_empty() && !self.servers[home].state.parameters_lost;
        if !is_rested || !is_told || self.role(number) != Some(true) {
            return false;
        }
        let client = &mut self.clients[number];
        client.session.detach(&mut self.servers[home].state);
        client.home = Some(home);
        self.lease_of(number, Some(true));
        true
    }

    /// Has a session go on with the connection that it has aside; false if it has none.
    pub(super) fn comes_home(&mut self, number: usize) -> bool {
        let Some(home) = self.clients[number].home.take() else { return false };
        self.clients[number].session.attach(&mut self.servers[home].state);
        self.clients[number].place = Place::Joined(home);
        true
    }
}

/// The server has told that the session has left nothing; true if it was to be asked.
pub(super) fn settle_at_home(session: &mut Session, parameters: &Parameters) -> bool {
    let is_asked = session.is_to_be_asked();
    if is_asked {
        session.on_leftovers(None, parameters);
    }
    is_asked
}
