//! A look ahead at what a client has sent, before any of it is taken in: a Query, or the messages up to Sync.

use super::{Held, Session};
use crate::frame::{Frame, bound, frontend_header, parsed, split_cstr};
use crate::prepared::Lookup;
use crate::statement::{Effect, Isolation, Place, Scan, SetsCustom, Sight, exit_first};

/// What a batch would run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    pub(super) extent: Extent,
    /// What its first statement does.
    pub(super) first: Option<Class>,
    /// The level that it asks for, if it opens a transaction.
    pub(super) isolation: Option<Isolation>,
    /// The transaction block is ended before anything else is done.
    pub(super) ends_first: bool,
    /// There is more in it than the first and statements that read.
    is_mixed: bool,
    /// The unnamed statement of an earlier batch is used.
    uses_earlier: bool,
    /// Statements that are run.
    runs: usize,
    /// Statements that are bound, or said.
    bound: usize,
    /// Something is to be read behind the first that is run and gives rows: if that is refused, the rows are told already.
    is_long: bool,
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
    /// Anything else.
    Other,
}

impl Class {
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
    /// True if nothing in it needs the primary, and nothing in it can be refused when something was told.
    pub(super) fn is_read(&self) -> bool {
        let opens = usize::from(self.first == Some(Class::Opens));
        let is_plain = self.extent == Extent::Whole && !self.is_mixed && !self.is_long;
        is_plain
            && match self.first {
                None | Some(Class::Reads | Class::Opens) => self.runs <= 1 + opens,
                Some(Class::Ends) => self.runs <= 1 && self.bound == 1,
                Some(Class::Other) => false,
            }
    }

    /// A statement is said, or bound.
    fn add(&mut self, findings: Scan, text: &[u8]) {
        let class = Class::of(findings);
        self.bound += 1;
        if self.first.is_some() {
            self.is_mixed |= class != Class::Reads;
            return;
        }
        self.first = Some(class);
        self.ends_first = class == Class::Ends;
        if class == Class::Opens {
            self.isolation = Isolation::asked_for(text);
        }
    }

    /// This statement is replaced or dropped. If it was used before, the batch cannot be sent again.
    fn ends(&mut self, name: &[u8]) {
        self.is_mixed |= name.is_empty() && self.uses_earlier;
    }

    /// The server is asked for something that it may refuse.
    fn reads_on(&mut self) {
        self.is_long |= self.runs > usize::from(self.first == Some(Class::Opens));
    }
}

impl Session {
    /// What the client's next batch would run, as far as it is there.
    pub(super) fn look_ahead(&self, input: &[u8], lookup: Lookup<'_>) -> Batch {
        let mut batch = Batch::default();
        let (mut at, mut begun) = (0, 0);
        loop {
            let (sent, rest) = input.split_at_checked(at).unwrap_or((input, &[]));
            let header = frontend_header(rest).ok().flatten();
            let Some(header) = header.filter(|header| header.len <= rest.len()) else { return batch };
            at += header.len;
            let frame = Frame::new(header, rest);
            match header.tag {
                // They ask for nothing.
                b'H' | b'd' | b'c' | b'f' if begun == sent.len() => begun = at,
                b'Q' if begun == sent.len() => {
                    let text = frame.body.strip_suffix(b"\0").unwrap_or(frame.body);
                    batch.add(lookup.recent.judge(frame.body, &self.suspects), text);
                    batch.ends_first |= exit_first(text).is_some();
                    batch.runs = 1;
                    return Batch { extent: Extent::Whole, ..batch };
                }
                b'S' => return Batch { extent: Extent::Whole, ..batch },
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
                batch.is_mixed |= !is_new || Class::of(findings) == Class::Other;
                batch.ends(name);
                batch.reads_on();
            }
            b'B' => {
                let name = bound(frame.body)?;
                let parsed = parsed_before(sent, name);
                batch.uses_earlier |= name.is_empty() && parsed.is_none();
                let parsed = parsed.map(|text| (lookup.recent.judge(text, &self.suspects), text));
                let (findings, text) = parsed.or_else(|| self.meaning(name)).unwrap_or((Scan::UNKNOWN, b""));
                batch.add(findings, text);
                batch.reads_on();
            }
            b'D' => {
                let name = named(frame.body);
                let is_earlier = |name: &[u8]| name.is_empty() && parsed_before(sent, name).is_none();
                batch.uses_earlier |= name.is_some_and(is_earlier);
                batch.reads_on();
            }
            b'E' => batch.runs += 1,
            b'C' => named(frame.body).into_iter().for_each(|name| batch.ends(name)),
            _ => return None,
        }
        Some(())
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

/// The statement's name in the body of a Describe or Close, if it is of one.
fn named(body: &[u8]) -> Option<&[u8]> {
    Some(split_cstr(body.strip_prefix(b"S")?)?.0)
}

/// The text that was last parsed under this name among these messages.
fn parsed_before<'a>(mut messages: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    while let Ok(Some(header)) = frontend_header(messages) {
        if header.tag == b'P' {
            let parsed = parsed(Frame::new(header, messages).body).filter(|(parsed, _)| *parsed == name);
            found = parsed.map(|(_, text)| text).or(found);
        }
        messages = messages.get(header.len..)?;
    }
    found
}
