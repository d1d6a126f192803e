//! A session of the console: the protocol's two ways of asking, as PostgreSQL has them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use pgherd_protocol::error::{ClientError, Severity};
use pgherd_protocol::frame::{FrameError, HEADER_LEN, frontend_header, split_cstr};
use pgherd_protocol::rows::{self, Column, Formats, Row, Value};
use pgherd_protocol::session::Transaction;
use pgherd_protocol::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::command::{self, Command};
use super::{Visitor, herd, parameters, routing, views};
use crate::reactor;
use crate::stream::Stream;
use crate::traffic::Counter;
use crate::worker::{Stage, Worker};

/// No command is longer, nor has a message anything else to say.
const LONGEST_MESSAGE: usize = 64 * 1024;
/// Prepared statements of one session, and portals.
const MOST_NAMES: usize = 256;
/// What is said by then goes out before more is asked.
const MOST_UNSENT: usize = 64 * 1024;

/// Serves the console until the client leaves, or is sent away.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: Stream, mut visitor: Visitor) -> io::Result<()> {
    stream.write_all(&std::mem::take(&mut visitor.welcome)).await?;
    let mut dialogue = Dialogue {
        worker,
        stream,
        visitor,
        out: Vec::new(),
        statements: HashMap::new(),
        portals: HashMap::new(),
        transaction: Transaction::Idle,
        is_skipping: false,
    };
    while let Ended::Not = dialogue.turn().await? {}
    dialogue.flush().await
}

/// Whether the session goes on.
enum Ended {
    Not,
    Yes,
}

/// A session of the console.
pub(super) struct Dialogue {
    pub(super) worker: Rc<Worker>,
    pub(super) stream: Stream,
    pub(super) visitor: Visitor,
    /// What is to be said.
    pub(super) out: Vec<u8>,
    statements: HashMap<Box<[u8]>, Option<Command>>,
    portals: HashMap<Box<[u8]>, Portal>,
    transaction: Transaction,
    /// Everything up to Sync is ignored.
    is_skipping: bool,
}

/// A command that is to be run, or that was and has more to say.
struct Portal {
    command: Option<Command>,
    formats: Formats,
    /// What is not told yet.
    reply: Option<Reply>,
}

/// What a command has to say.
pub(super) struct Reply {
    pub(super) columns: &'static [Column],
    pub(super) rows: std::vec::IntoIter<Row>,
    pub(super) tag: &'static str,
}

impl Reply {
    /// The one row of a SELECT.
    fn one(column: &'static Column, value: Value) -> Self {
        Self { columns: std::slice::from_ref(column), rows: vec![vec![value]].into_iter(), tag: "SELECT 1" }
    }

    /// Nothing but that it is done.
    pub(super) fn done(tag: &'static str) -> Self {
        Self { columns: &[], rows: Vec::new().into_iter(), tag }
    }
}

impl Dialogue {
    /// The console's database.
    pub(super) fn database(&self) -> &str {
        &self.visitor.seat.card().database
    }

    /// One message.
    async fn turn(&mut self) -> io::Result<Ended> {
        let (worker, seat) = (&self.worker, &self.visitor.seat);
        let sent_away = poll_fn(|_| {
            let goes_on = worker.stage() == Stage::Serving && !seat.is_dismissed();
            if goes_on { Poll::Pending } else { Poll::Ready(()) }
        });
        let message = tokio::select! {
            biased;
            () = sent_away => {
                self.say_last(&ClientError::new("57P01", "terminating connection due to administrator command"));
                return Ok(Ended::Yes);
            }
            message = read(&mut self.stream) => message?,
        };
        let (tag, body) = match message {
            Ok(message) => message,
            Err(error) => {
                self.say_last(&error);
                return Ok(Ended::Yes);
            }
        };
        match tag {
            b'X' => return Ok(Ended::Yes),
            b'S' => {
                self.is_skipping = false;
                self.ready();
                self.flush().await?;
            }
            b'H' => self.flush().await?,
            _ if self.is_skipping => {}
            b'Q' => {
                self.query(&body).await;
                self.ready();
                self.flush().await?;
            }
            b'F' => {
                self.fail(&ClientError::new("0A000", "the console has no functions to call"));
                self.ready();
                self.flush().await?;
            }
            // What is left of a COPY that there was not.
            b'd' | b'c' | b'f' => {}
            _ => {
                if let Err(error) = self.extended(tag, &body).await {
                    self.fail(&error);
                    self.is_skipping = true;
                }
                if self.out.len() > MOST_UNSENT {
                    self.flush().await?;
                }
            }
        }
        Ok(Ended::Not)
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out = Vec::new();
        Ok(())
    }

    fn ready(&mut self) {
        if self.transaction == Transaction::Idle {
            self.portals.clear();
        }
        write::ready_for_query(&mut self.out, self.transaction.byte());
    }

    fn fail(&mut self, error: &ClientError) {
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
        error.write(&mut self.out, Severity::Error);
    }

    fn say_last(&mut self, error: &ClientError) {
        error.write(&mut self.out, Severity::Fatal);
    }

    async fn query(&mut self, body: &[u8]) {
        let commands = match text(body).and_then(parse) {
            Ok(commands) => commands,
            Err(error) => return self.fail(&error),
        };
        if commands.is_empty() {
            return write::empty(&mut self.out, b'I');
        }
        for command in commands {
            match self.execute(&command).await {
                Ok(reply) => {
                    if !reply.columns.is_empty() {
                        rows::description(&mut self.out, reply.columns, &Formats::TEXT);
                    }
                    self.tell(reply, &Formats::TEXT);
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// All of a reply.
    fn tell(&mut self, reply: Reply, formats: &Formats) {
        for row in reply.rows {
            rows::data(&mut self.out, reply.columns, &row, formats);
        }
        write::command_complete(&mut self.out, reply.tag);
    }

    async fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), ClientError> {
        match tag {
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute_portal(body).await,
            b'C' => self.close(body),
            // The frame was checked; nothing else is left.
            _ => Err(malformed()),
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let (name, rest) = split_cstr(body).ok_or_else(malformed)?;
        let mut commands = parse(text(rest)?)?;
        if commands.len() > 1 {
            let several = "cannot insert multiple commands into a prepared statement";
            return Err(ClientError::new("42601", several));
        }
        if !name.is_empty() && self.statements.contains_key(name) {
            let exists = format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(name));
            return Err(ClientError::new("42P05", exists));
        }
        make_room(&self.statements)?;
        self.statements.insert(name.into(), commands.pop());
        write::empty(&mut self.out, b'1');
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let (portal, rest) = split_cstr(body).ok_or_else(malformed)?;
        let (name, rest) = split_cstr(rest).ok_or_else(malformed)?;
        let command = self.statement(name)?.clone();
        let (count, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*count)) * 2..).ok_or_else(malformed)?;
        let (count, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        match u16::from_be_bytes(*count) {
            0 => {}
            count => {
                let name = String::from_utf8_lossy(name);
                let message = format!(
                    "bind message supplies {count} parameters, but prepared statement \"{name}\" requires 0"
                );
                return Err(ClientError::new("08P01", message));
            }
        }
        let columns = self.columns(command.as_ref());
        let formats = Formats::parse(rest, columns.len()).ok_or_else(malformed)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            let exists = format!("cursor \"{}\" already exists", String::from_utf8_lossy(portal));
            return Err(ClientError::new("42P03", exists));
        }
        make_room(&self.portals)?;
        self.portals.insert(portal.into(), Portal { command, formats, reply: None });
        write::empty(&mut self.out, b'2');
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let (kind, rest) = body.split_first().ok_or_else(malformed)?;
        let (name, _) = split_cstr(rest).ok_or_else(malformed)?;
        let (columns, formats) = match kind {
            b'S' => {
                let columns = self.columns(self.statement(name)?.as_ref());
                write::message(&mut self.out, b't', |out| out.extend_from_slice(&[0, 0]));
                (columns, Formats::TEXT)
            }
            _ => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (self.columns(portal.command.as_ref()), portal.formats.clone())
            }
        };
        rows::description(&mut self.out, columns, &formats);
        Ok(())
    }

    async fn execute_portal(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let (name, rest) = split_cstr(body).ok_or_else(malformed)?;
        let most = rest.first_chunk().map_or(0, |most| u32::from_be_bytes(*most));
        let portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let Portal { command, formats, reply } = portal;
        let Some(run) = &command else {
            write::empty(&mut self.out, b'I');
            self.portals.insert(name.into(), Portal { command, formats, reply: None });
            return Ok(());
        };
        let mut reply = match reply {
            Some(reply) => reply,
            None => self.execute(run).await?,
        };
        let most = if most == 0 { usize::MAX } else { usize::try_from(most).unwrap_or(usize::MAX) };
        for row in reply.rows.by_ref().take(most) {
            rows::data(&mut self.out, reply.columns, &row, &formats);
        }
        if reply.rows.len() == 0 {
            write::command_complete(&mut self.out, reply.tag);
        } else {
            write::empty(&mut self.out, b's');
        }
        self.portals.insert(name.into(), Portal { command, formats, reply: Some(reply) });
        Ok(())
    }

    fn close(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let (kind, rest) = body.split_first().ok_or_else(malformed)?;
        let (name, _) = split_cstr(rest).ok_or_else(malformed)?;
        match kind {
            b'S' => drop(self.statements.remove(name)),
            _ => drop(self.portals.remove(name)),
        }
        write::empty(&mut self.out, b'3');
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Option<Command>, ClientError> {
        self.statements.get(name).ok_or_else(|| {
            let none = match name {
                b"" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name)),
            };
            ClientError::new("26000", none)
        })
    }

    /// The columns of what a command will show.
    fn columns(&self, command: Option<&Command>) -> &'static [Column] {
        match command {
            Some(Command::Show(view)) => view.columns(self.database()),
            Some(Command::ShowParameter(column) | Command::Call(column)) => std::slice::from_ref(column),
            Some(Command::Herd(_)) => herd::DONE,
            Some(Command::Explain(_)) => herd::PLAN,
            Some(Command::ShowRouting(_)) => routing::ROUTE,
            Some(Command::One(_)) => std::slice::from_ref(&parameters::NUMBER),
            _ => &[],
        }
    }

    /// Runs a command, if the transaction block lets it.
    async fn execute(&mut self, command: &Command) -> Result<Reply, ClientError> {
        if let Some(shard) = self.visitor.account.shard(self.worker.id) {
            shard.add(Counter::Queries, 1);
            shard.add(Counter::Transactions, 1);
        }
        self.visitor.seat.card().asked_at.store(reactor::micros(), Ordering::Relaxed);
        if self.transaction == Transaction::Failed && !matches!(command, Command::End(_)) {
            let aborted = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(ClientError::new("25P02", aborted));
        }
        match command {
            Command::Show(view) => {
                let is_admin = self.visitor.is_admin;
                let scene = views::Scene {
                    shared: &self.worker.shared,
                    connections: self.worker.connections(),
                    database: self.database(),
                    is_admin,
                };
                let (columns, rows) = (view.columns(self.database()), view.rows(&scene));
                Ok(Reply { columns, rows: rows.into_iter(), tag: "SHOW" })
            }
            Command::ShowParameter(column) => {
                let rows = vec![vec![parameters::value(column, self.database()).into()]];
                Ok(Reply { columns: std::slice::from_ref(column), rows: rows.into_iter(), tag: "SHOW" })
            }
            Command::ShowRouting(question) => Ok(self.route(question)),
            Command::Call(column) => {
                let card = self.visitor.seat.card();
                let value = parameters::call(column, (&card.database, &card.user));
                Ok(Reply::one(column, value.into()))
            }
            Command::One(number) => Ok(Reply::one(&parameters::NUMBER, (*number).into())),
            Command::Help => {
                self.help();
                Ok(Reply::done("SHOW"))
            }
            Command::Begin => {
                self.transaction = Transaction::Open;
                Ok(Reply::done("BEGIN"))
            }
            Command::End(tag) => {
                let tag = if self.transaction == Transaction::Failed { "ROLLBACK" } else { tag };
                self.transaction = Transaction::Idle;
                Ok(Reply::done(tag))
            }
            Command::Nothing(tag) => Ok(Reply::done(tag)),
            order => self.obey(order).await,
        }
    }

    fn help(&mut self) {
        let mut detail = String::new();
        for name in views::names() {
            detail.push_str("\n\tSHOW ");
            detail.push_str(&name.to_ascii_uppercase());
        }
        detail.push_str(
            "\n\tSHOW ROUTING '<statement>' [DATABASE <db> [USER <user>]]\
             \n\tSET key = value\n\tRELOAD\n\tPAUSE [<db>]\n\tRESUME [<db>]\n\tDISABLE <db>\n\tENABLE <db>\n\tRECONNECT [<db>]\
             \n\tKILL [<db>]\n\tKILL_CLIENT <client_id>\n\tSUSPEND\n\tSHUTDOWN\
             \n\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\n\tWAIT_CLOSE [<db>]\
             \n\tSWITCHOVER [<server>]\n\tFAILOVER [TO <server>] [ALLOW DATA LOSS] [ACCEPT TIMELINE <number>]\
             \n\tREJOIN <server> [ALLOW DATA LOSS] [RECLONE]\n\tATTACH <server>\n\tDETACH <server>\
             \n\tPAUSE FAILOVER\n\tRESUME FAILOVER\n\tEXPLAIN <one of the last seven>",
        );
        self.notice("Console usage", &detail);
    }

    pub(super) fn notice(&mut self, message: &str, detail: &str) {
        ClientError::new("00000", message).detail(detail).write(&mut self.out, Severity::Notice);
    }
}

/// Reads one message. The inner error is what the client is told before it is sent away.
async fn read(stream: &mut Stream) -> io::Result<Result<(u8, Vec<u8>), ClientError>> {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).await?;
    let header = match frontend_header(&head) {
        Ok(Some(header)) if header.tag != b'p' => header,
        Ok(_) => return Ok(Err(ClientError::new("08P01", FrameError::UnknownTag(b'p').to_string()))),
        Err(error) => return Ok(Err(ClientError::new("08P01", error.to_string()))),
    };
    if header.len > LONGEST_MESSAGE {
        return Ok(Err(ClientError::new("54000", "message too long for the console")));
    }
    let mut body = vec![0; header.len - HEADER_LEN];
    stream.read_exact(&mut body).await?;
    Ok(Ok((header.tag, body)))
}

fn text(body: &[u8]) -> Result<&str, ClientError> {
    let (text, _) = split_cstr(body).ok_or_else(malformed)?;
    std::str::from_utf8(text)
        .map_err(|_| ClientError::new("22021", "invalid byte sequence for encoding \"UTF8\""))
}

fn parse(text: &str) -> Result<Vec<Command>, ClientError> {
    command::parse(text).map_err(|mistake| {
        ClientError::new(mistake.sqlstate, mistake.message)
            .position(mistake.position)
            .hint("SHOW HELP lists the commands of this console.")
    })
}

fn malformed() -> ClientError {
    ClientError::new("08P01", "invalid message format")
}

fn no_portal(name: &[u8]) -> ClientError {
    ClientError::new("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
}

fn make_room<T>(names: &HashMap<Box<[u8]>, T>) -> Result<(), ClientError> {
    if names.len() < MOST_NAMES {
        return Ok(());
    }
    Err(ClientError::new("54000", format!("a console session has {MOST_NAMES} statements at the most")))
}
