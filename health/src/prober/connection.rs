//! One connection to a server, and the ways in which getting it can fail.

use std::error::Error as _;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::ProberSettings;
use crate::Node;

/// Names are looked up on this database's schemas alone, whatever the role's search_path says.
const OPTIONS: &str = "-c search_path=pg_catalog -c standard_conforming_strings=on";

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// This machine has no means for a connection: that says nothing of the server.
    #[error("pgherd cannot ask it: {0}")]
    NoMeans(String),
    /// Nobody listens there, there is no way there, or its name does not resolve.
    #[error("{0}")]
    Refused(String),
    /// The peer accepted and closed it before the login was done.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The server answered with an error.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Rejected {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
}

impl ConnectFailure {
    fn to(peer: impl Display, error: &io::Error) -> Self {
        let text = format!("{peer}: {error}");
        if is_exhausted(error) { Self::NoMeans(text) } else { Self::Refused(text) }
    }

    /// What went wrong with a connection that had been opened.
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::Rejected {
                sqlstate: db.code().code().to_owned(),
                message: db.message().to_owned(),
            };
        }
        let cause = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        let io = error.source().is_some_and(|source| source.is::<io::Error>());
        if io || error.is_closed() {
            return Self::Lost(cause);
        }
        // What remains is the client's own complaint, about the password or about what the server sent.
        let sqlstate = SqlState::INVALID_AUTHORIZATION_SPECIFICATION.code().to_owned();
        Self::Rejected { sqlstate, message: cause }
    }
}

/// A logged-in connection. Its task ends with it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: AbortOnDropHandle<Option<ConnectFailure>>,
}

impl Session {
    /// Sends statements.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Ends when the connection does, with the error that the server gave as its reason, if any. Cancel-safe; not to be
    /// called again once it has ended.
    pub async fn closed(&mut self) -> Option<ConnectFailure> {
        (&mut self.driver).await.unwrap_or_default()
    }

    /// True once the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Says goodbye to the server, so that it does not log a lost connection.
    pub async fn close(self) {
        drop(self.client);
        let _ended = self.driver.await;
    }
}

/// Resolves `node`'s name, connects and logs in as the monitor user. Not bounded in time: the caller's timeout is.
///
/// # Errors
/// When nobody listens, or the server rejects the login.
pub async fn connect(node: &Node, settings: &ProberSettings) -> Result<Session, ConnectFailure> {
    let stream = open(&node.host, node.port).await?;
    let mut config = Config::new();
    config.user(&settings.user).dbname(&settings.database).application_name("pgherd").options(OPTIONS);
    if let Some(password) = &settings.password {
        config.password(password.reveal());
    }
    let (client, connection) =
        config.connect_raw(stream, NoTls).await.map_err(|error| ConnectFailure::of(&error))?;
    let driver = tokio::spawn(async move { connection.await.err().map(|error| ConnectFailure::of(&error)) });
    Ok(Session { client, driver: AbortOnDropHandle::new(driver) })
}

/// The first of the name's addresses that accepts.
async fn open(host: &str, port: u16) -> Result<TcpStream, ConnectFailure> {
    let addresses = lookup_host((host, port)).await.map_err(|error| ConnectFailure::to(host, &error))?;
    let mut failure = ConnectFailure::Refused(format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tune(&stream).map_err(|error| ConnectFailure::Lost(error.to_string()))?;
                return Ok(stream);
            }
            Err(error) => failure = ConnectFailure::to(address, &error),
        }
    }
    Err(failure)
}

/// True if this machine had no means for a socket: that says nothing about the other side.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    const LOCAL: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| LOCAL.contains(&errno))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_blamed_on_the_server() {
        let of = |errno: Errno| ConnectFailure::to("pg01", &errno.into());
        assert!(matches!(of(Errno::MFILE), ConnectFailure::NoMeans(_)));
        assert!(matches!(of(Errno::CONNREFUSED), ConnectFailure::Refused(_)));
        assert!(matches!(of(Errno::HOSTUNREACH), ConnectFailure::Refused(_)));
    }
}
