//! What can happen in a [`World`](super::world::World).

/// A transfer of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// pgherd reads from the client.
    Read(usize),
    /// pgherd writes to the server.
    Forward(usize),
    /// The server reads.
    Serve(usize),
    /// pgherd reads from the server.
    Return(usize),
    /// pgherd writes to the client.
    Reply(usize),
}

impl Step {
    pub(super) const ALL: [Self; 5] = [
        Self::Read(usize::MAX),
        Self::Forward(usize::MAX),
        Self::Serve(usize::MAX),
        Self::Return(usize::MAX),
        Self::Reply(usize::MAX),
    ];
}
