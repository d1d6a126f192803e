//! Replication connections: each has a server connection of its own, and what one side says goes to the other as it is.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use pgherd_protocol::error::ClientError;
use pgherd_protocol::flow::Cut;
use pgherd_protocol::startup::Startup;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::acquire;
use super::login::{self, LoginFailure, Refusal};
use super::pipe::{Filled, Pipe};
use super::unserved::no_primary;
use crate::buffer::Buffers;
use crate::cancel::Registration;
use crate::places::{Counted, Places};
use crate::roster::{Card, Listed};
use crate::seat::Seat;
use crate::server::connect::ConnectError;
use crate::server::connection::ServerConnection;
use crate::server::table::{Server, Target};
use crate::stream::Stream;
use crate::worker::{Stage, Worker};

/// What kind of connection for replication a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replication {
    /// None.
    #[default]
    No,
    /// To the server itself.
    Physical,
    /// To a database.
    Logical,
}

impl Replication {
    /// What a startup packet says.
    ///
    /// # Errors
    /// What PostgreSQL says of a value that is none.
    pub(super) fn asked_for(startup: &Startup) -> Result<Self, ClientError> {
        let Some(value) = startup.replication.as_deref() else { return Ok(Self::No) };
        if value == "database" {
            return Ok(Self::Logical);
        }
        // As parse_bool() of PostgreSQL: any beginning of these words that is no beginning of the other.
        let begins = |word: &str| !value.is_empty() && word.starts_with(&value.to_ascii_lowercase());
        let (yes, no) = (begins("true") || begins("yes"), begins("false") || begins("no"));
        match value.to_ascii_lowercase().as_str() {
            "on" | "1" => Ok(Self::Physical),
            "of" | "off" | "0" => Ok(Self::No),
            _ if yes => Ok(Self::Physical),
            _ if no => Ok(Self::No),
            _ => Err(ClientError::new(
                "22023",
                format!("invalid value for parameter \"replication\": \"{value}\""),
            )
            .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")),
        }
    }

    /// As PgBouncer's SHOW CLIENTS has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::No => "none",
            Self::Physical => "physical",
            Self::Logical => "logical",
        }
    }
}

/// A client that has logged in for replication, and its server connection.
pub(crate) struct Passage {
    server: Box<ServerConnection>,
    seat: Arc<Seat>,
    /// The key is valid, the client counts and is listed, as long as these live.
    _registration: Registration,
    _counted: (Places, Counted),
    _listed: Listed,
}

/// Opens a server connection for a client that has proven who it is, and tells it all that a login is told.
pub(super) async fn open(
    worker: &Rc<Worker>,
    stream: &mut Stream,
    (parameters, minor): (&[(String, String)], u16),
    (seat, places, deadline): (Arc<Seat>, Places, Instant),
) -> Result<Passage, LoginFailure> {
    let shared = &worker.shared;
    let limit = shared.config.load().pool.replication_size;
    let of_replication = shared.replication.enter(limit).ok_or_else(|| {
        ClientError::new("53300", "too many replication connections")
            .detail(format!("{limit} are open, as many as pool.replication_size of pgherd allows."))
    })?;
    let connection = connect(worker, seat.card(), parameters, deadline).await?;
    let registration = shared.cancel_keys.register(&seat, Some(connection.cancel.pid()), minor);
    let listed = shared.roster.enter(&seat);
    let parameters = connection.state.parameters.iter().map(|(name, value)| (&**name, &**value));
    stream.write_all(&login::greeting(parameters, &registration.key)).await?;
    Ok(Passage {
        server: connection,
        seat,
        _registration: registration,
        _counted: (places, of_replication),
        _listed: listed,
    })
}

/// A connection to the primary, as soon as there is one.
async fn connect(
    worker: &Worker,
    card: &Card,
    parameters: &[(String, String)],
    deadline: Instant,
) -> Result<Box<ServerConnection>, LoginFailure> {
    let backends = &worker.shared.backends;
    loop {
        // Before the look at the table, so that no change is missed.
        let mut changes = backends.changes();
        let primary = match &backends.load().writes {
            Target::Open(server) => Some(Arc::clone(server)),
            Target::Held { .. } => None,
        };
        if let Some(server) = primary {
            return connect_to(worker, &server, card, parameters).await;
        }
        if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(no_primary(worker).into());
        }
    }
}

async fn connect_to(
    worker: &Worker,
    server: &Server,
    card: &Card,
    parameters: &[(String, String)],
) -> Result<Box<ServerConnection>, LoginFailure> {
    let parameters: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    match acquire::connect(server, (&card.database, &card.user), &parameters, worker).await {
        Ok(connection) => Ok(connection),
        Err(ConnectError::Refused(body)) => Err(LoginFailure::Refused(Refusal::from_server(&body))),
        Err(error) => {
            if error.is_about_the_server() {
                worker.shared.doubt(server.node.id);
            }
            let told = format!("no connection for replication to {}: {error}", server.node);
            Err(ClientError::new("08006", told).into())
        }
    }
}

impl Passage {
    /// Passes everything on until one side leaves.
    pub(super) async fn run(mut self, worker: &Worker, client: &mut Stream) {
        self.seat.hold(&self.server.cancel);
        let (mut up, mut down) = (Pipe::default(), Pipe::default());
        let server = &mut self.server.stream;
        poll_fn(|_| {
            let ended = self.seat.is_dismissed()
                || worker.stage() == Stage::Ending
                || poll_pass(&mut up, client, server, &worker.buffers).is_ready()
                || poll_pass(&mut down, server, client, &worker.buffers).is_ready();
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.seat.release();
    }
}

/// Passes bytes on in one direction; ready when there will be no more.
fn poll_pass(pipe: &mut Pipe, from: &mut Stream, to: &mut Stream, buffers: &Buffers) -> Poll<io::Result<()>> {
    loop {
        ready!(pipe.poll_flush(to, buffers))?;
        if let Filled::End = ready!(pipe.poll_fill(from, buffers))? {
            return Poll::Ready(Ok(()));
        }
        let len = pipe.uncut().1.0.len();
        pipe.accept(&Cut { consumed: len, pass: 0..len, stop: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_replication_are_read_as_postgresql_does() {
        let wanted = |value: &str| {
            let startup = Startup {
                minor: 0,
                user: "a".into(),
                database: "a".into(),
                replication: Some(value.into()),
                parameters: Vec::new(),
                unknown_extensions: Vec::new(),
            };
            Replication::asked_for(&startup).map_err(|error| error.sqlstate.into_owned())
        };
        assert_eq!(wanted("database"), Ok(Replication::Logical));
        for value in ["true", "on", "1", "t", "Yes", "TR"] {
            assert_eq!(wanted(value), Ok(Replication::Physical), "{value}");
        }
        for value in ["false", "off", "0", "no", "F"] {
            assert_eq!(wanted(value), Ok(Replication::No), "{value}");
        }
        for value in ["", "o", "maybe", "2", "Database"] {
            assert_eq!(wanted(value), Err("22023".into()), "{value}");
        }
    }
}
