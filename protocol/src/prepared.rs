//! Prepared statements that outlive a server connection: one on a server serves many clients.

mod on_server;
mod repeated;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

pub use on_server::ServerStatements;
pub(crate) use repeated::StandIn;
pub use repeated::{Plans, Repeated};

use crate::frame::{Frame, split_cstr};
use crate::session::{Sequences, Views};
use crate::statement::{Effect, Mention, Named, RecentScans, Scan, Suspects, executed_first, mentions, scan};
use crate::write;

/// What the names begin with under which pgherd prepares statements on servers.
pub const SERVER_PREFIX: &str = "pgherd_";

/// A statement as a Parse message gave it; its number names it on every server.
#[derive(Debug)]
pub struct Statement {
    /// Names it on servers: [`SERVER_PREFIX`] and this number.
    pub id: u64,
    /// The Parse message's body behind the name: text and parameter types. There is none if it was too long to be kept, or
    /// as long as its parameters' types are not known: then it is on one server connection only.
    definition: OnceLock<Box<[u8]>>,
    /// What its text says.
    pub scan: Scan,
    /// The prepared statement that its text names, if it is PREPARE, EXECUTE or DEALLOCATE.
    pub mention: Option<Box<Mention>>,
    /// The sessions that may use it (see [`Statements::intern`]); none if only its own does.
    pub scope: Option<u64>,
    /// What its text named of the suspects of this number; see [`Statement::judge`].
    named: AtomicU64,
    /// A standby has refused it.
    refused: AtomicBool,
    /// What the server told of it when it was prepared first.
    description: OnceLock<Description>,
    /// How often the schema was known to have changed before it was made.
    pub(crate) generation: u64,
    /// The text of the PREPARE that made it, if one did.
    pub(crate) source: Option<Box<[u8]>>,
}

impl Statement {
    fn new(id: u64, definition: &[u8], scope: Option<u64>, generation: u64) -> Self {
        let scan = scan_definition(definition);
        let mention = if scan.names { mention(definition).ok().flatten() } else { None };
        Self {
            mention: mention.map(Box::new),
            definition: OnceLock::from(Box::from(definition)),
            scope,
            ..Self::unkept(id, scan, generation)
        }
    }

    const fn unkept(id: u64, scan: Scan, generation: u64) -> Self {
        Self {
            id,
            definition: OnceLock::new(),
            scan,
            mention: None,
            scope: None,
            description: OnceLock::new(),
            generation,
            source: None,
            named: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// A standby has refused it.
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// What its text says, with what it is suspected of.
    #[must_use]
    pub fn judge(&self, suspects: &Suspects) -> Scan {
        let scan = self.scan.unless_refused(self.refused.load(Ordering::Relaxed));
        let Some(definition) = self.definition.get() else { return suspects.judge_unseen(scan) };
        suspects.judge(scan, |names| {
            let known = self.named.load(Ordering::Relaxed);
            if known >> Named::BITS == names.number {
                return Named::from_bits(known);
            }
            let named = split_cstr(definition).map_or(Named::ANY, |(text, _)| names.find(text));
            self.named.store(names.number << Named::BITS | named.to_bits(), Ordering::Relaxed);
            named
        })
    }

    /// Text and parameter types as a Parse message has them; nothing if they are not kept.
    #[must_use]
    pub fn definition(&self) -> &[u8] {
        self.definition.get().map_or(&[], |definition| definition)
    }

    /// True if it can be prepared on other servers.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.definition.get().is_some()
    }

    /// True if there is no statement in its text.
    pub(crate) fn is_empty(&self) -> bool {
        self.scan.effect == Effect::Empty
    }

    /// Its definition has become known.
    pub(crate) fn keep(&self, definition: Box<[u8]>) {
        // It cannot become another.
        let _ = self.definition.set(definition);
    }

    /// What it takes and gives, once a server has told.
    pub(crate) fn description(&self) -> Option<&Description> {
        self.description.get()
    }

    /// A server has told this of it; what was told first if that is something else.
    pub(crate) fn describe(&self, description: Description) -> Result<(), &Description> {
        let first = self.description.get_or_init(|| description.clone());
        if *first == description { Ok(()) } else { Err(first) }
    }

    /// Text and parameter types as a Parse message has them that prepares it on one more server. As in PostgreSQL, its parameters
    /// keep the types that they had at first.
    pub(crate) fn definition_again(&self) -> Cow<'_, [u8]> {
        let definition = self.definition();
        match (self.description().and_then(|known| known.types.as_deref()), split_cstr(definition)) {
            (Some(types), Some((text, _))) => Cow::Owned([text, b"\0", types].concat()),
            _ => Cow::Borrowed(definition),
        }
    }

    /// Appends the Parse message that prepares it on a server.
    pub fn write_parse(&self, out: &mut Vec<u8>) {
        write::message(out, b'P', |out| {
            write_server_name(out, self.id);
            out.extend_from_slice(self.definition());
        });
    }
}

/// What a statement takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// The parameters' types, as ParameterDescription and Parse have them. There are none if they were too many to be kept.
    pub(crate) types: Option<Box<[u8]>>,
    /// Stands for the columns: see [`shape`].
    pub(crate) shape: u64,
}

/// How much of a RowDescription counts: it may be longer than the buffers through which it comes.
const SHAPE_OF: usize = 8 * 1024;

/// Stands for what PostgreSQL does not let change in a prepared statement: the names and types of the columns in this
/// RowDescription, or that it gives no rows (NoData). From which tables they come does not count.
#[must_use]
pub fn shape(frame: &Frame<'_>) -> u64 {
    /// Behind a name: the table, the column's number in it, the type, its length, its modifier, the format.
    const FIELD: usize = 18;
    let mut hasher = DefaultHasher::new();
    (frame.header.tag, frame.header.len).hash(&mut hasher);
    let seen = frame.body.get(..SHAPE_OF).unwrap_or(frame.body);
    let mut rest = seen.get(2..).unwrap_or_default();
    while let Some((name, behind)) = split_cstr(rest)
        && let Some((field, behind)) = behind.split_at_checked(FIELD)
    {
        name.hash(&mut hasher);
        field.get(6..16).hash(&mut hasher);
        rest = behind;
    }
    hasher.finish()
}

/// Appends the zero-terminated name of statement `id` on servers.
pub fn write_server_name(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(SERVER_PREFIX.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    out.push(0);
}

/// What the definition in a Parse message says: its text is looked at up to the terminator.
#[must_use]
pub fn scan_definition(definition: &[u8]) -> Scan {
    split_cstr(definition).map_or(Scan::UNKNOWN, |(text, _)| scan(text))
}

/// A text that may prepare statements, or drop them, under names that cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HiddenName;

/// The prepared statement that the text in a Parse message's definition names, if it names one.
pub(crate) fn mention(definition: &[u8]) -> Result<Option<Mention>, HiddenName> {
    let (text, _) = split_cstr(definition).ok_or(HiddenName)?;
    match mentions(text) {
        Some((found, _)) => Ok(found.into_iter().next()),
        None => executed_first(text).map(Some).ok_or(HiddenName),
    }
}

/// What sessions look up.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// All statements of the process.
    pub statements: &'a Statements,
    /// The texts of late of this thread.
    pub recent: &'a RecentScans,
    /// What pgherd shows of itself.
    pub views: &'a dyn Views,
    /// Whether sessions of this database and user ask for numbers of sequences.
    pub sequences: &'a Sequences,
    /// What this thread's sessions parse again and again without a name.
    pub repeated: &'a Repeated,
}

/// All statements that sessions hold, each once. Shared by all sessions of the process.
#[derive(Debug, Default)]
pub struct Statements {
    known: Mutex<Known>,
    /// Counts what may have changed the meaning of texts on servers.
    generation: AtomicU64,
    /// Counts what may have added to the schema.
    catalogue_generation: AtomicU64,
    hasher: RandomState,
    discard_sequences: OnceLock<Arc<Statement>>,
}

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<u64, Vec<(SharedBy, Weak<Statement>)>>,
    last_id: u64,
    sweep_at: usize,
}

/// What sessions that share a statement have in common: their scope, and the generation in which they asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SharedBy {
    scope: u64,
    generation: u64,
    /// It stands for unnamed ones. Of those that have names is known what they give, which nobody asks for these.
    is_stand_in: bool,
}

impl Statements {
    /// The schema has changed: who prepares a text from now on does not get what was prepared before, as in PostgreSQL, where
    /// that would fail with "cached plan must not change result type".
    pub fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Something may have been added to the schema: functions, say, that leave something in a session.
    pub fn renew_catalogue(&self) {
        self.catalogue_generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that; see [`Statements::renew_catalogue`].
    #[must_use]
    pub fn catalogue_generation(&self) -> u64 {
        self.catalogue_generation.load(Ordering::Relaxed)
    }

    /// As [`Statements::renew`], if nobody has said so since a statement of this generation was made.
    pub fn renew_after(&self, generation: u64) {
        // Who is not the first has nothing to add.
        let _ = self.generation.compare_exchange(
            generation,
            generation + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Counts how often the schema was changed; see [`Statements::renew`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The statement of this definition. Statements are shared within a `scope` only: sessions whose settings make
    /// parse analysis see the same.
    #[must_use]
    pub fn intern(&self, scope: u64, definition: &[u8]) -> Arc<Statement> {
        self.intern_by(SharedBy { scope, generation: self.generation(), is_stand_in: false }, definition)
    }

    fn intern_by(&self, shared_by: SharedBy, definition: &[u8]) -> Arc<Statement> {
        let hash = self.hasher.hash_one((shared_by, definition));
        let mut known = self.known.lock();
        let found = known.by_hash.get(&hash).into_iter().flatten().find_map(|(held_by, weak)| {
            let statement = weak.upgrade()?;
            (*held_by == shared_by && *statement.definition() == *definition).then_some(statement)
        });
        if let Some(statement) = found {
            return statement;
        }
        known.sweep();
        let statement = Arc::new(Statement::new(
            known.next_id(),
            definition,
            Some(shared_by.scope),
            shared_by.generation,
        ));
        let held = known.by_hash.entry(hash).or_default();
        held.retain(|(_, weak)| weak.strong_count() > 0);
        held.push((shared_by, Arc::downgrade(&statement)));
        statement
    }

    /// The statements that sessions share, by their numbers.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Statement>> {
        let known = self.known.lock();
        let mut all: Vec<_> =
            known.by_hash.values().flatten().filter_map(|(_, weak)| weak.upgrade()).collect();
        drop(known);
        all.sort_unstable_by_key(|statement| statement.id);
        all
    }

    /// A statement of this definition that only its session uses.
    #[must_use]
    pub fn unshared(&self, definition: &[u8]) -> Arc<Statement> {
        let id = self.known.lock().next_id();
        Arc::new(Statement::new(id, definition, None, self.generation()))
    }

    /// A statement that a PREPARE makes, whose text is `source`. Its definition is known if the types of its parameters need
    /// not be asked for.
    #[must_use]
    pub(crate) fn made_by(&self, source: &[u8], definition: Result<&[u8], Scan>) -> Arc<Statement> {
        let (id, generation) = (self.known.lock().next_id(), self.generation());
        let made = match definition {
            Ok(definition) => Statement::new(id, definition, None, generation),
            Err(scan) => Statement::unkept(id, scan, generation),
        };
        Arc::new(Statement { source: Some(source.into()), ..made })
    }

    /// DISCARD SEQUENCES, which pgherd says for itself.
    #[must_use]
    pub fn discard_sequences(&self) -> Arc<Statement> {
        let discard = self.discard_sequences.get_or_init(|| self.unshared(b"DISCARD SEQUENCES\0\0\0"));
        Arc::clone(discard)
    }

    /// A statement of which the definition is not kept.
    #[must_use]
    pub fn unkept(&self, scan: Scan) -> Arc<Statement> {
        let id = self.known.lock().next_id();
        Arc::new(Statement::unkept(id, scan, self.generation()))
    }
}

impl Known {
    const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Forgets statements that no session holds, when there are twice as many as after the last sweep.
    fn sweep(&mut self) {
        if self.by_hash.len() < self.sweep_at {
            return;
        }
        self.by_hash.retain(|_, held| {
            held.retain(|(_, weak)| weak.strong_count() > 0);
            !held.is_empty()
        });
        self.sweep_at = (self.by_hash.len() * 2).max(1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_definitions_share_one_statement_within_a_scope() {
        let statements = Statements::default();
        let a = statements.intern(1, b"select 1\0\0\0");
        assert_eq!(statements.intern(1, b"select 1\0\0\0").id, a.id);
        assert_ne!(statements.intern(2, b"select 1\0\0\0").id, a.id);
        assert_ne!(statements.intern(1, b"select 2\0\0\0").id, a.id);
        statements.renew();
        let after = statements.intern(1, b"select 1\0\0\0");
        assert_ne!(after.id, a.id, "the schema has changed");
        assert_eq!(statements.intern(1, b"select 1\0\0\0").id, after.id);
        statements.renew_after(a.generation);
        assert_eq!(statements.intern(1, b"select 1\0\0\0").id, after.id, "that was known");
        statements.renew_after(after.generation);
        assert_ne!(statements.intern(1, b"select 1\0\0\0").id, after.id);
    }

    #[test]
    fn a_statement_nobody_holds_is_forgotten_and_its_name_never_used_again() {
        let statements = Statements::default();
        let first = statements.intern(1, b"select 1\0\0\0").id;
        assert!(statements.intern(1, b"select 1\0\0\0").id > first);
    }
}
