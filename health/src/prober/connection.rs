//! One connection to a server, and the ways in which getting it can fail.

use std::error::Error as _;
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Connection};
use tokio_util::task::AbortOnDropHandle;

use super::transport::Transport;
use super::{Login, ProberSettings};
use crate::Node;

/// Names are looked up on this database's schemas alone, whatever the role's search_path says.
const OPTIONS: &str = "-c search_path=pg_catalog -c standard_conforming_strings=on";

/// So much is kept of what a server says, which is shown and kept for long.
const LONGEST_MESSAGE: usize = 1000;

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
    pub(super) fn to(peer: impl Display, error: &io::Error) -> Self {
        let text = format!("{peer}: {error}");
        if is_exhausted(error) { Self::NoMeans(text) } else { Self::Refused(text) }
    }

    /// What went wrong with a connection that had been opened.
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::Rejected {
                sqlstate: db.code().code().to_owned(),
                message: db.message().chars().take(LONGEST_MESSAGE).collect(),
            };
        }
        let cause = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        if let Some(rejected) = io.and_then(Self::of_tls) {
            return rejected;
        }
        if io.is_some() || error.is_closed() {
            return Self::Lost(cause);
        }
        // What remains is the client's own complaint, about the password or about what the server sent.
        Self::not_let_in(cause)
    }

    /// What TLS found wrong, if it did: a server that ends a connection with an alert, over our certificate for example, is there.
    pub(super) fn of_tls(error: &io::Error) -> Option<Self> {
        let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(Self::not_let_in(pgherd_tls::reason(tls)))
    }

    fn not_let_in(message: String) -> Self {
        let sqlstate = SqlState::INVALID_AUTHORIZATION_SPECIFICATION.code().to_owned();
        Self::Rejected { sqlstate, message }
    }
}

/// A logged-in connection. Its task ends with it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: AbortOnDropHandle<Option<ConnectFailure>>,
}

impl Session {
    pub(super) fn new(
        client: Client,
        connection: Connection<Transport, Transport>,
        notice: Option<fn(&str)>,
    ) -> Self {
        Self { client, driver: AbortOnDropHandle::new(tokio::spawn(drive(connection, notice))) }
    }

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

/// Serves a connection to its end, and hands on the messages of notices. Gives the error that ended it, if one did.
pub async fn drive<S, T>(mut connection: Connection<S, T>, notice: Option<fn(&str)>) -> Option<ConnectFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await? {
            Ok(AsyncMessage::Notice(said)) => {
                if let Some(notice) = notice {
                    notice(said.message());
                }
            }
            Ok(_) => {}
            Err(error) => return Some(ConnectFailure::of(&error)),
        }
    }
}

/// Connects to `node` and logs in as the monitor user. Not bounded in time: the caller's timeout is.
///
/// # Errors
/// See [`Login::at`].
pub async fn connect(node: &Node, settings: &ProberSettings) -> Result<Session, ConnectFailure> {
    let login = Login {
        user: &settings.user,
        password: settings.password.as_ref().map(super::Password::reveal),
        database: &settings.database,
        application_name: "pgherd",
        options: OPTIONS,
        tls: &settings.tls,
        notice: None,
    };
    login.at(&node.host, node.port).await
}

/// True if this machine had no means for a socket: that says nothing about the other side.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    const LOCAL: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| LOCAL.contains(&errno))
}

pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
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
