//! The statements that the model of a server understands.

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sql {
    /// `select 'TEXT' || $1`: one row that holds it all; `from three`: three rows.
    Select {
        text: String,
        values: usize,
        rows: usize,
    },
    /// `select repeat('x', N)`
    Repeat(usize),
    /// `select * from s`: its result has another type after [`Sql::Alter`].
    Star,
    /// `select date '01/02/2003'`: as it was read when it was parsed, under the `datestyle` of then.
    Date,
    /// `select note()`: with a notice.
    Note,
    /// `insert into t values (N)`
    Insert(Number),
    /// `select put(N)`: a function that writes.
    Put(Number),
    /// `insert into d values (N)`: refused at commit.
    Deferred,
    /// `select fail()`
    Fail,
    Begin,
    /// `begin read only`
    BeginReadOnly,
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    /// `call p(N)`: writes and commits.
    Call(Number),
    /// `create database dN`: commits at once.
    Immediate(u32),
    CopyIn,
    /// `copy b from stdin`: fails before it reads a row.
    CopyBroken,
    CopyOut,
    /// `alter table s add c`
    Alter,
    Set {
        name: String,
        value: String,
    },
    SetLocal {
        name: String,
        value: String,
    },
    /// `declare NAME cursor for QUERY`
    Declare(String, Box<Self>),
    /// `fetch COUNT NAME`
    Fetch(usize, String),
    /// `close NAME`
    Close(String),
    /// `reset all`
    Reset,
    /// What pgherd sends behind it.
    Restore,
    Show(String),
    DiscardAll,
    DiscardSequences,
    /// `select lastval()`: the number that was written last by this process, in whatever transaction.
    LastValue,
    DeallocateAll,
    Deallocate(String),
    Prepare(String, Box<Self>),
    /// `execute NAME ('VALUE')`
    Run(String, Vec<String>),
    /// What is only answered with its command tag.
    Other(&'static str),
}

/// What a statement writes: what its text says, or its parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Constant(u32),
    Value,
}

impl Number {
    /// In parentheses.
    fn parse(text: &str) -> Option<Self> {
        let inside = text.split_once('(')?.1.trim_end_matches(')');
        if inside == "$1" { Some(Self::Value) } else { inside.parse().ok().map(Self::Constant) }
    }
}

impl Sql {
    /// Takes a text apart at its semicolons; none if there is a statement that it does not know.
    pub(crate) fn parse_all(text: &str) -> Option<Vec<Self>> {
        text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(match words.as_slice() {
            ["select", "*", "from", "s"] => Self::Star,
            // What pgherd has refused in the place of a text.
            ["SELECT", "1"] => Self::Select { text: "1".into(), values: 0, rows: 1 },
            ["select", "date", _] => Self::Date,
            ["select", "note()"] => Self::Note,
            ["select", "fail()"] => Self::Fail,
            ["select", "lastval()"] => Self::LastValue,
            ["select", call] if call.starts_with("put(") => Self::Put(Number::parse(call)?),
            ["select", "repeat('x',", count] => Self::Repeat(count.trim_end_matches(')').parse().ok()?),
            ["select", ..] => Self::parse_select(text)?,
            ["insert", "into", "t", "values", value] => Self::Insert(Number::parse(value)?),
            ["insert", "into", "d", "values", _] => Self::Deferred,
            ["begin"] => Self::Begin,
            ["begin" | "BEGIN", .., "read" | "READ", "only" | "ONLY"] => Self::BeginReadOnly,
            ["commit"] => Self::Commit { chain: false },
            ["commit", "and", "chain"] => Self::Commit { chain: true },
            ["rollback"] => Self::Rollback { chain: false },
            ["rollback", "and", "chain"] => Self::Rollback { chain: true },
            ["savepoint" | "SAVEPOINT", name] => Self::Savepoint(name.trim_matches('"').into()),
            ["rollback", "to", name] => Self::RollbackTo((*name).into()),
            ["release", name] => Self::Release((*name).into()),
            ["declare", name, "cursor", "for", ..] => {
                let (_, query) = text.split_once(" for ")?;
                Self::Declare((*name).into(), Box::new(Self::parse(query)?))
            }
            ["fetch", count, name] => Self::Fetch(count.parse().ok()?, (*name).into()),
            ["close", name] => Self::Close((*name).into()),
            ["call", call] => Self::Call(Number::parse(call)?),
            ["create", "database", name] => Self::Immediate(name.trim_start_matches('d').parse().ok()?),
            ["copy", "t", "from", "stdin"] => Self::CopyIn,
            ["copy", "b", "from", "stdin"] => Self::CopyBroken,
            ["copy", "u", "to", "stdout"] => Self::CopyOut,
            ["alter", "table", "s", "add", _, "int"] => Self::Alter,
            ["set", "local", name, "=", value] => {
                Self::SetLocal { name: (*name).into(), value: value.trim_matches('\'').into() }
            }
            ["set", "transaction", modes @ ..] => {
                Self::SetLocal { name: "transaction".into(), value: modes.concat() }
            }
            ["set", name, "=", value] => {
                Self::Set { name: (*name).into(), value: value.trim_matches('\'').into() }
            }
            ["reset", "all"] => Self::Reset,
            ["SELECT", call, ..] if call.starts_with("pg_catalog.set_config(v.name,") => Self::Restore,
            ["show", name] => Self::Show((*name).into()),
            ["discard", "all"] => Self::DiscardAll,
            ["discard" | "DISCARD", "sequences" | "SEQUENCES"] => Self::DiscardSequences,
            ["deallocate", "all"] => Self::DeallocateAll,
            ["deallocate" | "DEALLOCATE", name] => Self::Deallocate(name.trim_matches('"').into()),
            ["prepare", name, "as", ..] | ["prepare", name, "(text)", "as", ..] => {
                let (_, body) = text.split_once(" as ")?;
                Self::Prepare(name.trim_matches('"').into(), Box::new(Self::parse(body)?))
            }
            ["execute", name, values @ ..] => {
                let values = values.iter().map(|value| value.trim_matches(['(', ')', '\'']).into());
                Self::Run(name.trim_matches('"').into(), values.collect())
            }
            ["listen", _] => Self::Other("LISTEN"),
            ["load", _] => Self::Other("LOAD"),
            ["create", "temp", "table", ..] => Self::Other("CREATE TABLE"),
            ["declare", ..] => Self::Other("DECLARE CURSOR"),
            _ => return None,
        })
    }

    fn parse_select(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once('\'')?;
        let (constant, rest) = rest.split_once('\'')?;
        let rows = if rest.ends_with("from three") { 3 } else { 1 };
        Some(Self::Select { text: constant.into(), values: rest.matches('$').count(), rows })
    }

    /// True for what is carried out in a failed transaction.
    pub(crate) const fn is_exit(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Rollback { .. } | Self::RollbackTo(_))
    }

    /// True for `TransactionStmt`.
    pub(crate) const fn is_transaction(&self) -> bool {
        matches!(self, Self::Begin | Self::BeginReadOnly | Self::Savepoint(_) | Self::Release(_))
            || self.is_exit()
    }

    /// True for what commits before Sync.
    pub(crate) const fn commits_at_once(&self) -> bool {
        matches!(self, Self::Immediate(_) | Self::DiscardAll)
    }

    /// True for what is refused in a transaction that only reads, with this name.
    pub(crate) const fn writes(&self) -> Option<&'static str> {
        match self {
            Self::Insert(_) | Self::Deferred => Some("INSERT"),
            // It inserts, too.
            Self::Put(_) | Self::Call(_) => Some("INSERT"),
            Self::CopyIn | Self::CopyBroken => Some("COPY FROM"),
            Self::Immediate(_) => Some("CREATE DATABASE"),
            Self::Alter => Some("ALTER TABLE"),
            _ => None,
        }
    }

    pub(crate) const fn returns_rows(&self) -> bool {
        matches!(
            self,
            Self::Select { .. }
                | Self::Repeat(_)
                | Self::Star
                | Self::Note
                | Self::LastValue
                | Self::Put(_)
                | Self::Fail
                | Self::Show(_)
                | Self::Fetch(..)
                | Self::Restore
        )
    }

    /// True for what a standby may be asked for in a block that only reads, if `true`, or anywhere.
    pub(crate) const fn is_for_standby(&self, in_block: bool) -> bool {
        match self {
            Self::Select { .. } | Self::CopyOut | Self::Repeat(_) => true,
            Self::BeginReadOnly => true,
            Self::Commit { chain } | Self::Rollback { chain } => in_block || !*chain,
            Self::Savepoint(_) | Self::RollbackTo(_) | Self::Release(_) => in_block,
            Self::SetLocal { .. } | Self::Show(_) => in_block,
            Self::Declare(..) | Self::Fetch(..) | Self::Close(_) => in_block,
            _ => false,
        }
    }

    /// True for what a standby may have to refuse.
    pub(crate) const fn needs_replay(&self) -> bool {
        matches!(self, Self::Select { .. } | Self::CopyOut | Self::Repeat(_) | Self::Declare(..))
    }

    pub(crate) const fn values(&self) -> usize {
        match self {
            Self::Select { values, .. } => *values,
            Self::Insert(Number::Value) | Self::Put(Number::Value) | Self::Call(Number::Value) => 1,
            _ => 0,
        }
    }
}
