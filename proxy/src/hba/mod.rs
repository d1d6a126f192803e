//! `pg_hba.conf` and `pg_ident.conf`: who may come from where, and how it proves who it is.
//!
//! [`Hba::read`] and [`Maps::read`] turn files into rules, [`Hba::decide`] finds the rule for a connection: the first one that fits, as
//! in PostgreSQL. Neither touches the world: the texts of files, the addresses of names and of this machine, and what a role is a
//! member of are arguments. The rules are those of PostgreSQL's `libpq/hba.c`.

mod address;
mod ident;
mod names;
mod rule;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

pub(crate) use ident::Maps;
pub(crate) use names::Pattern;
pub(crate) use rule::{Certificate, Kind, Method, Naming, Rule};
pub(crate) use tokens::{ReadFile, from_disk};

use address::Found;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The file.
    pub(crate) path: Arc<Path>,
    /// From 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A Unix socket.
    Local,
    /// TCP without encryption.
    Plain(IpAddr),
    /// TLS over TCP.
    Tls(IpAddr),
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// How and from where it comes.
    pub(crate) transport: Transport,
    /// `database` of the startup packet.
    pub(crate) database: &'a str,
    /// `user` of the startup packet.
    pub(crate) user: &'a str,
    /// A connection for physical replication, which is to no database.
    pub(crate) is_replication: bool,
    /// The roles that the user is a member of, itself included; none for a user that does not exist. Of use only where
    /// [`Hba::asks_for_memberships`].
    pub(crate) member_of: &'a [Box<str>],
}

/// What a rule may need to know of the world.
pub(crate) trait World {
    /// The addresses of a name, if they are known.
    fn addresses(&self, name: &str) -> Option<Arc<[IpAddr]>>;

    /// This machine's own addresses, each with the size of its network.
    fn interfaces(&self) -> Vec<IpNet>;
}

/// What becomes of a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict<'a> {
    /// The first rule that fits.
    Rule(&'a Rule),
    /// None fits.
    NoEntry,
    /// It depends on the addresses of this name: resolve it, and ask again.
    Resolve(&'a str),
}

/// All rules, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hba {
    /// The file that they stand in.
    pub(crate) path: Arc<Path>,
    /// The rules.
    pub(crate) rules: Vec<Rule>,
}

impl Hba {
    /// Reads the file at `path`, and those that it names.
    ///
    /// # Errors
    /// All mistakes, by file and line.
    pub(crate) fn read(path: &Path, read: ReadFile<'_>) -> Result<Self, Vec<Mistake>> {
        let path: Arc<Path> = path.into();
        let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
        for line in tokens::lines(&path, read)? {
            match rule::parse(&line) {
                Ok(rule) => rules.push(rule),
                Err(message) => {
                    mistakes.push(Mistake { path: Arc::clone(&path), line: line.number, message });
                }
            }
        }
        // PostgreSQL does not start with such a file: nobody could connect.
        if rules.is_empty() && mistakes.is_empty() {
            let message = "contains no entries".to_owned();
            mistakes.push(Mistake { path: Arc::clone(&path), line: 1, message });
        }
        if mistakes.is_empty() { Ok(Self { path, rules }) } else { Err(mistakes) }
    }

    /// The first rule that fits a connection.
    pub(crate) fn decide(&self, question: &Question<'_>, world: &dyn World) -> Verdict<'_> {
        for rule in &self.rules {
            if !rule.is_for(question) {
                continue;
            }
            match rule.address.holds(question.transport, world) {
                Found::Yes => return Verdict::Rule(rule),
                Found::No => {}
                Found::Unknown(name) => return Verdict::Resolve(name),
            }
        }
        Verdict::NoEntry
    }

    /// True if a rule asks what the user is a member of (`+role`, `samerole`).
    pub(crate) fn asks_for_memberships(&self) -> bool {
        self.rules.iter().any(Rule::asks_for_memberships)
    }
}
