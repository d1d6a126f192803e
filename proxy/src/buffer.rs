//! Fixed-size buffers, lent to connections only while they have bytes in flight.

use std::ops::Range;
use std::task::{Poll, ready};

use pgherd_protocol::flow::{BUFFER_LEN, Cut};

use crate::spare::Spare;
use crate::stream::Stream;

/// Bytes read and not yet done with. One pointer, so that a pipe without a buffer is small.
#[derive(Debug)]
pub(crate) struct Buffer(Box<Bytes>);

#[derive(Debug)]
struct Bytes {
    start: usize,
    end: usize,
    accepted: Accepted,
    /// Pages of it that were never written to take no memory.
    bytes: Box<[u8]>,
}

/// What of a buffer is to go out.
#[derive(Debug, Default)]
struct Accepted {
    /// Goes out as it came, relative to the start.
    pass: Range<usize>,
    /// Bytes that are done with once that is written.
    consumed: usize,
}

impl Buffer {
    fn new() -> Self {
        let bytes = vec![0; BUFFER_LEN].into_boxed_slice();
        Self(Box::new(Bytes { start: 0, end: 0, accepted: Accepted::default(), bytes }))
    }

    /// What was read and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        self.0.bytes.get(self.0.start..self.0.end).unwrap_or_default()
    }

    /// True if nothing more can be read before something is consumed.
    pub(crate) fn is_full(&self) -> bool {
        self.0.end - self.0.start == BUFFER_LEN
    }

    /// What was cut of what is filled is to go out.
    pub(crate) fn accept(&mut self, Cut { pass, consumed, .. }: &Cut) {
        self.0.accepted = Accepted { pass: pass.clone(), consumed: *consumed };
    }

    /// What of it is still to go out.
    pub(crate) fn to_pass(&self) -> &[u8] {
        self.filled().get(self.0.accepted.pass.clone()).unwrap_or_default()
    }

    /// So much of that has gone out.
    pub(crate) fn passed(&mut self, len: usize) {
        self.0.accepted.pass.start += len;
    }

    /// Nothing of it is to go out any more.
    pub(crate) fn pass_nothing(&mut self) {
        self.0.accepted.pass = 0..0;
    }

    /// Bytes that are done with once what is to go out has gone out.
    pub(crate) fn consumed_after(&self) -> usize {
        self.0.accepted.consumed
    }

    /// Drops what is done with.
    pub(crate) fn consume_accepted(&mut self) {
        let Accepted { consumed, .. } = std::mem::take(&mut self.0.accepted);
        self.consume(consumed);
    }

    /// Drops the first `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        let Bytes { start, end, .. } = &mut *self.0;
        *start = (*end).min(*start + len);
        if start == end {
            (*start, *end) = (0, 0);
        }
    }

    /// Puts bytes before what is there; false, and nothing is done, where there is no room for them.
    pub(crate) fn put_before(&mut self, added: &[u8]) -> bool {
        let Bytes { start, end, bytes, .. } = &mut *self.0;
        let (before, all) = (added.len(), added.len() + *end - *start);
        let has_room = all <= BUFFER_LEN;
        if has_room {
            bytes.copy_within(*start..*end, before);
            bytes.iter_mut().zip(added).for_each(|(to, from)| *to = *from);
            (*start, *end) = (0, all);
        }
        has_room
    }

    /// Reads once. Ready with 0 at the end of the stream. Must not be called when full.
    pub(crate) fn poll_fill(&mut self, stream: &mut Stream) -> Poll<std::io::Result<usize>> {
        let Bytes { start, end, bytes, .. } = &mut *self.0;
        if *start > 0 && *end == BUFFER_LEN {
            bytes.copy_within(*start..*end, 0);
            (*start, *end) = (0, *end - *start);
        }
        let read = ready!(stream.poll_recv(bytes.get_mut(*end..).unwrap_or_default()))?;
        *end += read;
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

    /// A buffer with what one read gave; none at the end of the stream. None is touched for a read that would be in vain.
    pub(crate) fn poll_take_filled(&self, stream: &mut Stream) -> Poll<std::io::Result<Option<Buffer>>> {
        ready!(stream.poll_readable());
        let mut buffer = self.take();
        let read = buffer.poll_fill(stream);
        if let Poll::Ready(Ok(1..)) = read {
            return Poll::Ready(Ok(Some(buffer)));
        }
        self.give(buffer);
        read.map_ok(|_| None)
    }

    /// Frees half of those that were not needed of late.
    pub(crate) fn trim(&self) {
        self.0.trim();
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Buffer) {
        let Bytes { start, end, accepted, .. } = &mut *buffer.0;
        (*start, *end, *accepted) = (0, 0, Accepted::default());
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
