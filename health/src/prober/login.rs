//! Logging in at a server over SQL: name, connection, TLS, startup.

use std::io;
use std::net::{IpAddr, SocketAddr};

use pgherd_tls::{Answer, Attempt, Attempts, ChannelBinding, Failure, SSL_REQUEST, ServerTls, is_refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio_postgres::config::{self, SslMode, SslNegotiation};
use tokio_postgres::{Client, Config, Connection};
use tokio_rustls::TlsConnector;
use tracing::warn;

use super::connection::{ConnectFailure, Session, tune};
use super::transport::{Made, Transport};

/// SQLSTATE for a connection that cannot be made as the configuration wants it.
const UNABLE_TO_CONNECT: &str = "08001";

/// Who logs in, and how.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The role.
    pub user: &'a str,
    /// Its password, if it has one.
    pub password: Option<&'a str>,
    /// The database.
    pub database: &'a str,
    /// What it is called in `pg_stat_activity`.
    pub application_name: &'a str,
    /// Run-time parameters of the session: libpq's `options`.
    pub options: &'a str,
    /// How servers are connected to.
    pub tls: &'a ServerTls,
    /// What is done with the messages of notices; none if nobody wants them.
    pub notice: Option<fn(&str)>,
}

/// An attempt that failed, and whether another one, with TLS or without, may go better.
struct Failed {
    why: ConnectFailure,
    kind: Option<Failure>,
}

impl From<ConnectFailure> for Failed {
    fn from(why: ConnectFailure) -> Self {
        Self { why, kind: None }
    }
}

impl Login<'_> {
    /// Resolves the host's name, connects and logs in. Not bounded in time: the caller's timeout is.
    ///
    /// # Errors
    /// When nobody listens, TLS is not to be had as it is wanted, or the server rejects the login.
    pub async fn at(&self, host: &str, port: u16) -> Result<Session, ConnectFailure> {
        let (stream, address) = open(host, port).await?;
        let mut stream = Some(stream);
        let mut attempts = Attempts::new(self.tls);
        loop {
            let stream = match stream.take() {
                Some(stream) => stream,
                None => open_address(address).await?,
            };
            let Failed { why, kind } = match self.attempt(attempts.now(), stream, (host, address.ip())).await
            {
                Ok((client, connection)) => return Ok(Session::new(client, connection, self.notice)),
                Err(failed) => failed,
            };
            let server = format!("{host}:{port}");
            if let Some(why) = attempts.go_on(why, kind, &server)? {
                warn!(server, failure = %why, "goes on without TLS, as backends.tls.mode = prefer allows");
            }
        }
    }

    async fn attempt(
        &self,
        attempt: Attempt,
        stream: TcpStream,
        host: (&str, IpAddr),
    ) -> Result<(Client, Connection<Transport, Transport>), Failed> {
        let transport = match attempt {
            Attempt::Plain => Transport::Plain(stream),
            Attempt::Tls => negotiate(self.tls, stream, host).await?,
        };
        let config = self.config(transport.has_tls());
        config.connect_raw(transport, Made).await.map_err(|error| {
            let refused = error.code().is_some_and(|code| is_refusal(code.code().as_bytes()));
            Failed { why: ConnectFailure::of(&error), kind: refused.then_some(Failure::Login) }
        })
    }

    fn config(&self, has_tls: bool) -> Config {
        let mut config = Config::new();
        config
            .user(self.user)
            .dbname(self.database)
            .application_name(self.application_name)
            .options(self.options)
            .channel_binding(match self.tls.channel_binding() {
                ChannelBinding::Disable => config::ChannelBinding::Disable,
                ChannelBinding::Prefer => config::ChannelBinding::Prefer,
                ChannelBinding::Require => config::ChannelBinding::Require,
            });
        // The handshake is done already: no request for it, but its certificate counts for channel binding.
        match has_tls {
            true => config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct),
            false => config.ssl_mode(SslMode::Disable),
        };
        if let Some(password) = self.password {
            config.password(password);
        }
        config
    }
}

/// Asks for TLS, and has the handshake if the server agrees.
async fn negotiate(
    tls: &ServerTls,
    mut stream: TcpStream,
    (host, address): (&str, IpAddr),
) -> Result<Transport, Failed> {
    let lost = |error: io::Error| ConnectFailure::Lost(error.to_string());
    let rejected = |message: String| {
        let why = ConnectFailure::Rejected { sqlstate: UNABLE_TO_CONNECT.to_owned(), message };
        Failed { why, kind: Some(Failure::Handshake) }
    };
    stream.write_all(&SSL_REQUEST).await.map_err(lost)?;
    match Answer::of(stream.read_u8().await.map_err(lost)?) {
        Answer::Tls => {}
        Answer::NoTls if tls.mode().goes_on_without() => return Ok(Transport::Plain(stream)),
        Answer::NoTls => {
            let mode = tls.mode().name();
            let why = rejected(format!("the server has no TLS, and backends.tls.mode is {mode}")).why;
            return Err(Failed { why, kind: Some(Failure::NoTls) });
        }
        Answer::Other => {
            let message = "the server answered the request for TLS with an error".to_owned();
            return Err(Failed { kind: None, ..rejected(message) });
        }
    }
    let (config, name) =
        tls.handshake(host, address).map_err(|error| rejected(pgherd_tls::reason(&error)))?;
    let stream =
        TlsConnector::from(config).connect(name, stream).await.map_err(
            |error| match ConnectFailure::of_tls(&error) {
                Some(why) => Failed { why, kind: Some(Failure::Handshake) },
                None => Failed { why: lost(error), kind: Some(Failure::Handshake) },
            },
        )?;
    Ok(Transport::Tls(Box::new(stream)))
}

/// The first of the name's addresses that accepts.
async fn open(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), ConnectFailure> {
    let addresses = lookup_host((host, port)).await.map_err(|error| ConnectFailure::to(host, &error))?;
    let mut failure = ConnectFailure::Refused(format!("{host} has no address"));
    for address in addresses {
        match open_address(address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn open_address(address: SocketAddr) -> Result<TcpStream, ConnectFailure> {
    let stream = TcpStream::connect(address).await.map_err(|error| ConnectFailure::to(address, &error))?;
    tune(&stream).map_err(|error| ConnectFailure::Lost(error.to_string()))?;
    Ok(stream)
}
