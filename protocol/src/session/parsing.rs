//! Parse messages.

use std::sync::Arc;

use super::frontend::rename;
use super::placement::Name;
use super::{About, Expected, Held, Kind, Pass, Placed, Session, Stall, Undo};
use crate::frame::{Frame, HEADER_LEN, split_cstr};
use crate::prepared::{Lookup, ServerStatements, Statement, mention};
use crate::statement::{Pin, Resets, Scan};

impl Session {
    pub(super) fn on_parse(
        &mut self,
        frame: &Frame<'_>,
        server: &mut ServerStatements,
        lookup: Lookup<'_>,
        out: &mut Vec<u8>,
    ) -> Pass {
        let Some((name, definition)) = split_cstr(frame.body) else { return self.pass_on(Kind::Parse) };
        let findings = if frame.is_complete() {
            split_cstr(definition).map_or(Scan::UNKNOWN, |(text, _)| self.scan_or_watch(frame, text, lookup))
        } else {
            Scan { forgets: false, ..self.scan_or_watch(frame, definition, lookup) }
        };
        if let Some(wait) = self.await_privacy(findings, self.in_batch, server) {
            return wait;
        }
        if self.is_taken_unless_it_failed(name) {
            self.stall = Stall::Batches;
            return Pass::Wait;
        }
        self.tally.client_parses += 1;
        if self.parses_in_band(name, findings.view) {
            return Pass::Drop;
        }
        self.note_customs(findings, split_cstr(definition).map_or(definition, |(text, _)| text));
        // It is run when it is bound.
        self.note_leftovers(Scan { suspect: false, views: false, runs_any: false, ..findings });
        self.see_asking(findings, (server, lookup), out);
        if self.has_own(name) || (self.has_own_names() && !name.is_empty() && self.is_unsure(name)) {
            self.parsed_reset |= findings.resets == Resets::ForSession;
            self.see_customs(findings.sets_custom);
            if findings.sets && self.pooling.keeps_track() {
                // It is run without a look at what it is.
                self.keep(Some(Pin::Parameter));
            }
            self.tally.server_parses += 1;
            let undo = self.take_over(name);
            self.expected.push_back(Expected { undo, ..Expected::new(Kind::Parse) });
            return Pass::Forward;
        }
        let names = findings.names && frame.is_complete() && self.has_others_names();
        let mention = if names { mention(definition) } else { Ok(None) };
        if mention.is_err() {
            self.keep(Some(Pin::SqlPrepare));
        }
        if name.is_empty() {
            self.rerun.replace_unnamed();
            self.unnamed.definition.clear();
            self.unnamed.held = Held::OnlyThere;
            if frame.is_complete() {
                self.unnamed.definition.extend_from_slice(definition);
                self.unnamed.held = Held::Here;
            }
            self.unnamed.placed = Placed::InBatch(self.batch);
            self.unnamed.scan = findings;
            self.unnamed.become_another();
            self.unnamed.mention = mention.ok().flatten().map(Box::new);
            if self.unnamed.held == Held::Here
                && let Some(pass) = self.parse_stand_in((frame, findings), (server, lookup), out)
            {
                return pass;
            }
            self.tally.server_parses += 1;
            return self.pass_on(Kind::ParseUnnamed);
        }
        let existing = self.names.get(name).cloned();
        if let Some(existing) = existing.as_ref().filter(|_| !self.is_unsure(name)) {
            return self.on_parse_again((frame, name), existing, server, out);
        }
        if !frame.is_complete() {
            return self.on_long_parse((frame, name), existing, lookup.statements.unkept(findings), out);
        }
        let statement = if findings.names {
            lookup.statements.unshared(definition)
        } else {
            self.intern(definition, lookup.statements)
        };
        self.define(name, existing, statement, server, out);
        Pass::Replaced { consumed: frame.header.len }
    }

    /// True if a batch that is not answered yet gives this name a meaning, or takes it away: PostgreSQL refuses to prepare a name twice.
    fn is_taken_unless_it_failed(&self, name: &[u8]) -> bool {
        !name.is_empty() && self.names.get(name).is_some() && self.is_unsure(name) && self.owes_batches()
    }

    /// PostgreSQL refuses to prepare a name twice, if it finds nothing else amiss; lets the server say so.
    fn on_parse_again(
        &mut self,
        (frame, name): (&Frame<'_>, &[u8]),
        existing: &Arc<Statement>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> Pass {
        self.ensure_taken(existing, name, server, out);
        self.expected.push_back(Expected {
            about: About::Uses(existing.id),
            undo: Some(Box::new(Undo { name: name.into(), before: Some(Arc::clone(existing)) })),
            ..Expected::new(Kind::ParseAgain)
        });
        let consumed = HEADER_LEN + name.len() + 1;
        rename(frame, None, Name::Server(existing.id), consumed, out);
        Pass::Replaced { consumed }
    }

    /// Too long to be kept: it stays where it is prepared, under a name that no other statement has.
    fn on_long_parse(
        &mut self,
        (frame, name): (&Frame<'_>, &[u8]),
        before: Option<Arc<Statement>>,
        statement: Arc<Statement>,
        out: &mut Vec<u8>,
    ) -> Pass {
        self.keep(Some(Pin::LongStatement));
        let consumed = HEADER_LEN + name.len() + 1;
        rename(frame, None, Name::Server(statement.id), consumed, out);
        self.expected.push_back(Expected {
            about: About::Uses(statement.id),
            undo: Some(Box::new(Undo { name: name.into(), before })),
            ..Expected::new(Kind::Parse)
        });
        self.names.insert(name.into(), statement);
        Pass::Replaced { consumed }
    }
}
