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

/// What a queue has seen and done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoQueueStats {
    /// Looks for completions.
    pub polls: u64,
    /// Those of them that found some.
    pub busy_polls: u64,
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
    /// How often the device was told of submissions, and of completions taken.
    pub doorbells: DoorbellStats,
}

/// How often a queue's doorbells were rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DoorbellStats {
    /// Writes to the register of the submission queue.
    pub sq_mmio: u64,
    /// Writes to its place in memory, some of which take one to the register, too.
    pub sq_shadow: u64,
    /// Writes to the register of the completion queue.
    pub cq_mmio: u64,
    /// Writes to its place in memory.
    pub cq_shadow: u64,
}

impl IoQueueStats {
    /// Adds what another queue has seen and done.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let (mine, theirs) = (self.doorbells, other.doorbells);
        Self {
            polls: self.polls + other.polls,
            busy_polls: self.busy_polls + other.busy_polls,
            submitted: self.submitted + other.submitted,
            completed: self.completed + other.completed,
            failed: self.failed + other.failed,
            bad_completions: self.bad_completions + other.bad_completions,
            timeouts: self.timeouts + other.timeouts,
            doorbells: DoorbellStats {
                sq_mmio: mine.sq_mmio + theirs.sq_mmio,
                sq_shadow: mine.sq_shadow + theirs.sq_shadow,
                cq_mmio: mine.cq_mmio + theirs.cq_mmio,
                cq_shadow: mine.cq_shadow + theirs.cq_shadow,
            },
        }
    }
}
