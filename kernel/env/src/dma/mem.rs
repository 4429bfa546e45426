#![expect(unsafe_code, reason = "memory shared with a device is raw; DESIGN §5 places it here")]

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::DmaBuf;
use crate::PhysAddr;

/// Memory shared with a device: rings, lists, shadow doorbells.
///
/// The device may write at any time, so there are no references into it: it is read and written by
/// value. Loads have acquire and stores release order. An offset outside the memory or not
/// aligned to the access is a bug of the driver and panics; the driver never takes an offset from
/// the device.
#[derive(Debug)]
pub struct DmaMem {
    buf: DmaBuf,
}

macro_rules! access {
    ($load:ident, $store:ident, $atomic:ty, $int:ty) => {
        #[doc = concat!("Loads a little-endian `", stringify!($int), "` with acquire order.")]
        #[inline]
        pub fn $load(&self, offset: usize) -> $int {
            let pointer = self.at(offset, size_of::<$int>()).cast::<$int>();
            // SAFETY: in range and aligned (`at`); all accesses to shared words are atomic or by
            // the device.
            <$int>::from_le(unsafe { <$atomic>::from_ptr(pointer) }.load(Ordering::Acquire))
        }

        #[doc = concat!("Stores a little-endian `", stringify!($int), "` with release order.")]
        #[inline]
        pub fn $store(&self, offset: usize, value: $int) {
            let pointer = self.at(offset, size_of::<$int>()).cast::<$int>();
            // SAFETY: as for the load.
            unsafe { <$atomic>::from_ptr(pointer) }.store(value.to_le(), Ordering::Release);
        }
    };
}

impl DmaMem {
    pub(super) fn new(buf: DmaBuf) -> Self {
        Self { buf }
    }

    /// The same memory, which may be dropped on any core.
    pub(super) fn into_away(mut self) -> Self {
        self.buf.leave();
        self
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether there is no memory.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Where a device finds it.
    pub fn phys(&self) -> PhysAddr {
        self.buf.phys()
    }

    access!(load16, store16, AtomicU16, u16);
    access!(load32, store32, AtomicU32, u32);
    access!(load64, store64, AtomicU64, u64);

    /// Copies `bytes` in at `offset` (any length and alignment).
    ///
    /// Not ordered by itself: publish with a store or a doorbell afterwards.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.len().saturating_sub(offset), "copy past shared memory");
        // SAFETY: the range lies inside the block (asserted); `bytes` is ordinary memory, which
        // cannot overlap a block that is only reachable through `self`.
        unsafe {
            let to = self.buf.base().as_ptr().add(offset);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Copies `bytes.len()` bytes out from `offset`.
    ///
    /// The device may be writing them: validate the copy, not the source.
    #[inline]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.len().saturating_sub(offset), "copy past shared memory");
        // SAFETY: the range lies inside the block (asserted); `bytes` is disjoint from it.
        unsafe {
            let from = self.buf.base().as_ptr().add(offset);
            core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
        }
    }

    /// Writes `len` bytes from `offset` back to memory, for a device that reads past the caches.
    pub fn write_back(&self, offset: usize, len: usize) {
        assert!(len <= self.len().saturating_sub(offset), "write back past shared memory");
        super::cache::write_back(self.buf.base(), offset, len);
    }

    #[inline]
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(size <= self.len().saturating_sub(offset), "access past shared memory");
        assert!(offset.is_multiple_of(size), "unaligned access to shared memory");
        // SAFETY: `offset` was just checked to lie inside the block.
        unsafe { self.buf.base().as_ptr().add(offset) }
    }
}
