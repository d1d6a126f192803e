//! A buffered direction of a session, as the relay has it.

use crate::flow::{Cut, Flow};

/// One direction of a session.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) flow: Flow,
    /// Read and not cut.
    pub(super) input: Vec<u8>,
    /// Cut and not written.
    pub(super) out: Vec<u8>,
}

impl Pipe {
    pub(super) fn accept(&mut self, cut: &Cut) {
        self.out.extend_from_slice(&self.input[cut.pass.clone()]);
        self.input.drain(..cut.consumed);
    }

    /// Reads at most `len` bytes of `wire`; only when all that was cut is written, as the relay does.
    pub(super) fn fill(&mut self, wire: &mut Vec<u8>, len: usize, capacity: usize) -> bool {
        if !self.out.is_empty() {
            return false;
        }
        assert!(self.input.len() < capacity, "a full buffer was not cut");
        let len = len.min(capacity - self.input.len()).min(wire.len());
        self.input.extend(wire.drain(..len));
        len > 0
    }

    pub(super) fn flush(&mut self, wire: &mut Vec<u8>, len: usize) -> bool {
        let len = len.min(self.out.len());
        wire.extend(self.out.drain(..len));
        len > 0
    }
}
