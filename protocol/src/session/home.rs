//! Sessions that have one connection for life and read elsewhere: what that connection may have that others have not.

use super::{Pooling, Reading, Session};
use crate::statement::{Pin, Scan, SetsCustom, Trust};

/// Of texts that have run before the catalogue was read, not more bytes than this are kept.
const MOST_UNREAD: usize = 8 * 1024;

/// What has run on a session's own connection before the catalogue was read, and so before it was known what it names.
#[derive(Debug, Default)]
pub(super) struct Unread {
    texts: Vec<Box<[u8]>>,
    bytes: usize,
    /// There was more.
    is_part: bool,
}

impl Unread {
    fn keep(&mut self, text: &[u8]) {
        if self.texts.iter().any(|known| **known == *text) {
            return;
        }
        self.bytes += text.len();
        self.is_part |= self.bytes > MOST_UNREAD;
        if !self.is_part {
            self.texts.push(text.into());
        }
    }
}

impl Session {
    /// True if the session has a connection for life, and reads elsewhere.
    #[must_use]
    pub fn has_home(&self) -> bool {
        self.pooling == Pooling::Home
    }

    /// True if that is the connection of the present lease.
    #[must_use]
    pub fn is_at_home(&self) -> bool {
        self.has_home() && self.reading == Reading::No
    }

    /// True if the session, at rest, keeps the connection of the present lease.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        self.is_at_home() || self.pin().is_some()
    }

    /// True if standbys would answer as the session's own connection, as far as that depends on the session.
    pub(super) fn leaves_nothing_at_home(&self) -> bool {
        let is_known = self.suspects.trust != Trust::Blind
            && self.unread.is_none()
            && !self.unasked
            && !self.ran_any
            && !self.restore_due;
        !self.has_home() || is_known
    }

    /// What keeps a session on its connection that does not have one for life: there it goes on to listen while standbys are read.
    pub(super) fn beyond_home(&self, pin: Option<Pin>) -> Option<Pin> {
        pin.filter(|pin| !self.has_home() || *pin != Pin::Listen)
    }

    /// This text is run now or later. What it leaves is found out when it is known what it names.
    pub(super) fn note_unread(&mut self, findings: Scan, text: &[u8]) {
        if self.has_home()
            && !self.suspects.names.is_read
            && self.suspects.trust != Trust::Blind
            && findings.runs_any
        {
            self.unread.get_or_insert_default().keep(text);
        }
    }

    /// As [`Session::note_unread`], of a text that is not all there.
    pub(super) fn note_too_long_to_keep(&mut self) {
        if let Some(unread) = &mut self.unread {
            unread.is_part = true;
        }
    }

    /// Looks at what ran before the catalogue was read, if that has been read.
    pub(super) fn judge_unread(&mut self) {
        if !self.suspects.names.is_read {
            return;
        }
        let Some(unread) = self.unread.take() else { return };
        self.ran_any |= unread.is_part;
        for text in &unread.texts {
            let Scan { runs_any, sets_custom, pin, .. } = self.suspects.scan(text);
            // Of what a function has set there the session has not been told.
            self.ran_any |= runs_any || sets_custom == SetsCustom::Suspected;
            self.keep(pin.filter(|pin| !pin.can_be_asked_about()));
        }
    }

    /// DISCARD ALL has undone it.
    pub(super) fn forget_what_ran_at_home(&mut self) {
        if self.has_home() {
            self.ran_any = false;
            self.unread = None;
        }
    }
}
