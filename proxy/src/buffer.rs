//! Fixed-size buffers, lent to connections only while they have bytes in flight.

use std::task::{Poll, ready};

use crate::spare::Spare;
use crate::stream::Stream;

/// Bytes of one buffer: also the longest message that is looked at as a whole.
pub(crate) const BUFFER_LEN: usize = 16 * 1024;

/// Bytes read and not yet done with.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; BUFFER_LEN].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What was read and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// True if nothing more can be read before something is consumed.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// Drops the first `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Puts bytes before what is there; false, and nothing is done, where there is no room for them.
    pub(crate) fn put_before(&mut self, bytes: &[u8]) -> bool {
        let (before, all) = (bytes.len(), bytes.len() + self.end - self.start);
        let has_room = all <= self.bytes.len();
        if has_room {
            self.bytes.copy_within(self.start..self.end, before);
            self.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            (self.start, self.end) = (0, all);
        }
        has_room
    }

    /// Reads once. Ready with 0 at the end of the stream. Must not be called when full.
    pub(crate) fn poll_fill(&mut self, stream: &mut Stream) -> Poll<std::io::Result<usize>> {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = ready!(stream.poll_recv(self.bytes.get_mut(self.end..).unwrap_or_default()))?;
        self.end += read;
        Poll::Ready(Ok(read))
    }
}

/// The buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Spare<Buffer>);

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        self.0.take().unwrap_or_else(Buffer::new)
    }

    /// A buffer with what one read gave; none at the end of the stream.
    pub(crate) fn poll_take_filled(&self, stream: &mut Stream) -> Poll<std::io::Result<Option<Buffer>>> {
        let mut buffer = self.take();
        let read = buffer.poll_fill(stream);
        if let Poll::Ready(Ok(1..)) = read {
            return Poll::Ready(Ok(Some(buffer)));
        }
        self.give(buffer);
        read.map_ok(|_| None)
    }

    /// Frees those that were not needed of late.
    pub(crate) fn trim(&self) {
        self.0.trim();
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Buffer) {
        (buffer.start, buffer.end) = (0, 0);
        self.0.give(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_before_stands_before_the_rest_if_there_is_room() {
        let mut buffer = Buffer::new();
        assert!(buffer.put_before(b"behind"));
        buffer.consume(2);
        assert!(buffer.put_before(b"before, "));
        assert_eq!(buffer.filled(), b"before, hind");
        let rest = vec![b'x'; BUFFER_LEN - buffer.filled().len()];
        assert!(!buffer.put_before(&[&rest[..], b"x"].concat()));
        assert_eq!(buffer.filled(), b"before, hind");
        assert!(buffer.put_before(&rest));
        assert!(buffer.is_full() && buffer.filled().ends_with(b"xbefore, hind"));
    }
}
