//! Transactions, and what statements do in them.

use super::sql::Number;
use super::{Backend, Failure, Outcome, Portal, Prepared, Savepoint, Sql};
use crate::error::{ClientError, Severity};
use crate::write;

/// The transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    None,
    Open,
    Failed,
}

impl Block {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::None => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

impl Backend {
    /// Commits, unless a transaction block is open.
    pub(super) fn end_implicit(&mut self) -> Result<(), Failure> {
        if self.block == Block::None { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let written = std::mem::take(&mut self.written);
        let is_refused = std::mem::take(&mut self.deferred);
        self.forget_transaction();
        if is_refused {
            return Err(Failure::new("23514", "refused at commit"));
        }
        self.database.borrow_mut().committed.extend(written);
        Ok(())
    }

    fn roll_back(&mut self) {
        self.written.clear();
        self.deferred = false;
        self.forget_transaction();
    }

    fn forget_transaction(&mut self) {
        self.block = Block::None;
        self.is_read_only = false;
        self.savepoints.clear();
        self.locals.clear();
        self.pipelining = false;
        self.portals.clear();
    }

    /// An error was raised.
    pub(super) fn abort(&mut self) {
        match self.block {
            Block::None => self.roll_back(),
            Block::Open | Block::Failed => {
                self.block = Block::Failed;
                let level = self.savepoints.len();
                let of_it = self.portals.values_mut().filter(|portal| portal.level >= level);
                of_it.for_each(|portal| portal.is_failed = true);
            }
        }
    }

    fn warn(&mut self, sqlstate: &'static str, message: &str) {
        let mut error = Vec::new();
        ClientError::new(sqlstate, message).write(&mut error, Severity::Error);
        error[0] = b'N';
        self.said.extend_from_slice(&error);
    }

    fn not_in_block(&mut self, chain: bool) -> Result<(), Failure> {
        if chain {
            let message = "COMMIT AND CHAIN can only be used in transaction blocks";
            return Err(Failure::new("25P01", message));
        }
        self.warn("25P01", "there is no transaction in progress");
        Ok(())
    }

    /// Carries out `TransactionStmt`.
    pub(super) fn run_transaction(&mut self, sql: &Sql) -> Result<Outcome, Failure> {
        let is_read_only = self.is_read_only;
        self.is_read_only |= *sql == Sql::BeginReadOnly && self.block != Block::Failed;
        let tag = match (sql, self.block) {
            (Sql::Begin | Sql::BeginReadOnly, Block::None) => {
                self.block = Block::Open;
                "BEGIN"
            }
            (Sql::Begin | Sql::BeginReadOnly, _) => {
                self.warn("25001", "there is already a transaction in progress");
                "BEGIN"
            }
            (Sql::Commit { chain }, Block::None) => {
                self.not_in_block(*chain)?;
                self.commit()?;
                "COMMIT"
            }
            (Sql::Commit { chain }, Block::Open) => {
                self.commit()?;
                self.begin_again(*chain, is_read_only);
                "COMMIT"
            }
            (Sql::Rollback { chain }, Block::None) => {
                self.not_in_block(*chain)?;
                self.roll_back();
                "ROLLBACK"
            }
            (Sql::Commit { chain } | Sql::Rollback { chain }, _) => {
                self.roll_back();
                self.begin_again(*chain, is_read_only);
                "ROLLBACK"
            }
            (Sql::Savepoint(_) | Sql::RollbackTo(_) | Sql::Release(_), Block::None) => {
                return Err(Failure::new("25P01", "SAVEPOINT can only be used in transaction blocks"));
            }
            (Sql::Savepoint(name), _) => {
                let (name, written) = (name.clone(), self.written.len());
                self.savepoints.push(Savepoint { name, written, locals: self.locals.clone() });
                "SAVEPOINT"
            }
            (Sql::Release(name), _) => {
                let place = self.find_savepoint(name)?;
                self.savepoints.truncate(place);
                self.portals.values_mut().for_each(|portal| portal.level = portal.level.min(place));
                "RELEASE"
            }
            (Sql::RollbackTo(name), _) => {
                let place = self.find_savepoint(name)?;
                self.savepoints.truncate(place + 1);
                let savepoint = &self.savepoints[place];
                self.written.truncate(savepoint.written);
                self.locals.clone_from(&savepoint.locals);
                self.portals.retain(|_, portal| portal.level <= place);
                self.block = Block::Open;
                "ROLLBACK"
            }
            (other, _) => panic!("{other:?} is no statement of transactions"),
        };
        Ok(Outcome::Complete(tag.into()))
    }

    fn find_savepoint(&self, name: &str) -> Result<usize, Failure> {
        let missing = || Failure::new("3B001", format!("savepoint \"{name}\" does not exist"));
        self.savepoints.iter().rposition(|savepoint| savepoint.name == *name).ok_or_else(missing)
    }

    fn begin_again(&mut self, chain: bool, is_read_only: bool) {
        if chain {
            self.block = Block::Open;
            self.is_read_only = is_read_only;
        }
    }

    /// For what cannot run in a transaction block, nor behind others of an implicit transaction.
    pub(super) fn prevent_in_block(&self, what: &str) -> Result<(), Failure> {
        let place = match self.block {
            Block::Open | Block::Failed => "run inside a transaction block",
            Block::None if self.several => "run inside a transaction block",
            Block::None if self.pipelining => "be executed within a pipeline",
            Block::None => return Ok(()),
        };
        Err(Failure::new("25001", format!("{what} cannot {place}")))
    }

    pub(super) fn row(&mut self, text: &str) {
        write::message(&mut self.said, b'D', |out| {
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        });
    }

    /// What a statement means by the settings of now, and goes on to mean.
    pub(super) fn analyze(&self, sql: Sql) -> Sql {
        if sql != Sql::Date {
            return sql;
        }
        let style = self.locals.get("datestyle").or_else(|| self.settings.get("datestyle"));
        let text = format!("date {}", style.map_or("", String::as_str));
        Sql::Select { text, values: 0, rows: 1 }
    }

    /// Carries out a portal that was not run to its end; at most `limit` rows, all if it is 0.
    pub(super) fn run(&mut self, portal: &mut Portal, limit: usize) -> Result<Outcome, Failure> {
        let Some(sql) = portal.sql.clone() else { return Ok(Outcome::Empty) };
        let reads_only = self.settings.get("default_transaction_read_only").is_some_and(|it| it == "on");
        let sql = if sql == Sql::Begin && reads_only { Sql::BeginReadOnly } else { sql };
        let given = portal.given.take().unwrap_or(0);
        if given == 0
            && let Some(refusals) = &mut self.refusals
        {
            let in_block = self.block != Block::None;
            assert!(sql.is_for_standby(in_block), "a standby is asked for {sql:?}");
            // A block with a cursor could not go on elsewhere.
            let is_bound = self.portals.values().any(|portal| portal.is_cursor);
            if sql.needs_replay() && refusals.next().unwrap_or_default() && !is_bound {
                return Err(Failure::new("42P01", "relation does not exist, yet"));
            }
        }
        if sql.is_transaction() {
            return self.run_transaction(&sql);
        }
        if let Some(name) = sql.writes().filter(|_| self.is_read_only) {
            return Err(Failure::new("25006", format!("cannot execute {name} in a read-only transaction")));
        }
        let tag = match &sql {
            Sql::Select { text, rows, .. } => {
                let row = text.clone() + &portal.values.concat();
                let now = if limit == 0 { rows - given } else { limit.min(rows - given) };
                (0..now).for_each(|_| self.row(&row));
                if limit != 0 && now == limit {
                    portal.given = Some(given + now);
                    return Ok(Outcome::Suspended);
                }
                format!("SELECT {now}")
            }
            Sql::Run(name, values) => {
                let sql = self.runnable(name, values)?;
                let level = self.savepoints.len();
                return self.run(&mut Portal::new(Some(sql), values.clone(), level), 0);
            }
            Sql::CopyIn => return Ok(Outcome::CopyIn),
            Sql::CopyBroken => {
                self.say_copy_in();
                return Err(Failure::new("P0001", "refused by a trigger"));
            }
            other if other.returns_rows() && given > 0 => "SELECT 0".into(),
            other => {
                let tag = self.run_plain(other, &portal.values)?;
                if other.returns_rows() && limit == 1 {
                    portal.given = Some(1);
                    return Ok(Outcome::Suspended);
                }
                tag
            }
        };
        Ok(Outcome::Complete(tag))
    }

    /// What EXECUTE runs, with these values.
    fn runnable(&self, name: &str, values: &[String]) -> Result<Sql, Failure> {
        let prepared = self.statements.get(name).ok_or_else(|| missing(name))?;
        self.revalidate(prepared)?;
        let sql = prepared.sql.clone();
        let needed = sql.as_ref().map_or(0, Sql::values);
        if needed != values.len() {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            return Err(Failure::new("42601", message));
        }
        let is_plain = |sql: &Sql| {
            matches!(
                sql,
                Sql::Select { .. }
                    | Sql::Star
                    | Sql::LastValue
                    | Sql::Insert(_)
                    | Sql::Put(_)
                    | Sql::Fail
                    | Sql::Note
                    | Sql::Deferred
            )
        };
        sql.filter(is_plain).ok_or_else(|| Failure::new("0A000", "the model does not execute that"))
    }

    /// True if it gives rows, by itself or because it executes what does.
    pub(super) fn gives_rows(&self, sql: &Sql) -> bool {
        match sql {
            Sql::Run(name, _) => {
                let prepared = self.statements.get(name).and_then(|prepared| prepared.sql.as_ref());
                prepared.is_some_and(Sql::returns_rows)
            }
            Sql::Fetch(_, name) => self.portals.contains_key(name),
            sql => sql.returns_rows(),
        }
    }

    fn run_plain(&mut self, sql: &Sql, values: &[String]) -> Result<String, Failure> {
        let tag = match sql {
            Sql::Repeat(count) => {
                self.row(&"x".repeat(*count));
                "SELECT 1"
            }
            Sql::Star => {
                self.row("s");
                "SELECT 1"
            }
            Sql::Note => {
                self.warn("00000", "noted");
                self.row("");
                "SELECT 1"
            }
            Sql::Restore => {
                self.settings.entry("work_mem".into()).or_insert_with(|| "home".into());
                self.row("home");
                "SELECT 1"
            }
            Sql::Show(name) => {
                let local = self.locals.get(name).or_else(|| self.settings.get(name));
                let value = local.cloned().unwrap_or_default();
                self.row(&value);
                "SHOW"
            }
            Sql::Insert(number) => {
                self.write(*number, values)?;
                "INSERT 0 1"
            }
            Sql::Put(number) => {
                self.write(*number, values)?;
                self.row("");
                "SELECT 1"
            }
            Sql::Deferred => {
                self.deferred = true;
                self.last_value = Some(0);
                "INSERT 0 1"
            }
            Sql::Fail => return Err(Failure::new("22012", "division by zero")),
            Sql::Call(number) => {
                if self.block != Block::None || self.several {
                    return Err(Failure::new("2D000", "invalid transaction termination"));
                }
                self.write(*number, values)?;
                self.commit()?;
                "CALL"
            }
            Sql::Immediate(number) => {
                self.prevent_in_block("CREATE DATABASE")?;
                if self.database.borrow().committed.contains(number) {
                    return Err(Failure::new("42P04", format!("database \"d{number}\" already exists")));
                }
                self.written.push(*number);
                self.commit()?;
                "CREATE DATABASE"
            }
            Sql::CopyOut => {
                write::message(&mut self.said, b'H', |out| out.extend_from_slice(&[0, 0, 1, 0, 0]));
                write::message(&mut self.said, b'd', |out| out.extend_from_slice(b"1\n"));
                write::empty(&mut self.said, b'c');
                "COPY 1"
            }
            Sql::Alter => {
                self.database.borrow_mut().altered += 1;
                "ALTER TABLE"
            }
            other => return self.run_session(other),
        };
        Ok(tag.into())
    }

    fn run_cursor(&mut self, sql: &Sql) -> Result<String, Failure> {
        let missing = |name: &str| Failure::new("34000", format!("cursor \"{name}\" does not exist"));
        match sql {
            Sql::Declare(..) if self.block == Block::None => {
                Err(Failure::new("25P01", "DECLARE CURSOR can only be used in transaction blocks"))
            }
            Sql::Declare(name, _) if self.portals.contains_key(name) => {
                Err(Failure::new("42P03", format!("cursor \"{name}\" already exists")))
            }
            Sql::Declare(name, query) => {
                let portal = Portal::new(Some((**query).clone()), Vec::new(), self.savepoints.len());
                self.portals.insert(name.clone(), Portal { is_cursor: true, ..portal });
                Ok("DECLARE CURSOR".into())
            }
            Sql::Fetch(count, name) => {
                let portal = self.portals.get_mut(name).ok_or_else(|| missing(name))?;
                let Some(Sql::Select { text, rows, .. }) = portal.sql.clone() else {
                    panic!("the model fetches of plain queries only")
                };
                let given = portal.given.unwrap_or(rows);
                let now = (*count).min(rows - given);
                portal.given = Some(given + now);
                (0..now).for_each(|_| self.row(&text));
                Ok(format!("FETCH {now}"))
            }
            Sql::Close(name) => {
                self.portals.remove(name).ok_or_else(|| missing(name))?;
                Ok("CLOSE CURSOR".into())
            }
            other => panic!("{other:?} is about no cursor"),
        }
    }

    fn write(&mut self, number: Number, values: &[String]) -> Result<(), Failure> {
        let number = resolve(number, values)?;
        self.written.push(number);
        self.last_value = Some(number);
        Ok(())
    }

    /// What changes the session.
    fn run_session(&mut self, sql: &Sql) -> Result<String, Failure> {
        let tag = match sql {
            Sql::Set { name, value } => {
                self.settings.insert(name.clone(), value.clone());
                self.locals.remove(name);
                "SET"
            }
            Sql::SetLocal { name, value } => {
                if self.block != Block::None {
                    self.locals.insert(name.clone(), value.clone());
                }
                "SET"
            }
            Sql::Reset => {
                self.locals.clear();
                self.settings.clone_from(&self.defaults);
                "RESET"
            }
            Sql::DiscardAll => {
                self.prevent_in_block("DISCARD ALL")?;
                self.forget_statements();
                self.settings.clone_from(&self.defaults);
                self.last_value = None;
                "DISCARD ALL"
            }
            Sql::DiscardSequences => {
                self.last_value = None;
                "DISCARD SEQUENCES"
            }
            Sql::LastValue => {
                let undefined = "lastval is not yet defined in this session";
                let last = self.last_value.ok_or_else(|| Failure::new("55000", undefined))?;
                self.row(&format!("last {last}"));
                "SELECT 1"
            }
            Sql::DeallocateAll => {
                self.forget_statements();
                "DEALLOCATE ALL"
            }
            Sql::Deallocate(name) => {
                self.statements.remove(name).ok_or_else(|| missing(name))?;
                "DEALLOCATE"
            }
            Sql::Prepare(name, body) => {
                let altered = self.database.borrow().altered;
                let prepared = Prepared { sql: Some((**body).clone()), altered };
                if self.statements.contains_key(name) {
                    return Err(exists(name));
                }
                self.statements.insert(name.clone(), prepared);
                "PREPARE"
            }
            Sql::Other(tag) => tag,
            other => return self.run_cursor(other),
        };
        Ok(tag.into())
    }

    /// The unnamed statement stays.
    pub(in super::super) fn forget_statements(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
    }
}

fn resolve(number: Number, values: &[String]) -> Result<u32, Failure> {
    match number {
        Number::Constant(number) => Ok(number),
        Number::Value => values[0].parse().map_err(|_| {
            Failure::new("22P02", format!("invalid input syntax for type integer: \"{}\"", values[0]))
        }),
    }
}

pub(super) fn missing(name: &str) -> Failure {
    let message = match name {
        "" => "unnamed prepared statement does not exist".to_owned(),
        name => format!("prepared statement \"{name}\" does not exist"),
    };
    Failure::new("26000", message)
}

pub(super) fn exists(name: &str) -> Failure {
    Failure::new("42P05", format!("prepared statement \"{name}\" already exists"))
}
