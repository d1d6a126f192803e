//! One direction of a session: what was read from one side, and what of it goes to the other.

use std::io;
use std::task::{Poll, ready};

use pgherd_protocol::flow::{BUFFER_LEN, Cut, Flow};

use crate::buffer::{Buffer, Buffers};
use crate::stream::Stream;

/// A vector that has grown beyond this is freed when it is empty.
const KEEP_OUT: usize = 1024;

/// Reads from one socket, cuts, writes to another.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// Lent by the worker while there are bytes.
    pub(crate) buffer: Option<Buffer>,
    /// Where the stream is within a message.
    pub(crate) flow: Flow,
    /// Bytes that go out before what goes out of the buffer as it came: pgherd's own, or rewritten.
    pub(crate) out: Vec<u8>,
    written: usize,
    /// Bytes that were read and that nobody has counted yet.
    pub(crate) uncounted: u64,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There are new bytes.
    Bytes,
    /// The peer will send no more.
    End,
}

impl Pipe {
    /// True if everything that was to go out has gone out.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.consumed_after() == 0
    }

    fn consumed_after(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::consumed_after)
    }

    /// True if bytes were read that were not cut yet.
    pub(crate) fn has_input(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| !buffer.filled().is_empty())
    }

    /// The bytes to cut and whether there can be more of them; and where rewritten bytes go. Only when flushed.
    pub(crate) fn uncut(&mut self) -> (&mut Flow, (&[u8], bool), &mut Vec<u8>) {
        let input = self.buffer.as_ref().map_or((&[][..], false), |b| (b.filled(), b.is_full()));
        (&mut self.flow, input, &mut self.out)
    }

    /// Accepts what was cut as the next thing to write.
    pub(crate) fn accept(&mut self, cut: &Cut) {
        if let Some(buffer) = &mut self.buffer {
            buffer.accept(cut);
        }
    }

    /// Where bytes of pgherd's own go: behind all that waits to go out.
    pub(crate) fn append(&mut self) -> &mut Vec<u8> {
        if let Some(buffer) = &mut self.buffer {
            self.out.extend_from_slice(buffer.to_pass());
            buffer.pass_nothing();
        }
        &mut self.out
    }

    /// Takes a buffer with what was read for it by somebody else. Only where it has none.
    pub(crate) fn take_over(&mut self, buffer: Buffer, buffers: &Buffers) {
        self.keep(buffer, buffers);
    }

    /// Drops what was read and is done with.
    pub(crate) fn skip(&mut self, len: usize, buffers: &Buffers) {
        if len == 0 {
            return;
        }
        if let Some(mut buffer) = self.buffer.take() {
            buffer.consume(len);
            self.keep(buffer, buffers);
        }
    }

    /// The receiver is gone: what waits to go out to it is dropped, what was not cut yet is kept.
    pub(crate) fn forget_unsent(&mut self, buffers: &Buffers) {
        self.flow.drop_rest();
        self.finish(buffers);
    }

    /// The sender is gone: what waits to go out is kept, what was not cut yet is dropped.
    pub(crate) fn forget_uncut(&mut self, buffers: &Buffers) {
        self.append();
        if let Some(buffer) = self.buffer.take() {
            buffers.give(buffer);
        }
    }

    /// True if there is room for so many bytes besides those that were not cut yet.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        let filled = self.buffer.as_ref().map_or(0, |buffer| buffer.filled().len());
        filled.saturating_sub(self.consumed_after()) + len <= BUFFER_LEN
    }

    /// Puts bytes that were read and done with before those that were not; nothing is done where there is no room. Only when
    /// flushed, between two messages.
    pub(crate) fn put_back(&mut self, bytes: &[u8], buffers: &Buffers) {
        let mut buffer = self.buffer.take().unwrap_or_else(|| buffers.take());
        buffer.put_before(bytes);
        self.keep(buffer, buffers);
    }

    /// Reads once. Takes no buffer for nothing.
    pub(crate) fn poll_fill(&mut self, stream: &mut Stream, buffers: &Buffers) -> Poll<io::Result<Filled>> {
        let Some(buffer) = &mut self.buffer else {
            self.buffer = ready!(buffers.poll_take_filled(stream))?;
            let Some(buffer) = &self.buffer else { return Poll::Ready(Ok(Filled::End)) };
            self.uncounted += buffer.filled().len() as u64;
            return Poll::Ready(Ok(Filled::Bytes));
        };
        let read = ready!(buffer.poll_fill(stream))?;
        self.uncounted += read as u64;
        Poll::Ready(Ok(if read == 0 { Filled::End } else { Filled::Bytes }))
    }

    /// Writes all that waits to go out, and gives the buffer back when it is empty.
    #[inline]
    pub(crate) fn poll_flush(&mut self, stream: &mut Stream, buffers: &Buffers) -> Poll<io::Result<()>> {
        if self.is_flushed() { Poll::Ready(Ok(())) } else { self.poll_write(stream, buffers) }
    }

    fn poll_write(&mut self, stream: &mut Stream, buffers: &Buffers) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            // One write for both: what passes behind rewritten bytes is short.
            self.append();
        }
        while let Some(bytes) = self.out.get(self.written..).filter(|bytes| !bytes.is_empty()) {
            self.written += written(ready!(stream.poll_send(bytes)))?;
        }
        if let Some(buffer) = &mut self.buffer {
            while !buffer.to_pass().is_empty() {
                let len = written(ready!(stream.poll_send(buffer.to_pass())))?;
                buffer.passed(len);
            }
        }
        self.finish(buffers);
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, buffers: &Buffers) {
        self.out.clear();
        if self.out.capacity() > KEEP_OUT {
            self.out = Vec::new();
        }
        self.written = 0;
        if let Some(mut buffer) = self.buffer.take() {
            buffer.consume_accepted();
            self.keep(buffer, buffers);
        }
    }

    /// Keeps a buffer as long as it has bytes.
    fn keep(&mut self, buffer: Buffer, buffers: &Buffers) {
        if buffer.filled().is_empty() {
            buffers.give(buffer);
        } else {
            self.buffer = Some(buffer);
        }
    }
}

/// A write of nothing would be tried again for ever.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}
