//! Errors that somebody has injected into queues, to see what becomes of them above. Not of the
//! specification: SPDK's `bdev_nvme_add_error_injection`, by SPDK's rules.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::time::Duration;

use crate::Status;

/// Which queues of a controller errors are injected into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueKind {
    /// The admin queue.
    Admin,
    /// Every I/O queue.
    Io,
}

/// What becomes of a command that is to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The controller gets it. If it succeeds, it is said to have ended with the status.
    Submitted,
    /// The controller does not get it. It ends with the status so much later.
    Held(Duration),
}

/// An error that commands of one opcode end with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InjectedError {
    /// The commands' opcode.
    pub opcode: u8,
    /// What becomes of the commands.
    pub fate: Fate,
    /// How many commands of a queue it is for.
    pub count: u32,
    /// What they end with.
    pub status: Status,
}

/// A change of the errors of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorChange {
    /// One more, in place of that of the same opcode.
    Add(InjectedError),
    /// That of this opcode is no more.
    Remove(u8),
}

/// The errors that are injected into a queue: one for an opcode at most.
#[derive(Clone, Default, Debug)]
pub struct InjectedErrors {
    errors: Vec<InjectedError>,
}

impl InjectedErrors {
    /// Makes a change.
    pub fn change(&mut self, change: ErrorChange) {
        let (ErrorChange::Add(InjectedError { opcode, .. }) | ErrorChange::Remove(opcode)) = change;
        self.errors.retain(|error| error.opcode != opcode);
        if let ErrorChange::Add(error) = change
            && error.count > 0
        {
            self.errors.push(error);
        }
    }

    /// The error that a command of that opcode is to end with.
    pub fn find(&self, opcode: u8) -> Option<InjectedError> {
        self.errors.iter().find(|error| error.opcode == opcode).copied()
    }

    /// A command of that opcode got its error.
    pub fn count(&mut self, opcode: u8) {
        for error in self.errors.iter_mut().filter(|error| error.opcode == opcode) {
            error.count = error.count.saturating_sub(1);
        }
        self.errors.retain(|error| error.count > 0);
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }
}

/// How long a command is held back, and what it ends with then.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// What it ends with.
    pub status: Status,
    after: Duration,
    /// When it ends, once its queue has looked at the clock.
    until_ns: Option<u64>,
}

impl Hold {
    /// Of a command that is held back, from when its queue next looks at the clock.
    pub const fn new(status: Status, after: Duration) -> Self {
        Self { status, after, until_ns: None }
    }

    /// Whether it is over at `now_ns`, in nanoseconds.
    pub fn is_over(&mut self, now_ns: u64) -> bool {
        let after_ns = u64::try_from(self.after.as_nanos()).unwrap_or(u64::MAX);
        now_ns >= *self.until_ns.get_or_insert(now_ns.saturating_add(after_ns))
    }
}
