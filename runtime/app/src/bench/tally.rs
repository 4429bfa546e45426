use core::fmt;

use basalt_bdev::{IoError, Op, RejectReason};
use basalt_metrics::Histogram;

/// What a run has come to.
#[derive(Default)]
pub struct Tally {
    /// From submission to completion, ticks.
    pub latency: Histogram,
    /// Of the whole run; the longest where several cores ran.
    pub ticks: u64,
    /// Of rounds that found or submitted Ios.
    pub ticks_busy: u64,
    /// Those rounds.
    pub rounds_busy: u64,
    /// Ios that were aborted because they took too long.
    pub timed_out: u64,
    /// Allocations from the heap by all cores, in the time of the run; the most that any core saw.
    pub allocations: u64,
}

impl Tally {
    /// Adds what another core has come to in the same time.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.ticks = self.ticks.max(other.ticks);
        self.ticks_busy += other.ticks_busy;
        self.rounds_busy += other.rounds_busy;
        self.timed_out += other.timed_out;
        self.allocations = self.allocations.max(other.allocations);
    }
}

/// Why a run is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// An Io failed.
    Io(Op, IoError),
    /// An Io was refused.
    Refused(Op, RejectReason),
    /// What was read is not what was written.
    Differs {
        /// First block of the Io.
        lba: u64,
        /// The first byte of it that differs.
        offset: usize,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(op, error) => write!(f, "{op:?}: an Io failed: {error}"),
            Self::Refused(op, reason) => write!(f, "{op:?}: an Io was refused: {reason:?}"),
            Self::Differs { lba, offset } => {
                write!(f, "what was read back at block {lba} differs from byte {offset} on")
            }
        }
    }
}
