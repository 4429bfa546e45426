use core::sync::atomic::{AtomicU32, Ordering};

use crate::OpenError;

/// What an opener may do, and what it keeps others from doing (SPDK's claim types).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads only. Always granted.
    ReadOnly,
    /// Reads and writes, next to other writers.
    ReadWrite,
    /// Reads and writes as the only writer: refused while there is another writer, and refuses
    /// later ones. Readers are not affected (`SPDK_BDEV_CLAIM_READ_MANY_WRITE_ONE`).
    Exclusive,
}

impl Access {
    /// Whether it allows changing the device.
    pub const fn may_write(self) -> bool {
        !matches!(self, Self::ReadOnly)
    }

    const fn unit(self) -> u32 {
        match self {
            Self::ReadOnly => READER,
            Self::ReadWrite => WRITER,
            Self::Exclusive => EXCLUSIVE,
        }
    }
}

const READER: u32 = 1;
const READERS: u32 = (1 << 15) - 1;
const WRITER: u32 = 1 << 15;
const WRITERS: u32 = ((1 << 14) - 1) << 15;
const EXCLUSIVE: u32 = 1 << 29;
/// Submissions have to be looked at.
const ATTENTION: u32 = 1 << 30;
const REMOVED: u32 = 1 << 31;

/// Who has a bdev open, in one word: descriptors are dropped on any core.
#[derive(Debug, Default)]
pub(crate) struct Claims(AtomicU32);

impl Claims {
    /// Counts one more opener, if the present ones allow it.
    pub(crate) fn open(&self, access: Access) -> Result<(), OpenError> {
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            let next = state + allowed(state, access)?;
            match self.0.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => state = now,
            }
        }
    }

    /// Counts one opener less.
    pub(crate) fn close(&self, access: Access) {
        self.0.fetch_sub(access.unit(), Ordering::AcqRel);
    }

    /// Bars every later opener, if there is none now. Says whether there was none.
    pub(crate) fn remove_if_unused(&self) -> bool {
        let unused = |state: u32| (state & !ATTENTION == 0).then_some(state | REMOVED);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, unused).is_ok()
    }

    /// Bars every later opener and every later submission.
    pub(crate) fn remove(&self) {
        self.0.fetch_or(REMOVED, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & REMOVED != 0
    }

    /// Whether a submission has to be looked at closely, because the bdev is gone or because of
    /// [`Self::set_attention`].
    #[inline]
    pub(crate) fn has_attention(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (REMOVED | ATTENTION) != 0
    }

    /// Has submissions looked at closely, or no longer.
    pub(crate) fn set_attention(&self, attention: bool) {
        if attention {
            self.0.fetch_or(ATTENTION, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!ATTENTION, Ordering::AcqRel);
        }
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.0.load(Ordering::Relaxed) & EXCLUSIVE != 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !(REMOVED | ATTENTION) != 0
    }
}

fn allowed(state: u32, access: Access) -> Result<u32, OpenError> {
    if state & REMOVED != 0 {
        return Err(OpenError::Removed);
    }
    let barred = match access {
        Access::ReadOnly => state & READERS == READERS,
        Access::ReadWrite => state & EXCLUSIVE != 0 || state & WRITERS == WRITERS,
        Access::Exclusive => state & (EXCLUSIVE | WRITERS) != 0,
    };
    if barred { Err(OpenError::Claimed) } else { Ok(access.unit()) }
}
