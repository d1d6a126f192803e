//! The connection between two pgherds of one machine: short messages, and listening sockets with one of them.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use pgherd_protocol::startup::CancelKey;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Another version is not understood.
const VERSION: u8 = 1;
/// The longest message is a cancel key.
const LONGEST: usize = 512;
/// Listening sockets that are handed over at the most.
const MOST_SOCKETS: usize = 64;

/// What one says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The new one: give me your listening sockets.
    Hello,
    /// The old one: these are they.
    Sockets,
    /// The new one: I can serve; stop accepting, and decide nothing about the servers any more.
    Ready,
    /// The old one: I have stopped, and nothing of mine is under way.
    Aside,
    /// The new one: I serve, and decide. Finish what you have.
    Serving,
    /// Either: a cancel request with a key that is none of mine.
    Cancel(CancelKey),
}

/// One end of the connection. May be read and written at once.
#[derive(Debug)]
pub(super) struct Link(UnixStream);

impl Link {
    /// Connects to who listens at this path. None if nobody does.
    pub(super) fn connect(path: &Path) -> io::Result<Option<Self>> {
        let socket = socket()?;
        match socket.connect(&SockAddr::unix(path)?) {
            Ok(()) => {
                socket.set_nonblocking(true)?;
                // Whatever its name says, it is one that keeps messages apart.
                let socket = std::os::unix::net::UnixStream::from(OwnedFd::from(socket));
                Self::new(UnixStream::from_std(socket)?).map(Some)
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The connection that this socket is. Its peer must be of the same user, or root.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        let peer = sockopt::socket_peercred(&socket)?.uid;
        if peer != geteuid() && !peer.is_root() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "the process belongs to another user"));
        }
        Ok(Self(socket))
    }

    /// Says something. Waits while the other does not read.
    pub(super) async fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Says something, with sockets that the other gets.
    pub(super) async fn send_with(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = encode(message);
        let sockets = sockets.get(..MOST_SOCKETS).unwrap_or(sockets);
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_SOCKETS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !sockets.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(sockets));
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?)
        });
        sent.await.map(drop)
    }

    /// What the other says next, with the sockets that it gives; none when it has ended. Cancel-safe.
    pub(super) async fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let received = self.0.async_io(Interest::READABLE, || {
            let mut bytes = [0; LONGEST];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_SOCKETS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let seen =
                recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let mut sockets = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(given) = message {
                    sockets.extend(given);
                }
            }
            let is_cut = seen.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
            Ok((bytes.get(..seen.bytes).filter(|_| !is_cut).map(<[u8]>::to_vec), sockets))
        });
        match received.await {
            Ok((Some(bytes), _)) if bytes.is_empty() => Ok(None),
            Ok((bytes, sockets)) => match bytes.as_deref().and_then(decode) {
                Some(message) => Ok(Some((message, sockets))),
                None => Err(io::Error::new(ErrorKind::InvalidData, "a message of another version of pgherd")),
            },
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A socket that keeps messages apart.
pub(super) fn socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::SEQPACKET, None)
}

fn encode(message: &Message) -> Vec<u8> {
    let kind = match message {
        Message::Hello => b'H',
        Message::Sockets => b'L',
        Message::Ready => b'R',
        Message::Aside => b'A',
        Message::Serving => b'S',
        Message::Cancel(_) => b'C',
    };
    let mut bytes = vec![VERSION, kind];
    if let Message::Cancel(key) = message {
        key.write(&mut bytes);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Message> {
    match bytes {
        [VERSION, b'H'] => Some(Message::Hello),
        [VERSION, b'L'] => Some(Message::Sockets),
        [VERSION, b'R'] => Some(Message::Ready),
        [VERSION, b'A'] => Some(Message::Aside),
        [VERSION, b'S'] => Some(Message::Serving),
        [VERSION, b'C', key @ ..] => CancelKey::parse(key).map(Message::Cancel),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (Link, Link) {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        (link(one), link(other))
    }

    fn link(socket: Socket) -> Link {
        socket.set_nonblocking(true).unwrap();
        let socket = std::os::unix::net::UnixStream::from(OwnedFd::from(socket));
        Link::new(UnixStream::from_std(socket).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn messages_arrive_as_they_were_said_and_sockets_with_them() {
        let (one, other) = pair();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        one.send_with(&Message::Sockets, &[listener.as_fd(), listener.as_fd()]).await.unwrap();
        let key = CancelKey::new(7, &[9; 256]).unwrap();
        one.send(&Message::Cancel(key.clone())).await.unwrap();
        let (message, sockets) = other.receive().await.unwrap().unwrap();
        assert_eq!((message, sockets.len()), (Message::Sockets, 2));
        let same = std::net::TcpListener::from(sockets.into_iter().next().unwrap());
        assert_eq!(same.local_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(other.receive().await.unwrap().unwrap().0, Message::Cancel(key));
        drop(one);
        assert!(other.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error() {
        for bytes in [&[2, b'H'][..], &[1], &[1, b'x'], &[1, b'H', 0], &[1, b'C', 0, 0, 0, 1], &[1; 600]] {
            let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
            one.send(bytes).unwrap();
            assert!(link(other).receive().await.is_err(), "{bytes:?}");
        }
    }
}
