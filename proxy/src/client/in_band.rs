//! pgpool's commands of an idle client that no server can be had for at once: that is when they are asked most.

use pgherd_protocol::frame::{Frame, frontend_header, split_cstr};
use pgherd_protocol::session::in_band_answer;
use pgherd_protocol::statement::PoolView;
use pgherd_protocol::write;

use super::session::Session;

impl Session {
    /// Answers the client's next message if it is such a command, as a Query; false if it is anything else.
    pub(super) fn answer_in_band(&mut self) -> bool {
        let (_, (input, _), _) = self.front.up.uncut();
        let Ok(Some(header)) = frontend_header(input) else { return false };
        let frame = Frame::new(header, input);
        if header.tag != b'Q' || !frame.is_complete() {
            return false;
        }
        let text = split_cstr(frame.body).map_or(frame.body, |(text, _)| text);
        if !PoolView::may_be_asked_for(text) {
            return false;
        }
        let Some(view) = self.worker.recent.scan(text).view else { return false };
        let mut answer = in_band_answer(view, &*self.worker);
        write::ready_for_query(&mut answer, self.front.machine.transaction().byte());
        self.front.up.skip(header.len, &self.worker.buffers);
        self.front.down.append().extend_from_slice(&answer);
        true
    }
}
