//! Sequences of messages by chance: mostly what clients do, in which mistakes come often.

use std::fmt;

use super::message::{Message, Value};
use super::mode::Mode;
use super::texts::{BLOCKS, COPIES, KEPT, PARSED, PARSED_BLOCKS, PLAIN, SETTINGS, STARTUP};
use crate::chance::Chance;

/// What clients say to one server, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) clients: Vec<Life>,
    pub(super) steps: Vec<Step>,
}

/// How a client comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Parameters of its startup packet.
    pub(super) startup: Vec<(&'static str, &'static str)>,
    /// Whether it says Terminate, or is just gone.
    pub(super) terminates: bool,
}

/// What one client sends at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) client: usize,
    pub(super) messages: Vec<Message>,
    pub(super) then: Then,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// All answers are waited for.
    Waits,
    /// The next step is sent behind it.
    GoesOn,
    /// A cancel request, as soon as the server sleeps; then the answers.
    Cancels,
}

impl Sequence {
    /// Whether a client sends a batch before it has the answer to another.
    pub(super) fn is_pipelined(&self) -> bool {
        let several = |step: &Step| {
            let last = step.messages.len().saturating_sub(1);
            step.messages.iter().take(last).any(Message::ends_in_ready)
        };
        self.steps.iter().any(|step| step.then == Then::GoesOn || !step.is_answered() || several(step))
    }
}

impl Step {
    /// Whether what it asks for is told: what is not flushed PostgreSQL may keep.
    pub(super) fn is_answered(&self) -> bool {
        self.messages.last().is_none_or(|last| !last.is_answered())
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, life) in self.clients.iter().enumerate() {
            let leaves = if life.terminates { "says Terminate" } else { "is cut off" };
            writeln!(f, "  client {number}: {:?}, {leaves} in the end", life.startup)?;
        }
        for step in &self.steps {
            for message in &step.messages {
                writeln!(f, "  {} {message}", step.client)?;
            }
            match step.then {
                Then::Waits => writeln!(f, "  {} ... waits", step.client)?,
                Then::GoesOn => {}
                Then::Cancels => writeln!(f, "  {} ... sends a cancel request and waits", step.client)?,
            }
        }
        Ok(())
    }
}

/// The sequence of this seed.
pub(super) fn generate(seed: u64, mode: Mode) -> Sequence {
    // Neighbours among seeds would begin alike.
    let mut chance = Chance::new(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..8 {
        chance.below(2);
    }
    Maker { chance, mode }.sequence()
}

struct Maker {
    chance: Chance,
    mode: Mode,
}

impl Maker {
    fn sequence(&mut self) -> Sequence {
        let clients = if self.mode.shows_others_at_once() && self.one_in(3) { 2 } else { 1 };
        let lives = (0..clients).map(|_| self.life()).collect();
        let mut steps = Vec::new();
        for _ in 0..3 + self.below(10) {
            let client = self.below(clients);
            let then = if clients == 1 && self.one_in(8) { Then::GoesOn } else { Then::Waits };
            steps.extend(self.step().into_iter().map(|(messages, cancels)| Step {
                client,
                messages,
                then: if cancels { Then::Cancels } else { then },
            }));
        }
        // Bytes that are no message end the connection, and so come last.
        if self.one_in(12) {
            let client = self.below(clients);
            steps.push(Step { client, messages: self.garbage(), then: Then::Waits });
        }
        Sequence { clients: lives, steps }
    }

    fn life(&mut self) -> Life {
        let startup = if self.one_in(4) { vec![self.one(STARTUP)] } else { Vec::new() };
        Life { startup, terminates: !self.one_in(10) }
    }

    /// What is sent at once or one after the other, and whether it is to be cancelled.
    fn step(&mut self) -> Vec<(Vec<Message>, bool)> {
        match self.below(100) {
            0..30 => vec![(vec![Message::Query(self.text())], false)],
            30..68 => vec![(self.batch(), false)],
            68..76 => self.copy(),
            76..84 => self.flushed(),
            84..88 => vec![(vec![self.call()], false)],
            88..90 => vec![(self.slow(), true)],
            90..95 => {
                let count = 2 + self.below(3);
                vec![((0..count).map(|_| Message::Query(self.text())).collect(), false)]
            }
            _ => vec![(self.out_of_place(), false)],
        }
    }

    fn text(&mut self) -> String {
        let blocks = if self.mode.has_blocks() { BLOCKS } else { PLAIN };
        let of = match self.below(20) {
            0..6 => PLAIN,
            6..12 => blocks,
            12..15 => SETTINGS,
            15..19 => KEPT,
            _ => COPIES,
        };
        self.one(of).to_owned()
    }

    /// Messages up to Sync, some of which may not fit together.
    fn batch(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..1 + self.below(3) {
            self.run(&mut messages);
        }
        messages.push(Message::Sync);
        messages
    }

    /// A statement that is parsed, bound and executed, or a part of that.
    fn run(&mut self, messages: &mut Vec<Message>) {
        let (statement, portal) = (self.statement(), self.portal());
        let (text, count) = self.parsed();
        let parses = !self.one_in(4);
        if parses {
            if !statement.is_empty() && self.one_in(2) {
                messages.push(Message::Close(b'S', statement));
            }
            let types = if self.one_in(4) {
                (0..count).map(|_| self.one(&[23, 25, 20, 0])).collect()
            } else {
                Vec::new()
            };
            messages.push(Message::Parse { statement, text, types });
        }
        if self.one_in(4) {
            messages.push(Message::Describe(b'S', statement));
        }
        if self.one_in(12) {
            return;
        }
        let count = if parses { count } else { self.below(3) };
        messages.push(self.bind(portal, statement, count));
        if self.one_in(2) {
            messages.push(Message::Describe(b'P', portal));
        }
        for _ in 0..1 + self.below(2) {
            messages.push(Message::Execute(portal, self.one(&[0, 0, 1, 2, 50])));
        }
        match self.below(12) {
            0 => messages.push(Message::Close(b'P', portal)),
            1 => messages.push(Message::Close(b'S', statement)),
            2 => messages.push(Message::Flush),
            _ => {}
        }
    }

    fn statement(&mut self) -> &'static str {
        self.one(&["", "", "s1", "s1", "s2", "s3"])
    }

    fn portal(&mut self) -> &'static str {
        self.one(&["", "", "", "p1", "p2"])
    }

    fn parsed(&mut self) -> (String, usize) {
        if self.mode.has_blocks() && self.one_in(6) {
            return (self.one(PARSED_BLOCKS).to_owned(), 0);
        }
        let (text, count) = self.one(PARSED);
        (text.to_owned(), count)
    }

    fn bind(&mut self, portal: &'static str, statement: &'static str, count: usize) -> Message {
        let wrong = usize::from(self.one_in(20));
        let formats = match self.below(8) {
            0 => vec![1],
            1 => (0..count).map(|_| self.one(&[0, 1])).collect(),
            2 if self.one_in(4) => vec![0, 1, 2],
            _ => Vec::new(),
        };
        let binary = formats == [1];
        let values = (0..count + wrong).map(|_| self.value(binary)).collect();
        let results = match self.below(6) {
            0 => vec![1],
            1 if self.one_in(4) => vec![0, 1, 0, 1, 0],
            2 if self.one_in(8) => vec![7],
            _ => Vec::new(),
        };
        Message::Bind { portal, statement, formats, values, results }
    }

    fn value(&mut self, binary: bool) -> Value {
        if binary && !self.one_in(5) {
            return Some(vec![0, 0, 0, self.one(&[0, 3, 7])]);
        }
        let text = self.one(&["1", "3", "5", "7", "2", "100", "text", "", "\\x00ff", "1.5", "it's", "null"]);
        (text != "null").then(|| text.as_bytes().to_vec())
    }

    fn copy(&mut self) -> Vec<(Vec<Message>, bool)> {
        let text = self.one(COPIES).to_owned();
        let begins = if self.one_in(3) {
            let (statement, portal) = ("", "");
            vec![
                Message::Parse { statement, text, types: Vec::new() },
                self.bind(portal, statement, 0),
                Message::Execute(portal, 0),
                Message::Sync,
            ]
        } else {
            vec![Message::Query(text)]
        };
        let mut data = Vec::new();
        for _ in 0..self.below(4) {
            data.push(Message::CopyData(self.rows()));
        }
        match self.below(8) {
            0 => data.push(Message::CopyFail("the client's own reason")),
            1 => data.push(Message::Query("SELECT 'within a copy'".to_owned())),
            2 => data.extend([Message::Flush, Message::Sync, Message::CopyDone]),
            3 => data.extend([Message::CopyDone, Message::CopyDone]),
            _ => data.push(Message::CopyDone),
        }
        // One that was parsed has come to no Sync in the copy.
        if begins.len() > 1 {
            data.push(Message::Sync);
        }
        if self.one_in(2) {
            return vec![(begins, false), (data, false)];
        }
        vec![(begins.into_iter().chain(data).collect(), false)]
    }

    fn rows(&mut self) -> Vec<u8> {
        let known: [&[u8]; 8] = [
            b"31\tcopied\n",
            b"32\tcopied\n33\tcopied too\n",
            b"34\tcut in the mid",
            b"1\ttwice\n",
            b"not a number\tx\n",
            b"35,csv\n",
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\x24\xff\xff",
            b"\\.\n",
        ];
        self.one(&known).to_vec()
    }

    /// Without Sync at first: what is asked for is told by Flush.
    fn flushed(&mut self) -> Vec<(Vec<Message>, bool)> {
        let mut first = Vec::new();
        self.run(&mut first);
        first.push(Message::Flush);
        let mut second = Vec::new();
        if self.one_in(2) {
            self.run(&mut second);
        } else {
            second.push(Message::Execute(self.portal(), 1));
        }
        second.push(Message::Sync);
        vec![(first, false), (second, false)]
    }

    /// Calls of functions by their numbers: `int4pl`, `upper(text)`, `int4div`, one that there is not.
    fn call(&mut self) -> Message {
        let number = |chance: &mut Chance| Some(vec![0, 0, 0, u8::try_from(chance.below(3)).unwrap_or(0)]);
        let chance = &mut self.chance;
        let (function, arguments) = match chance.below(6) {
            0 | 1 => (177, vec![number(chance), number(chance)]),
            2 => (871, vec![Some(b"upper".to_vec())]),
            3 => (154, vec![number(chance), number(chance)]),
            4 => (177, vec![number(chance)]),
            _ => (999_999, vec![None]),
        };
        Message::Call { function, arguments, result: self.one(&[0, 1, 1]) }
    }

    /// Something that sleeps, with more of its batch behind it. Nothing else: PostgreSQL signals a process twice for one request, and what runs
    /// next may be hit by the second.
    fn slow(&mut self) -> Vec<Message> {
        let text = "SELECT 'slept' FROM pg_sleep(30)".to_owned();
        let (statement, portal) = ("", "");
        if self.one_in(2) {
            return vec![Message::Query(text)];
        }
        let results = Vec::new();
        let mut messages = vec![
            Message::Parse { statement, text, types: Vec::new() },
            Message::Bind { portal, statement, formats: Vec::new(), values: Vec::new(), results },
            Message::Execute(portal, 0),
        ];
        let more = self.batch();
        messages.extend(more);
        messages
    }

    /// Messages that are well formed, where they have nothing to say.
    fn out_of_place(&mut self) -> Vec<Message> {
        match self.below(10) {
            0 => vec![Message::CopyData(b"for nobody\n".to_vec()), Message::Sync],
            1 => vec![Message::CopyDone, Message::Sync],
            2 => vec![Message::CopyFail("nothing"), Message::Sync],
            3 => vec![Message::Sync, Message::Sync],
            4 => vec![Message::Flush],
            5 => vec![Message::Execute("nothing", 0), Message::Execute("", 0), Message::Sync],
            6 => vec![Message::Describe(b'X', "s1"), Message::Sync],
            7 => vec![Message::Close(b'X', "s1"), Message::Sync],
            8 => vec![Message::Execute("nothing", 0), Message::Query(self.text()), Message::Sync],
            // Too short for what it says that it has.
            _ => vec![Message::Raw(b"B\0\0\0\x0a\0\0\0\x05\0\0".to_vec()), Message::Sync],
        }
    }

    /// Bytes behind which PostgreSQL knows no more where a message begins, and others that merely look like that.
    fn garbage(&mut self) -> Vec<Message> {
        let known: [&[u8]; 14] = [
            b"!\0\0\0\x04",
            b"Z\0\0\0\x05I",
            b"p\0\0\0\x05\0",
            b"\0\0\0\x08\0\x03\0\0",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"Q\0\0\0\x03",
            b"Q\0\0\0\0",
            b"Q\xff\xff\xff\xff",
            b"P\x7f\xff\xff\xff",
            b"S\0\0\x27\x11",
            b"Q\0\0\0\x0cSELECT 1",
            b"P\0\0\0\x09s1\0SE",
            b"Q\0\0\0\x0eSELECT 1\0\0",
            b"E\0\0\0\x06\0\0",
        ];
        let mut messages =
            if self.one_in(2) { vec![Message::Query("SELECT 'before'".to_owned())] } else { Vec::new() };
        messages.push(Message::Raw(self.one(&known).to_vec()));
        if self.one_in(2) {
            messages.push(Message::Query("SELECT 'behind'".to_owned()));
        }
        messages
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.chance.below(limit)).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len());
        #[expect(clippy::indexing_slicing, reason = "below the length")]
        of[at]
    }
}
