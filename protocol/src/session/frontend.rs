//! Messages from the client.

use super::exit::Exit;
use super::placement::{Name, Resolved, Target, write_close_portal, write_statement_message};
use super::sql::Sent;
use super::{About, Expected, Held, Kind, Placed, Pooling, Reading, Session, Stall, Undo};
use crate::frame::{Frame, HEADER_LEN, split_cstr};
use crate::prepared::{Lookup, SERVER_PREFIX, ServerStatements, Statements};
use crate::statement::{Draws, Effect, InBlock, Pin, Resets, Scan};
use crate::write;

/// What becomes of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It goes to the server as it is.
    Forward,
    /// What was appended to the output goes to the server in place of its first `consumed` bytes.
    Replaced {
        /// Bytes of the message, from its tag, that the output stands for.
        consumed: usize,
    },
    /// The server does not get it.
    Drop,
    /// What was appended to the output goes to the server. The message itself is to be offered again when [`Session::is_stalled`]
    /// is false, and nothing behind it before.
    Wait,
}

/// What names of the client that would be taken for pgherd's begin with on the server.
pub(super) const ESCAPED_PREFIX: &str = "pgherd_!";

impl Session {
    /// Takes in a message for the server. `frame` holds the whole message unless it is longer than the
    /// caller's buffer. What must be sent before or instead of it is appended to `out`.
    ///
    /// Afterwards the caller has [`Session::drain_local`] answer what no server is asked.
    pub fn on_frontend(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        lookup: Lookup<'_>,
        out: &mut Vec<u8>,
    ) -> Pass {
        self.stall = Stall::No;
        if self.has_outdated() && self.owes_nothing() {
            self.replace_outdated(lookup.statements);
        }
        let pass = self.take_in(frame, server, lookup, out);
        if pass != Pass::Wait {
            self.forget_denials();
            self.privacy.is_settled = false;
            self.exit = Exit::No;
        }
        pass
    }

    fn take_in(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        lookup: Lookup<'_>,
        out: &mut Vec<u8>,
    ) -> Pass {
        if self.copy_syncs > 0 && self.expected.is_empty() && !self.copying_in && !self.skipping {
            self.add_barrier(out);
        }
        if self.takes_new_lease() {
            self.begin_with_numbers(server, lookup, out);
        }
        if self.restore_due && self.owes_nothing() {
            self.restore(Resets::ForSession, out);
        }
        match frame.header.tag {
            b'S' => return self.on_sync(out),
            // Even a Query is ignored by a server that waits for Sync, and gets no reply.
            _ if self.skipping => return Pass::Drop,
            b'd' => return self.on_copy_data(),
            b'c' | b'f' => return self.on_copy_end(),
            b'Q' => return self.on_query(frame, (server, lookup), out),
            b'F' => return self.on_function_call(frame, (server, lookup), out),
            b'H' => {
                self.is_flushed = self.has_local();
                return Pass::Forward;
            }
            _ => {}
        }
        self.in_batch = std::mem::replace(&mut self.unsynced, true);
        match frame.header.tag {
            b'P' => self.on_parse(frame, server, lookup, out),
            b'D' | b'C' | b'E' if self.is_in_band(frame.header.tag, frame.body, lookup.views) => Pass::Drop,
            b'B' => self.on_bind(frame, (server, lookup), out),
            b'D' => self.on_describe(frame, (server, lookup.statements), out),
            b'C' => self.on_close(frame, out),
            b'E' => self.on_execute(frame, server, out),
            _ => Pass::Forward,
        }
    }

    pub(super) fn expect(&mut self, kind: Kind) {
        self.expected.push_back(Expected::new(kind));
    }

    fn expect_about(&mut self, kind: Kind, about: About) {
        self.expected.push_back(Expected { about, ..Expected::new(kind) });
    }

    pub(super) fn expect_hidden(&mut self, kind: Kind, about: About) {
        self.expected.push_back(Expected { shown: false, about, ..Expected::new(kind) });
    }

    /// Expects the replies to what runs a statement.
    pub(super) fn expect_run(&mut self, kind: Kind, findings: Scan) {
        let Scan { effect, forgets, whole, single, draws, .. } = findings;
        self.tally.reads += u32::from(effect == Effect::Harmless);
        self.rerun.run(findings, self.reading != Reading::No);
        self.note_writes(findings);
        self.note_read(findings);
        let takes = single && draws == Draws::Likely;
        let expected = Expected { effect, forgets, unseen: !whole, single, takes, ..Expected::new(kind) };
        self.expected.push_back(expected);
    }

    /// Has the server go back to the startup packet's parameters where it went back to its own.
    pub(super) fn restore(&mut self, resets: Resets, out: &mut Vec<u8>) {
        self.restore_due &= resets != Resets::ForSession;
        if resets != Resets::Nothing && !self.startup.is_empty() {
            write::query(out, &self.startup.to_sql_after_reset(resets == Resets::ForTransaction));
            // As any Query it destroys the unnamed statement, which the client may still have.
            if self.unnamed.held == Held::Here {
                self.unnamed.placed = Placed::No;
            }
            let effect = Effect::Harmless;
            self.expected.push_back(Expected { shown: false, effect, ..Expected::new(Kind::Query) });
        }
    }

    fn on_execute(&mut self, frame: &Frame<'_>, server: &mut ServerStatements, out: &mut Vec<u8>) -> Pass {
        let portal = split_cstr(frame.body).map_or(&[][..], |(portal, _)| portal);
        let bound = if portal.is_empty() { self.bound } else { self.bound_by_name.unwrap_or(Scan::CURSOR) };
        self.resets = self.resets.max(bound.resets);
        self.copies |= bound.copies;
        self.expect_run(Kind::Execute, bound);
        let gives_rows = bound.in_block != InBlock::Remarks || bound.effect == Effect::Harmless;
        if !frame.body.ends_with(&[0; 4]) && gives_rows && bound.effect != Effect::Begin {
            // It may give more.
            self.note_portal();
        }
        if portal.is_empty() {
            self.execute_numbers(bound);
        } else if let Some(expected) = self.expected.back_mut() {
            // Others of its kind were bound, perhaps.
            expected.takes = false;
        }
        let sent = if bound.names { self.execute_names(portal, server) } else { None };
        let Some(Sent { about, undo, shifts, ask }) = sent else { return Pass::Forward };
        if let Some(expected) = self.expected.back_mut() {
            expected.about = about;
            expected.undo = undo;
            expected.shifts = shifts;
            expected.forgets = false;
        }
        let Some(ask) = ask else { return Pass::Forward };
        write::message(out, b'E', |out| out.extend_from_slice(frame.body));
        self.ask_about(ask, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    fn on_sync(&mut self, out: &mut Vec<u8>) -> Pass {
        if self.copying_in && self.copy_end().is_none() {
            // The server ignores a Sync while it reads CopyData, and so owes nothing for it.
            self.copy_syncs += 1;
            return Pass::Forward;
        }
        // Behind anything else, the server might take the barrier for a part of the next COPY.
        let ends_copy = self.skipping || (self.copying_in && self.expected.len() == 2);
        self.unsynced = false;
        self.skipping = false;
        self.batch += 1;
        self.expect(Kind::Sync);
        let mut resets = std::mem::take(&mut self.resets);
        if std::mem::take(&mut self.copies) && resets != Resets::Nothing {
            // As in a Query; of which of its statements the answers are still to come is not looked at.
            resets = Resets::Nothing;
            self.keep(Some(Pin::Parameter));
        }
        let has_barrier = self.copy_syncs > 0 && ends_copy;
        if resets == Resets::Nothing && !has_barrier {
            return Pass::Forward;
        }
        write::empty(out, b'S');
        if has_barrier {
            self.add_barrier(out);
        }
        self.restore(resets, out);
        Pass::Replaced { consumed: HEADER_LEN }
    }

    /// The reply to a Close that changes nothing says that the server has answered all Syncs before it.
    fn add_barrier(&mut self, out: &mut Vec<u8>) {
        write_close_portal(out);
        write::empty(out, b'S');
        self.expect_hidden(Kind::Close, About::Nothing);
        self.expect_hidden(Kind::Sync, About::Nothing);
    }

    fn on_copy_data(&self) -> Pass {
        if self.expected.is_empty() { Pass::Drop } else { Pass::Forward }
    }

    fn on_copy_end(&mut self) -> Pass {
        if self.expected.is_empty() {
            return Pass::Drop;
        }
        self.expect(Kind::CopyEnd);
        Pass::Forward
    }

    fn on_bind(
        &mut self,
        frame: &Frame<'_>,
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Pass {
        let start = out.len();
        let names = split_cstr(frame.body)
            .and_then(|(portal, rest)| split_cstr(rest).map(|(statement, _)| (portal, statement)));
        let Some((portal, name)) = names else {
            self.bound = Scan::UNSEEN;
            return self.pass_on(Kind::Bind);
        };
        let rest = frame.body.get(portal.len() + name.len() + 2..).unwrap_or_default();
        if self.binds_in_band(portal, name, rest, lookup.views) {
            return Pass::Drop;
        }
        let Some(resolved) = self.resolve(name, (server, lookup.statements), out) else {
            return self.await_descriptions(out);
        };
        let Resolved { target, mut findings, rendered } = resolved;
        // What it forgets is known by its name.
        findings.forgets &= rendered.is_none();
        findings = self.as_here(findings);
        let alone = Scan { single: true, ..findings };
        if let Some(wait) =
            self.await_transaction((alone, self.in_batch || out.len() > start), self.batch, lookup)
        {
            return wait;
        }
        self.tally.binds += 1;
        if let Target::Prepared(id) = target
            && name.is_empty()
        {
            server.count_run(id);
        }
        // It resets when it is executed, which may be in a later batch.
        self.see(Scan { resets: Resets::Nothing, ..findings });
        let in_batch = self.in_batch || out.len() > start;
        self.see_numbers(alone, in_batch, (server, lookup), out);
        if portal.is_empty() {
            self.bound = findings;
            self.note_portal();
        } else {
            self.bound_by_name = Some(self.bound_by_name.map_or(findings, |bound| bound.worse(findings)));
        }
        self.bind_names(portal, rendered);
        self.expect_about(Kind::Bind, target.about());
        let Some(server_name) = target.name(name) else { return behind(out, start) };
        let consumed = HEADER_LEN + portal.len() + 1 + name.len() + 1;
        rename(frame, Some(portal), server_name, consumed, out);
        Pass::Replaced { consumed }
    }

    fn on_describe(
        &mut self,
        frame: &Frame<'_>,
        (server, statements): (&mut ServerStatements, &Statements),
        out: &mut Vec<u8>,
    ) -> Pass {
        let start = out.len();
        let (Some((b'S', rest)), true) = (frame.body.split_first(), frame.is_complete()) else {
            return self.pass_on(Kind::Describe);
        };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Describe) };
        if name.is_empty() {
            self.describe_itself(out);
        }
        let Some(Resolved { target, .. }) = self.resolve(name, (server, statements), out) else {
            let wait = self.await_descriptions(out);
            self.note_types(name);
            return wait;
        };
        let is_unnamed = name.is_empty() && target.about() == About::Nothing;
        let about = if is_unnamed { About::Unnamed(self.unnamed.number) } else { target.about() };
        self.expect_about(Kind::Describe, about);
        let Some(server_name) = target.name(name) else { return behind(out, start) };
        write_statement_message(b'D', server_name, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    fn on_close(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Pass {
        let (Some((b'S', rest)), true, Pooling::Transaction | Pooling::Home) =
            (frame.body.split_first(), frame.is_complete(), self.pooling)
        else {
            return self.pass_on(Kind::Close);
        };
        let Some((name, _)) = split_cstr(rest) else { return self.pass_on(Kind::Close) };
        if self.has_own(name) {
            return self.pass_on(Kind::Close);
        }
        if name.is_empty() {
            self.unnamed.held = Held::Nowhere;
            self.rerun.replace_unnamed();
            self.unnamed.placed = Placed::InBatch(self.batch);
            return self.pass_on(Kind::Close);
        }
        let Some((name, before)) = self.names.remove(name) else {
            self.expect(Kind::Close);
            if !name.starts_with(SERVER_PREFIX.as_bytes()) {
                return Pass::Forward;
            }
            write_statement_message(b'C', Name::Escaped(name), out);
            return Pass::Replaced { consumed: frame.header.len };
        };
        // Others may use it: on the server it stays until it is the one used longest ago.
        let kind = if before.is_kept() { Kind::Local(b'3') } else { Kind::Close };
        if kind == Kind::Close {
            write_statement_message(b'C', Name::Server(before.id), out);
        }
        let undo = Some(Box::new(Undo { name, before: Some(before) }));
        self.expected.push_back(Expected { undo, ..Expected::new(kind) });
        if kind == Kind::Close { Pass::Replaced { consumed: frame.header.len } } else { Pass::Drop }
    }

    pub(super) fn pass_on(&mut self, kind: Kind) -> Pass {
        self.expect(kind);
        Pass::Forward
    }
}

/// Appends the start of `frame` up to and with the statement's name, which is replaced. `portal` stands before it in a
/// Bind.
pub(super) fn rename(
    frame: &Frame<'_>,
    portal: Option<&[u8]>,
    name: Name<'_>,
    consumed: usize,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[frame.header.tag, 0, 0, 0, 0]);
    if let Some(portal) = portal {
        write::cstr(out, portal);
    }
    name.write(out);
    let len = (frame.header.len - consumed) + (out.len() - start) - 1;
    if let Some(word) = out.get_mut(start + 1..start + HEADER_LEN) {
        word.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// The message goes on as it is, behind what was appended to `out` since `start`.
const fn behind(out: &[u8], start: usize) -> Pass {
    if out.len() == start { Pass::Forward } else { Pass::Replaced { consumed: 0 } }
}
