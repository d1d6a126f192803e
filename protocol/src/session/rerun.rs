//! Whether what a session has sent can be sent again, to another server, when its server is lost.
//!
//! It can as long as the client has been told nothing of it, and nothing of it could have been kept: then the client needs not
//! know. What was sent is kept beside the server connection ([`ServerState`]), so that idle clients cost nothing.

use super::{Altered, Reading, Session, Transaction};
use crate::error::ErrorFields;
use crate::flow::BUFFER_LEN;
use crate::frame::Frame;
use crate::server::ServerState;
use crate::statement::{Effect, Place, Scan};

/// The same is sent again at most so often: what brings servers down must not bring down one after the other.
const MOST_TIMES: u8 = 3;

/// What was sent in the present lease, as to whether it can be sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rerun {
    /// It can be.
    is_possible: bool,
    unnamed: Unnamed,
    /// How often it was sent again already.
    times: u8,
    /// The server has said that it stops.
    is_stopped: bool,
}

/// What the lease has had to do with the unnamed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unnamed {
    Untouched,
    /// It used the one that there was before: to do so again, that one has to be there.
    Used,
    /// It has replaced it, or dropped it, before it used one.
    Replaced,
}

impl Rerun {
    pub(super) const NOTHING: Self =
        Self { is_possible: false, unnamed: Unnamed::Untouched, times: 0, is_stopped: false };

    pub(super) fn begin(&mut self, is_possible: bool) {
        *self = Self { is_possible, times: self.times, ..Self::NOTHING };
    }

    /// A statement with these findings is run, on a standby or not.
    pub(super) fn run(&mut self, findings: Scan, on_standby: bool) {
        let is_step = on_standby && findings.in_block.is_step();
        self.is_possible &= is_step || findings.is_repeatable();
    }

    /// It can be.
    pub(super) const fn can_be_sent(&self) -> bool {
        self.is_possible
    }

    /// What was sent is not to be sent again.
    pub(super) const fn give_up(&mut self) {
        self.is_possible = false;
    }

    pub(super) fn use_unnamed(&mut self) {
        if self.unnamed == Unnamed::Untouched {
            self.unnamed = Unnamed::Used;
        }
    }

    pub(super) fn replace_unnamed(&mut self) {
        self.is_possible &= self.unnamed != Unnamed::Used;
        self.unnamed = Unnamed::Replaced;
    }
}

impl Session {
    /// A lease begins: what is sent from now on can be sent again if nothing of the session's is on the server, which is not its home.
    pub(super) fn begin_rerun(&mut self, server: &mut ServerState) {
        server.request.clear();
        self.reading = Reading::No;
        let is_possible = self.pooling.shares()
            && self.transaction == Transaction::Idle
            && self.altered == Altered::No
            && self.pin().is_none();
        self.rerun.begin(is_possible);
    }

    /// What is sent from now on can be sent again as long as the transaction block is open: it has only read.
    pub(super) fn begin_rerun_in_block(&mut self, server: &mut ServerState) {
        server.request.clear();
        // What a failed one may say is told where it is, unless that takes it back to where it had not.
        let is_possible = match self.transaction {
            Transaction::Open => true,
            Transaction::Failed => self.may_revive(),
            Transaction::Idle => false,
        };
        self.rerun.begin(is_possible);
    }

    /// So much of what the client has sent was taken in.
    #[inline]
    pub(crate) fn keep_request(&mut self, taken_in: &[u8], server: &mut ServerState) {
        if !self.rerun.is_possible {
            return;
        }
        if server.request.len() + taken_in.len() > BUFFER_LEN {
            self.rerun.give_up();
        } else {
            server.request.extend_from_slice(taken_in);
        }
    }

    /// The client is told something.
    #[inline]
    pub(crate) const fn note_told(&mut self) {
        self.rerun.is_possible = false;
        self.rerun.times = 0;
    }

    /// True for the notice of a server that is stopped without waiting for anybody (57P01), which is not for who is served elsewhere.
    pub(super) fn is_notice_of_stop(&mut self, frame: &Frame<'_>) -> bool {
        let is_it = self.rerun.is_possible && ErrorFields::parse(frame.body).sqlstate == b"57P01";
        self.rerun.is_stopped |= is_it;
        is_it
    }

    /// True if the server has given that notice.
    #[must_use]
    pub const fn server_stops(&self) -> bool {
        self.rerun.is_stopped
    }

    /// True if the session stands as before its lease for all that its client knows, and nothing can have come of what it has sent: if
    /// the server is lost, the same can be sent to another ([`Session::run_again`]).
    #[must_use]
    pub fn may_run_again(&self) -> bool {
        self.transaction == Transaction::Idle && self.may_be_sent_again()
    }

    /// The same, but for the transaction block in which it was sent.
    #[must_use]
    pub fn may_be_sent_again(&self) -> bool {
        self.rerun.is_possible && self.rerun.times < MOST_TIMES && self.left_there().is_none()
    }

    /// The server is lost, and all that was taken in in this lease ([`ServerState::request`]) will be sent anew, before
    /// anything else of the client.
    pub fn run_again(&mut self) {
        let times = self.rerun.times + 1;
        let owed = std::mem::take(&mut self.expected);
        let transaction = self.transaction;
        self.lose_server(owed, transaction);
        self.rerun.times = times;
    }
}

impl Scan {
    /// True for what can be run any number of times: nothing is kept of it, neither in the database nor in the session. A BEGIN
    /// is, too, as long as nothing has followed it.
    pub(super) fn is_repeatable(&self) -> bool {
        let changes_nothing = matches!(self.effect, Effect::Empty | Effect::Harmless | Effect::Begin)
            || self.place == Place::Standby;
        changes_nothing && self.pin.is_none() && !self.suspect && !self.alters && !self.forgets
    }
}
