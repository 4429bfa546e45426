use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

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
    /// Reads and writes next to writers with the same key, who know of each other: refused while
    /// there is any other writer, and refuses later ones
    /// (`SPDK_BDEV_CLAIM_READ_MANY_WRITE_SHARED`).
    Shared(u64),
    /// Reads what does not change: refused while there is a writer, and refuses later ones, but
    /// nobody who wants the same (`SPDK_BDEV_CLAIM_READ_MANY_WRITE_NONE`).
    Unchanging,
}

impl Access {
    /// Whether it allows changing the device.
    pub const fn may_write(self) -> bool {
        !matches!(self, Self::ReadOnly | Self::Unchanging)
    }

    /// Whether those who come later may be refused because of it.
    const fn is_claim(self) -> bool {
        !matches!(self, Self::ReadOnly | Self::ReadWrite)
    }

    /// Its name among SPDK's claim types, if it is one.
    pub const fn claim_type(self) -> Option<&'static str> {
        match self {
            Self::ReadOnly | Self::ReadWrite => None,
            Self::Exclusive => Some("exclusive_write"),
            Self::Shared(_) => Some("read_many_write_shared"),
            Self::Unchanging => Some("read_many_write_none"),
        }
    }
}

/// Submissions have to be looked at.
const ATTENTION: u32 = 1;
const REMOVED: u32 = 2;

/// Who has a bdev open. Descriptors are dropped on any core.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// What every submission reads.
    flags: AtomicU32,
    openers: Mutex<Openers>,
}

#[derive(Debug, Default)]
struct Openers {
    /// Those that only read.
    readers: u32,
    /// The others, who all have the same access, and how many they are.
    others: Option<(Access, u32)>,
}

impl Openers {
    fn allow(&self, access: Access) -> bool {
        match self.others {
            _ if access == Access::ReadOnly => true,
            None => true,
            Some((Access::Exclusive, _)) => false,
            Some((there, _)) => there == access,
        }
    }
}

impl Claims {
    /// Counts one more opener, if the present ones allow it.
    pub(crate) fn open(&self, access: Access) -> Result<(), OpenError> {
        let mut openers = self.openers.lock();
        if self.is_removed() {
            return Err(OpenError::Removed);
        }
        if !openers.allow(access) {
            return Err(OpenError::Claimed);
        }
        if access == Access::ReadOnly {
            openers.readers += 1;
        } else {
            let there = openers.others.map_or(0, |(_, count)| count);
            openers.others = Some((access, there + 1));
        }
        Ok(())
    }

    /// Counts one opener less.
    pub(crate) fn close(&self, access: Access) {
        let mut openers = self.openers.lock();
        if access == Access::ReadOnly {
            openers.readers -= 1;
        } else {
            openers.others = openers
                .others
                .map(|(access, count)| (access, count - 1))
                .filter(|(_, count)| *count > 0);
        }
    }

    /// Bars every later opener, if there is none now. Says whether there was none.
    pub(crate) fn remove_if_unused(&self) -> bool {
        let openers = self.openers.lock();
        let unused = openers.readers == 0 && openers.others.is_none() && !self.is_removed();
        if unused {
            self.flags.fetch_or(REMOVED, Ordering::AcqRel);
        }
        unused
    }

    /// Bars every later opener and every later submission.
    pub(crate) fn remove(&self) {
        let _openers = self.openers.lock();
        self.flags.fetch_or(REMOVED, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & REMOVED != 0
    }

    /// Whether a submission has to be looked at closely, because the bdev is gone or because of
    /// [`Self::set_attention`].
    #[inline]
    pub(crate) fn has_attention(&self) -> bool {
        self.flags.load(Ordering::Relaxed) != 0
    }

    /// Has submissions looked at closely, or no longer.
    pub(crate) fn set_attention(&self, attention: bool) {
        if attention {
            self.flags.fetch_or(ATTENTION, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!ATTENTION, Ordering::AcqRel);
        }
    }

    /// The claim on it, if there is one.
    pub(crate) fn claim(&self) -> Option<Access> {
        let others = self.openers.lock().others;
        others.map(|(access, _)| access).filter(|access| access.is_claim())
    }

    pub(crate) fn is_open(&self) -> bool {
        let openers = self.openers.lock();
        openers.readers > 0 || openers.others.is_some()
    }
}
