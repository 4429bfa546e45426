use alloc::vec::Vec;

use super::{Loss, Redundant, Serial};
use crate::{IoError, IoStatus};

/// How often a part of a write that was aborted, as by a reset of its device, is tried again.
const RETRIES_MAX: u8 = 8;

/// What the bases make of something that all of them are to do.
pub(super) struct Votes {
    /// Of the first base that failed it.
    status: IoStatus,
    /// How many have done it that have all blocks.
    took: usize,
    failed: Vec<Serial>,
    retries: u8,
    /// How many are not back.
    left: usize,
}

/// What is to be done with what a base has handed back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Vote {
    /// It goes to that base again.
    Again,
    /// Others are out.
    Waits,
    /// It was the last.
    Last,
}

impl Default for Votes {
    fn default() -> Self {
        Self { status: Ok(()), took: 0, failed: Vec::new(), retries: 0, left: 0 }
    }
}

impl Votes {
    pub(super) fn begin(&mut self, bases: usize) {
        (self.status, self.took, self.retries, self.left) = (Ok(()), 0, 0, bases);
        self.failed.clear();
    }

    /// Counts how it ended on a base.
    pub(super) fn count(&mut self, serial: Serial, in_sync: bool, status: IoStatus) -> Vote {
        if status == Err(IoError::Aborted) && self.retries < RETRIES_MAX {
            self.retries += 1;
            return Vote::Again;
        }
        match status {
            Ok(()) => self.took += usize::from(in_sync),
            Err(_) => {
                self.status = self.status.and(status);
                self.failed.push(serial);
            }
        }
        self.left -= 1;
        if self.left == 0 { Vote::Last } else { Vote::Waits }
    }

    /// How it ended on the whole: if those that did it are enough to go on with, the others are
    /// left out.
    pub(super) fn outcome(&self, group: &Redundant) -> IoStatus {
        if self.took < group.needed {
            return self.status;
        }
        for serial in &self.failed {
            let why: &dyn core::fmt::Display = match &self.status {
                Err(error) => error,
                Ok(()) => &"it failed a write",
            };
            if group.drop_member(*serial, why) == Loss::Last {
                return self.status;
            }
        }
        Ok(())
    }
}
