//! What reads the input of others, as the daemon does it, for `fuzz/`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use pgherd_health::Node;

use crate::config;
use crate::console::command;
use crate::hba::{Hba, Maps, Mistake, Question, Transport, Verdict, World};
use crate::migrate;

/// What is wrong with a text: where, by its line, and what.
pub type Wrong = Vec<(usize, String)>;

/// Rules of `pg_hba.conf`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules(Hba);

/// Somebody who asks to be let in. Without an address it comes over a Unix socket.
#[derive(Clone, Debug)]
pub struct Visitor<'a> {
    /// Its address.
    pub address: Option<IpAddr>,
    /// It has TLS.
    pub has_tls: bool,
    /// The database that it wants.
    pub database: &'a str,
    /// The user that it wants to be.
    pub user: &'a str,
    /// It wants to replicate.
    pub is_replication: bool,
    /// The roles that the user is a member of.
    pub member_of: &'a [Box<str>],
}

impl Rules {
    /// Reads a text; `names` is what every file has that it names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str, names: &str) -> Result<Self, Wrong> {
        Hba::read(Path::new(MAIN), &files(text, names)).map(Self).map_err(wrong)
    }

    /// The line and the method of the rule for a visitor. Every name stands for `named`.
    #[must_use]
    pub fn decide(&self, visitor: &Visitor<'_>, named: IpAddr) -> Option<(usize, &'static str)> {
        let transport = match visitor.address {
            None => Transport::Local,
            Some(address) if visitor.has_tls => Transport::Tls(address),
            Some(address) => Transport::Plain(address),
        };
        let Visitor { database, user, is_replication, member_of, .. } = *visitor;
        let question = Question { transport, database, user, is_replication, member_of };
        match self.0.decide(&question, &OneHost(named)) {
            Verdict::Rule(rule) => Some((rule.line, rule.method.name())),
            Verdict::NoEntry | Verdict::Resolve(_) => None,
        }
    }
}

/// Whether `pg_ident.conf` lets who is called `system` be `user` by this map.
///
/// # Errors
/// What is wrong with the text.
pub fn ident_allows(text: &str, map: &str, system: &str, user: &str) -> Result<bool, Wrong> {
    let maps = Maps::read(Path::new(MAIN), &files(text, "")).map_err(wrong)?;
    Ok(maps.allow(Some(map), system, user, &[]))
}

const MAIN: &str = "/main";

fn files<'a>(text: &'a str, names: &'a str) -> impl Fn(&Path) -> Result<String, String> + 'a {
    move |path| Ok(if path == Path::new(MAIN) { text } else { names }.to_owned())
}

fn wrong(mistakes: Vec<Mistake>) -> Wrong {
    mistakes.into_iter().map(|it| (it.line, it.message)).collect()
}

/// One machine, that all names lead to.
struct OneHost(IpAddr);

impl World for OneHost {
    fn addresses(&self, _: &str) -> Option<Arc<[IpAddr]>> {
        Some([self.0].into())
    }

    fn interfaces(&self) -> Vec<IpNet> {
        vec![self.0.into()]
    }
}

/// Each key with its value; none where it has none.
pub type InForce = Vec<(&'static str, Option<String>)>;

/// The names of all keys of the configuration.
pub fn keys() -> impl Iterator<Item = &'static str> {
    config::KEYS.iter().map(|key| key.name)
}

/// What would be wrong with a text as the configuration file.
#[must_use]
pub fn problems_of_file(text: &str) -> Vec<String> {
    let (errors, _) = config::check_text(text, Path::new("/file"));
    errors.iter().map(ToString::to_string).collect()
}

/// What is in force by the variables of an environment, and no file.
///
/// # Errors
/// What is wrong with them.
pub fn in_force_by_environment(variables: &[(String, String)]) -> Result<InForce, Vec<String>> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    in_force(None, variables)
}

/// What is in force by a file and no environment.
///
/// # Errors
/// What is wrong with it.
pub fn in_force_by_file(file: &Path) -> Result<InForce, Vec<String>> {
    in_force(Some(file), std::iter::empty())
}

fn in_force(
    file: Option<&Path>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<InForce, Vec<String>> {
    match config::load_from(file, Path::new("/nowhere"), variables) {
        Ok(loaded) => Ok(loaded.config.describe()),
        Err(rejected) => Err(rejected.errors.iter().map(ToString::to_string).collect()),
    }
}

/// The servers of a `PG_BACKEND_NODE_LIST`.
///
/// # Errors
/// What is wrong with it.
pub fn nodes(text: &str) -> Result<Vec<Node>, Vec<String>> {
    config::nodes::read_text(text)
}

/// A server as such a list has it.
#[must_use]
pub fn show_node(node: &Node) -> String {
    config::nodes::show(node)
}

/// Why a text is no command of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As PostgreSQL has it.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
    /// The number of the character where that is, from 1.
    pub position: Option<usize>,
}

/// The commands of a text for the console, each in words.
///
/// # Errors
/// The first mistake.
pub fn commands(text: &str) -> Result<Vec<String>, Refused> {
    match command::parse(text) {
        Ok(commands) => Ok(commands.iter().map(|command| format!("{command:?}")).collect()),
        Err(command::Mistake { sqlstate, message, position }) => Err(Refused { sqlstate, message, position }),
    }
}

/// What pgpool's or PgBouncer's file becomes, and what is wrong with that.
///
/// # Errors
/// Why nothing becomes of it.
pub fn migrated(file: &Path) -> Result<(String, Vec<String>), String> {
    migrate::page_of(file)
}
