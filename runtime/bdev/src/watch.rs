//! Looking for Ios that take too long (SPDK's `spdk_bdev_set_timeout`).

use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::Instant;

use crate::{Io, Op};

/// An Io that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnderWay {
    /// What it is to do.
    pub op: Op,
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u32,
    /// Its submitter's word.
    pub tag: u64,
    /// When the channel took it.
    pub submitted: Instant,
}

/// The Ios of one channel that were submitted since their descriptor has a time limit.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Each with whether it was told to be late.
    ios: Vec<(UnderWay, bool)>,
}

impl Watch {
    /// An Io was taken: as it was before, but for its time.
    pub(crate) fn add(&mut self, io: UnderWay) {
        self.ios.push((io, false));
    }

    /// An Io has come back.
    pub(crate) fn remove(&mut self, io: &Io) {
        let is_it = |(watched, _): &(UnderWay, bool)| {
            (watched.tag, watched.submitted, watched.op) == (io.tag, io.submitted, io.op)
        };
        if let Some(at) = self.ios.iter().position(is_it) {
            self.ios.swap_remove(at);
        }
    }

    /// Shows those to `late` that have taken longer than `limit` and were not shown before.
    pub(crate) fn find_late(
        &mut self,
        now: Instant,
        limit: Duration,
        mut late: impl FnMut(&UnderWay),
    ) {
        for (io, told) in &mut self.ios {
            if !*told && now.since(io.submitted) > limit {
                *told = true;
                late(io);
            }
        }
    }
}

impl UnderWay {
    pub(crate) fn of(io: &Io) -> Self {
        let Io { op, lba, blocks, tag, submitted, .. } = *io;
        Self { op, lba, blocks, tag, submitted }
    }
}
