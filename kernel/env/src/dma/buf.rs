#![expect(unsafe_code, reason = "a buffer is a raw block of the arena; DESIGN §5 places it here")]

use core::fmt;
use core::ptr::NonNull;

use super::pool::Shared;
use super::{DmaPool, buddy};
use crate::PhysAddr;

/// An owned block of DMA memory; returns to its pool on drop. It stays on its core, unless it is
/// sent to another as a [`Parcel`](super::Parcel).
///
/// Life cycle: `alloc` -> owner reads and writes it -> moved into a command's slot while the
/// device uses it -> handed back with the completion -> dropped. Nothing borrows it across DMA.
pub struct DmaBuf {
    ptr: NonNull<u8>,
    len: u32,
    order: u8,
    /// Whether it is on a core other than its pool's.
    away: bool,
    pool: &'static Shared,
}

impl DmaBuf {
    pub(super) fn new(ptr: NonNull<u8>, len: usize, order: u8, pool: &'static Shared) -> Self {
        Self { ptr, len: len as u32, order, away: false, pool }
    }

    /// It is about to go to another core.
    pub(super) fn leave(&mut self) {
        self.away = true;
    }

    /// It has come to the core of `pool`.
    pub(super) fn arrive(&mut self, pool: &DmaPool) {
        self.away = !pool.is_home_of(self.pool);
    }

    /// Bytes in use: what a transfer moves.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no bytes are in use.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the block can hold.
    pub fn capacity(&self) -> usize {
        buddy::size_of_order(usize::from(self.order))
    }

    /// Sets how many bytes are in use, at most [`Self::capacity`].
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity()) as u32;
    }

    /// Where a device finds the block.
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        self.pool.bus_of(self.ptr)
    }

    /// The bytes in use.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the block is ours alone, initialised (arena's contract) and `len` fits it; no
        // device writes it while we hold it, for a command owns its buffers.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len()) }
    }

    /// The bytes in use, to write.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes the access exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len()) }
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.ptr
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        if self.away {
            self.pool.give_from_afar(self.ptr, self.order);
        } else {
            self.pool.give(self.ptr, self.order);
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({} bytes at {:?})", self.len, self.phys())
    }
}
