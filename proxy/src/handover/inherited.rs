//! Listening sockets that this process has not opened itself: systemd's, or those of the pgherd that it takes over from.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::SockRef;

/// Listening sockets that were given to this process.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Those of a socket unit of systemd (`LISTEN_FDS`), and these.
    pub(crate) fn with(mut sockets: Vec<OwnedFd>) -> Self {
        let mut given = ListenFd::from_env();
        for number in 0..given.len() {
            if let Ok(Some(listener)) = given.take_tcp_listener(number) {
                sockets.push(listener.into());
            } else if let Ok(Some(listener)) = given.take_unix_listener(number) {
                sockets.push(listener.into());
            } else {
                tracing::warn!(number, "a socket of systemd is none that pgherd can listen on");
            }
        }
        Self(sockets)
    }

    /// The one that listens at this address, or at every address if that is what is wanted.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|socket| {
            let its = SockRef::from(socket).local_addr().ok().and_then(|its| its.as_socket());
            its.is_some_and(|its| is_same(its, address))
        })?;
        Some(self.0.swap_remove(place).into())
    }

    /// The one that listens at this path, and the path.
    pub(crate) fn take_unix(&mut self, path: &Path) -> Option<(UnixListener, PathBuf)> {
        let place = self.0.iter().position(|socket| {
            SockRef::from(socket).local_addr().is_ok_and(|its| its.as_pathname() == Some(path))
        })?;
        Some((self.0.swap_remove(place).into(), path.to_owned()))
    }

    /// Says which are not used, and closes them.
    pub(crate) fn close(self) {
        for socket in &self.0 {
            let address = SockRef::from(socket).local_addr().ok();
            let path = address.as_ref().and_then(|its| its.as_pathname().map(Path::to_owned));
            let address = address.and_then(|its| its.as_socket());
            tracing::warn!(
                ?address,
                ?path,
                "a listening socket that was handed to pgherd is none of its configuration's: it is closed"
            );
        }
    }
}

/// systemd's `ListenStream=5432` is every address, and written as that of IPv6.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let every = one.ip().is_unspecified() && other.ip().is_unspecified();
    one.port() == other.port() && (every || one.ip() == other.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut inherited = Inherited(vec![listener.into()]);
        assert!(inherited.take(SocketAddr::from(([127, 0, 0, 2], address.port()))).is_none());
        assert!(inherited.take(address).is_some() && inherited.take(address).is_none());
        let same = |one: &str, other: &str| is_same(one.parse().unwrap(), other.parse().unwrap());
        assert!(same("[::]:5432", "0.0.0.0:5432") && !same("[::]:5432", "0.0.0.0:5433"));
        assert!(!same("0.0.0.0:5432", "127.0.0.1:5432"));
    }
}
