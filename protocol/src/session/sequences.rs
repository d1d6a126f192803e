//! Which numbers of sequences a server connection knows, and whose they are.
//!
//! `currval()` and `lastval()` tell what the server process has taken of sequences, for whatever client. So each
//! connection records whose numbers it may know. Who asks on one that knows others' has it forget them first, and is told that
//! there is none, as in a new session; a session of which it is known that it may ask keeps the connection from the moment it
//! takes a number. Sequences do not care for transactions: what was taken stays taken after a rollback.

mod forgetting;
mod policy;

use forgetting::Forgetting;
pub use policy::{SequencePolicy, Sequences};

use super::Session;
use crate::frame::{Frame, bound, parsed};
use crate::prepared::{Lookup, ServerStatements};
use crate::server::ServerState;
use crate::statement::{Draws, Pin, Scan, Verb, mentions};

/// The OIDs of `currval()` and `lastval()`.
const ASKING_FUNCTIONS: [u32; 2] = [1575, 2559];

/// The sessions whose numbers a server connection may know. Sessions are known by numbers, of which none is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drawers {
    /// None.
    #[default]
    Nobody,
    /// This one, and no other.
    One(u64),
    /// Several; this one has taken the last, or it is not known who has if 0.
    Several(u64),
}

impl Drawers {
    /// True if this session's number is the one that was taken last.
    #[must_use]
    pub const fn has_last(self, session: u64) -> bool {
        matches!(self, Self::One(last) | Self::Several(last) if last == session)
    }
}

/// What a session has to do with sequences.
#[derive(Debug)]
pub(super) struct Numbers {
    session: u64,
    /// What the present connection knows, or the last one knew.
    drawers: Drawers,
    /// Nothing was sent to the present connection.
    is_new_lease: bool,
    /// What the session has taken here of what others have taken from, too.
    taken: Taken,
    /// It may have taken numbers, here or elsewhere.
    has_drawn: bool,
    /// It may have taken numbers of which the present connection does not know.
    has_drawn_elsewhere: bool,
    /// It keeps the connection for its numbers.
    keeps: bool,
    /// The connection was told to forget, and it is not sure that it does.
    forgetting: Option<Forgetting>,
    /// The end of a long text asks.
    asks_late: bool,
    /// A long text is passing that may end a failed transaction, on a connection that knows others' numbers: its rest is not to ask.
    must_not_ask: bool,
    /// It was the first to ask.
    is_first_to_ask: bool,
}

/// Whether a session has taken a number in this lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    No,
    /// Unless an error makes the server skip the batch of this number.
    InBatch(u64),
    Surely,
}

impl Numbers {
    pub(super) const fn new(session: u64) -> Self {
        Self {
            session,
            drawers: Drawers::Nobody,
            is_new_lease: true,
            taken: Taken::No,
            has_drawn: false,
            has_drawn_elsewhere: false,
            keeps: false,
            forgetting: None,
            asks_late: false,
            must_not_ask: false,
            is_first_to_ask: false,
        }
    }

    fn attach(&mut self, drawers: Drawers) {
        self.drawers = drawers;
        self.is_new_lease = true;
        self.taken = Taken::No;
        self.forgetting = None;
        self.has_drawn_elsewhere |= self.has_drawn && !drawers.has_last(self.session);
    }

    /// True if the connection may tell another session's number where this one asks in this batch. Where both have taken
    /// some, it is trusted that the session asks for what it has just taken.
    pub(super) fn may_be_anothers(&self, batch: u64) -> bool {
        if self.forgetting.is_some_and(|forgetting| forgetting.batch == batch) {
            return false;
        }
        match self.drawers {
            Drawers::Nobody => false,
            Drawers::One(session) => session != self.session,
            Drawers::Several(last) => match self.taken {
                Taken::Surely => false,
                Taken::InBatch(taken) if taken == batch => false,
                Taken::No | Taken::InBatch(_) => last != self.session || self.has_drawn_elsewhere,
            },
        }
    }

    /// A statement is sent that may take a number.
    fn draw(&mut self, batch: u64) {
        self.has_drawn = true;
        if let Some(forgetting) = &mut self.forgetting {
            forgetting.draws = true;
            if forgetting.batch == batch {
                return;
            }
        }
        self.drawers = match self.drawers {
            Drawers::Nobody => Drawers::One(self.session),
            Drawers::One(session) if session == self.session => self.drawers,
            Drawers::Several(last) if last == self.session => self.drawers,
            Drawers::One(_) | Drawers::Several(_) => Drawers::Several(0),
        };
    }

    /// A number was taken.
    fn confirm(&mut self) {
        self.taken = Taken::Surely;
        if let Drawers::Several(last) = &mut self.drawers {
            *last = self.session;
        }
    }

    /// The connection has forgotten everything, on the client's behalf or on pgherd's; `draws` if it may have learnt more since.
    pub(super) fn forget(&mut self, draws: bool) {
        self.drawers = if draws { Drawers::One(self.session) } else { Drawers::Nobody };
    }

    /// Why it keeps its connection, if that is for its numbers.
    pub(super) fn pin(&self) -> Option<Pin> {
        self.keeps.then_some(Pin::Sequence)
    }

    /// A long text has passed.
    pub(super) const fn end_text(&mut self) {
        self.must_not_ask = false;
    }

    pub(super) fn on_loss(&mut self) {
        self.attach(Drawers::Nobody);
        self.end_text();
        self.keeps = false;
    }
}

/// Messages of the client.
impl Session {
    /// Begins a lease of a connection that knows these numbers.
    pub(super) fn attach_numbers(&mut self, server: &ServerState) {
        self.numbers.attach(server.drawers);
    }

    /// Everything is forgotten there: DISCARD ALL was said on the session's behalf when it had left.
    pub fn on_cleaned(&mut self) {
        self.numbers.forget(false);
    }

    /// True for the first message of a lease.
    #[inline]
    pub(super) const fn takes_new_lease(&mut self) -> bool {
        std::mem::replace(&mut self.numbers.is_new_lease, false)
    }

    /// Before the first message of a lease: whoever is to keep its connection begins with one that knows no others' numbers. There
    /// are few that do, since those who have taken numbers keep theirs, too.
    pub(super) fn begin_with_numbers(
        &mut self,
        server: &mut ServerStatements,
        lookup: Lookup<'_>,
        out: &mut Vec<u8>,
    ) {
        let begins_clean = !self.pooling.shares() || lookup.sequences.pin();
        if begins_clean && self.numbers.may_be_anothers(self.batch) {
            self.have_forgotten(false, (server, lookup), out);
        }
    }

    /// Takes in what a text says of sequences that is about to be run. `in_batch`: messages before it have had no Sync. Before
    /// anything is appended to `out` that belongs to it. False if it cannot be run: the client gets an error.
    #[inline]
    pub(super) fn see_numbers(
        &mut self,
        findings: Scan,
        in_batch: bool,
        server: (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> bool {
        let is_plain = findings.draws == Draws::No && !findings.asks && findings.whole;
        is_plain || !self.pooling.shares() || self.look_at_numbers(findings, in_batch, server, out)
    }

    fn look_at_numbers(
        &mut self,
        findings: Scan,
        in_batch: bool,
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> bool {
        if std::mem::take(&mut self.numbers.asks_late) || (findings.asks && !lookup.sequences.is_off()) {
            self.note_asked(lookup);
        }
        if self.is_to_forget(findings, self.batch, lookup) {
            // It would be refused, and the server skip a Query or FunctionCall that it would answer else.
            if !self.stays_failed() {
                self.have_forgotten(in_batch, (server, lookup), out);
            } else if !findings.single {
                // It may end the transaction and then ask; nothing can be said between.
                if findings.asks {
                    return false;
                }
                self.numbers.must_not_ask = true;
            }
        }
        if findings.draws != Draws::No {
            self.numbers.draw(self.batch);
        }
        let has_own = self.numbers.drawers.has_last(self.numbers.session)
            || self.numbers.forgetting.is_some_and(|forgetting| forgetting.draws);
        self.numbers.keeps |= has_own && lookup.sequences.pin();
        true
    }

    /// A text is parsed that may ask: a batch that begins with it needs nothing between its messages, and is no pipeline by what pgherd
    /// runs.
    pub(super) fn see_asking(
        &mut self,
        findings: Scan,
        server: (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) {
        if (findings.asks || !findings.whole) && !self.is_in_batch(self.in_batch) {
            self.see_numbers(Scan { draws: Draws::No, single: true, ..findings }, false, server, out);
        }
    }

    /// What a function call of the protocol has to do with sequences.
    pub(super) fn calls_asking(function: Option<u32>) -> bool {
        function.is_some_and(|function| ASKING_FUNCTIONS.contains(&function))
    }

    /// What was bound to the unnamed portal is executed: behind INSERT and its like the session's number is the last.
    pub(super) fn execute_numbers(&mut self, findings: Scan) {
        if findings.draws == Draws::Likely && self.numbers.taken != Taken::Surely {
            self.numbers.taken = Taken::InBatch(self.batch);
        }
    }

    fn note_asked(&mut self, lookup: Lookup<'_>) {
        self.numbers.is_first_to_ask |= lookup.sequences.note_asked();
    }

    /// True, once, if this session was the first of its database and user to ask.
    #[must_use]
    pub const fn take_first_to_ask(&mut self) -> bool {
        std::mem::replace(&mut self.numbers.is_first_to_ask, false)
    }

    /// True if the message that comes next asks for a number that the session has taken in its last lease: then it is better
    /// served by the same connection.
    #[must_use]
    pub fn asks_for_last(&self, frame: &Frame<'_>, lookup: Lookup<'_>) -> bool {
        let Numbers { session, drawers, .. } = self.numbers;
        if !drawers.has_last(session) || !self.pooling.shares() || lookup.sequences.is_off() {
            return false;
        }
        let asks = |text: &[u8]| {
            let findings = lookup.recent.scan(text);
            findings.asks || (findings.names && self.executes_asking(text))
        };
        match frame.header.tag {
            _ if !frame.is_complete() => true,
            b'Q' => asks(frame.body),
            b'P' => parsed(frame.body).is_some_and(|(_, text)| asks(text)),
            b'B' => bound(frame.body).is_some_and(|name| self.means_asking(name)),
            tag => tag == b'F',
        }
    }

    fn means_asking(&self, name: &[u8]) -> bool {
        let (scan, mention) = match (name, self.names.get(name)) {
            (b"", _) => (self.unnamed.scan, self.unnamed.mention.as_deref()),
            (_, Some(statement)) => (statement.scan, statement.mention.as_deref()),
            (_, None) => return false,
        };
        let executed = mention.and_then(|mention| self.names.get(&mention.name));
        scan.asks || executed.is_some_and(|statement| statement.scan.asks)
    }

    /// True for a text with an EXECUTE of what asks.
    fn executes_asking(&self, text: &[u8]) -> bool {
        let is_asking = |name: &[u8]| self.names.get(name).is_some_and(|statement| statement.scan.asks);
        mentions(text)
            .is_some_and(|(all, _)| all.iter().any(|it| it.verb == Verb::Execute && is_asking(&it.name)))
    }
}

/// Answers of the server.
impl Session {
    /// The lease ends: what the connection knows.
    pub(super) const fn detach_numbers(&self, server: &mut ServerState) {
        server.drawers = self.numbers.drawers;
    }

    /// The client has had the server forget its numbers, by DISCARD ALL or DISCARD SEQUENCES. What was sent behind it may have
    /// taken others.
    pub(super) fn on_discarded(&mut self, is_last: bool) {
        self.numbers.forget(!is_last);
        if is_last {
            self.numbers.keeps = false;
            self.numbers.has_drawn = false;
            self.numbers.has_drawn_elsewhere = false;
            self.numbers.taken = Taken::No;
        }
    }

    /// A statement was carried out that was answered with this tag: where INSERT and its like have written, or a SELECT of
    /// `nextval()` has given rows, a number was taken.
    pub(super) fn count_numbers(&mut self, tag: &[u8]) {
        if !matches!(self.numbers.drawers, Drawers::Several(_)) || tag.ends_with(b" 0\0") {
            return;
        }
        let takes = self.expected.front().is_some_and(|e| e.takes);
        if (takes && tag.starts_with(b"SELECT "))
            || tag.starts_with(b"INSERT ")
            || tag.starts_with(b"MERGE ")
            || (self.copying_in && tag.starts_with(b"COPY "))
        {
            self.numbers.confirm();
        }
    }
}
