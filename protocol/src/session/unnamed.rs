//! The unnamed statement of a session, and what stands for it.
//!
//! What clients parse again and again without a name is prepared on servers under a name of pgherd's ([`Repeated`]). Where the server has it,
//! a Parse is answered here, and Bind names that. It is to be as much the same for the client as can be had (docs/clients.md says what is left), so:
//!
//! - it is done where nothing that the session has set or made counts, and where no migration is known to go on;
//! - it is planned anew each time, if it is not wished otherwise ([`Plans`]): PostgreSQL takes one plan for all values after five executions at
//!   the earliest, and before that it is parsed anew;
//! - one of which the client asks what it takes and gives is parsed by itself;
//! - a statement that gives rows could turn out not to fit a schema that was changed past pgherd (0A000), which a fresh one could not. So it
//!   is done only where all can be sent again, of which the client was told nothing (`rerun.rs`): outside transaction blocks.
//!
//! [`Repeated`]: crate::prepared::Repeated

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::{About, Expected, Kind, Migration, Pass, Placed, Reading, Session, Transaction};
use crate::error::ErrorFields;
use crate::frame::{Frame, backend_header};
use crate::prepared::{Lookup, Plans, ServerStatements, StandIn, Statement};
use crate::statement::{Effect, Mention, Resets, Scan};
use crate::write;

/// PostgreSQL plans a prepared statement so often for the values that it is given before it considers one plan for all of them; see
/// `choose_custom_plan()` in its `plancache.c`.
const CUSTOM_PLANS: u32 = 5;
/// What has but one plan is parsed anew after so many times: what has become of the schema past pgherd is not to be missed for ever.
const MOST_RUNS: u32 = 1000;

/// The unnamed statement. What is kept of it has its memory from the first Parse on: who uses the simple protocol never needs it.
#[derive(Debug)]
pub(super) struct Unnamed {
    pub(super) held: Held,
    pub(super) placed: Placed,
    kept: Option<Box<Kept>>,
}

impl Deref for Unnamed {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        self.kept.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Unnamed {
    fn deref_mut(&mut self) -> &mut Kept {
        self.kept.get_or_insert_with(|| Box::new(Kept::NONE))
    }
}

/// What a Parse leaves, so that the statement can be parsed again where it is missing.
#[derive(Debug)]
pub(super) struct Kept {
    /// Body of the Parse message behind the name. The allocation is reused.
    pub(super) definition: Vec<u8>,
    pub(super) scan: Scan,
    /// The statement that it names, if it is PREPARE, EXECUTE or DEALLOCATE.
    pub(super) mention: Option<Box<Mention>>,
    /// Tells it from those before it.
    pub(super) number: u64,
    /// What the client was told that it gives: see [`shape`](crate::prepared::shape).
    pub(super) gives: Option<u64>,
    /// What stands for it where the server is asked whether it gives the same still.
    pub(super) again: Option<Arc<Statement>>,
    /// What stands for it on servers that have that.
    pub(super) stand_in: Option<StandIn>,
    /// Of what has stood for one last.
    pub(super) generation: u64,
    /// What has turned out not to fit, where what was sent is sent again.
    pub(super) misfit: Option<u64>,
}

static NOTHING: Kept = Kept::NONE;

impl Kept {
    const NONE: Self = Self {
        definition: Vec::new(),
        scan: Scan::UNSEEN,
        mention: None,
        number: 0,
        gives: None,
        again: None,
        stand_in: None,
        generation: 0,
        misfit: None,
    };
}

impl Unnamed {
    pub(super) const NONE: Self = Self { held: Held::Nowhere, placed: Placed::No, kept: None };

    /// It has another definition from now on.
    pub(super) fn become_another(&mut self) {
        self.number += 1;
        (self.gives, self.again, self.stand_in) = (None, None, None);
    }
}

/// Where the unnamed statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// There is none.
    Nowhere,
    /// Its definition is at hand.
    Here,
    /// It was too long to be kept: only the server has it.
    OnlyThere,
}

impl Session {
    /// Takes in a Parse of the unnamed statement, whose definition is at hand, if something stands for it. None if it is to go on as it is.
    pub(super) fn parse_stand_in(
        &mut self,
        (frame, findings): (&Frame<'_>, Scan),
        (server, lookup): (&mut ServerStatements, Lookup<'_>),
        out: &mut Vec<u8>,
    ) -> Option<Pass> {
        server.plans().filter(|_| self.may_have_stand_in(findings))?;
        let Lookup { repeated, statements, .. } = lookup;
        let Kept { definition, misfit, .. } = &mut *self.unnamed;
        let stand_in = repeated.find(self.scope, definition, statements)?;
        let id = stand_in.id;
        if *misfit == Some(id) {
            *misfit = None;
            repeated.reject(self.scope, definition);
            return None;
        }
        if stand_in.text.gives_rows && !self.may_begin_anew(findings) {
            return None;
        }
        let mut is_there = self.find_prepared(id, b"", server);
        let is_worn = is_worn(stand_in, server);
        if is_there && (is_worn || self.may_have_failed_by_then()) {
            server.make_stale(id);
            is_there = false;
        }
        // It is held by the thread: here a count that all threads share would be touched each time.
        let missing = if is_there {
            None
        } else {
            Some(repeated.statement(self.scope, &self.unnamed.definition, id)?)
        };
        self.unnamed.stand_in = Some(stand_in);
        self.unnamed.generation = stand_in.generation;
        // The server's own unnamed statement is whosever it was.
        self.unnamed.placed = Placed::No;
        let Some(statement) = missing else {
            let about = About::StandsIn { number: self.unnamed.number, id };
            self.expected.push_back(Expected { about, ..Expected::new(Kind::Local(b'1')) });
            return Some(Pass::Drop);
        };
        self.prepare(&statement, statement.definition(), server, out);
        let about = About::Prepares(id);
        self.expected.push_back(Expected { about, ..Expected::new(Kind::ParseUnnamed) });
        self.evict(server, out);
        Some(Pass::Replaced { consumed: frame.header.len })
    }

    /// True if the text means to this session here what it means to all of its scope.
    fn may_have_stand_in(&self, findings: Scan) -> bool {
        let is_plain = findings.whole
            && findings.single
            && !findings.names
            && !findings.forgets
            && !findings.alters
            && !findings.sets
            && !findings.copies
            && findings.pin.is_none()
            && findings.view.is_none()
            && findings.resets == Resets::Nothing
            && matches!(findings.effect, Effect::Harmless | Effect::Write);
        is_plain
            && self.pooling.keeps_track()
            && !self.alters
            && !self.unasked
            && !self.ran_any
            && self.migration == Migration::None
            && self.pin().is_none()
            && !self.has_own_names()
            && self.transaction != Transaction::Failed
            && !self.expected.iter().any(|e| e.forgets)
    }

    /// True if this can be sent again if the server finds that it does not fit: before that it has nothing to say of which the client would
    /// be told.
    fn may_begin_anew(&self, findings: Scan) -> bool {
        self.transaction == Transaction::Idle
            && self.rerun.can_be_sent()
            && findings.is_repeatable()
            && self.expected.iter().all(|e| matches!(e.kind, Kind::Local(_)))
    }

    /// What stands for the unnamed statement on this server, if it has that.
    pub(super) fn stand_in_there(&mut self, server: &mut ServerStatements) -> Option<u64> {
        let stand_in = self.unnamed.stand_in.filter(|_| self.unnamed.held == Held::Here)?;
        let is_forgotten = self.expected.iter().any(|e| e.forgets);
        if !is_forgotten && !is_worn(stand_in, server) && self.find_prepared(stand_in.id, b"", server) {
            return Some(stand_in.id);
        }
        // It has become worn, or was not prepared after all: its definition is parsed instead.
        self.unnamed.stand_in = None;
        None
    }

    /// Has the server parse the unnamed statement as such; the caller expects the reply.
    pub(super) fn parse_unnamed(&mut self, out: &mut Vec<u8>) {
        write::message(out, b'P', |out| {
            out.push(0);
            out.extend_from_slice(&self.unnamed.definition);
        });
        self.tally.server_parses += 1;
    }

    /// The client asks what the unnamed statement takes and gives: nothing stands for it, since the types of its parameters might be others
    /// by now than when that was prepared.
    pub(super) fn describe_itself(&mut self, out: &mut Vec<u8>) {
        if self.unnamed.held != Held::Here || self.unnamed.stand_in.take().is_none() {
            return;
        }
        let number = self.unnamed.number;
        let is_it = |e: &Expected| matches!(e.about, About::StandsIn { number: it, .. } if it == number);
        // Else it is parsed where it is missing.
        if self.expected.back().is_some_and(is_it) {
            self.expected.pop_back();
            self.parse_unnamed(out);
            self.unnamed.placed = Placed::InBatch(self.batch);
            self.expect(Kind::ParseUnnamed);
        }
    }

    /// True if a message is about the unnamed statement of now.
    pub(super) fn is_about_unnamed(&self, about: About) -> bool {
        match about {
            About::Unnamed(number) => number == self.unnamed.number,
            About::Uses(id) => self.unnamed.stand_in.is_some_and(|stand_in| stand_in.id == id),
            _ => false,
        }
    }

    /// True if what the server says first of what stands for the unnamed statement is an error that a fresh Parse may not have met: the
    /// client has parsed it just now, and was told nothing. The same is sent again, and then goes on as it is.
    pub(crate) fn finds_misfit(&mut self, input: &[u8]) -> bool {
        if input.first() != Some(&b'E') {
            return false;
        }
        let failed = self.expected.iter().position(|e| !matches!(e.kind, Kind::Local(_)));
        let Some((parsed, failed)) = failed.and_then(|failed| Some((failed.checked_sub(1)?, failed))) else {
            return false;
        };
        let about = |place: usize| self.expected.get(place).map(|e| e.about);
        let (Some(About::StandsIn { id, .. }), Some(About::Uses(used)), Ok(Some(header))) =
            (about(parsed), about(failed), backend_header(input))
        else {
            return false;
        };
        if used != id {
            return false;
        }
        let frame = Frame::new(header, input);
        let fields = ErrorFields::parse(frame.body);
        if !frame.is_complete() || fields.ends_session() || !may_be_of_parse(fields.sqlstate) {
            return false;
        }
        self.note_misfit(self.unnamed.generation, &fields);
        // Whoever parses it next does so by itself.
        self.unnamed.misfit = Some(id);
        let is_silent = self.reading == Reading::No || self.is_silent();
        // Of a connection that is to be used again, no other answers are to come.
        let is_last = self.expected.iter().filter(|e| e.kind.ends_batch()).count() <= 1;
        if is_silent && is_last && self.may_run_again() {
            self.unnamed.stand_in = None;
            return true;
        }
        false
    }
}

/// True if PostgreSQL might take one plan for all values when it is bound once more, or if it was prepared long ago.
fn is_worn(StandIn { id, text, .. }: StandIn, server: &ServerStatements) -> bool {
    let has_plans = text.has_plans && server.plans() == Some(Plans::Custom);
    server.runs(id) >= if has_plans { CUSTOM_PLANS } else { MOST_RUNS }
}

/// True for the classes of what is found when a text is looked at: features, statements' names, schemas, syntax and access.
fn may_be_of_parse(sqlstate: &[u8]) -> bool {
    matches!(sqlstate.first_chunk(), Some(b"0A" | b"26" | b"3F" | b"42"))
}
