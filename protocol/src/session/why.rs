//! Why what a client has sent is for the primary, for those who watch.

use super::Session;
use crate::frame::{Frame, bound, frontend_header, parsed};
use crate::prepared::Lookup;
use crate::statement::{Place, Why};

impl Session {
    /// Why what an idle client has sent may not be read anywhere, by the first of its texts. None where it is not for what that says: the
    /// session keeps its server connection.
    #[must_use]
    pub fn why_on_primary(&self, input: &[u8], lookup: Lookup<'_>) -> Option<Why> {
        if self.pin().is_some() {
            return None;
        }
        Some(match self.place_of_first(input, lookup) {
            Some(Place::Primary(why)) => why,
            // Something stands behind it, or not all of it is there.
            Some(Place::Standby) | None => Why::Unclear,
        })
    }

    fn place_of_first(&self, input: &[u8], lookup: Lookup<'_>) -> Option<Place> {
        let frame = Frame::new(frontend_header(input).ok().flatten()?, input);
        if !frame.is_complete() {
            return None;
        }
        match frame.header.tag {
            b'Q' => Some(lookup.recent.judge(frame.body, &self.suspects).place),
            b'P' => Some(lookup.recent.judge(parsed(frame.body)?.1, &self.suspects).place),
            b'B' => match bound(frame.body)? {
                b"" => Some(self.unnamed.scan.place),
                name => Some(self.names.get(name)?.judge(&self.suspects).place),
            },
            b'F' => Some(Place::Primary(Why::Function)),
            _ => None,
        }
    }
}
