//! Accepting connections and handing them to workers.

mod unix;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{Listen, Live};
use crate::crew::Crew;
use crate::descriptors::Bounds;
use crate::handover::{Inherited, Sockets};
use crate::peer::{Peer, PeerAddress};
use crate::worker::{Accepted, Arrival};
use unix::UnixSocket;
pub(crate) use unix::path_of;

/// Connections beyond `pool.max_clients` that may be logging in, or being told that there are too many. More than one address may have
/// by default.
const LOGGING_IN: usize = 2000;
/// Pause after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);
/// What a flood of connections brings about is told of once in this time.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Where clients come in.
#[derive(Debug)]
pub(crate) struct Listeners {
    tcp: TcpListener,
    unix: Option<UnixSocket>,
}

impl Listeners {
    /// Listens, but where it was inherited.
    ///
    /// # Errors
    /// When an address cannot be bound; names it and its key.
    pub(crate) fn bind(settings: &Listen, inherited: &mut Inherited, sockets: &Sockets) -> io::Result<Self> {
        let address = settings.address;
        // First: who has the port has the Unix socket that is named after it, too.
        let given = inherited.take(address).map(from_std);
        let tcp = given.unwrap_or_else(|| open(address, settings.backlog)).map_err(|error| {
            io::Error::new(error.kind(), format!("listen.address: cannot listen on {address}: {error}"))
        })?;
        let unix = settings.unix.as_ref().map(|directory| {
            match inherited.take_unix(&path_of(directory, address.port())) {
                Some((listener, path)) => UnixSocket::take_over(listener, &path, sockets.stay()),
                None => UnixSocket::bind(
                    directory,
                    (settings.unix_mode, settings.backlog),
                    address.port(),
                    sockets.stay(),
                ),
            }
        });
        Ok(Self { tcp, unix: unix.transpose()? })
    }

    /// Keeps handles of them, to be handed over.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub(crate) fn keep(&self, sockets: &Sockets) -> io::Result<()> {
        sockets.keep(&self.tcp)?;
        self.unix.iter().try_for_each(|unix| sockets.keep(unix))
    }

    /// The next connection, and where it comes from.
    async fn accept(&self) -> io::Result<(OwnedFd, PeerAddress)> {
        let unix = async {
            match &self.unix {
                Some(unix) => unix.accept().await,
                None => std::future::pending().await,
            }
        };
        // No connection is lost in the one that is dropped.
        tokio::select! {
            accepted = self.tcp.accept() => {
                let (stream, address) = accepted?;
                // One that came to an IPv6 socket by IPv4 is known by its own address.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                Ok((stream.into_std()?.into(), PeerAddress::Tcp(address)))
            }
            accepted = unix => accepted,
        }
    }
}

fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// What is accepted next while `accepting` says so. None when nobody will say so any more.
pub(crate) async fn while_open<T, F: Future<Output = io::Result<T>>>(
    accepting: &mut watch::Receiver<bool>,
    accept: impl Fn() -> F,
) -> Option<io::Result<T>> {
    loop {
        let is_open = *accepting.borrow_and_update();
        // No connection is lost in the one that is dropped.
        tokio::select! {
            biased;
            changed = accepting.changed() => changed.ok()?,
            accepted = accept(), if is_open => return Some(accepted),
        }
    }
}

/// Accepts while `accepting` says so, and hands each connection to a worker. At most `pool.max_clients` connections, and those that may
/// be logging in, are open at once.
pub(crate) async fn accept(
    listeners: Listeners,
    crew: &Crew,
    (config, descriptors): (&Live, &Bounds),
    mut accepting: watch::Receiver<bool>,
) {
    let (mut turned_away, mut failed) = (Rarely::default(), Rarely::default());
    loop {
        let Some(accepted) = while_open(&mut accepting, || listeners.accept()).await else { return };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(failed) = failed.one_more() {
                    tracing::warn!(%error, failed, "cannot accept a connection");
                }
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        let limit = config.load().pool.max_clients.saturating_add(LOGGING_IN);
        // Those who log in from elsewhere keep nobody out who is on this machine.
        let reserve = if matches!(peer, PeerAddress::Unix(_)) { LOGGING_IN } else { 0 };
        let is_full = crew.connections() >= limit.saturating_add(reserve);
        if is_full || !descriptors.has_room_for_client(&socket) {
            if let Some(closed) = turned_away.one_more() {
                let limit = if is_full { "pool.max_clients" } else { "the limit of open files" };
                tracing::warn!(%peer, limit, closed, "too many connections");
            }
            continue;
        }
        let accepted = |counted| Arrival::Accepted(Accepted { socket, peer: Peer::new(peer), counted });
        crew.hand(crew.next(), accepted).await;
    }
}

/// What happens as often as strangers like, and is told of now and then.
#[derive(Debug, Default)]
struct Rarely {
    count: u64,
    told_at: Option<Instant>,
}

impl Rarely {
    /// It happened once more; how often since it was told of last, if it is to be told of now.
    fn one_more(&mut self) -> Option<u64> {
        self.count += 1;
        if self.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return None;
        }
        self.told_at = Some(Instant::now());
        Some(std::mem::take(&mut self.count))
    }
}
