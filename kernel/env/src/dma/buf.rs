#![expect(unsafe_code, reason = "a buffer is a raw block of the arena; DESIGN §5 places it here")]

use core::fmt;
use core::ptr::NonNull;

use super::buddy::{BLOCK_MIN, UNITS_MAX};
use super::pool::Shared;
use super::{DmaPool, buddy};
use crate::PhysAddr;

/// Owned DMA memory; returns to its pool on drop. It stays on its core, unless it is sent to
/// another as a [`Parcel`](super::Parcel).
///
/// It is one block of the pool, or a part of one ([`Self::split_off`]). Each part is a buffer in
/// its own right, which returns its own memory.
///
/// Life cycle: `alloc` -> owner reads and writes it -> moved into a command's slot while the
/// device uses it -> handed back with the completion -> dropped. Nothing borrows it across DMA.
pub struct DmaBuf {
    ptr: NonNull<u8>,
    len: u32,
    /// How much memory it is, in units of the smallest block.
    units: u16,
    /// The order of the block, or [`PART`].
    order: u8,
    /// Whether it is on a core other than its pool's.
    away: bool,
    pool: &'static Shared,
}

/// Marks memory that is not one block, because it was split.
const PART: u8 = u8::MAX;

impl DmaBuf {
    pub(super) fn new(ptr: NonNull<u8>, len: usize, order: u8, pool: &'static Shared) -> Self {
        Self { ptr, len: len as u32, units: 1 << order, order, away: false, pool }
    }

    /// It is about to go to another core.
    pub(super) fn leave(&mut self) {
        self.away = true;
    }

    /// It has come to the core of `pool`.
    pub(super) fn arrive(&mut self, pool: &DmaPool) {
        self.away = !pool.is_home_of(self.pool);
    }

    /// Whether it is of `pool`, and on its core.
    #[inline]
    pub(super) fn is_at_home_in(&self, pool: &DmaPool) -> bool {
        !self.away && pool.is_home_of(self.pool)
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

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        usize::from(self.units) * BLOCK_MIN
    }

    /// Cuts it in two: keeps the first `at` bytes, and gives the others. `None`, and nothing
    /// happens, if `at` is not a multiple of 512 with at least a byte in use before and after it.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Option<Self> {
        if !at.is_multiple_of(BLOCK_MIN) || at == 0 || at >= self.len() {
            return None;
        }
        let units = (at / BLOCK_MIN) as u16;
        // SAFETY: `at` is less than `len`, which lies inside the memory.
        let ptr = unsafe { self.ptr.add(at) };
        let (order, away, pool) = (PART, self.away, self.pool);
        let len = self.len - at as u32;
        let rest = Self { ptr, len, units: self.units - units, order, away, pool };
        (self.len, self.units, self.order) = (at as u32, units, PART);
        Some(rest)
    }

    /// Puts `next` back behind it: the reverse of [`Self::split_off`].
    ///
    /// # Errors
    /// Gives `next` back if it is not the memory that comes next, or this one has room left.
    pub fn join(&mut self, next: Self) -> Result<(), Self> {
        let end = self.ptr.as_ptr().wrapping_add(self.capacity());
        let adjacent = core::ptr::eq(self.pool, next.pool) && end == next.ptr.as_ptr();
        let units = self.units.checked_add(next.units).filter(|units| *units <= UNITS_MAX);
        let Some(units) = units.filter(|_| adjacent && self.away == next.away) else {
            return Err(next);
        };
        if self.len() != self.capacity() {
            return Err(next);
        }
        self.len += next.len;
        self.units = units;
        self.order = buddy::order_of(self.pool.offset_of(self.ptr), units).unwrap_or(PART);
        core::mem::forget(next);
        Ok(())
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

    /// Gives a block of its memory back, for good.
    #[inline]
    fn give(&self, ptr: NonNull<u8>, order: u8) {
        if self.away {
            self.pool.give_from_afar(ptr, order);
        } else {
            self.pool.give(ptr, order);
        }
    }
}

impl Drop for DmaBuf {
    // One call, so that what may hold a buffer is dropped without much ado if it holds none.
    #[inline(never)]
    fn drop(&mut self) {
        if self.order != PART {
            return self.give(self.ptr, self.order);
        }
        for (at, order) in buddy::blocks_in(self.pool.offset_of(self.ptr), self.units) {
            // SAFETY: the blocks make up the memory, so each begins inside it.
            self.give(unsafe { self.ptr.add(at) }, order);
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({} bytes at {:?})", self.len, self.phys())
    }
}
