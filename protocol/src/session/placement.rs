//! Sees to it that the server has the statements that a message needs.

use std::sync::Arc;

use super::describing::{NOWHERE, Readiness};
use super::frontend::ESCAPED_PREFIX;
use super::sql::Rendered;
use super::{About, Expected, Held, Kept, Kind, Migration, Placed, Session, Transaction, Undo};
use crate::prepared::{
    Description, SERVER_PREFIX, ServerStatements, Statement, Statements, write_server_name,
};
use crate::statement::{Effect, Mention, Scan};
use crate::write;

impl Session {
    /// The statement that a Parse message asks for. No two names of a session mean the same one, so that an error names
    /// the right one; and none is shared of which it is not known whether servers will have it, or whether it would mean the
    /// same to others.
    pub(super) fn intern(&self, definition: &[u8], statements: &Statements) -> Arc<Statement> {
        if self.alters || self.migration == Migration::Open || self.expected.iter().any(|e| e.forgets) {
            return statements.unshared(definition);
        }
        let shared = statements.intern(self.scope, definition);
        let was_held = |e: &Expected| {
            e.undo.as_ref().and_then(|undo| undo.before.as_ref()).is_some_and(|before| before.id == shared.id)
        };
        if self.names.mean(shared.id) || self.expected.iter().any(was_held) {
            return statements.unshared(definition);
        }
        shared
    }

    /// Gives `name` its meaning; prepares the statement on the server unless it is there already.
    pub(super) fn define(
        &mut self,
        name: &[u8],
        before: Option<Arc<Statement>>,
        statement: Arc<Statement>,
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) {
        let undo = Some(Box::new(Undo { name: name.into(), before }));
        let mut is_there = self.find_prepared(statement.id, name, server);
        if is_there && self.may_have_failed_by_then() {
            server.make_stale(statement.id);
            is_there = false;
        }
        let (kind, about) = if is_there && !self.refuses(&statement.scan) {
            (Kind::Local(b'1'), About::Uses(statement.id))
        } else if is_there {
            statement.write_parse(out);
            self.tally.server_parses += 1;
            (Kind::Parse, About::Uses(statement.id))
        } else {
            self.prepare(&statement, statement.definition(), server, out);
            (Kind::Parse, About::Prepares(statement.id))
        };
        self.expected.push_back(Expected { about, undo, ..Expected::new(kind) });
        if !is_there && statement.mention.is_none() && !statement.is_empty() {
            self.ask_what_it_is(&statement, out);
        }
        self.names.insert(name.into(), statement);
        self.evict(server, out);
    }

    /// True if the server is sure to refuse to parse it: in a failed transaction it takes nothing but what ends it.
    fn refuses(&self, findings: &Scan) -> bool {
        !findings.is_parsed_when_aborted() && self.stays_failed()
    }

    /// True in a failed transaction that nothing ends which was sent.
    pub(super) fn stays_failed(&self) -> bool {
        self.answered.transaction() == Transaction::Failed
            && !self.expected.iter().any(|e| e.kind.runs() && e.effect > Effect::Harmless)
    }

    /// True if an earlier batch, not yet answered, may leave a failed transaction.
    pub(super) fn may_have_failed_by_then(&self) -> bool {
        let opens = |e: &Expected| e.kind.runs() && matches!(e.effect, Effect::Begin | Effect::MayCommit);
        self.expected.iter().any(|e| e.kind.ends_batch())
            && (self.answered.transaction() != Transaction::Idle || self.expected.iter().any(opens))
    }

    /// True if it is not known whether the transaction has failed by then, and the server will say so: it is not reading CopyData, of which
    /// the client would have to send more.
    pub(super) fn may_fail_unseen(&self) -> bool {
        let awaits_data = if self.copying_in { self.copy_end().is_none() } else { self.copy_syncs > 0 };
        !awaits_data && !self.stays_failed() && self.may_have_failed_by_then()
    }

    /// True if it is not known what the name will mean: it was given its meaning in an earlier batch that may still
    /// fail, or may be forgotten.
    pub(super) fn is_unsure(&self, name: &[u8]) -> bool {
        let changes = |e: &Expected| e.undo.as_ref().is_some_and(|undo| *undo.name == *name);
        match self.expected.iter().rposition(changes) {
            Some(place) => self.expected.iter().skip(place).any(|e| e.forgets || e.kind.ends_batch()),
            None => self.expected.iter().any(|e| e.forgets),
        }
    }

    /// True if the server has not answered all batches before this one.
    pub(super) fn owes_batches(&self) -> bool {
        self.expected.iter().any(|e| e.kind.ends_batch())
    }

    /// Finds what a statement's name means and sees to it that the server has it. `None` while it is not known whether that is
    /// what it was.
    pub(super) fn resolve(
        &mut self,
        name: &[u8],
        (server, statements): (&mut ServerStatements, &Statements),
        out: &mut Vec<u8>,
    ) -> Option<Resolved> {
        let found = |target, findings| Some(Resolved { target, findings, rendered: None });
        if self.has_own(name) {
            return found(Target::AsItIs, Scan::UNKNOWN);
        }
        if name.is_empty() {
            self.rerun.use_unnamed();
            if self.unnamed.held == Held::Here && self.unnamed.mention.is_some() {
                return self.render_unnamed((server, statements), out);
            }
            if let Some(id) = self.stand_in_there(server) {
                return found(Target::Prepared(id), self.unnamed.scan);
            }
            // If there is none, nothing comes of it.
            let scan = if self.unnamed.held == Held::Nowhere { Scan::CURSOR } else { self.unnamed.scan };
            return match self.ensure_unnamed(statements, out) {
                Readiness::Ready => found(Target::AsItIs, scan),
                Readiness::Unsure => None,
                Readiness::Denied(_) => found(Target::Denied, scan),
            };
        }
        if let Some(statement) = self.names.get(name).cloned() {
            if let Some(mention) = &statement.mention {
                return self.render_named((&statement, mention), (server, statements), out);
            }
            return match self.ensure_prepared(&statement, name, server, out) {
                Readiness::Ready => found(Target::Prepared(statement.id), statement.judge(&self.suspects)),
                Readiness::Unsure => None,
                Readiness::Denied(_) => found(Target::Denied, statement.scan),
            };
        }
        let escaped = name.starts_with(SERVER_PREFIX.as_bytes());
        found(if escaped { Target::Escaped } else { Target::AsItIs }, Scan::UNSEEN)
    }

    /// Prepares the unnamed statement, which names another, with that one's present name.
    fn render_unnamed(
        &mut self,
        (server, statements): (&mut ServerStatements, &Statements),
        out: &mut Vec<u8>,
    ) -> Option<Resolved> {
        let (definition, mention) =
            (std::mem::take(&mut self.unnamed.definition), self.unnamed.mention.take());
        let rendered =
            mention.as_ref().map(|mention| self.render(mention, &definition, (server, statements), out));
        self.unnamed.definition = definition;
        self.unnamed.mention = mention;
        let rendered = match rendered {
            Some(rendered) => Some(rendered?),
            None => None,
        };
        self.unnamed.placed = Placed::InBatch(self.batch);
        let mut findings = self.unnamed.scan;
        if let Some(rendered) = &rendered {
            write::message(out, b'P', |out| {
                out.push(0);
                out.extend_from_slice(&rendered.definition);
            });
            self.tally.server_parses += 1;
            self.expect_hidden(Kind::Parse, About::Nothing);
            findings = rendered.executes.map_or(findings, |executes| findings.worse(executes));
        }
        Some(Resolved { target: Target::AsItIs, findings, rendered })
    }

    /// Prepares a statement that names another anew, with that one's present name.
    fn render_named(
        &mut self,
        (statement, mention): (&Statement, &Mention),
        (server, statements): (&mut ServerStatements, &Statements),
        out: &mut Vec<u8>,
    ) -> Option<Resolved> {
        let rendered = self.render(mention, statement.definition(), (server, statements), out)?;
        server.distrust(statement.id);
        self.prepare(statement, &rendered.definition, server, out);
        self.expect_hidden(Kind::Parse, About::Prepares(statement.id));
        self.evict(server, out);
        let findings = statement.judge(&self.suspects);
        let findings = rendered.executes.map_or(findings, |executes| findings.worse(executes));
        Some(Resolved { target: Target::Prepared(statement.id), findings, rendered: Some(rendered) })
    }

    /// Makes the server's unnamed statement this session's, or none if the session has none; and sees to it that it gives what the
    /// client was told.
    fn ensure_unnamed(&mut self, statements: &Statements, out: &mut Vec<u8>) -> Readiness {
        if let Some(denial) = self.unnamed.again.as_ref().and_then(|again| self.denial(again.id)) {
            return Readiness::Denied(denial);
        }
        let here = Placed::InBatch(self.batch);
        let is_there = self.unnamed.placed == Placed::Surely || self.unnamed.placed == here;
        if is_there || (self.unnamed.held == Held::OnlyThere && self.unnamed.placed != Placed::No) {
            return Readiness::Ready;
        }
        self.unnamed.placed = here;
        if self.unnamed.held != Held::Here {
            write_statement_message(b'C', Name::Unnamed, out);
            self.expect_hidden(Kind::Close, About::Nothing);
            return Readiness::Ready;
        }
        self.parse_unnamed(out);
        self.expect_hidden(Kind::Parse, About::Nothing);
        let Some(shape) = self.unnamed.gives else { return Readiness::Ready };
        let Kept { definition, again, .. } = &mut *self.unnamed;
        let again = again.get_or_insert_with(|| {
            let again = statements.unshared(definition);
            // Nobody else has it.
            let _ = again.describe(Description { types: None, shape });
            again
        });
        let again = Arc::clone(again);
        self.ask_unnamed(&again, out);
        Readiness::Unsure
    }

    /// Sends the Parse of a statement that the server does not have; the caller expects the reply.
    pub(super) fn prepare(
        &mut self,
        statement: &Statement,
        definition: &[u8],
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) {
        let id = statement.id;
        // A Close that was sent before may be skipped.
        if server.take_stale(id) || self.expected.iter().any(|e| e.about == About::Closes(id)) {
            write_statement_message(b'C', Name::Server(id), out);
            self.expect_hidden(Kind::Close, About::Closes(id));
        }
        write::message(out, b'P', |out| {
            write_server_name(out, id);
            out.extend_from_slice(definition);
        });
        self.tally.server_parses += 1;
        server.insert(id);
        self.preparing += 1;
        // It may be older than the parameters that are in force.
        let is_anothers = statement.scope.is_some_and(|scope| self.alters || scope != self.scope);
        if is_anothers && !self.misread.contains(&id) {
            self.misread.push(id);
        }
    }

    /// True if the server has the statement when it comes to what is sent now, or is right not to have it. One whose
    /// Parse belongs to an earlier batch that may still fail is made stale, unless that Parse gave `name` its meaning:
    /// then they share their fate.
    pub(super) fn find_prepared(&self, id: u64, name: &[u8], server: &mut ServerStatements) -> bool {
        if !server.touch(id) {
            return false;
        }
        if self.preparing == 0 {
            return true;
        }
        let Some(place) = self.expected.iter().rposition(|e| e.about == About::Prepares(id)) else {
            return true;
        };
        let defines = |e: &Expected| e.undo.as_ref().is_some_and(|undo| *undo.name == *name);
        let may_be_skipped = self.expected.iter().skip(place).any(|e| e.kind.ends_batch());
        let is_unsure = may_be_skipped && !self.expected.get(place).is_some_and(defines);
        if is_unsure {
            server.make_stale(id);
        }
        !is_unsure
    }

    pub(super) fn evict(&mut self, server: &mut ServerStatements, out: &mut Vec<u8>) {
        while let Some(id) = server.evict(self.lease_start) {
            write_statement_message(b'C', Name::Server(id), out);
            self.expect_hidden(Kind::Close, About::Closes(id));
        }
    }
}

/// Appends a Describe or Close of a statement.
pub(super) fn write_statement_message(tag: u8, name: Name<'_>, out: &mut Vec<u8>) {
    write::message(out, tag, |out| {
        out.push(b'S');
        name.write(out);
    });
}

/// Appends a Close of the portal that is pgherd's own.
pub(super) fn write_close_portal(out: &mut Vec<u8>) {
    write::message(out, b'C', |out| {
        out.push(b'P');
        Name::Escaped(b"").write(out);
    });
}

/// Appends Bind and Execute of a statement without parameters in that portal, so that the unnamed one stays the client's, and its
/// Close.
pub(super) fn write_run(statement: Name<'_>, out: &mut Vec<u8>) {
    write::message(out, b'B', |out| {
        Name::Escaped(b"").write(out);
        statement.write(out);
        out.extend_from_slice(&[0; 6]);
    });
    write::message(out, b'E', |out| {
        Name::Escaped(b"").write(out);
        out.extend_from_slice(&[0; 4]);
    });
    write_close_portal(out);
}

/// What a statement's name means.
pub(super) struct Resolved {
    pub(super) target: Target,
    pub(super) findings: Scan,
    /// It names another statement, and was prepared so that it can be bound.
    pub(super) rendered: Option<Rendered>,
}

/// What stands on the server for a client's statement name.
pub(super) enum Target {
    AsItIs,
    Prepared(u64),
    Escaped,
    /// It is not what it was.
    Denied,
}

pub(super) enum Name<'a> {
    Unnamed,
    Server(u64),
    Escaped(&'a [u8]),
}

impl Target {
    pub(super) const fn name<'a>(&self, client: &'a [u8]) -> Option<Name<'a>> {
        match self {
            Self::AsItIs => None,
            Self::Prepared(id) => Some(Name::Server(*id)),
            Self::Escaped => Some(Name::Escaped(client)),
            Self::Denied => Some(Name::Server(NOWHERE)),
        }
    }

    pub(super) const fn about(&self) -> About {
        match self {
            Self::Prepared(id) => About::Uses(*id),
            Self::Escaped => About::Escaped,
            Self::Denied => About::Denied,
            Self::AsItIs => About::Nothing,
        }
    }
}

impl Name<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unnamed => out.push(0),
            Self::Server(id) => write_server_name(out, *id),
            Self::Escaped(client) => {
                out.extend_from_slice(ESCAPED_PREFIX.as_bytes());
                write::cstr(out, client);
            }
        }
    }
}
