//! What a queue gives to know its commands by, and what it has seen of them.

/// Names a submitted command until it completes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub(crate) u16);

impl Ticket {
    /// The command identifier, as Abort names it.
    pub const fn cid(self) -> u16 {
        self.0
    }
}

/// What a queue has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoQueueStats {
    /// Commands submitted.
    pub submitted: u64,
    /// Commands completed.
    pub completed: u64,
    /// Completions with an error status.
    pub failed: u64,
    /// Completions that named nothing outstanding.
    pub bad_completions: u64,
    /// Commands found past their time limit.
    pub timeouts: u64,
}
