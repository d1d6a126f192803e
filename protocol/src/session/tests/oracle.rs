//! What a client may believe after it has read the answers to its script.

use std::collections::{BTreeSet, HashMap};

use super::scripts::{Kind, Role, Sent, Statement};

/// What a client was told of the numbers that it wrote.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) committed: BTreeSet<u32>,
    pub(super) rolled_back: BTreeSet<u32>,
}

/// Reads the answers to a script; panics if they are not such as PostgreSQL gives. They may end early if the
/// connection was closed.
pub(super) fn read(script: &[&Sent], answers: &[String], is_closed: bool) -> Told {
    let mut client = Client { answers: answers.iter(), ..Client::default() };
    let is_complete = client.read(script).is_some();
    client.read_surplus();
    assert!(is_complete || is_closed, "the client waits for ever");
    assert_eq!(client.next(), None, "nothing asked for that");
    let Client { mut told, untold, .. } = client;
    told.committed.retain(|number| !untold.contains(number));
    told.rolled_back.retain(|number| !untold.contains(number));
    told
}

#[derive(Default)]
struct Client<'a> {
    answers: std::slice::Iter<'a, String>,
    told: Told,
    /// And whether they have been bound, or were to be.
    definitions: HashMap<String, (Statement, bool)>,
    /// Written by what may have been executed twice.
    untold: Vec<u32>,
    /// With what they write when they are executed for the first time.
    portals: HashMap<String, (Statement, Vec<u32>)>,
    /// Written in this transaction, or in vain.
    open: Vec<u32>,
    /// How much was open at each.
    savepoints: Vec<usize>,
    is_failed: bool,
    /// It was told that nobody knows.
    in_doubt: bool,
    /// The server was lost in this transaction block.
    is_lost: bool,
    is_in_failed_block: bool,
    /// Syncs of which the client cannot know whether they were ignored.
    surplus: usize,
}

/// How a message was answered.
enum Answer {
    Done,
    Failed,
    /// With a COPY that has ended well; Syncs before its end were ignored.
    Copied,
    /// With a COPY that has failed.
    CopyFailed,
}

impl<'a> Client<'a> {
    /// `None` if the answers end before the script does.
    fn read(&mut self, script: &[&Sent]) -> Option<()> {
        let mut at = 0;
        while let Some(sent) = script.get(at) {
            let answer = self.read_one(sent)?;
            let rest = script.get(at + 1..).unwrap_or_default();
            at += 1;
            if let Answer::Copied | Answer::CopyFailed = answer {
                let early = rest.iter().take_while(|sent| matches!(sent.kind, Kind::Sync)).count();
                at += early;
                self.surplus += if let Answer::CopyFailed = answer { early } else { 0 };
            }
            if let Answer::Failed | Answer::CopyFailed = answer {
                at += self.skip(script.get(at..).unwrap_or_default());
            }
        }
        Some(())
    }

    fn read_one(&mut self, sent: &Sent) -> Option<Answer> {
        if !matches!(sent.kind, Kind::Sync | Kind::Unanswered) {
            self.read_surplus();
        }
        let is_done = match &sent.kind {
            Kind::Unanswered => true,
            Kind::Sync => {
                let said = self.next()?;
                if self.is_error(said) { self.read_ready() } else { self.ready(said) }?
            }
            Kind::Query(statements) => self.read_query(statements)?,
            Kind::FunctionCall(number) => {
                self.open.push(*number);
                let mut said = self.next()?;
                while said == "FunctionCallResponse" || self.is_error(said) {
                    said = self.next()?;
                }
                self.ready(said)?
            }
            Kind::Describe => self.read_description()?,
            Kind::Close => self.expect("CloseComplete")?,
            Kind::Parse { name, statement } => {
                let is_done = self.expect("ParseComplete")?;
                if is_done {
                    self.definitions.insert(name.clone(), (statement.clone(), false));
                }
                is_done
            }
            Kind::Bind { portal, name, number } => {
                let is_done = self.expect("BindComplete")?;
                if is_done {
                    let numbers = self.numbers(name, *number);
                    let (statement, _) = self.definitions.get(name).expect("it was parsed");
                    self.portals.insert(portal.clone(), (statement.clone(), numbers));
                } else {
                    self.attempt(name, *number);
                }
                is_done
            }
            Kind::Execute { portal } => return self.read_execute(portal),
        };
        Some(if is_done { Answer::Done } else { Answer::Failed })
    }

    /// The next answer that is not of the asynchronous kind; none when pgherd closes the connection.
    fn next(&mut self) -> Option<&'a str> {
        let asynchronous = ["NoticeResponse", "NotificationResponse", "ParameterStatus"];
        let is_asynchronous = |said: &&str| asynchronous.iter().any(|a| said.starts_with(a));
        let next = self.answers.by_ref().map(String::as_str).find(|said| !is_asynchronous(said));
        next.filter(|said| !said.starts_with("ErrorResponse 57P01"))
    }

    fn read_surplus(&mut self) {
        while self.surplus > 0
            && self.answers.as_slice().first().is_some_and(|said| said.starts_with("ReadyForQuery"))
        {
            self.surplus -= 1;
            self.read_ready();
        }
    }

    fn expect(&mut self, expected: &str) -> Option<bool> {
        let said = self.next()?;
        assert!(said == expected || self.is_error(said), "{said} instead of {expected}");
        Some(said == expected)
    }

    fn read_description(&mut self) -> Option<bool> {
        let mut said = self.next()?;
        if said.starts_with("ParameterDescription") {
            said = self.next()?;
        }
        assert!(matches!(said, "RowDescription" | "NoData") || self.is_error(said), "{said}");
        Some(!said.starts_with("ErrorResponse"))
    }

    fn read_query(&mut self, statements: &[Statement]) -> Option<bool> {
        let mut left = statements.iter().filter(|statement| !statement.text.is_empty());
        loop {
            let said = self.next()?;
            if self.is_error(said) {
                self.open.extend(left.by_ref().flat_map(|statement| &statement.numbers));
            } else if let Some(tag) = said.strip_prefix("CommandComplete ") {
                let statement = left.next().expect("a statement for each answer");
                self.portals.remove("");
                self.on_complete(statement, &statement.numbers, tag);
            } else if said.starts_with("ReadyForQuery") {
                assert_eq!(left.next().map(|statement| &statement.text), None, "not answered");
                return self.ready(said);
            }
        }
    }

    fn read_execute(&mut self, portal: &str) -> Option<Answer> {
        let mut copies = false;
        loop {
            let said = self.next()?;
            if self.is_error(said) {
                if let Some((_, numbers)) = self.portals.get_mut(portal) {
                    self.open.append(numbers);
                }
                return Some(if copies { Answer::CopyFailed } else { Answer::Failed });
            }
            if let Some(tag) = said.strip_prefix("CommandComplete ") {
                let (statement, numbers) = self.portals.get_mut(portal).expect("it was bound");
                let (statement, numbers) = (statement.clone(), std::mem::take(numbers));
                self.on_complete(&statement, &numbers, tag);
                return Some(if copies { Answer::Copied } else { Answer::Done });
            }
            if matches!(said, "EmptyQueryResponse" | "PortalSuspended") {
                let (_, numbers) = self.portals.get_mut(portal).expect("it was bound");
                self.open.append(numbers);
                return Some(Answer::Done);
            }
            copies |= said == "CopyInResponse";
        }
    }

    fn on_complete(&mut self, statement: &Statement, numbers: &[u32], tag: &str) {
        assert!(
            !self.is_in_failed_block || matches!(tag, "ROLLBACK"),
            "{} was carried out in a failed transaction",
            statement.text
        );
        assert!(!self.is_lost || statement.role != Role::RollbackTo, "the savepoint is lost");
        self.open.extend(numbers);
        if tag == "PREPARE"
            && let Some((_, rest)) = statement.text.split_once('"')
            && let Some((name, text)) = rest.split_once('"')
        {
            let prepared = Statement { text: text.into(), role: Role::Other, numbers: Vec::new() };
            self.definitions.insert(name.into(), (prepared, false));
        }
        match (statement.role, tag) {
            (Role::Commit, "COMMIT") | (Role::Commits, _) => {
                let open = std::mem::take(&mut self.open);
                self.told.committed.extend(open);
                self.savepoints.clear();
            }
            (Role::Commit | Role::Rollback, _) => self.roll_back(),
            (Role::Savepoint, _) => self.savepoints.push(self.open.len()),
            (Role::Release, _) => {
                self.savepoints.pop();
            }
            (Role::RollbackTo, _) => {
                let savepoint = self.savepoints.last().copied().unwrap_or(0);
                let undone = self.open.split_off(savepoint.min(self.open.len()));
                self.told.rolled_back.extend(undone);
                self.is_failed = false;
                self.is_in_failed_block = false;
            }
            (Role::Other | Role::CopyIn, _) => {}
        }
    }

    fn roll_back(&mut self) {
        let open = std::mem::take(&mut self.open);
        if !self.in_doubt {
            self.told.rolled_back.extend(open);
        }
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        (self.is_failed, self.in_doubt, self.is_lost, self.is_in_failed_block) = (false, false, false, false);
        self.savepoints.clear();
        self.open.clear();
        self.portals.clear();
    }

    /// Takes in an error, if it is one.
    fn is_error(&mut self, said: &str) -> bool {
        let Some(error) = said.strip_prefix("ErrorResponse ") else { return false };
        let sqlstate = &error[..5];
        let of_loss = ["40001", "08007"].contains(&sqlstate);
        let is_right = of_loss || ["25P02", "42P05"].contains(&sqlstate);
        assert!(!self.is_lost || is_right, "{error} in a transaction that was lost");
        self.is_lost |= of_loss;
        self.in_doubt |= sqlstate == "08007";
        self.is_failed = true;
        true
    }

    fn read_ready(&mut self) -> Option<bool> {
        let said = self.next()?;
        self.ready(said)
    }

    fn ready(&mut self, said: &str) -> Option<bool> {
        match said {
            "ReadyForQuery I" if self.is_failed => self.roll_back(),
            "ReadyForQuery I" => {
                self.told.committed.extend(&self.open);
                self.begin_anew();
            }
            "ReadyForQuery T" => assert!(!self.is_failed, "a failed transaction goes on"),
            "ReadyForQuery E" => self.is_in_failed_block = true,
            other => panic!("{other} instead of ReadyForQuery"),
        }
        Some(true)
    }

    /// Everything up to Sync was ignored; how many messages that is.
    fn skip(&mut self, rest: &[&Sent]) -> usize {
        let skipped = rest.iter().take_while(|sent| !matches!(sent.kind, Kind::Sync));
        skipped
            .map(|sent| match &sent.kind {
                Kind::Query(statements) => self.open.extend(statements.iter().flat_map(|s| &s.numbers)),
                Kind::Bind { name, number, .. } => self.attempt(name, *number),
                Kind::FunctionCall(number) => self.open.push(*number),
                Kind::Parse { statement, .. } => self.open.extend(&statement.numbers),
                _ => {}
            })
            .count()
    }

    /// What a statement would have written that was perhaps not even bound.
    fn attempt(&mut self, name: &str, number: u32) {
        let numbers = self.numbers(name, number);
        self.open.extend(numbers);
    }

    /// What a statement writes when it is executed with this number.
    fn numbers(&mut self, name: &str, number: u32) -> Vec<u32> {
        let Some((statement, is_bound)) = self.definitions.get_mut(name) else { return Vec::new() };
        if statement.text.contains("($1)") {
            return vec![number];
        }
        if std::mem::replace(is_bound, true) {
            self.untold.extend(&statement.numbers);
            return Vec::new();
        }
        statement.numbers.clone()
    }
}
