//! A connection as those see it who speak over it: a socket, with TLS over it or without.

#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::reactor::Socket;
use tls::Tls;

/// A connection. Dropped, it is closed; with TLS over it, the peer is told so before, if there is room for that.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    /// Boxed, so that a connection without it is small.
    tls: Option<Box<Tls>>,
}

impl Stream {
    /// A connection without TLS, as all are at first.
    pub(crate) const fn new(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// The socket itself, for its address and options.
    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Puts TLS over it: shakes hands, as client or server. `first` is what was read of the peer's first message.
    ///
    /// # Errors
    /// When the handshake fails, after the peer was told why; or the loss of the connection.
    pub(crate) async fn secure(
        &mut self,
        connection: impl Into<rustls::Connection>,
        first: &[u8],
    ) -> io::Result<()> {
        let tls = self.tls.insert(Box::new(Tls::new(connection.into(), first)?));
        std::future::poll_fn(|_| tls.poll_handshake(&self.socket)).await
    }

    /// What the handshake has settled; none without TLS.
    pub(crate) fn tls(&self) -> Option<&rustls::Connection> {
        self.tls.as_deref().map(Tls::connection)
    }

    /// The peer's certificates, its own first; none without TLS, or where the peer has shown none.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls().and_then(|tls| tls.peer_certificates()).unwrap_or_default()
    }

    /// Has the event loop of this thread watch the connection, and that of another thread no more.
    ///
    /// # Errors
    /// When this one does not take it.
    pub(crate) fn move_here(&mut self) -> io::Result<()> {
        self.socket.move_here()
    }

    /// Ready when a read is worth the attempt; always with TLS, which may have decrypted bytes.
    #[inline]
    pub(crate) fn poll_readable(&self) -> Poll<()> {
        if self.tls.is_none() { self.socket.poll_readable() } else { Poll::Ready(()) }
    }

    /// Reads once. Ready with 0 at the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub(crate) fn poll_recv(&mut self, room: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_recv(room),
            Some(tls) => tls.poll_recv(&self.socket, room),
        }
    }

    /// Writes once. What it is called with after it was not ready must begin with the bytes that it had then: with TLS, some
    /// of them may be on their way.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub(crate) fn poll_send(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_send(bytes),
            Some(tls) => tls.poll_send(&self.socket, bytes),
        }
    }

    /// Ready when the peer has closed the connection. One that has sent more meanwhile is taken to be there.
    pub(crate) fn poll_closed(&mut self) -> Poll<()> {
        match &mut self.tls {
            None => self.socket.poll_closed(),
            Some(tls) => tls.poll_closed(&self.socket),
        }
    }

    /// True if bytes have come that were not read.
    pub(crate) fn has_unread(&mut self) -> bool {
        !self.is_quiet() && self.poll_closed().is_pending()
    }

    /// True if nothing has come that was not read, nor an end. On any thread; but what another's event loop has not been told
    /// yet is not seen.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_quiet()) && self.socket.is_quiet()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&self.socket);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_recv(room.initialize_unfilled()))?;
        room.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls } = self.get_mut();
        if let Some(tls) = tls {
            tls.say_goodbye(socket);
        }
        Pin::new(socket).poll_shutdown(cx)
    }
}
