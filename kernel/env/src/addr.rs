use core::fmt;

/// An address as a device sees it (a bus address), in bytes.
///
/// On metal it equals the virtual address; in the hosted environment it differs on purpose, so a
/// driver that confuses the two fails a test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// Wraps a raw bus address.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The raw bus address.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, wrapping at 2^64 as a bus would.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
