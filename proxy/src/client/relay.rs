//! A session joined to a server connection: one task, both sockets, nothing in between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, ready};

use pgherd_protocol::error::{ClientError, ErrorFields, Severity};
use pgherd_protocol::flow::Stop;
use pgherd_protocol::frame::FrameError;
use pgherd_protocol::prepared::Lookup;
use pgherd_protocol::session::{Refusal, Session as Machine, Transaction};
use pgherd_protocol::write;

use super::blocks::KeepsBlocks;
use super::meter::{Ended, Lead, Meter};
use super::own_work::HeldOver;
use super::pipe::{Filled, Pipe};
use super::reads::Reads;
use super::watch::Overdue;
use crate::buffer::Buffers;
use crate::provoke;
use crate::server::connect::Presence;
use crate::server::connection::ServerConnection;
use crate::server::table::Server;
use crate::stream::Stream;
use crate::traces::context_in;
use crate::traffic::{Counter, Reason, Shard};

/// A client to which so many replies are owed is not read from until some of them are there; the server is told to keep
/// none to itself.
const MOST_OWED: usize = 1024;
/// A client that leaves so many bytes of pgherd's own unread is not read from.
const MOST_UNREAD: usize = 64 * 1024;

/// What so many bytes have come of is counted although its transaction has not ended.
const MOST_UNCOUNTED: u64 = 1024 * 1024;

/// Why the two were parted, or should be looked at.
#[derive(Debug)]
pub(super) enum Event {
    /// The server has answered everything, no transaction is open and nothing pins the session.
    AtRest,
    /// The session is to see its prepared statements, and nobody else's.
    Looks,
    /// The session has done nothing but listen for a while.
    OnlyListens,
    /// A standby will not do what the client has asked for, which was told nothing.
    Refused(Refusal),
    /// What the client asks for next in a transaction block on a standby is for the primary.
    Leaves,
    /// What the client asks for next may be read elsewhere than on the connection that the session has for life.
    LeavesHome,
    /// pgherd ends, and the session is at rest or out of time.
    Ending,
    /// The client has opened a transaction block in statement mode.
    Block,
    /// The session takes longer than it may.
    Overdue(Overdue),
    /// It took longer than it may, and the client was told so.
    SentAway,
    /// A statement has ended while it was being cancelled for having taken too long.
    Overtaken,
    /// The client closed the connection or broke it: nobody waits for what is under way.
    ClientGone,
    /// The client said Terminate, and what it had asked for before has been done, as by PostgreSQL.
    Terminated,
    /// The client sent what is no message.
    Violation(FrameError),
    /// The server is gone.
    Lost(Lost),
}

/// How a server was lost.
#[derive(Debug)]
pub(super) struct Lost {
    /// What was seen.
    pub(super) cause: String,
    /// The body of the server's last error, if it gave a reason.
    pub(super) last_error: Option<Box<[u8]>>,
}

impl Lost {
    /// True if the server ended this connection alone, for what its client did or left undone: it broke the protocol in the middle
    /// of a COPY (08P01), or a time-out of the server's ran out (25P03, 25P04, 57P05).
    pub(super) fn is_by_client(&self) -> bool {
        matches!(self.sqlstate(), Some(b"08P01" | b"25P03" | b"25P04" | b"57P05"))
    }

    /// True if somebody ended this connection (`pg_terminate_backend()`), or stops the server: the server says the same of both.
    pub(super) fn is_by_order(&self) -> bool {
        self.sqlstate() == Some(b"57P01")
    }

    /// True if the server can be taken to have ended this connection with all others, and not for what ran there: it is gone, or
    /// has said that it stops (57P01, 57P03) or that a standby cannot keep what is being read (40001). One that takes connections,
    /// or is about to, and has said nothing, has most likely lost the process of this one alone: it may have crashed by what it ran.
    /// And one that has said 57P02 may have crashed by a helper of that process.
    pub(super) fn is_for_all(&self, presence: Option<Presence>) -> bool {
        match self.sqlstate() {
            Some(sqlstate) => matches!(sqlstate, b"57P01" | b"57P03" | b"40001"),
            None => presence == Some(Presence::Gone),
        }
    }

    fn sqlstate(&self) -> Option<&[u8]> {
        self.last_error.as_ref().map(|body| ErrorFields::parse(body).sqlstate)
    }

    pub(super) fn because(cause: impl ToString) -> Event {
        Event::Lost(Self { cause: cause.to_string(), last_error: None })
    }
}

/// What a client sent that ends its session once all before it has been done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Terminate,
    Violation(FrameError),
}

/// The client's side of a session: its socket, what is in flight, and what is owed.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) stream: Stream,
    /// From the client.
    pub(super) up: Pipe,
    /// To the client.
    pub(super) down: Pipe,
    pub(super) machine: Machine,
    pub(super) meter: Meter,
    /// Why nothing more of the client is read.
    pub(super) ending: Option<Ending>,
    /// The client has asked for so much that it is not read from for now.
    pub(super) held_back: bool,
    /// The next transaction waits on a connection that the session keeps: see [`Front::waits_on`].
    pub(super) is_withheld: bool,
    /// A cancel request of pgherd's own was sent: it must not meet what comes next.
    pub(super) is_cancelled: bool,
    /// A cancel request has come before what it is for was sent.
    pub(super) held_over: HeldOver,
    /// Where what the client has sent may be answered.
    pub(super) reads: Reads,
    /// The session is at home, and what its client sends is looked at as to whether it is to be read elsewhere.
    pub(super) looks_ahead: bool,
    /// Whether the session begins its transaction blocks that only read on the primary.
    pub(super) keeps_blocks: KeepsBlocks,
    /// Why what it asks for on the primary is there.
    pub(super) reason: Reason,
    /// False in statement mode: no transaction block may be opened.
    pub(super) has_blocks: bool,
    /// The process id that the client knows, for the log.
    pub(super) pid: u32,
}

impl Front {
    /// Moves bytes in both directions until something happens. Holds buffers only while they have bytes.
    pub(super) fn poll_relay(
        &mut self,
        server: &mut ServerConnection,
        (buffers, lookup): (&Buffers, Lookup<'_>),
        place: &Server,
    ) -> Poll<Event> {
        if self.machine.owes_nothing() {
            // What it was held back for was answered, and the lease has ended with that.
            self.held_back = false;
            // What its own connection says by itself is not put off, however fast its client reads elsewhere.
            if self.looks_ahead
                && let Poll::Ready(event) = self.poll_down(server, (buffers, lookup))
            {
                return Poll::Ready(event);
            }
        } else if let Poll::Ready(event) = self.poll_down(server, (buffers, lookup)) {
            // What the client has sent meanwhile is for its next lease.
            return Poll::Ready(event);
        }
        loop {
            if let Poll::Ready(event) = self.poll_up(server, (buffers, lookup), place) {
                return Poll::Ready(event);
            }
            provoke::at(format_args!("asked-{}", self.pid));
            let was_stalled = self.machine.is_stalled();
            if let Poll::Ready(event) = self.poll_down(server, (buffers, lookup)) {
                return Poll::Ready(event);
            }
            // Half of what the server says on its own must not be taken for an answer.
            if self.machine.awaits_privacy() && self.up.is_flushed() && !self.down.has_input() {
                return Poll::Ready(Event::Looks);
            }
            if was_stalled && !self.machine.is_stalled() {
                continue;
            }
            if !self.held_back || self.has_enough() {
                break;
            }
            self.held_back = false;
        }
        match self.ending.filter(|_| self.machine.owes_nothing() || self.machine.awaits_client()) {
            Some(Ending::Terminate) => Poll::Ready(Event::Terminated),
            Some(Ending::Violation(error)) => Poll::Ready(Event::Violation(error)),
            None => Poll::Pending,
        }
    }

    /// True if the client has asked for more than it may before it reads.
    fn has_enough(&self) -> bool {
        self.machine.owed() > MOST_OWED || self.down.out.len() > MOST_UNREAD
    }

    /// What the client has sent in this lease, if it can be sent again to another server.
    pub(super) fn repeatable(&self, server: &mut ServerConnection) -> Option<Vec<u8>> {
        let is_whole = !self.up.flow.is_inside_message();
        let has_room = self.up.has_room_for(server.state.request.len());
        let may_be_sent =
            is_whole && has_room && self.machine.may_be_sent_again() && !server.cancel.is_asked();
        may_be_sent.then(|| std::mem::take(&mut server.state.request))
    }

    /// Goes back to where the client had sent that, which is [`Front::repeatable`]: it is taken for what it sends next.
    pub(super) fn send_again(&mut self, request: &[u8], buffers: &Buffers) {
        self.up.put_back(request, buffers);
        self.machine.run_again();
        // What ends the session stands behind it.
        self.ending = None;
    }

    /// Has the server say what it keeps to itself until a Sync: the client may be waiting for it.
    fn hold_back(&mut self) {
        if !std::mem::replace(&mut self.held_back, true) && !self.up.flow.is_inside_message() {
            write::empty(&mut self.up.out, b'H');
        }
    }

    fn poll_up(
        &mut self,
        server: &mut ServerConnection,
        (buffers, lookup): (&Buffers, Lookup<'_>),
        place: &Server,
    ) -> Poll<Event> {
        loop {
            if let Err(error) = ready!(self.up.poll_flush(&mut server.stream, buffers)) {
                return Poll::Ready(Lost::because(error));
            }
            if self.ending.is_some() || self.held_back {
                return Poll::Pending;
            }
            if self.is_cancelled && self.machine.owes_nothing() {
                return Poll::Pending;
            }
            self.is_withheld = self.waits_on(place);
            if self.is_withheld {
                return self.poll_closed().map(|()| Event::ClientGone);
            }
            if self.machine.is_stalled() {
                return self.poll_closed().map(|()| Event::ClientGone);
            }
            if self.has_enough() {
                self.hold_back();
                continue;
            }
            if self.up.has_input() {
                if self.looks_ahead && self.leaves_home(server, lookup) {
                    return Poll::Ready(Event::LeavesHome);
                }
                let (flow, input, out) = self.up.uncut();
                let cut = flow.cut_frontend(&mut self.machine, &mut server.state, lookup, input, out);
                self.up.accept(&cut);
                if cut.stop == Some(Stop::Leaves) && self.up.is_flushed() {
                    return Poll::Ready(Event::Leaves);
                }
                if self.machine.has_local_now() && !self.down.flow.is_inside_message() {
                    self.machine.drain_local(self.down.append());
                }
                self.ending = match cut.stop {
                    Some(Stop::Terminate) => Some(Ending::Terminate),
                    Some(Stop::Violation(error)) => Some(Ending::Violation(error)),
                    _ => None,
                };
                // A message that waits may take the whole buffer.
                let waits = self.up.has_input() && self.machine.is_stalled();
                if self.ending.is_some() || !self.up.is_flushed() || waits {
                    continue;
                }
            }
            match ready!(self.up.poll_fill(&mut self.stream, buffers)) {
                Ok(Filled::Bytes) => self.meter.begin(),
                Ok(Filled::End) | Err(_) => return Poll::Ready(Event::ClientGone),
            }
        }
    }

    fn poll_down(
        &mut self,
        server: &mut ServerConnection,
        (buffers, lookup): (&Buffers, Lookup<'_>),
    ) -> Poll<Event> {
        loop {
            if ready!(self.down.poll_flush(&mut self.stream, buffers)).is_err() {
                return Poll::Ready(Event::ClientGone);
            }
            if self.down.has_input() {
                let (flow, input, out) = self.down.uncut();
                let cut = match flow.cut_backend(&mut self.machine, &mut server.state, input, out) {
                    Ok(cut) => cut,
                    Err(error) => return Poll::Ready(Lost::because(error)),
                };
                let event = match cut.stop {
                    Some(Stop::ServerEnds { body }) => {
                        Some(last_words(input.0.get(body..).unwrap_or_default()))
                    }
                    Some(Stop::SentAway) => Some(Event::SentAway),
                    Some(Stop::Refused(refusal)) => Some(Event::Refused(refusal)),
                    Some(Stop::OutOfStep) => Some(Lost::because("the server broke the protocol")),
                    _ => None,
                };
                self.down.accept(&cut);
                // Before the client hears of it.
                self.machine.tell_migrations(lookup.statements);
                if let Some(event) = event {
                    return Poll::Ready(event);
                }
                if !self.down.is_flushed() {
                    continue;
                }
            }
            let owes_nothing = self.machine.owes_nothing();
            let is_idle = self.machine.transaction() == Transaction::Idle;
            if owes_nothing {
                self.meter.rest(is_idle);
            }
            let at_rest = owes_nothing && is_idle && !self.down.has_input() && self.up.is_flushed();
            if at_rest && (!self.machine.keeps_connection() || self.machine.is_to_be_asked()) {
                return Poll::Ready(Event::AtRest);
            }
            if !self.has_blocks && owes_nothing && !is_idle {
                return Poll::Ready(Event::Block);
            }
            match ready!(self.down.poll_fill(&mut server.stream, buffers)) {
                Ok(Filled::Bytes) => {}
                Ok(Filled::End) => return Poll::Ready(Lost::because("the server closed the connection")),
                Err(error) => return Poll::Ready(Lost::because(error)),
            }
        }
    }

    /// True if a transaction has ended that was not counted, or much has passed.
    #[inline]
    pub(super) const fn is_to_be_counted(&self) -> bool {
        self.machine.has_ended_transaction() || self.up.uncounted + self.down.uncounted > MOST_UNCOUNTED
    }

    /// Counts what was not counted yet, which ran for this reason; and says how many statements only read, and what has ended.
    pub(super) fn count(&mut self, shard: &Shard, reason: Reason) -> (u32, Ended) {
        let tally = self.machine.take_tally();
        shard.add_routed(reason, tally.queries.into());
        shard.add(Counter::Transactions, tally.transactions.into());
        shard.add(Counter::Queries, tally.queries.into());
        shard.add(Counter::ClientParses, tally.client_parses.into());
        shard.add(Counter::ServerParses, tally.server_parses.into());
        shard.add(Counter::Binds, tally.binds.into());
        shard.add(Counter::Received, std::mem::take(&mut self.up.uncounted));
        shard.add(Counter::Sent, std::mem::take(&mut self.down.uncounted));
        let ended = self.meter.tell((tally.queries, tally.transactions), shard);
        (tally.reads, ended)
    }

    /// A trace may begin with what the client has sent.
    #[cold]
    pub(super) fn lead(&mut self) {
        let (_, (messages, _), _) = self.up.uncut();
        self.meter.lead = Some(Box::new(Lead { parent: context_in(messages), waited: 0 }));
    }

    /// True if the next transaction of a session that keeps its connection waits: a switchover waits for the end of all
    /// transactions there. New ones of others wait for a pool.
    #[inline]
    fn waits_on(&self, place: &Server) -> bool {
        place.quiesces()
            && self.machine.is_at_rest()
            && (self.machine.is_at_home() || self.machine.lasting_pin().is_some())
            && !self.up.flow.is_inside_message()
    }

    /// Ready when the client has closed the connection. One that has sent more meanwhile is taken to be there.
    pub(super) fn poll_closed(&mut self) -> Poll<()> {
        self.stream.poll_closed()
    }

    /// What a client is told whose session ends by a panic. In the middle of a message nothing would be understood.
    fn say_defect(&mut self) {
        let buffers = Buffers::default();
        self.down.forget_uncut(&buffers);
        if !self.down.flow.is_inside_message() {
            ClientError::new("XX000", "the session has ended by a defect of pgherd")
                .detail("Whether the last statement took effect is not known. pgherd's log says more.")
                .write(self.down.append(), Severity::Fatal);
        }
        let _ = self.poll_flush(&buffers);
    }

    /// Writes out what waits for the client.
    pub(super) fn poll_flush(&mut self, buffers: &Buffers) -> Poll<std::io::Result<()>> {
        self.down.poll_flush(&mut self.stream, buffers)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One more panic within this one would end the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.say_defect()));
        }
    }
}

fn last_words(body: &[u8]) -> Event {
    let message = String::from_utf8_lossy(ErrorFields::parse(body).message);
    Event::Lost(Lost { cause: format!("the server said: {message}"), last_error: Some(body.into()) })
}
