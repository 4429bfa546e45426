#![expect(
    unsafe_code,
    reason = "memory all cores copy to and from is raw; DESIGN §5 allows it here"
)]

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::fmt;
use core::ptr::NonNull;

use super::copy::{copy_racing, zero_racing};
use super::{DmaArena, OutOfDmaMemory};

/// Memory that every core may copy to and from at once, with the manners of a disk.
///
/// There are no references into it, only copies. Two cores that write the same bytes at the same
/// time, or read what another is writing, see some mixture of old and new bytes: what a disk
/// promises for overlapping commands, and no less. A core that was told that a copy has finished
/// (through any acquire and release pair) sees that copy whole.
pub struct SharedRegion {
    base: NonNull<u8>,
    len: usize,
    heap: Option<Layout>,
}

// SAFETY: the region owns its memory, and it is only accessed by racing copies, which are atomic
// per byte (see `copy`); nothing about it is tied to a core.
unsafe impl Send for SharedRegion {}
// SAFETY: as for `Send`: copies from several cores at once are not data races.
unsafe impl Sync for SharedRegion {}

impl SharedRegion {
    /// Alignment of the memory, bytes.
    const ALIGN: usize = 4096;

    /// `len` zeroed bytes of the heap.
    pub fn zeroed(len: usize) -> Result<Self, OutOfDmaMemory> {
        let out = OutOfDmaMemory { requested: len };
        let layout = Layout::from_size_align(len.max(1), Self::ALIGN).map_err(|_| out)?;
        // SAFETY: the layout's size is at least 1.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(out)?;
        Ok(Self { base, len, heap: Some(layout) })
    }

    /// The whole of `arena`, zeroed. Its memory is never given back.
    pub fn from_arena(arena: DmaArena) -> Self {
        let region = Self { base: arena.base(), len: arena.len(), heap: None };
        region.zero(0, region.len);
        region
    }

    /// Size in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no memory.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` in at `offset`. Panics if they do not fit: a bug of the caller.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: the range lies inside the region (`at`), which is mapped for as long as `self`
        // lives; `bytes` is ordinary memory and cannot overlap it.
        unsafe { copy_racing(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Copies `bytes.len()` bytes out from `offset`. Panics if the region ends before.
    #[inline]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len());
        // SAFETY: as in `copy_in`.
        unsafe { copy_racing(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Makes `len` bytes from `offset` zero. Panics if the region ends before.
    #[inline]
    pub fn zero(&self, offset: usize, len: usize) {
        let to = self.at(offset, len);
        // SAFETY: as in `copy_in`.
        unsafe { zero_racing(to, len) };
    }

    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "copy past a shared region");
        // SAFETY: the offset was just checked to lie inside the region.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for SharedRegion {
    fn drop(&mut self) {
        if let Some(layout) = self.heap {
            // SAFETY: `zeroed` allocated it with this layout, and `self` was its only owner.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for SharedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedRegion({} bytes)", self.len)
    }
}
