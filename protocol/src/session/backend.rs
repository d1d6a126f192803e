//! Messages from the server.

use std::collections::HashSet;

use super::migration::{Change, changes_schema};
use super::names::client_name;
use super::{
    About, Altered, Expected, Kind, Migration, OwnWords, Placed, Reading, Session, Transaction, Undo,
};
use crate::frame::Frame;
use crate::prepared::ServerStatements;
use crate::server::ServerState;
use crate::statement::{Pin, Scan, SetsCustom};
use crate::write;

/// What becomes of a server's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The client gets it as it is.
    Forward,
    /// The client gets what was appended to the output in its place.
    Replaced,
    /// The client does not get it.
    Drop,
    /// The session ends with what was appended to the output in its place.
    SentAway,
    /// The server ends the connection: its last error is not for the client.
    ServerEnds,
    /// The server said something that nothing asked for: its connection cannot be trusted any more.
    OutOfStep,
}

impl Session {
    /// Takes in a message from the server. `frame` holds the whole message if it is one that is looked at.
    pub fn on_backend(&mut self, frame: &Frame<'_>, server: &mut ServerState, out: &mut Vec<u8>) -> Reply {
        let is_hidden = self.expected.front().is_some_and(|e| !e.shown && e.kind == Kind::Query);
        match frame.header.tag {
            // The text is read twice.
            b'N' if self.front() == Some(Kind::Probe) => Reply::Drop,
            b'N' if self.is_notice_of_stop(frame) => Reply::Drop,
            b'N' | b'S' => Reply::Forward,
            b'A' => self.on_notification(frame, server.pid, out),
            b'Z' => self.on_ready(frame, &mut server.statements),
            b'T' | b'D' if is_hidden => Reply::Drop,
            b'E' => {
                // Refused in a failed transaction; what was reset may have been committed before that began.
                server.parameters_lost |= is_hidden;
                self.on_error(frame, &mut server.statements, out)
            }
            b'1' => self.on_done(Kind::Parse),
            b'2' => self.on_done(Kind::Bind),
            b'3' => self.on_done(Kind::Close),
            tag => match (tag, self.front()) {
                (b'D' | b'd' | b'H' | b'W' | b'c', Some(Kind::Execute | Kind::Query | Kind::Part(_)))
                | (b'T', Some(Kind::Query | Kind::Part(_)))
                | (b'V', Some(Kind::FunctionCall)) => Reply::Forward,
                (b't', Some(Kind::Describe)) => self.on_parameters(frame),
                (b'C', Some(Kind::Exit)) => self.on_exited(frame.body),
                (b'C', Some(Kind::Execute | Kind::Query | Kind::Part(_))) => {
                    self.on_command_complete(frame, server)
                }
                (b'I' | b's', Some(Kind::Execute | Kind::Query)) => self.on_executed(b""),
                (b'G', Some(Kind::Execute | Kind::Query | Kind::Part(_))) => self.on_copy_in(),
                (b'T' | b'n', Some(Kind::Describe)) => {
                    if let Some(described) = self.expected.pop_front().filter(|e| e.shown) {
                        self.note_gives(described.about, frame);
                        return Reply::Forward;
                    }
                    self.on_description(frame, &mut server.statements);
                    Reply::Drop
                }
                // It may be another client's.
                _ => Reply::OutOfStep,
            },
        }
    }

    /// A session recognises its own notifications by its process id.
    fn on_notification(&mut self, frame: &Frame<'_>, server_pid: u32, out: &mut Vec<u8>) -> Reply {
        // What it tells of was committed before, and a standby may not have it yet.
        self.wrote |= self.reading == Reading::No;
        match frame.body.split_first_chunk() {
            Some((pid, rest))
                if u32::from_be_bytes(*pid) == server_pid
                    && server_pid != self.pid
                    && frame.is_complete() =>
            {
                write::message(out, b'A', |out| {
                    out.extend_from_slice(&self.pid.to_be_bytes());
                    out.extend_from_slice(rest);
                });
                Reply::Replaced
            }
            _ => Reply::Forward,
        }
    }

    /// Appends the replies that pgherd gives itself and whose turn has come.
    pub fn drain_local(&mut self, out: &mut Vec<u8>) {
        self.is_flushed = false;
        while self.has_local() {
            self.note_told();
            let Some(Expected { kind, answer, .. }) = self.expected.pop_front() else { return };
            if let Kind::Local(tag) = kind {
                write::empty(out, tag);
            }
            if let Some(OwnWords(words)) = answer.as_deref() {
                out.extend_from_slice(words);
            }
            if kind == Kind::QueryAnswer {
                write::ready_for_query(out, self.transaction.byte());
            }
        }
    }

    /// True if [`Session::drain_local`] has something to say.
    #[must_use]
    pub fn has_local(&self) -> bool {
        !self.gets_inside
            && !self.is_silent()
            && matches!(self.front(), Some(Kind::Local(_) | Kind::Answer | Kind::QueryAnswer | Kind::CopyEnd))
    }

    /// True if that is to be said at once. As from PostgreSQL, what completes a step of a batch comes with what stands behind it, unless
    /// the client asks for it.
    #[must_use]
    pub fn has_local_now(&self) -> bool {
        if !self.has_local() {
            return false;
        }
        let is_step = matches!(self.front(), Some(Kind::Local(_))) && !self.is_flushed;
        let behind = self.expected.iter().map(|e| e.kind).find(|kind| !matches!(kind, Kind::Local(_)));
        let comes_with_others = is_step && behind.is_some_and(Kind::is_of_server);
        !comes_with_others
    }

    /// Whether rows that come now go on as they are; and if so, whether their description does, too.
    pub(crate) fn awaits_rows(&self) -> Option<bool> {
        let front = self.expected.front()?;
        match front.kind {
            Kind::Query if front.shown => Some(true),
            Kind::Part(_) => Some(true),
            Kind::Execute => Some(false),
            _ => None,
        }
    }

    fn front(&self) -> Option<Kind> {
        self.expected.front().map(|e| e.kind)
    }

    fn on_done(&mut self, kind: Kind) -> Reply {
        match self.expected.pop_front() {
            Some(e) if e.kind == kind || (kind == Kind::Parse && e.kind == Kind::ParseUnnamed) => {
                self.preparing -= usize::from(matches!(e.about, About::Prepares(_)));
                self.copy_syncs = 0;
                if e.shown { Reply::Forward } else { Reply::Drop }
            }
            _ => Reply::OutOfStep,
        }
    }

    /// A hidden one was asked for to learn the types.
    fn on_parameters(&mut self, frame: &Frame<'_>) -> Reply {
        match self.expected.front() {
            Some(front) if !front.shown => {
                self.on_types(frame);
                Reply::Drop
            }
            front => {
                let about = front.map_or(About::Nothing, |front| front.about);
                self.note_takes(about, frame);
                Reply::Forward
            }
        }
    }

    fn on_executed(&mut self, tag: &[u8]) -> Reply {
        match self.expected.front_mut() {
            Some(front) if front.kind == Kind::Execute => {
                self.answered.on_executed(front.effect, tag);
                self.expected.pop_front();
            }
            // Nothing but ReadyForQuery is left, as after Sync.
            Some(front) if front.kind == Kind::Query && front.single && self.pooling.keeps_track() => {
                self.answered.on_query(front.effect, tag);
                *front = Expected { shown: front.shown, ..Expected::new(Kind::Sync) };
            }
            _ => {}
        }
        Reply::Forward
    }

    fn on_command_complete(&mut self, frame: &Frame<'_>, server: &mut ServerState) -> Reply {
        self.on_part_complete(&mut server.statements);
        if self.forgets_now() {
            self.expected.pop_front();
            self.on_forgotten(true);
            return Reply::Drop;
        }
        self.count_numbers(frame.body);
        self.note_remark(frame.body);
        match frame.body {
            // It has set the startup packet's parameters again.
            _ if self.expected.front().is_some_and(|e| !e.shown) => {
                server.parameters_lost = false;
                self.on_executed(frame.body);
                return Reply::Drop;
            }
            b"DISCARD ALL\0" => {
                server.parameters_lost = !self.startup.is_empty();
                let unseen = self.expected.front().is_some_and(|e| e.unseen);
                self.lose_parameters(unseen);
                self.forget_statements(&mut server.statements);
                // What was sent behind it may pin again.
                let is_last = self.expected.iter().skip(1).all(|e| e.kind == Kind::Sync || !e.shown);
                if self.pooling.keeps_track() && is_last {
                    self.forget_leftovers();
                }
                self.on_discarded(is_last);
            }
            b"DISCARD SEQUENCES\0" => {
                let is_last = self.expected.front().is_some_and(|e| e.single)
                    && self.expected.iter().skip(1).all(|e| e.kind == Kind::Sync || !e.shown);
                self.on_discarded(is_last);
            }
            // AND CHAIN goes on in another transaction.
            b"COMMIT\0" if self.altered == Altered::Here => self.altered = Altered::Surely,
            b"DEALLOCATE ALL\0" => self.forget_statements(&mut server.statements),
            b"RESET\0" => {
                // The connection has lost what the startup packet said; nothing has been sent to set it again.
                let unseen = self.expected.front().is_some_and(|e| e.unseen);
                server.parameters_lost |= unseen && !self.startup.is_empty();
                self.lose_parameters(unseen);
            }
            b"SET\0" | b"LISTEN\0" | b"PREPARE\0" | b"DECLARE CURSOR\0" | b"LOAD\0" | b"CREATE TABLE\0" => {
                self.pin_if_unseen(frame.body);
            }
            // Of a temporary table, most likely.
            b"DROP TABLE\0" if self.pin == Some(Pin::Temporary) => {}
            tag => {
                if let Some(change) = changes_schema(tag) {
                    self.migration = Migration::Open;
                    // What is used in the same transaction is not known yet.
                    self.unasked |= change == Change::Adds;
                    self.adds |= change == Change::Adds;
                }
            }
        }
        if std::mem::take(&mut self.copying_in) {
            self.copy_syncs = 0;
            if let Some(end) = self.copy_end() {
                self.expected.remove(end);
            }
        }
        self.on_executed(frame.body)
    }

    /// Run-time parameters were taken back to the server's defaults; `unseen`: nothing was sent to set again what the startup packet said.
    fn lose_parameters(&mut self, unseen: bool) {
        // Where nothing else keeps it from being asked what is in force, they are set again with that question.
        let is_asked = self.has_home() && self.lasting.is_none();
        if self.carries || (unseen && is_asked) {
            self.alter();
        }
        self.restore_due |= unseen && (self.has_own_names() || (self.has_home() && !is_asked));
    }

    /// A statement was carried out that may have prepared or dropped another.
    fn on_part_complete(&mut self, server: &mut ServerStatements) {
        let about = match self.expected.front_mut() {
            Some(Expected { kind: Kind::Part(left), about, .. }) => {
                *left -= 1;
                let (about, is_over) = (*about, *left == 0);
                if !is_over {
                    return;
                }
                self.expected.pop_front();
                about
            }
            Some(Expected { kind: Kind::Execute, about, .. }) => *about,
            _ => return,
        };
        match about {
            About::Prepares(_) => self.preparing -= 1,
            About::Drops(id) => server.remove(id),
            About::Nothing
            | About::Uses(_)
            | About::Closes(_)
            | About::Escaped
            | About::Numbers
            | About::Unnamed(_)
            | About::StandsIn { .. }
            | About::Denied => {}
        }
    }

    /// True, once, when the session has changed the schema and its transaction has ended.
    pub(super) const fn take_migrated(&mut self) -> bool {
        if let Migration::Over = self.migration {
            self.migration = Migration::None;
            return true;
        }
        false
    }

    /// True if the session has changed the schema, and nobody was told yet: its transaction may not have ended.
    #[must_use]
    pub fn is_migrating(&self) -> bool {
        self.migration != Migration::None
    }

    /// The server has dropped all named statements; what was sent behind that prepares new ones.
    fn forget_statements(&mut self, server: &mut ServerStatements) {
        server.clear();
        let doomed = self.doomed();
        let mut defined_since = HashSet::new();
        for behind in &mut self.expected {
            match behind.about {
                About::Prepares(id) => server.insert(id),
                About::Closes(id) => server.remove(id),
                About::Uses(_)
                | About::Drops(_)
                | About::Escaped
                | About::Numbers
                | About::Denied
                | About::Unnamed(_)
                | About::StandsIn { .. }
                | About::Nothing => {}
            }
            let Some(undo) = &mut behind.undo else { continue };
            if defined_since.insert(undo.name.clone()) {
                undo.before = None;
            }
        }
        self.names.retain(|name| defined_since.contains(name));
        for (behind, name) in self.expected.iter_mut().zip(doomed) {
            let Some(name) = name else { continue };
            behind.undo = Some(Box::new(Undo { name, before: None }));
        }
    }

    /// The names of statements that are used by what was sent, but will not be there: the errors must name them.
    fn doomed(&self) -> Vec<Option<Box<[u8]>>> {
        let name = |e: &Expected| match e.about {
            About::Uses(id) if e.undo.is_none() && !self.prepares(id) => {
                client_name(id, e, &self.names, &self.expected).map(Box::from)
            }
            _ => None,
        };
        self.expected.iter().map(name).collect()
    }

    /// Of a statement too long to be looked at only the command tag tells what it did.
    fn pin_if_unseen(&mut self, tag: &[u8]) {
        let unseen = self.expected.front().is_some_and(|e| e.unseen);
        self.restore_due |= unseen && self.parsed_reset && tag == b"SET\0";
        if unseen && tag == b"SET\0" {
            self.see_customs(SetsCustom::Hidden);
        }
        if unseen {
            self.keep(Some(match tag {
                b"LISTEN\0" => Pin::Listen,
                b"PREPARE\0" => Pin::SqlPrepare,
                b"DECLARE CURSOR\0" => Pin::HoldCursor,
                b"LOAD\0" => Pin::Load,
                b"CREATE TABLE\0" => Pin::Temporary,
                _ => Pin::Parameter,
            }));
        }
    }

    fn on_ready(&mut self, frame: &Frame<'_>, server: &mut ServerStatements) -> Reply {
        let transaction = frame.body.first().and_then(|&b| Transaction::from_byte(b));
        let Some(transaction) = transaction else { return Reply::OutOfStep };
        let shown = match self.expected.front() {
            Some(front) if front.kind.ends_batch() => {
                self.expected.pop_front().is_none_or(|front| front.shown)
            }
            // A COPY failed before it read anything, and with it the Sync that followed.
            front if self.copy_syncs > 0 => {
                if front.is_none() {
                    self.unsynced = false;
                    self.skipping = false;
                }
                self.copy_syncs -= 1;
                true
            }
            _ => return Reply::OutOfStep,
        };
        self.on_transaction(transaction);
        if self.migration == Migration::Open && transaction == Transaction::Idle {
            self.migration = Migration::Over;
        }
        if self.is_at_rest() {
            self.bound = Scan::CURSOR;
            self.bound_by_name = None;
            self.block = None;
            if let Some(in_band) = &mut self.in_band {
                in_band.forget_portals();
            }
            self.forget_bound();
            if self.lasting.is_none() && self.pin.is_none() && !self.is_altered() {
                self.alters = false;
                self.misread.drain(..).for_each(|id| server.make_stale(id));
            }
        }
        if self.owes_nothing() {
            self.lease_start = server.now();
            if let Placed::InBatch(_) = self.unnamed.placed {
                self.unnamed.placed = Placed::Surely;
            }
        }
        if !shown {
            return Reply::Drop;
        }
        self.take_refusal();
        self.tally.queries += 1;
        self.tally.transactions += u32::from(transaction == Transaction::Idle);
        Reply::Forward
    }

    fn on_copy_in(&mut self) -> Reply {
        self.copying_in = true;
        // The server reads the Syncs that are on their way as part of the COPY, and ignores them.
        while self.expected.get(1).is_some_and(|e| e.kind == Kind::Sync) {
            self.expected.remove(1);
            self.copy_syncs += 1;
        }
        let is_extended = self.front() == Some(Kind::Execute);
        if is_extended && self.copy_syncs > 0 && !self.expected.iter().any(|e| e.kind == Kind::Sync) {
            self.unsynced = true;
        }
        Reply::Forward
    }
}
