//! TLS over a socket that is not blocking.
//!
//! rustls turns bytes into other bytes; here they meet the socket. Once hands are shaken it holds at most one record of what was
//! read and one of what is to be written, 16 KiB each, whatever the peer does; before, one message of the handshake, 64 KiB.

use std::io::{self, Read, Write};
use std::task::{Poll, ready};

use rustls::Connection;

use crate::reactor::Socket;

/// A record's plaintext is no longer.
const MAX_RECORD: usize = 16 * 1024;

/// One side of a TLS connection.
#[derive(Debug)]
pub(super) struct Tls {
    connection: Connection,
    /// Decrypted bytes that nobody has read.
    held: usize,
    /// The peer has said that it writes no more, or its stream has ended.
    is_closed: bool,
    /// So many of the caller's bytes are encrypted and on their way; it has not been told so.
    accepted: usize,
}

impl Tls {
    /// Before the handshake. `first` is what was read of the peer's first message.
    pub(super) fn new(mut connection: Connection, mut first: &[u8]) -> io::Result<Self> {
        while !first.is_empty() {
            if connection.read_tls(&mut first)? == 0 {
                break;
            }
        }
        Ok(Self { connection, held: 0, is_closed: false, accepted: 0 })
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ready when both sides have agreed.
    pub(super) fn poll_handshake(&mut self, socket: &Socket) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(socket))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.is_closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_fill(socket))?;
        }
    }

    pub(super) fn poll_recv(&mut self, socket: &Socket, room: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.held == 0 {
            if self.is_closed {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_fill(socket))?;
        }
        let read = self.connection.reader().read(room)?;
        self.held = self.held.saturating_sub(read);
        Poll::Ready(Ok(read))
    }

    /// Ready when the bytes, or the first of them, are with the kernel: nobody would come to send them later.
    pub(super) fn poll_send(&mut self, socket: &Socket, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.accepted == 0 {
            // What the protocol itself has to say, if there is anything.
            ready!(self.poll_flush(socket))?;
            let record = bytes.get(..MAX_RECORD).unwrap_or(bytes);
            self.accepted = self.connection.writer().write(record)?;
        }
        ready!(self.poll_flush(socket))?;
        Poll::Ready(Ok(std::mem::take(&mut self.accepted).min(bytes.len())))
    }

    pub(super) fn poll_closed(&mut self, socket: &Socket) -> Poll<()> {
        // The end of the stream stands behind a record that says so: a look at the socket does not tell.
        while self.held == 0 {
            if self.is_closed || ready!(self.poll_fill(socket)).is_err() {
                return Poll::Ready(());
            }
        }
        socket.register_current_task();
        Poll::Pending
    }

    /// True if nothing is held, nor has the stream ended.
    pub(super) const fn is_quiet(&self) -> bool {
        self.held == 0 && !self.is_closed
    }

    /// Tells the peer that no more comes, if there is room for it.
    pub(super) fn say_goodbye(&mut self, socket: &Socket) {
        self.connection.send_close_notify();
        let _ = self.poll_flush(socket);
    }

    /// Reads once from the socket, and decrypts what is whole. Only while nothing is held.
    fn poll_fill(&mut self, socket: &Socket) -> Poll<io::Result<()>> {
        let mut source = Nonblocking(socket);
        match self.connection.read_tls(&mut source) {
            Ok(0) => self.is_closed = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
        let state = self.connection.process_new_packets();
        // Answers of the protocol itself, and the alert that says what was wrong. What finds no room goes out with what
        // is written next.
        let _ = self.poll_flush(socket);
        let state = state.map_err(|error| {
            self.is_closed = true;
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        self.held = state.plaintext_bytes_to_read();
        self.is_closed |= state.peer_has_closed();
        Poll::Ready(Ok(()))
    }

    /// Writes what is encrypted.
    fn poll_flush(&mut self, socket: &Socket) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Nonblocking(socket)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A socket as rustls takes it.
struct Nonblocking<'a>(&'a Socket);

impl Read for Nonblocking<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        or_would_block(self.0.poll_recv(room))
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(self.0.poll_send(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
