//! A look ahead at what a client has sent, before any of it is taken in: a Query, or the messages up to Sync.

use super::journal::{Noted, Remark};
use super::{Held, Session};
use crate::frame::{Frame, bound, frontend_frames, frontend_header, parsed, split_cstr};
use crate::prepared::Lookup;
use crate::statement::{Effect, InBlock, Modes, Place, Scan, SetsCustom, Sight, Step, exit_first};

/// What a batch would run.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) extent: Extent,
    /// What its first statement does.
    pub(super) first: Option<Class>,
    /// What it asks for, if it opens a transaction.
    pub(super) modes: Modes,
    /// The transaction block is ended before anything else is done.
    pub(super) ends_first: bool,
    /// There is more in it than the first and statements that read.
    is_for_primary: bool,
    /// The unnamed statement of an earlier batch is used.
    uses_earlier: bool,
    /// Statements that are run.
    runs: usize,
    /// Those of them that no standby refuses, and that give no rows.
    quiet: usize,
    /// Statements that are bound, or said.
    bound: usize,
    /// Something is to be read behind the first that is run and gives rows.
    pub(super) is_several: bool,
    /// The statement that it binds first, if that was prepared before.
    prepared_before: Option<u64>,
    /// It needs others, too, that were.
    needs_several_prepared: bool,
    /// It comes in a block on a standby.
    in_block: bool,
    /// What a block says of itself is bound to the unnamed portal, and not executed so far; what it is, if it is to be kept.
    bound_step: Option<Option<Remark>>,
    /// What the block says of itself that is to be kept.
    pub(super) remarks: Vec<Remark>,
}

/// How much of a batch is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its end is not.
    #[default]
    Begun,
    /// All of it.
    Whole,
    /// Its client waits for an answer before it sends the rest, or it is none.
    Odd,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It reads what any server has.
    Reads,
    /// It opens a transaction block that only reads.
    Opens,
    /// It ends the transaction block, and does nothing else.
    Ends,
    /// A block that only reads may say it wherever it is.
    Step,
    /// It does, by itself: another one is open behind it.
    Chains,
    /// Anything else.
    Other,
}

impl Class {
    const fn is_step(self) -> bool {
        matches!(self, Self::Step | Self::Chains)
    }

    fn of(findings: Scan) -> Self {
        let leaves_nothing = findings.is_repeatable()
            && findings.sets_custom == SetsCustom::Nothing
            && findings.sees == Sight::Nothing;
        match findings.effect {
            Effect::Begin if findings.place == Place::Standby && leaves_nothing => Self::Opens,
            Effect::Commit | Effect::Rollback if findings.single && findings.whole => Self::Ends,
            Effect::Empty | Effect::Harmless | Effect::Write
                if findings.place == Place::Standby && leaves_nothing =>
            {
                Self::Reads
            }
            _ => Self::Other,
        }
    }
}

impl Batch {
    /// True if nothing in it needs the primary.
    pub(super) fn is_read(&self) -> bool {
        // What is asked for itself of a statement that is prepared elsewhere has to be told behind what stands before it.
        let is_plain = self.extent == Extent::Whole
            && !self.is_for_primary
            && !(self.is_several && self.needs_several_prepared);
        is_plain
            && match self.first {
                None | Some(Class::Reads | Class::Opens) => true,
                Some(Class::Ends) => self.runs <= 1 && self.bound == 1,
                Some(Class::Step) => self.in_block,
                // What is read behind it is not told from what was read before it.
                Some(Class::Chains) => self.in_block && self.bound == 1,
                Some(Class::Other) => false,
            }
            && self.bound_step.is_none()
    }

    /// Its first statement ends the block.
    fn ends_by_first(&self) -> bool {
        matches!(self.first, Some(Class::Ends | Class::Chains))
    }

    /// Steps may be taken in it.
    fn has_block(&self) -> bool {
        self.in_block || self.first == Some(Class::Opens)
    }

    /// A statement is said, or bound.
    fn add(&mut self, class: Class, text: &[u8]) {
        self.bound += 1;
        if self.first.is_some() {
            let may_follow = class == Class::Reads || (class == Class::Step && self.has_block());
            self.is_for_primary |= !may_follow;
            return;
        }
        self.first = Some(class);
        if class == Class::Opens {
            self.modes = Modes::asked_for(text);
        }
    }

    /// What a block says of itself is said, or bound to the unnamed portal: what is to be kept of it, if it is carried out.
    fn note(&mut self, text: &[u8]) -> Option<Remark> {
        match Step::of(text).map_or(Noted::TooMuch, |step| Noted::of(step, text)) {
            Noted::Remark(remark) => return Some(remark),
            Noted::Nothing => {}
            Noted::TooMuch => self.is_for_primary = true,
        }
        None
    }

    /// This statement is replaced or dropped. If it was used before, the batch cannot be sent again.
    fn replaces(&mut self, name: &[u8]) {
        self.is_for_primary |= name.is_empty() && self.uses_earlier;
    }

    /// The server is asked for something that it may refuse; by this statement, if that was prepared before.
    fn reads_on(&mut self, statement: Option<u64>) {
        let is_behind = self.runs > self.quiet;
        self.is_several |= is_behind;
        if statement.is_some() && self.prepared_before.is_none() && !is_behind {
            self.prepared_before = statement;
        }
        self.needs_several_prepared |= statement.is_some() && statement != self.prepared_before;
    }
}

impl Session {
    /// What the client's next batch would run, as far as it is there.
    pub(super) fn look_ahead(&self, input: &[u8], lookup: Lookup<'_>) -> Batch {
        let mut batch = Batch { in_block: self.is_in_standby_block(), ..Batch::default() };
        let (mut at, mut begun) = (0, 0);
        loop {
            let (sent, rest) = input.split_at_checked(at).unwrap_or((input, &[]));
            let Ok(header) = frontend_header(rest) else { return Batch { extent: Extent::Odd, ..batch } };
            let Some(header) = header.filter(|header| header.len <= rest.len()) else { return batch };
            at += header.len;
            let frame = Frame::new(header, rest);
            match header.tag {
                // They ask for nothing.
                b'H' | b'd' | b'c' | b'f' if begun == sent.len() => begun = at,
                b'Q' if begun == sent.len() => {
                    let text = frame.body.strip_suffix(b"\0").unwrap_or(frame.body);
                    let findings = lookup.recent.judge(frame.body, &self.suspects);
                    let class = self.class(findings, text, lookup);
                    batch.add(class, text);
                    if class.is_step() {
                        let remark = batch.note(text);
                        batch.remarks.extend(remark);
                    }
                    batch.is_several = !findings.single;
                    batch.ends_first = batch.ends_by_first() || exit_first(text).is_some();
                    batch.runs = 1;
                    batch.is_for_primary |= batch.is_several && lookup.recent.is_long(frame.body);
                    return Batch { extent: Extent::Whole, ..batch };
                }
                b'S' => {
                    batch.is_for_primary |= batch.is_several && self.has_long(sent, lookup);
                    return Batch { extent: Extent::Whole, ..batch };
                }
                _ if self.adds_to(&mut batch, &frame, sent, lookup).is_some() => {}
                _ => return Batch { extent: Extent::Odd, ..batch },
            }
        }
    }

    /// Takes in a message of the extended protocol; `sent` was sent before it. None for another, or a malformed one.
    fn adds_to(&self, batch: &mut Batch, frame: &Frame<'_>, sent: &[u8], lookup: Lookup<'_>) -> Option<()> {
        match frame.header.tag {
            b'P' => {
                let (name, text) = parsed(frame.body)?;
                let is_new = name.is_empty() || self.names.get(name).is_none();
                let findings = lookup.recent.judge(text, &self.suspects);
                batch.is_for_primary |= !is_new
                    || match self.class(findings, text, lookup) {
                        Class::Other => true,
                        Class::Step | Class::Chains => !batch.has_block(),
                        Class::Reads | Class::Opens | Class::Ends => false,
                    };
                batch.replaces(name);
                batch.reads_on(None);
            }
            b'B' => {
                let name = bound(frame.body)?;
                let parsed = parsed_before(sent, name);
                let kept = if parsed.is_none() { Some(self.number_of(name)) } else { None };
                batch.uses_earlier |= name.is_empty() && kept.is_some();
                let parsed = parsed.map(|text| (lookup.recent.judge(text, &self.suspects), text));
                let (findings, text) = parsed.or_else(|| self.meaning(name)).unwrap_or((Scan::UNKNOWN, b""));
                batch.reads_on(kept);
                let class = self.class(findings, text, lookup);
                batch.add(class, text);
                // What is executed later, or not at all, is not kept track of.
                let (portal, _) = split_cstr(frame.body)?;
                batch.is_for_primary |= batch.bound_step.is_some() && portal.is_empty();
                if class.is_step() {
                    batch.is_for_primary |= !portal.is_empty();
                    let remark = batch.note(text);
                    batch.bound_step = Some(remark);
                }
            }
            b'D' => {
                let kept = named(frame.body).filter(|name| parsed_before(sent, name).is_none());
                batch.uses_earlier |= kept == Some(b"");
                batch.reads_on(kept.map(|name| self.number_of(name)));
            }
            b'E' => {
                let (portal, _) = split_cstr(frame.body)?;
                // Outside of a block there are no others.
                batch.is_for_primary |= !self.is_in_standby_block() && !binds(sent, portal);
                batch.reads_on(None);
                let remark = if portal.is_empty() { batch.bound_step.take().flatten() } else { None };
                let opens = batch.runs == 0 && batch.first == Some(Class::Opens);
                batch.quiet += usize::from(opens || remark.as_ref().is_some_and(Remark::is_quiet));
                batch.remarks.extend(remark);
                if batch.runs == 0 {
                    batch.ends_first = batch.ends_by_first() && batch.bound == 1 && binds(sent, portal);
                }
                batch.runs += 1;
            }
            b'C' => named(frame.body).into_iter().for_each(|name| batch.replaces(name)),
            _ => return None,
        }
        Some(())
    }

    /// What a statement with these findings and this text does.
    fn class(&self, findings: Scan, text: &[u8], lookup: Lookup<'_>) -> Class {
        match Class::of(findings) {
            Class::Other if findings.in_block == InBlock::Opens && self.reads_by_default => Class::Opens,
            Class::Other if findings.in_block.is_step() => match Step::of(text) {
                None => Class::Other,
                Some(Step::Chains) => Class::Chains,
                Some(step) => {
                    let query = step.query().map(|at| text.get(at..).unwrap_or_default());
                    let reads = |query| Class::of(lookup.recent.judge(query, &self.suspects)) == Class::Reads;
                    if query.is_none_or(reads) { Class::Step } else { Class::Other }
                }
            },
            class => class,
        }
    }

    /// True if one of the texts in it has shown, with others, that answers may be too long to be held back.
    fn has_long(&self, messages: &[u8], lookup: Lookup<'_>) -> bool {
        self.texts(messages).any(|text| lookup.recent.is_long(text))
    }

    /// What was sent in this lease has an answer that is too long to be held back until all of it is there.
    pub fn note_long(&self, request: &[u8], lookup: Lookup<'_>) {
        self.texts(request).for_each(|text| lookup.recent.note_long(text));
    }

    /// The texts that these messages say, prepare or bind.
    fn texts<'a>(&'a self, messages: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        frontend_frames(messages).filter_map(|frame| match frame.header.tag {
            b'Q' => Some(frame.body),
            b'P' => parsed(frame.body).map(|(_, text)| text),
            b'B' => bound(frame.body).and_then(|name| self.meaning(name)).map(|(_, text)| text),
            _ => None,
        })
    }

    /// Tells a statement that was prepared before from others.
    fn number_of(&self, name: &[u8]) -> u64 {
        self.names.get(name).map_or(0, |statement| statement.id)
    }

    /// What a statement's name means, and its text.
    fn meaning(&self, name: &[u8]) -> Option<(Scan, &[u8])> {
        let text = |definition| split_cstr(definition).map_or(&[][..], |(text, _)| text);
        if name.is_empty() {
            let is_here = self.unnamed.held == Held::Here && self.unnamed.mention.is_none();
            return is_here.then(|| (self.unnamed.scan, text(&self.unnamed.definition)));
        }
        let statement = self.names.get(name).filter(|statement| statement.mention.is_none())?;
        Some((statement.judge(&self.suspects), text(statement.definition())))
    }
}

/// The query of a cursor that a text declares, or what it has explained.
pub(super) fn query_in(text: &[u8]) -> Option<&[u8]> {
    text.get(Step::of(text)?.query()?..)
}

/// The statement's name in the body of a Describe or Close, if it is of one.
fn named(body: &[u8]) -> Option<&[u8]> {
    Some(split_cstr(body.strip_prefix(b"S")?)?.0)
}

/// True if this portal is bound by these messages.
fn binds(messages: &[u8], portal: &[u8]) -> bool {
    let is_it = |body| split_cstr(body).is_some_and(|(bound, _)| bound == portal);
    frontend_frames(messages).any(|frame| frame.header.tag == b'B' && is_it(frame.body))
}

/// The text that was last parsed under this name among these messages.
fn parsed_before<'a>(messages: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let all = frontend_frames(messages).filter(|frame| frame.header.tag == b'P');
    let named = all.filter_map(|frame| parsed(frame.body)).filter(|(parsed, _)| *parsed == name);
    named.last().map(|(_, text)| text)
}
