//! The floor: a relay that reads bytes on one socket and writes them on the other, and knows nothing else.
//!
//! One thread, epoll, two sockets a connection, one buffer for all. What a proxy costs above this is the price of what
//! it does for its users. A connection ends when either side ends: PostgreSQL's protocol has no half-closed state.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const BUFFER: usize = 64 * 1024;
const LISTENER: u64 = u64::MAX;

/// One socket of a connection, and what its peer sent that it has not taken yet.
struct End {
    stream: TcpStream,
    pending: Vec<u8>,
}

struct Relay {
    epoll: OwnedFd,
    listener: TcpListener,
    to: SocketAddr,
    /// A connection's key is its place here; the key of its event is twice that, plus the side.
    connections: Vec<Option<[End; 2]>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

/// Relays every connection made to `listen` to a connection of its own to `to`, until the process ends.
///
/// # Errors
/// When `listen` cannot be bound, or epoll itself fails. A connection's error only ends that connection.
pub fn serve(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay =
        Relay { epoll, listener, to, connections: Vec::new(), free: Vec::new(), buffer: vec![0; BUFFER] };
    let mut events = Vec::with_capacity(256);
    loop {
        match epoll::wait(&relay.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let (key, flags) = (event.data.u64(), event.flags);
            if key == LISTENER {
                relay.accept();
            } else if let Ok(key) = usize::try_from(key) {
                relay.on_event(key / 2, key % 2, flags);
            }
        }
    }
}

impl Relay {
    fn accept(&mut self) {
        // An accept error is survivable: epoll reports the listener again.
        while let Ok((client, _)) = self.listener.accept() {
            if let Err(error) = self.join(client) {
                eprintln!("relay: no connection to {}: {error}", self.to);
            }
        }
    }

    fn join(&mut self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.to)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        for (side, stream) in [&client, &server].into_iter().enumerate() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&self.epoll, stream, event_data(slot, side), EventFlags::IN)?;
        }
        let ends = [client, server].map(|stream| End { stream, pending: Vec::new() });
        if let Some(place) = self.connections.get_mut(slot) {
            *place = Some(ends);
        }
        Ok(())
    }

    fn on_event(&mut self, slot: usize, side: usize, flags: EventFlags) {
        // The slot may have been closed by an earlier event of the same batch.
        let Some(Some([client, server])) = self.connections.get_mut(slot) else { return };
        let (from, to) = if side == 0 { (client, server) } else { (server, client) };
        let outcome = if flags.contains(EventFlags::OUT) {
            flush(&self.epoll, slot, side, from, to)
        } else {
            pump(&self.epoll, slot, side, from, to, &mut self.buffer)
        };
        if outcome.is_err() {
            if let Some(place) = self.connections.get_mut(slot) {
                *place = None;
            }
            self.free.push(slot);
        }
    }
}

/// Moves what `from` has to `to`. Whatever `to` does not take pauses reading from `from`.
fn pump(
    epoll: &OwnedFd,
    slot: usize,
    side: usize,
    from: &mut End,
    to: &mut End,
    buffer: &mut [u8],
) -> io::Result<()> {
    let count = match from.stream.read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => count,
        Err(error) => return survivable(error),
    };
    let mut rest = buffer.get(..count).unwrap_or_default();
    match to.stream.write(rest) {
        Ok(written) => rest = rest.get(written..).unwrap_or_default(),
        Err(error) => survivable(error)?,
    }
    if !rest.is_empty() {
        to.pending.extend_from_slice(rest);
        set_interest(epoll, slot, side, from, to)?;
        set_interest(epoll, slot, 1 - side, to, from)?;
    }
    Ok(())
}

/// Writes what `end` has not taken yet; once it has all, reading from `other` goes on.
fn flush(epoll: &OwnedFd, slot: usize, side: usize, end: &mut End, other: &End) -> io::Result<()> {
    match end.stream.write(&end.pending) {
        Ok(written) => drop(end.pending.drain(..written)),
        Err(error) => survivable(error)?,
    }
    if end.pending.is_empty() {
        set_interest(epoll, slot, side, end, other)?;
        set_interest(epoll, slot, 1 - side, other, end)?;
    }
    Ok(())
}

/// An end is read while its peer owes nothing, and written while it owes something itself.
fn set_interest(epoll: &OwnedFd, slot: usize, side: usize, end: &End, other: &End) -> io::Result<()> {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, other.pending.is_empty());
    flags.set(EventFlags::OUT, !end.pending.is_empty());
    Ok(epoll::modify(epoll, &end.stream, event_data(slot, side), flags)?)
}

fn survivable(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

fn event_data(slot: usize, side: usize) -> EventData {
    EventData::new_u64(slot as u64 * 2 + side as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A relay before a server that echoes; the threads end with the test process.
    fn relay_to_echo() -> SocketAddr {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = echo.local_addr().unwrap();
        thread::spawn(move || {
            for stream in echo.incoming().map_while(Result::ok) {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        thread::spawn(move || serve(free, to));
        free
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => return stream,
                Err(error) => assert!(std::time::Instant::now() < deadline, "relay not up: {error}"),
            }
        }
    }

    #[test]
    fn more_bytes_than_the_sockets_hold_come_back_unchanged() {
        let client = connect(relay_to_echo());
        let sent: Vec<u8> = (0..16_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let writer = {
            let (sent, mut client) = (sent.clone(), client.try_clone().unwrap());
            thread::spawn(move || client.write_all(&sent).unwrap())
        };
        // The writer runs into back-pressure before the first byte is read here.
        let mut received = vec![0; sent.len()];
        (&client).read_exact(&mut received).unwrap();
        writer.join().unwrap();
        assert!(sent == received, "the relay changed the bytes");
    }

    #[test]
    fn a_client_that_leaves_makes_room_for_the_next() {
        let address = relay_to_echo();
        for round in 0..50_u8 {
            let mut client = connect(address);
            client.write_all(&[round]).unwrap();
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    }
}
