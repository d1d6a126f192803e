//! How a scenario reads.

use super::wire;
use super::world::World;

impl World {
    /// A client sends these messages at once, and everybody answers.
    pub(super) fn sends<const N: usize>(&mut self, client: usize, messages: [Vec<u8>; N]) {
        self.client(client).sent.extend(messages.concat());
        self.settle();
    }

    /// What a client got since it was last asked.
    #[track_caller]
    pub(super) fn gets<const N: usize>(&mut self, client: usize, expected: [&str; N]) {
        let got = std::mem::take(&mut self.client(client).got);
        assert_eq!(wire::replies(&got), expected);
    }

    /// What a server was sent since it was last asked.
    #[track_caller]
    pub(super) fn server_got<const N: usize>(&mut self, server: usize, expected: [&str; N]) {
        let got = std::mem::take(&mut self.server(server).got);
        assert_eq!(wire::requests(&got), expected);
    }
}
