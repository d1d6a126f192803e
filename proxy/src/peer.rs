//! Who is at the other end of a client's connection, and how it is reached.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use pgherd_protocol::auth::Channel;
use pgherd_tls::end_point;

/// A client's end of its connection. Shown, in the log for example, it is the address.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) address: PeerAddress,
    /// How the connection is protected, once a handshake has succeeded; never over a Unix socket.
    pub(crate) tls: Option<Arc<TlsFacts>>,
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerAddress {
    /// On the network.
    Tcp(SocketAddr),
    /// On this machine, connected to a Unix socket.
    Unix(UnixPeer),
}

/// A process on this machine, as it was when it connected: the kernel vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnixPeer {
    /// Its number; 0 where the kernel gives none, as from another PID namespace.
    pub(crate) pid: i32,
    /// The user that it ran as.
    pub(crate) uid: u32,
    /// The group that it ran as.
    pub(crate) gid: u32,
    /// The socket that it connected to.
    pub(crate) path: Arc<Path>,
}

/// What a handshake has settled.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    /// As PostgreSQL names it: `TLSv1.3`.
    pub(crate) version: &'static str,
    /// As the standards name it: `TLS_AES_256_GCM_SHA384`.
    pub(crate) cipher: &'static str,
    /// Whom the client's certificate names, if it gave one: its chain was verified then.
    pub(crate) client_certificate: Option<CertificateNames>,
    /// The certificate that this side has shown, in DER.
    pub(crate) own_certificate: Option<Arc<[u8]>>,
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// The subject as RFC 4514 writes it, the last name first: `CN=ada,O=Example`.
    pub(crate) subject: String,
    /// The subject's common name.
    pub(crate) common_name: Option<String>,
}

/// The bits of an IPv6 address that name a network, within which everybody has as many addresses as he likes.
const NETWORK: u128 = !0 << 64;

/// What strangers are counted by: an IPv4 address, or an IPv6 network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

impl Peer {
    /// A peer whose connection is not encrypted.
    pub(crate) const fn new(address: PeerAddress) -> Self {
        Self { address, tls: None }
    }

    /// What its login can be bound to: the certificate that it was shown.
    pub(crate) fn channel(&self) -> Channel {
        let certificate = self.tls.as_ref().and_then(|tls| tls.own_certificate.as_deref());
        certificate.and_then(end_point).map_or(Channel::Unbindable, Channel::EndPoint)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(UnixPeer { pid, path, .. }) => write!(f, "unix:{pid}@{}", path.display()),
        }
    }
}

/// As tools that know PgBouncer expect it: version and cipher.
impl fmt::Display for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.cipher)
    }
}

impl fmt::Debug for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsFacts({self}, {:?})", self.client_certificate)
    }
}
