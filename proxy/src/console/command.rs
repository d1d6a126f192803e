//! What an administrator asks for: the commands of PgBouncer's console, and some statements that drivers send by themselves.
//! Pure: a text in, commands or the error out.

use std::iter::Peekable;
use std::vec::IntoIter;

use pgherd_protocol::rows::Column;

use super::herd::HerdOrder;
use super::lexer::{self, Placed, Token};
use super::parameters;
use super::routing::Question;
use super::views::{self, View};

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// SHOW of one of the console's views.
    Show(&'static View),
    /// SHOW of a run-time parameter, as PostgreSQL has them: its column.
    ShowParameter(&'static Column),
    /// SELECT of a whole number, as those send it who want to know whether anybody is there.
    One(i64),
    /// SELECT of one of the functions that drivers call: its column.
    Call(&'static Column),
    /// SHOW ROUTING 'text' [DATABASE name [USER name]]
    ShowRouting(Question),
    /// SHOW HELP
    Help,
    /// PAUSE [database]
    Pause(Option<String>),
    /// RESUME [database]
    Resume(Option<String>),
    /// DISABLE database
    Disable(String),
    /// ENABLE database
    Enable(String),
    /// RECONNECT [database]
    Reconnect(Option<String>),
    /// KILL [database]
    Kill(Option<String>),
    /// KILL_CLIENT id
    KillClient(u64),
    /// SUSPEND
    Suspend,
    /// WAIT_CLOSE [database]
    WaitClose(Option<String>),
    /// An order about the servers.
    Herd(HerdOrder),
    /// EXPLAIN of one: what it would do.
    Explain(HerdOrder),
    /// RELOAD
    Reload,
    /// SHUTDOWN
    Shutdown(Shutdown),
    /// SET of a key of the configuration; without a value it goes back to what the sources say.
    Set(String, Option<String>),
    /// What opens a transaction block, which means nothing here.
    Begin,
    /// What ends it: COMMIT, or ROLLBACK.
    End(&'static str),
    /// What drivers send by themselves, with its tag: it changes nothing.
    Nothing(&'static str),
}

/// How pgherd is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// At once.
    Now,
    /// When all sessions are at rest, or the drain deadline has come.
    WaitForServers,
    /// When all clients have left.
    WaitForClients,
}

/// Why a text is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// As PostgreSQL has it.
    pub(crate) sqlstate: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// The number of the character where that is, from 1.
    pub(crate) position: Option<usize>,
}

/// The commands of a text; none for an empty one. If one of them is wrong, none is to be run.
///
/// # Errors
/// The first mistake.
pub(crate) fn parse(text: &str) -> Result<Vec<Command>, Mistake> {
    let tokens = lexer::tokens(text).map_err(|unterminated| Mistake {
        sqlstate: "42601",
        message: format!("unterminated quoted string at or near \"{}\"", clip(&unterminated.text)),
        position: Some(unterminated.position),
    })?;
    let mut words = Words { tokens: tokens.into_iter().peekable() };
    let mut commands = Vec::new();
    loop {
        while words.tokens.next_if(|placed| placed.token == Token::Semicolon).is_some() {}
        if words.tokens.peek().is_none() {
            return Ok(commands);
        }
        commands.push(words.command()?);
        match words.tokens.next() {
            None => return Ok(commands),
            Some(Placed { token: Token::Semicolon, .. }) => {}
            Some(other) => return Err(syntax_error(Some(&other))),
        }
    }
}

pub(super) struct Words {
    tokens: Peekable<IntoIter<Placed>>,
}

impl Words {
    fn command(&mut self) -> Result<Command, Mistake> {
        let first = self.tokens.next();
        let word = match &first {
            Some(Placed { token: Token::Word(word), .. }) => word.to_ascii_uppercase(),
            other => return Err(syntax_error(other.as_ref())),
        };
        if let Some(order) = self.herd_order(&word)? {
            return Ok(Command::Herd(order));
        }
        Ok(match &*word {
            "SHOW" => return self.show(),
            "SET" => return self.set(),
            "SELECT" => return self.select(),
            "PAUSE" => Command::Pause(self.name_if_any()?),
            "RESUME" => Command::Resume(self.name_if_any()?),
            "DISABLE" => Command::Disable(self.name()?),
            "ENABLE" => Command::Enable(self.name()?),
            "RECONNECT" => Command::Reconnect(self.name_if_any()?),
            "KILL" => Command::Kill(self.name_if_any()?),
            "KILL_CLIENT" => self.kill_client()?,
            "SUSPEND" => Command::Suspend,
            "WAIT_CLOSE" => Command::WaitClose(self.name_if_any()?),
            "EXPLAIN" => return self.explain(),
            "RELOAD" => Command::Reload,
            "SHUTDOWN" => self.shutdown()?,
            "BEGIN" | "START" => self.rest(Command::Begin),
            "COMMIT" | "END" => self.rest(Command::End("COMMIT")),
            "ROLLBACK" | "ABORT" => self.rest(Command::End("ROLLBACK")),
            "RESET" => self.rest(Command::Nothing("RESET")),
            "DISCARD" => self.rest(Command::Nothing("DISCARD ALL")),
            "DEALLOCATE" => self.rest(Command::Nothing("DEALLOCATE")),
            "UNLISTEN" => self.rest(Command::Nothing("UNLISTEN")),
            "CLOSE" => self.rest(Command::Nothing("CLOSE CURSOR ALL")),
            _ => return Err(syntax_error(first.as_ref())),
        })
    }

    /// The command, whatever its text goes on with.
    fn rest(&mut self, command: Command) -> Command {
        while self.tokens.next_if(|placed| placed.token != Token::Semicolon).is_some() {}
        command
    }

    fn show(&mut self) -> Result<Command, Mistake> {
        let Placed { position, text, .. } = self.next()?;
        let mut name = text.to_ascii_lowercase();
        if name == "routing" {
            return self.routing();
        }
        // SHOW TRANSACTION ISOLATION LEVEL and SHOW TIME ZONE
        while let Some(Placed { token: Token::Word(more), .. }) =
            self.tokens.next_if(|placed| matches!(placed.token, Token::Word(_)))
        {
            name.push(' ');
            name.push_str(&more.to_ascii_lowercase());
        }
        if name == "help" {
            return Ok(Command::Help);
        }
        if let Some(view) = views::find(&name) {
            return Ok(Command::Show(view));
        }
        match parameters::find(&name) {
            Some(column) => Ok(Command::ShowParameter(column)),
            None => Err(Mistake {
                sqlstate: "42704",
                message: format!("unrecognized configuration parameter \"{}\"", clip(&name)),
                position: Some(position),
            }),
        }
    }

    fn routing(&mut self) -> Result<Command, Mistake> {
        if matches!(self.tokens.peek(), None | Some(Placed { token: Token::Semicolon, .. }))
            && let Some(view) = views::find("routing")
        {
            return Ok(Command::Show(view));
        }
        let placed = self.next()?;
        let Token::Quoted(text) = placed.token else { return Err(syntax_error(Some(&placed))) };
        let database = if self.takes("database") { Some(self.name()?) } else { None };
        let user = if database.is_some() && self.takes("user") { Some(self.name()?) } else { None };
        Ok(Command::ShowRouting(Question { text, database, user }))
    }

    /// `SELECT 1`, `SELECT version()`, `SELECT pg_catalog.version()`
    fn select(&mut self) -> Result<Command, Mistake> {
        let placed = self.next()?;
        if let Ok(number) = placed.text.parse::<u32>() {
            return Ok(Command::One(number.into()));
        }
        let name = placed.text.to_ascii_lowercase();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        let Some(column) = parameters::function(name) else { return Err(syntax_error(Some(&placed))) };
        for mark in ['(', ')'] {
            self.tokens.next_if(|placed| placed.token == Token::Mark(mark));
        }
        Ok(Command::Call(column))
    }

    fn set(&mut self) -> Result<Command, Mistake> {
        let mut key = self.next()?;
        if ["session", "local"].iter().any(|scope| key.text.eq_ignore_ascii_case(scope)) {
            key = self.next()?;
        }
        let name = match &key.token {
            Token::Word(name) | Token::Quoted(name) => name.to_ascii_lowercase(),
            Token::Semicolon | Token::Equals | Token::Mark(_) => return Err(syntax_error(Some(&key))),
        };
        // SET TIME ZONE, SET TRANSACTION, SET NAMES and the like have a grammar of their own.
        if parameters::is_ignored(&name) {
            return Ok(self.rest(Command::Nothing("SET")));
        }
        let is = self.next()?;
        if is.token != Token::Equals && !is.text.eq_ignore_ascii_case("to") {
            return Err(syntax_error(Some(&is)));
        }
        let value = self.next()?;
        match value.token {
            Token::Word(word) if word.eq_ignore_ascii_case("default") => Ok(Command::Set(name, None)),
            Token::Word(text) | Token::Quoted(text) => Ok(Command::Set(name, Some(text))),
            Token::Semicolon | Token::Equals | Token::Mark(_) => Err(syntax_error(Some(&value))),
        }
    }

    /// Of an order about the servers, which is not carried out.
    fn explain(&mut self) -> Result<Command, Mistake> {
        let placed = self.next()?;
        let order = match &placed.token {
            Token::Word(word) => self.herd_order(&word.to_ascii_uppercase())?,
            _ => None,
        };
        order.map(Command::Explain).ok_or_else(|| syntax_error(Some(&placed)))
    }

    /// Takes the next word if it is this one.
    pub(super) fn takes(&mut self, word: &str) -> bool {
        let is_it = |token: &Token| matches!(token, Token::Word(it) if it.eq_ignore_ascii_case(word));
        self.tokens.next_if(|placed| is_it(&placed.token)).is_some()
    }

    /// Takes a word that must follow.
    pub(super) fn must(&mut self, word: &str) -> Result<(), Mistake> {
        if self.takes(word) { Ok(()) } else { Err(syntax_error(self.tokens.peek())) }
    }

    /// A number that must follow.
    pub(super) fn number(&mut self) -> Result<u32, Mistake> {
        let placed = self.next()?;
        placed.text.parse().map_err(|_| syntax_error(Some(&placed)))
    }

    fn kill_client(&mut self) -> Result<Command, Mistake> {
        let placed = self.next()?;
        placed.text.parse().map(Command::KillClient).map_err(|_| syntax_error(Some(&placed)))
    }

    fn shutdown(&mut self) -> Result<Command, Mistake> {
        let Some(placed) = self.tokens.next_if(|placed| placed.token != Token::Semicolon) else {
            return Ok(Command::Shutdown(Shutdown::Now));
        };
        match &*placed.text.to_ascii_uppercase() {
            "WAIT_FOR_SERVERS" => Ok(Command::Shutdown(Shutdown::WaitForServers)),
            "WAIT_FOR_CLIENTS" => Ok(Command::Shutdown(Shutdown::WaitForClients)),
            _ => Err(syntax_error(Some(&placed))),
        }
    }

    /// What must follow.
    fn next(&mut self) -> Result<Placed, Mistake> {
        self.tokens.next_if(|placed| placed.token != Token::Semicolon).ok_or_else(|| syntax_error(None))
    }

    /// The name of a database, as it stands there: as in PgBouncer, large letters are not made small.
    pub(super) fn name(&mut self) -> Result<String, Mistake> {
        let placed = self.next()?;
        match placed.token {
            Token::Word(name) | Token::Quoted(name) if !name.is_empty() => Ok(name),
            _ => Err(syntax_error(Some(&placed))),
        }
    }

    pub(super) fn name_if_any(&mut self) -> Result<Option<String>, Mistake> {
        match self.tokens.peek() {
            None | Some(Placed { token: Token::Semicolon, .. }) => Ok(None),
            Some(_) => self.name().map(Some),
        }
    }
}

fn syntax_error(at: Option<&Placed>) -> Mistake {
    let message = match at {
        Some(placed) => format!("syntax error at or near \"{}\"", clip(&placed.text)),
        None => "syntax error at end of input".to_owned(),
    };
    Mistake { sqlstate: "42601", message, position: at.map(|placed| placed.position) }
}

/// What is repeated of a text in an error.
fn clip(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Command {
        let mut commands = parse(text).unwrap();
        assert_eq!(commands.len(), 1, "{text}");
        commands.remove(0)
    }

    #[track_caller]
    fn mistaken(text: &str, sqlstate: &str, message: &str, position: Option<usize>) {
        let mistake = parse(text).unwrap_err();
        assert_eq!((mistake.sqlstate, &*mistake.message, mistake.position), (sqlstate, message, position));
    }

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        assert!(matches!(one("show pools;"), Command::Show(view) if view.name == "pools"));
        assert_eq!(one(" PAUSE "), Command::Pause(None));
        assert_eq!(one("pause App"), Command::Pause(Some("App".into())));
        assert_eq!(one("KILL \"my \"\"db\"\"\";;"), Command::Kill(Some("my \"db\"".into())));
        assert_eq!(one("kill_client 17"), Command::KillClient(17));
        assert_eq!(one("SHUTDOWN wait_for_clients"), Command::Shutdown(Shutdown::WaitForClients));
        assert_eq!(one("set pool.size = 5"), Command::Set("pool.size".into(), Some("5".into())));
        assert_eq!(one("set \"pool.size\" to default"), Command::Set("pool.size".into(), None));
        assert_eq!(
            one("SET query_wait_timeout TO '2 min'"),
            Command::Set("query_wait_timeout".into(), Some("2 min".into()))
        );
        assert_eq!(one("-- what?\nSHOW /* this /* and */ that */ HELP"), Command::Help);
    }

    #[test]
    fn it_is_asked_where_a_text_would_run() {
        let question = |database: Option<&str>, user: Option<&str>| {
            let text = "select 'a' from t".to_owned();
            Command::ShowRouting(Question {
                text,
                database: database.map(str::to_owned),
                user: user.map(str::to_owned),
            })
        };
        assert_eq!(one("show routing 'select ''a'' from t'"), question(None, None));
        assert_eq!(one("SHOW ROUTING 'select ''a'' from t' DATABASE app"), question(Some("app"), None));
        assert_eq!(
            one("SHOW ROUTING 'select ''a'' from t' database app user \"u\";"),
            question(Some("app"), Some("u"))
        );
        assert!(matches!(one("SHOW ROUTING;"), Command::Show(view) if view.name == "routing"));
        mistaken("SHOW ROUTING select 1", "42601", "syntax error at or near \"select\"", Some(14));
        mistaken("SHOW ROUTING 'a' USER u", "42601", "syntax error at or near \"USER\"", Some(18));
    }

    #[test]
    fn orders_about_the_servers_are_read() {
        let switchover = |to: Option<&str>| HerdOrder::Switchover(to.map(str::to_owned));
        assert_eq!(one("SWITCHOVER"), Command::Herd(switchover(None)));
        assert_eq!(one("switchover 2"), Command::Herd(switchover(Some("2"))));
        assert_eq!(one("switchover 'db-2.example'"), Command::Herd(switchover(Some("db-2.example"))));
        assert_eq!(one("explain switchover 2;"), Command::Explain(switchover(Some("2"))));
        let failover = |to: Option<&str>, allow_data_loss, accept_timeline| HerdOrder::Failover {
            to: to.map(str::to_owned),
            allow_data_loss,
            accept_timeline,
        };
        assert_eq!(one("FAILOVER"), Command::Herd(failover(None, false, None)));
        assert_eq!(
            one("failover to pg02 allow data loss"),
            Command::Herd(failover(Some("pg02"), true, None))
        );
        let all = "EXPLAIN FAILOVER ACCEPT TIMELINE 3 ALLOW DATA LOSS TO 'db-2:5432'";
        assert_eq!(one(all), Command::Explain(failover(Some("db-2:5432"), true, Some(3))));
        let rejoin = HerdOrder::Rejoin { server: "0".into(), allow_data_loss: true, reclone: true };
        assert_eq!(one("REJOIN 0 ALLOW DATA LOSS RECLONE"), Command::Herd(rejoin));
        assert_eq!(one("ATTACH pg02"), Command::Herd(HerdOrder::Attach("pg02".into())));
        assert_eq!(one("DETACH pg02"), Command::Herd(HerdOrder::Detach("pg02".into())));
        assert_eq!(one("PAUSE FAILOVER"), Command::Herd(HerdOrder::Pause));
        assert_eq!(one("resume failover"), Command::Herd(HerdOrder::Resume));
        assert_eq!(one("PAUSE \"failover\""), Command::Pause(Some("failover".into())));
        mistaken("FAILOVER TO", "42601", "syntax error at end of input", None);
        mistaken("FAILOVER ALLOW LOSS", "42601", "syntax error at or near \"LOSS\"", Some(16));
        mistaken("FAILOVER ACCEPT TIMELINE x", "42601", "syntax error at or near \"x\"", Some(26));
        mistaken("EXPLAIN RELOAD", "42601", "syntax error at or near \"RELOAD\"", Some(9));
        mistaken("REJOIN", "42601", "syntax error at end of input", None);
    }

    #[test]
    fn what_drivers_send_by_themselves_is_taken() {
        assert_eq!(one("SET extra_float_digits = 3"), Command::Nothing("SET"));
        assert_eq!(one("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"), Command::Nothing("SET"));
        assert_eq!(one("begin isolation level serializable"), Command::Begin);
        assert_eq!(one("ROLLBACK"), Command::End("ROLLBACK"));
        let shown = one("SHOW TRANSACTION ISOLATION LEVEL");
        assert!(matches!(shown, Command::ShowParameter(column) if column.name == "transaction_isolation"));
        assert_eq!(one("select 1;"), Command::One(1));
        assert!(
            matches!(one("SELECT pg_catalog.version()"), Command::Call(column) if column.name == "version")
        );
        let reset = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
        assert_eq!(parse(reset).unwrap().len(), 4);
        assert_eq!(parse(" ; ").unwrap(), []);
        assert_eq!(parse("PAUSE; RESUME").unwrap(), [Command::Pause(None), Command::Resume(None)]);
    }

    #[test]
    fn mistakes_are_told_as_postgresql_tells_them() {
        mistaken("SELECT a", "42601", "syntax error at or near \"a\"", Some(8));
        mistaken("PAUSE a b", "42601", "syntax error at or near \"b\"", Some(9));
        mistaken("SHOW", "42601", "syntax error at end of input", None);
        mistaken("ENABLE;", "42601", "syntax error at end of input", None);
        mistaken("äö SHOW", "42601", "syntax error at or near \"äö\"", Some(1));
        mistaken("SHOW POOLS; é", "42601", "syntax error at or near \"é\"", Some(13));
        mistaken("KILL \"a", "42601", "unterminated quoted string at or near \"\"a\"", Some(6));
        mistaken("SHOW nothing", "42704", "unrecognized configuration parameter \"nothing\"", Some(6));
        mistaken("SET pool.size = -1", "42601", "syntax error at or near \"-\"", Some(17));
        mistaken("SET = 1", "42601", "syntax error at or near \"=\"", Some(5));
        mistaken("KILL_CLIENT x", "42601", "syntax error at or near \"x\"", Some(13));
    }
}
