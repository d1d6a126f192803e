//! Where a statement may run.

use std::fmt;

use super::first::First;
use super::lexer::{Token, Word};

/// Where a statement may run, by its text and by what is known of the functions that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On any server: it reads what all of them have. A BEGIN of a transaction that only reads, too.
    Standby,
    /// On the primary only.
    Primary(Why),
}

/// Why a statement runs on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It writes, or locks rows, or is not known to do neither.
    Writes,
    /// It opens a transaction that may write, or one that is SERIALIZABLE.
    Transaction,
    /// It leaves something in its session, or changes or asks what other texts mean.
    Session,
    /// It calls a function that is not known to only read, or that gives something else on a standby.
    Function,
    /// It names what is not the same on a standby, or writes where it is read, by the catalogue or by the configuration: a sequence,
    /// an unlogged table, a view, a function.
    Name,
    /// It asks for what each server has of its own: its activity, its settings, its locks.
    Server,
    /// A comment in it says so.
    Hint,
    /// Nothing is known of its database's catalogue yet.
    Unread,
    /// A standby has refused it.
    Refused,
    /// It was not looked at as a whole, is not understood, or has several statements that do not all read.
    Unclear,
}

impl Why {
    /// All reasons, in their order.
    pub const ALL: [Self; 10] = [
        Self::Writes,
        Self::Transaction,
        Self::Session,
        Self::Function,
        Self::Name,
        Self::Server,
        Self::Hint,
        Self::Unread,
        Self::Refused,
        Self::Unclear,
    ];

    /// Why two statements are for the primary, if they are, of which one is for this reason and the other for that.
    pub(super) fn of_both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (None, why) | (why, None) => why,
            (Some(this), Some(that)) => Some(if this == that { this } else { Self::Unclear }),
        }
    }

    /// One word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Function => "function",
            Self::Name => "name",
            Self::Server => "server",
            Self::Hint => "hint",
            Self::Unread => "unread",
            Self::Refused => "refused",
            Self::Unclear => "unclear",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writes => "it writes, locks rows, or is of a kind that may",
            Self::Transaction => "it opens a transaction that is not READ ONLY, or is SERIALIZABLE",
            Self::Session => "it is about its session",
            Self::Function => {
                "it calls a function that is not known to only read, or that differs on a standby"
            }
            Self::Name => "it names what is not the same on a standby, or is listed as writing",
            Self::Server => "it asks for what each server has of its own",
            Self::Hint => "a comment in it says so",
            Self::Unread => "the database's catalogue has not been read yet",
            Self::Refused => "a standby has refused it",
            Self::Unclear => {
                "it is not understood as a whole, or has several statements that do not all only read"
            }
        })
    }
}

/// What a comment at the start of a text asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    Primary,
    Standby,
}

impl Hint {
    /// `/* pgherd: primary */`, `/* pgherd: standby */`, and pgpool's `/*NO LOAD BALANCE*/`.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let comment = text.trim_ascii_start().strip_prefix(b"/*")?;
        let comment = comment.get(..memchr::memmem::find(comment, b"*/")?)?.trim_ascii();
        if comment.eq_ignore_ascii_case(b"no load balance") {
            return Some(Self::Primary);
        }
        let (name, wanted) = comment.split_at_checked(b"pgherd:".len())?;
        match wanted.trim_ascii() {
            _ if !name.eq_ignore_ascii_case(b"pgherd:") => None,
            wanted if wanted.eq_ignore_ascii_case(b"primary") => Some(Self::Primary),
            wanted if wanted.eq_ignore_ascii_case(b"standby") => Some(Self::Standby),
            _ => None,
        }
    }

    /// Who writes the text vouches for the functions that it calls, and knows of which server it asks; more is not believed.
    pub(super) fn apply(self, place: Place) -> Place {
        match (self, place) {
            (Self::Primary, Place::Standby) => Place::Primary(Why::Hint),
            (Self::Standby, Place::Primary(Why::Function | Why::Server)) => Place::Standby,
            (_, place) => place,
        }
    }
}

/// What of a statement decides where it may run, besides that it writes.
#[derive(Debug, Default)]
pub(super) struct Bearing {
    /// It calls a function that is not known to only read.
    pub(super) calls: bool,
    /// It asks for what each server has of its own.
    of_server: bool,
    /// It calls `age()`, which of the number of a transaction depends on how many there were since.
    ages: bool,
    /// It names the number of a row's transaction.
    numbers: bool,
    /// The name of a table is next, or goes on behind a dot.
    relation: bool,
    /// READ ONLY
    read_only: bool,
    /// READ WRITE
    read_write: bool,
    /// SERIALIZABLE
    serializable: bool,
    /// TO STDOUT
    to_stdout: bool,
}

impl Bearing {
    /// Takes in the token behind `previous`, or the end of the statement.
    pub(super) fn see(&mut self, previous: Option<Token<'_>>, token: Token<'_>) {
        if let Some(Token::Word(word)) = previous {
            let is_call = token == Token::Open;
            self.of_server |= !is_call && is_of_server(word);
            self.ages |= is_call && word.is_name("age");
            self.numbers |= word.is_name("xmin") || word.is_name("xmax");
        }
        match token {
            Token::Dot => {}
            Token::Word(name) => {
                let begins = match previous {
                    Some(Token::Word(word)) => {
                        ["from", "join", "only", "table"].iter().any(|keyword| word.is(keyword))
                    }
                    Some(Token::Dot) => self.relation,
                    _ => false,
                };
                self.relation = begins;
                // Sequences are called so, if nobody gives them another name.
                self.of_server |= begins && ends_in(name, b"_seq");
            }
            _ => self.relation = false,
        }
    }

    /// Takes in a word behind the first.
    pub(super) fn see_word(&mut self, first: First, word: Word<'_>, previous: Option<Token<'_>>) {
        let is_behind =
            |keyword: &str| matches!(previous, Some(Token::Word(previous)) if previous.is(keyword));
        match first {
            First::Begin => {
                self.read_only |= word.is("only") && is_behind("read");
                self.read_write |= word.is("write");
                self.serializable |= word.is("serializable");
            }
            First::Work => self.to_stdout |= word.is("stdout") && is_behind("to"),
            _ => {}
        }
    }

    /// True for a BEGIN that opens a transaction as the session has them by default.
    pub(super) const fn begins_by_default(&self) -> bool {
        !self.read_only && !self.read_write && !self.serializable
    }

    /// Why a statement that begins like this is for the primary, if it is. `changes` if it writes or locks.
    pub(super) const fn why(&self, first: First, changes: bool, copies: bool) -> Option<Why> {
        match first {
            First::Begin if self.read_only && !self.read_write && !self.serializable => None,
            First::Begin => Some(Why::Transaction),
            First::Show | First::Set | First::Prepare | First::Discard | First::Declare => Some(Why::Session),
            First::Work if !(copies && self.to_stdout) => Some(Why::Writes),
            First::Select | First::With | First::Work => match () {
                () if changes => Some(Why::Writes),
                () if self.calls => Some(Why::Function),
                () if self.of_server || (self.ages && self.numbers) => Some(Why::Server),
                () => None,
            },
            _ => Some(Why::Writes),
        }
    }
}

/// True for a name of what each server has of its own. Of what begins like PostgreSQL's own names, only what is known is the same
/// everywhere.
fn is_of_server(word: Word<'_>) -> bool {
    match word.text() {
        [b'p' | b'P', b'g' | b'G', b'_', name @ ..] => {
            !SAME_EVERYWHERE.iter().any(|same| name.eq_ignore_ascii_case(same.as_bytes()))
        }
        // Columns of sequences, whose numbers are taken ahead; command numbers, and ages of transactions.
        [b'c' | b'C', ..] if word.len() == 4 => word.is_name("cmin") || word.is_name("cmax"),
        [b'l' | b'L' | b'i' | b'I', ..] => {
            ["last_value", "log_cnt", "is_called"].iter().any(|name| word.is_name(name))
        }
        _ => ends_in(word, b"frozenxid"),
    }
}

/// The names of PostgreSQL's own relations, behind `pg_`, of which a standby has what the primary has.
pub fn same_everywhere() -> impl Iterator<Item = &'static str> {
    SAME_EVERYWHERE.iter().copied()
}

fn ends_in(word: Word<'_>, end: &[u8]) -> bool {
    let start = word.len().saturating_sub(end.len());
    word.text().get(start..).is_some_and(|it| it.eq_ignore_ascii_case(end))
}

/// What PostgreSQL's own names go on with behind `pg_`, of which a standby has what the primary has.
const SAME_EVERYWHERE: &[&str] = &[
    "catalog",
    "class",
    "type",
    "attribute",
    "namespace",
    "proc",
    "index",
    "constraint",
    "attrdef",
    "description",
    "database",
    "roles",
    "tables",
    "indexes",
    "views",
    "enum",
    "depend",
    "extension",
    "am",
    "amop",
    "amproc",
    "aggregate",
    "auth_members",
    "authid",
    "cast",
    "collation",
    "conversion",
    "db_role_setting",
    "default_acl",
    "event_trigger",
    "foreign_data_wrapper",
    "foreign_server",
    "foreign_table",
    "group",
    "inherits",
    "init_privs",
    "language",
    "largeobject",
    "largeobject_metadata",
    "matviews",
    "opclass",
    "operator",
    "opfamily",
    "parameter_acl",
    "partitioned_table",
    "policies",
    "policy",
    "publication",
    "publication_namespace",
    "publication_rel",
    "publication_tables",
    "range",
    "rewrite",
    "rules",
    "seclabel",
    "seclabels",
    "sequence",
    "shadow",
    "shdepend",
    "shdescription",
    "shseclabel",
    "statistic",
    "statistic_ext",
    "statistic_ext_data",
    "stats",
    "stats_ext",
    "stats_ext_exprs",
    "subscription",
    "subscription_rel",
    "tablespace",
    "toast",
    "transform",
    "trigger",
    "ts_config",
    "ts_config_map",
    "ts_dict",
    "ts_parser",
    "ts_template",
    "user",
    "user_mapping",
    "user_mappings",
    "lsn",
    "snapshot",
    "node_tree",
    "ndistinct",
    "dependencies",
    "mcv_list",
];
