//! A connection that an event loop watches: TCP, or a Unix socket.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CLOSED, READABLE, Reactor, Source, WRITABLE, current_reactor, spend};
use crate::config::Tcp;

/// A connection. It wakes the task that found it not ready last, and never a waker: for one task at a time, and for no combinator
/// that has wakers of its own.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) source: Arc<Source>,
    reactor: Arc<Reactor>,
    key: usize,
}

impl Socket {
    /// Has the event loop of this thread watch a connection.
    ///
    /// # Errors
    /// When it does not take it, or there is none.
    pub(crate) fn new(stream: impl Into<OwnedFd>) -> io::Result<Self> {
        let stream = stream.into();
        SockRef::from(&stream).set_nonblocking(true)?;
        let (reactor, source) = (current_reactor()?, Source::new(stream));
        let key = reactor.register(&source)?;
        Ok(Self { source, reactor, key })
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// When nobody listens there, or no descriptor is left.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let socket = Self::new(socket)?;
        // Before anything is known of it, it is not connected either.
        socket.source.clear(WRITABLE);
        std::future::poll_fn(|_| {
            socket.source.register_current_task();
            if socket.source.is(WRITABLE) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        match SockRef::from(&socket).take_error()? {
            Some(error) => Err(error),
            None => Ok(socket),
        }
    }

    /// Connects to the first of a host's addresses that answers.
    ///
    /// # Errors
    /// When the name is not known, or none of the addresses answers.
    pub(crate) async fn connect_to(host: &str, port: u16) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in tokio::net::lookup_host((host, port)).await? {
            match Self::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends what is written at once, and notices a peer whose machine is gone. For TCP.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub(crate) fn set_options(&self, tcp: &Tcp) -> io::Result<()> {
        let socket = SockRef::from(self);
        socket.set_tcp_nodelay(true)?;
        if tcp.user_timeout.is_some() {
            socket.set_tcp_user_timeout(tcp.user_timeout)?;
        }
        if !tcp.keepalive {
            return Ok(());
        }
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = tcp.keepalive_idle {
            keepalive = keepalive.with_time(idle);
        }
        if let Some(interval) = tcp.keepalive_interval {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(count) = tcp.keepalive_count {
            keepalive = keepalive.with_retries(count);
        }
        socket.set_tcp_keepalive(&keepalive)
    }

    /// The peer's address. For TCP.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(self).peer_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("the peer has no IP address"))
    }

    /// The address that it has on this side.
    ///
    /// # Errors
    /// When the connection has ended already, or is no network's.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(self).local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("the socket has no IP address"))
    }

    /// Has the event loop of this thread watch the connection, and that of another thread no more.
    ///
    /// # Errors
    /// When this one does not take it: all is as it was before.
    pub(crate) fn move_here(&mut self) -> io::Result<()> {
        let reactor = current_reactor()?;
        let key = reactor.register(&self.source)?;
        self.reactor.deregister(&self.source, self.key);
        (self.reactor, self.key) = (reactor, key);
        // Only now that the other thread changes them no more.
        self.source.set_untried();
        Ok(())
    }

    /// The next event is for the task that is polled now.
    pub(crate) fn register_current_task(&self) {
        self.source.register_current_task();
    }

    /// Ready when a read is worth the attempt: nothing has shown that it would be in vain.
    #[inline]
    pub(crate) fn poll_readable(&self) -> Poll<()> {
        self.poll_ready(READABLE)
    }

    /// Reads once. Ready with 0 at the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub(crate) fn poll_recv(&self, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let read =
            ready!(self.attempt(READABLE, || recv(&self.source.stream, &mut *room, RecvFlags::empty())))?.1;
        // What is less than there was room for was all there is, and the next byte is an event; but not the end of the stream
        // once that has been told of.
        if read < room.len() && !self.source.is(CLOSED) {
            self.source.clear(READABLE);
        }
        Poll::Ready(Ok(read))
    }

    /// Writes once.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub(crate) fn poll_send(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.attempt(WRITABLE, || send(&self.source.stream, bytes, SendFlags::NOSIGNAL))
    }

    /// Ready when the peer has closed the connection. One that has sent more meanwhile is taken to be there.
    pub(crate) fn poll_closed(&self) -> Poll<()> {
        match ready!(self.attempt(READABLE, || self.peek())) {
            Ok(1..) => {
                self.source.register_current_task();
                Poll::Pending
            }
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    /// True if nothing has come that was not read, nor an end. On any thread; but what another's event loop has not been told
    /// yet is not seen.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        // A look at the socket itself, but only where something has been reported of it since the last look.
        if !self.source.is(READABLE) {
            return true;
        }
        let quiet = self.peek() == Err(Errno::AGAIN);
        if quiet && current_reactor().is_ok_and(|current| Arc::ptr_eq(&current, &self.reactor)) {
            self.source.clear(READABLE);
        }
        quiet
    }

    fn peek(&self) -> rustix::io::Result<usize> {
        recv(&self.source.stream, &mut [0], RecvFlags::PEEK).map(|(_, len)| len)
    }

    /// Ready unless it is known that there is nothing; then the task is polled again when there may be.
    #[inline]
    fn poll_ready(&self, bit: u8) -> Poll<()> {
        if self.source.is(bit) {
            return Poll::Ready(());
        }
        self.source.register_current_task();
        Poll::Pending
    }

    /// Reads or writes, if it is not known to be in vain and the task has not done so too often in this turn.
    #[inline]
    fn attempt<T>(&self, bit: u8, mut call: impl FnMut() -> rustix::io::Result<T>) -> Poll<io::Result<T>> {
        ready!(self.poll_ready(bit));
        if !spend() {
            return Poll::Pending;
        }
        loop {
            match call() {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.source.clear(bit);
                    self.source.register_current_task();
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reactor.deregister(&self.source, self.key);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.stream.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.source.stream.as_raw_fd()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_recv(room.initialize_unfilled()))?;
        room.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self).shutdown(Shutdown::Write))
    }
}
