//! TLS on the way to a server.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pgherd_protocol::auth::ClientBinding;
use pgherd_tls::{Answer, ChannelBinding, SSL_REQUEST, ServerTls, end_point};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::reactor::Socket;
use crate::stream::Stream;
use crate::tls::{cipher_name, version_name};

/// Why there is no TLS where it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSecure {
    /// The server has none; the connection can go on without.
    #[error("the server has no TLS")]
    NoTls,
    /// It answered with something else, such as an error that nobody vouches for.
    #[error("the server answered the request for TLS with an error")]
    Refused,
    /// The handshake failed; the text says why.
    #[error("{0}")]
    Handshake(String),
    /// The connection was lost before the handshake.
    #[error("{0}")]
    Lost(io::Error),
    /// The connection was lost within the handshake.
    #[error("{0} during the TLS handshake")]
    LostInHandshake(io::Error),
}

/// How TLS is put over a connection to one server: what its other connections, for cancel requests, need too.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Handshake {
    /// With a host at this address.
    ///
    /// # Errors
    /// When the host's name is one that cannot be verified, and must be.
    pub(crate) fn with(tls: &ServerTls, host: &str, address: IpAddr) -> Result<Self, NotSecure> {
        let (config, name) =
            tls.handshake(host, address).map_err(|error| NotSecure::Handshake(pgherd_tls::reason(&error)))?;
        Ok(Self { config, name })
    }

    /// Asks for TLS, and shakes hands.
    ///
    /// # Errors
    /// See [`NotSecure`].
    pub(crate) async fn take_place(self, stream: &mut Stream) -> Result<Secured, NotSecure> {
        self.shake(stream).await?;
        let of = |name: fn(&rustls::Connection) -> &'static str| stream.tls().map_or("unknown", name);
        Ok(Secured { version: of(version_name), cipher: of(cipher_name), handshake: self })
    }

    async fn shake(&self, stream: &mut Stream) -> Result<(), NotSecure> {
        stream.write_all(&SSL_REQUEST).await.map_err(NotSecure::Lost)?;
        match Answer::of(stream.read_u8().await.map_err(NotSecure::Lost)?) {
            Answer::Tls => {}
            Answer::NoTls => return Err(NotSecure::NoTls),
            Answer::Other => return Err(NotSecure::Refused),
        }
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|error| NotSecure::Handshake(pgherd_tls::reason(&error)))?;
        stream.secure(connection, &[]).await.map_err(|error| match complaint(&error) {
            Some(reason) => NotSecure::Handshake(reason),
            None => NotSecure::LostInHandshake(error),
        })
    }
}

/// How a connection was secured. Shown, it is version and cipher, as tools that know PgBouncer expect it.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    handshake: Handshake,
    version: &'static str,
    cipher: &'static str,
}

impl fmt::Display for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.cipher)
    }
}

/// What TLS itself found wrong with a connection, or the peer said so; none if the connection was lost otherwise.
pub(crate) fn complaint(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<rustls::Error>().map(pgherd_tls::reason)
}

/// What a login over this connection may be bound to.
pub(crate) fn binding(tls: &ServerTls, stream: &Stream) -> ClientBinding {
    let wanted = tls.channel_binding() != ChannelBinding::Disable;
    let certificate = stream.peer_certificates().first().filter(|_| wanted);
    ClientBinding {
        tls: stream.tls().is_some(),
        end_point: certificate.and_then(|der| end_point(der)),
        required: tls.channel_binding() == ChannelBinding::Require,
    }
}

/// A connection to a server for a cancel request: over TLS if its own connection has it.
///
/// # Errors
/// When the server cannot be reached as it was before.
pub(crate) async fn connect_again(address: SocketAddr, secured: Option<&Secured>) -> io::Result<Stream> {
    let mut stream = Stream::new(Socket::connect(address).await?);
    if let Some(Secured { handshake, .. }) = secured {
        handshake.shake(&mut stream).await.map_err(|error| match error {
            NotSecure::Lost(error) | NotSecure::LostInHandshake(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        })?;
    }
    Ok(stream)
}
