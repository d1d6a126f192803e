//! What the server tells of the statements that it has prepared. A statement keeps what it gives and takes for as long as
//! somebody holds it, as in PostgreSQL: where it turns out to give something else after a migration, nothing of it is run.

use std::collections::VecDeque;
use std::sync::Arc;

use super::placement::{Name, write_statement_message};
use super::{About, Expected, Held, Kind, Pass, Session, Stall};
use crate::error::ErrorFields;
use crate::frame::{Frame, split_cstr};
use crate::prepared::{Description, ServerStatements, Statement, Statements, shape};
use crate::statement::{Mention, Pin, Verb};
use crate::write;

/// What is kept of a session for which statements were prepared.
#[derive(Debug, Default)]
pub(super) struct Describing {
    /// What the server was asked to describe, in the order of the answers.
    asked: VecDeque<Asked>,
    /// Statements that the message at hand needs, and that are not to be had.
    denied: Vec<(u64, Denial)>,
    /// Statements that were something else when the client prepared them: it is to have one of its own.
    outdated: Vec<(u64, Description)>,
    /// What a Describe that waits is told before an error: the types of the parameters do not change.
    types: Vec<u8>,
    /// A statement of this generation has shown that the schema was changed.
    renews: Option<u64>,
}

#[derive(Debug)]
struct Asked {
    statement: Arc<Statement>,
    why: Why,
    types: Option<Box<[u8]>>,
}

#[derive(Debug)]
enum Why {
    /// It has this text, and can be given to other servers once its parameters' types are known.
    Types(Box<[u8]>),
    /// The client has prepared it: whatever it is, the client knows it as that.
    New,
    /// It was prepared for a message that waits: it must be what it was at first.
    Again,
}

/// Why a message cannot have its statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// It gives something else than at first.
    Changed,
    /// The server has refused to prepare it, and has said why.
    Refused,
}

/// Whether a statement that a message needs is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is, or will be when the server comes to the message.
    Ready,
    /// The server has to say first whether it is what it was.
    Unsure,
    /// It is not, and the message must fail.
    Denied(Denial),
}

/// Asking.
impl Session {
    /// Has the server describe a statement that the client has prepared just before.
    pub(super) fn ask_what_it_is(&mut self, statement: &Arc<Statement>, out: &mut Vec<u8>) {
        self.ask(statement, Why::New, out);
    }

    /// Has the server tell the types of the parameters of a statement that was prepared just before, whose text is this.
    pub(super) fn ask_types(&mut self, statement: &Arc<Statement>, text: Box<[u8]>, out: &mut Vec<u8>) {
        self.ask(statement, Why::Types(text), out);
    }

    /// Has the server describe its unnamed statement, which this one stands for, and which it was given for a message that waits.
    pub(super) fn ask_unnamed(&mut self, statement: &Arc<Statement>, out: &mut Vec<u8>) {
        write_statement_message(b'D', Name::Unnamed, out);
        self.await_answer(statement, Why::Again);
    }

    fn ask(&mut self, statement: &Arc<Statement>, why: Why, out: &mut Vec<u8>) {
        write_statement_message(b'D', Name::Server(statement.id), out);
        self.await_answer(statement, why);
    }

    fn await_answer(&mut self, statement: &Arc<Statement>, why: Why) {
        self.expect_hidden(Kind::Describe, About::Nothing);
        let asked = Asked { statement: Arc::clone(statement), why, types: None };
        self.describing.get_or_insert_default().asked.push_back(asked);
    }

    /// Sees to it that the server has a statement, and that it is what it was.
    pub(super) fn ensure_prepared(
        &mut self,
        statement: &Arc<Statement>,
        name: &[u8],
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> Readiness {
        if let Some(denial) = self.denial(statement.id) {
            return Readiness::Denied(denial);
        }
        if !statement.is_kept() {
            return Readiness::Ready;
        }
        if self.find_prepared(statement.id, name, server) {
            let is_unsure = self.is_asked(statement.id, |why| matches!(why, Why::Again));
            return if is_unsure { Readiness::Unsure } else { Readiness::Ready };
        }
        self.prepare(statement, &statement.definition_again(), server, out);
        self.expect_hidden(Kind::Parse, About::Prepares(statement.id));
        let is_known = statement.description().is_some();
        if is_known {
            self.ask(statement, Why::Again, out);
        } else if !statement.is_empty() {
            self.ask(statement, Why::New, out);
        }
        self.evict(server, out);
        if is_known { Readiness::Unsure } else { Readiness::Ready }
    }

    /// Sees to it that the server takes a statement's name for taken. It need not be what it was, nor fit the schema.
    pub(super) fn ensure_taken(
        &mut self,
        statement: &Arc<Statement>,
        name: &[u8],
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) {
        if !statement.is_kept() || self.find_prepared(statement.id, name, server) {
            return;
        }
        self.prepare(statement, &[0, 0, 0], server, out);
        self.expect_hidden(Kind::Parse, About::Prepares(statement.id));
        // What uses it has to have it prepared.
        server.make_stale_behind(statement.id);
    }

    /// True if a Query has to wait until it is known whether the statements that it names are what they were.
    pub(super) fn is_unsure_of(
        &mut self,
        mentions: &[Mention],
        server: &mut ServerStatements,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut is_unsure = false;
        for mention in mentions {
            let known = self.names.get(&mention.name).filter(|_| !mention.forgotten);
            let Some(statement) = known.filter(|known| known.description().is_some()).cloned() else {
                continue;
            };
            if mention.verb == Verb::Execute {
                let readiness = self.ensure_prepared(&statement, &mention.name, server, out);
                is_unsure |= readiness == Readiness::Unsure;
            }
        }
        is_unsure
    }

    /// The message at hand is not taken in before the server has said what its statements are.
    pub(super) fn await_descriptions(&mut self, out: &mut Vec<u8>) -> Pass {
        write::empty(out, b'H');
        self.stall()
    }

    fn stall(&mut self) -> Pass {
        if let Some(describing) = &mut self.describing {
            describing.types.clear();
        }
        self.stall = Stall::Descriptions;
        Pass::Wait
    }

    /// The same for a Query, which no batch stands before.
    pub(super) fn await_descriptions_alone(&mut self, out: &mut Vec<u8>) -> Pass {
        write::empty(out, b'S');
        self.expect_hidden(Kind::Sync, About::Nothing);
        self.stall()
    }

    /// True while it is not known whether a statement is what it was.
    pub(super) fn awaits_descriptions(&self) -> bool {
        let again = |asked: &Asked| matches!(asked.why, Why::Again);
        self.describing.as_ref().is_some_and(|describing| describing.asked.iter().any(again))
    }

    pub(super) fn denial(&self, id: u64) -> Option<Denial> {
        let denied = &self.describing.as_ref()?.denied;
        denied.iter().find(|(denied, _)| *denied == id).map(|(_, denial)| *denial)
    }

    fn is_asked(&self, id: u64, why: impl Fn(&Why) -> bool) -> bool {
        let is_it = |asked: &Asked| asked.statement.id == id && why(&asked.why);
        self.describing.as_ref().is_some_and(|describing| describing.asked.iter().any(is_it))
    }

    /// The message at hand has been taken in, with what it was denied.
    pub(super) fn forget_denials(&mut self) {
        if let Some(describing) = &mut self.describing {
            describing.denied.clear();
        }
    }

    /// A Describe of this statement waits, or is refused: what it is told before an error.
    pub(super) fn note_types(&mut self, name: &[u8]) {
        let known = self.names.get(name).and_then(|statement| statement.description());
        let types = known.and_then(|known| known.types.clone());
        if let (Some(types), Some(describing)) = (types, &mut self.describing) {
            describing.types.clear();
            write::message(&mut describing.types, b't', |out| out.extend_from_slice(&types));
        }
    }

    /// Appends what a Describe is told before the error with which this message has failed, but for 25P02, which comes first.
    pub(super) fn tell_types(&mut self, failed: &Expected, fields: &ErrorFields<'_>, out: &mut Vec<u8>) {
        if fields.sqlstate == b"25P02" {
            return;
        }
        let waits = !failed.shown && self.stall == Stall::Descriptions;
        let is_refused = failed.kind == Kind::Describe && failed.about == About::Denied;
        if let Some(describing) = self.describing.as_mut().filter(|_| waits || is_refused) {
            out.append(&mut describing.types);
        }
    }

    /// Gives names statements of their own that turned out to be something else when the client prepared them. Only when the
    /// server owes nothing.
    pub(super) fn replace_outdated(&mut self, statements: &Statements) {
        let Some(describing) = &mut self.describing else { return };
        for (id, description) in std::mem::take(&mut describing.outdated) {
            let Some(name) = self.names.of(id).map(Box::<[u8]>::from) else { continue };
            let Some(definition) = self.names.get(&name).map(|outdated| outdated.definition()) else {
                continue;
            };
            let statement = statements.unshared(definition);
            // Nobody else has it.
            let _ = statement.describe(description);
            self.names.insert(name, statement);
        }
    }

    /// True if there is something for [`Session::replace_outdated`].
    pub(super) fn has_outdated(&self) -> bool {
        self.describing.as_ref().is_some_and(|describing| !describing.outdated.is_empty())
    }
}

/// Types of parameters, which the server is asked for where a PREPARE gave them by their names.
impl Session {
    /// True if there is a statement that cannot be prepared elsewhere yet.
    pub(super) fn has_undescribed(&self) -> bool {
        let types = |asked: &Asked| matches!(asked.why, Why::Types(_));
        self.describing.as_ref().is_some_and(|describing| describing.asked.iter().any(types))
    }
}

/// The server's answers.
impl Session {
    /// ParameterDescription, in answer to a question of pgherd's own.
    pub(super) fn on_types(&mut self, frame: &Frame<'_>) {
        let asked = self.describing.as_mut().and_then(|describing| describing.asked.front_mut());
        if let Some(asked) = asked.filter(|_| frame.is_complete()) {
            asked.types = Some(frame.body.into());
        }
    }

    /// The client is told what types a statement's parameters have; of its unnamed one they stay that, wherever it is prepared again.
    pub(super) fn note_takes(&mut self, about: About, frame: &Frame<'_>) {
        let is_it = self.is_about_unnamed(about) && self.unnamed.held == Held::Here;
        if !is_it || !frame.is_complete() {
            return;
        }
        let definition = &mut self.unnamed.definition;
        if let Some((text, _)) = split_cstr(definition) {
            definition.truncate(text.len() + 1);
            definition.extend_from_slice(frame.body);
        }
    }

    /// The client is told what a statement gives; of its unnamed one that is kept.
    pub(super) fn note_gives(&mut self, about: About, frame: &Frame<'_>) {
        if self.is_about_unnamed(about) {
            self.unnamed.gives = Some(shape(frame));
        }
    }

    /// RowDescription or NoData, in answer to a question of pgherd's own.
    pub(super) fn on_description(&mut self, frame: &Frame<'_>, server: &mut ServerStatements) {
        let Some(describing) = &mut self.describing else { return };
        let Some(Asked { statement, why, types }) = describing.asked.pop_front() else { return };
        let id = statement.id;
        if let (Why::Types(text), Some(types)) = (&why, &types) {
            statement.keep([text, &**types].concat().into());
        }
        let description = Description { types, shape: shape(frame) };
        match (why, statement.description()) {
            (Why::Again, Some(first)) if first.shape != description.shape => {
                describing.renews = Some(statement.generation);
                if self.stall == Stall::Descriptions {
                    describing.denied.push((id, Denial::Changed));
                }
                server.distrust(id);
            }
            (Why::Again, Some(_)) => {}
            (why, _) => {
                if let Err(first) = statement.describe(description.clone())
                    && !matches!(why, Why::Types(_))
                {
                    debug_assert_ne!(*first, description, "it is what it was");
                    describing.renews = Some(statement.generation);
                    describing.outdated.push((id, description));
                    // In this lease it is the client's; others know it as something else.
                    if !self.misread.contains(&id) {
                        self.misread.push(id);
                    }
                }
            }
        }
    }

    /// The server does not describe it: the question was skipped, or the statement is not there.
    pub(super) fn on_no_description(&mut self, server: &mut ServerStatements) {
        let Some(describing) = &mut self.describing else { return };
        let Some(Asked { statement, why, .. }) = describing.asked.pop_front() else { return };
        match why {
            Why::Types(_) if self.names.mean(statement.id) => {
                server.remove(statement.id);
                self.keep(Some(Pin::SqlPrepare));
            }
            Why::Again if self.stall == Stall::Descriptions => {
                describing.denied.push((statement.id, Denial::Refused));
            }
            Why::Types(_) | Why::New | Why::Again => {}
        }
    }

    /// The server is gone.
    pub(super) fn describe_no_more(&mut self) {
        if let Some(describing) = &mut self.describing {
            describing.asked.clear();
            describing.denied.clear();
        }
    }

    /// An error about statement `id` came: if it says that the statement does not fit the schema any more, then others who prepare the
    /// same text are not to get it.
    pub(super) fn on_misfit(&mut self, id: u64, body: &[u8]) {
        if let Some(statement) = self.names.of(id).and_then(|name| self.names.get(name)) {
            self.note_misfit(statement.generation, &ErrorFields::parse(body));
        }
    }

    /// The same of one of this generation.
    pub(super) fn note_misfit(&mut self, generation: u64, fields: &ErrorFields<'_>) {
        if fields.routine == ROUTINE.as_bytes() {
            self.describing.get_or_insert_default().renews = Some(generation);
        }
    }

    /// Tells those who share statements, once, that the schema has changed, if that was seen and its transaction has ended.
    pub fn tell_migrations(&mut self, statements: &Statements) {
        if self.take_migrated() {
            statements.renew();
            if std::mem::take(&mut self.adds) {
                statements.renew_catalogue();
            }
        }
        if let Some(generation) = self.describing.as_mut().and_then(|describing| describing.renews.take()) {
            statements.renew_after(generation);
        }
    }
}

/// Where PostgreSQL finds that a statement does not fit any more; drivers look for it, and prepare it again.
const ROUTINE: &str = "RevalidateCachedQuery";

/// A statement of this number is on no server.
pub(super) const NOWHERE: u64 = 0;

/// Appends what PostgreSQL says of a statement that gives something else than at first, in place of its error, which says
/// that it has no statement [`NOWHERE`].
pub(super) fn write_changed(error: &[u8], out: &mut Vec<u8>) {
    write::message(out, b'E', |out| {
        let mut rest = error;
        while let Some((code, field)) = rest.split_first().filter(|(code, _)| **code != 0)
            && let Some((text, behind)) = split_cstr(field)
        {
            rest = behind;
            let text = match code {
                b'S' | b'V' => text,
                b'C' => b"0A000",
                b'M' => b"cached plan must not change result type",
                b'F' => b"plancache.c",
                b'R' => ROUTINE.as_bytes(),
                _ => continue,
            };
            out.push(*code);
            write::cstr(out, text);
        }
        out.push(0);
    });
}

/// True if the server has refused a message because of a statement that was denied to it.
pub(super) fn is_denied(failed: &Expected, fields: &ErrorFields<'_>) -> bool {
    failed.about == About::Denied && fields.sqlstate == b"26000"
}
