#![expect(
    unsafe_code,
    reason = "memory that several hold is raw; DESIGN §5 places DMA memory here"
)]

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;

use super::pool::Shared;
use super::{DmaBuf, DmaPool};
use crate::PhysAddr;

/// Bytes of a [`DmaBuf`] that several have at once on one core, to read and to show to devices that
/// read.
///
/// ```text
///  DmaBuf -> DmaPool::share -> DmaSlice -+-> clones, parts: each may go its own way
///                                        +-> the last is dropped: so is the buffer
/// ```
///
/// Nobody can write the buffer any more. Clones and parts cost a count and no memory.
pub struct DmaSlice {
    ptr: NonNull<u8>,
    len: u32,
    count: &'static Count,
}

/// Keeps a shared buffer, and counts who has it. It is its pool's, which uses it again and again;
/// there are as many as buffers ever were shared at once.
pub(super) struct Count {
    slices: Cell<usize>,
    buf: Cell<Option<DmaBuf>>,
    capacity: Cell<usize>,
    pool: &'static Shared,
    /// The next of those that are not in use.
    next: Cell<Option<&'static Self>>,
}

impl DmaPool {
    /// Shares `buf` from now on.
    ///
    /// # Errors
    /// Gives it back if it is another core's, or the heap has no room for one more count.
    #[inline]
    pub fn share(&self, buf: DmaBuf) -> Result<DmaSlice, DmaBuf> {
        if !buf.is_at_home_in(self) {
            return Err(buf);
        }
        let counts = &self.shared().counts;
        let Some(count) = counts.take().or_else(|| self.new_count()) else { return Err(buf) };
        counts.set(count.next.take());
        let (ptr, len) = (buf.base(), buf.len() as u32);
        count.slices.set(1);
        count.capacity.set(buf.capacity());
        count.buf.set(Some(buf));
        Ok(DmaSlice { ptr, len, count })
    }

    #[cold]
    fn new_count(&self) -> Option<&'static Count> {
        let mut count = Vec::new();
        count.try_reserve_exact(1).ok()?;
        count.push(Count {
            slices: Cell::new(0),
            buf: Cell::new(None),
            capacity: Cell::new(0),
            pool: self.shared(),
            next: Cell::new(None),
        });
        // As long-lived as the pool, which is never freed.
        count.leak().first()
    }
}

impl Count {
    /// Nobody has the buffer any more.
    #[inline(never)]
    fn end(&'static self) {
        drop(self.buf.take());
        self.next.set(self.pool.counts.replace(Some(self)));
    }
}

impl DmaSlice {
    /// How many bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a device finds them.
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        self.count.pool.bus_of(self.ptr)
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: they are bytes in use of a buffer, which lives as long as any slice of it. That
        // is only within `Count`, where nobody writes it; devices are shown slices to read.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len()) }
    }

    /// Up to `len` bytes from `from` on, as far as there are so many.
    #[must_use]
    #[inline]
    pub fn part(&self, from: usize, len: usize) -> Self {
        let from = from.min(self.len());
        let len = len.min(self.len() - from) as u32;
        // SAFETY: it is no more than `len` bytes further on, which all lie in the buffer.
        let ptr = unsafe { self.ptr.add(from) };
        self.count.slices.set(self.count.slices.get() + 1);
        Self { ptr, len, count: self.count }
    }

    /// Adds up to `len` bytes of `other`, from `from` on, if they are those that come next in the
    /// buffer; whether they are.
    pub fn extend(&mut self, other: &Self, from: usize, len: usize) -> bool {
        let end = self.ptr.as_ptr().wrapping_add(self.len());
        let start = other.ptr.as_ptr().wrapping_add(from);
        let follows = core::ptr::eq(self.count, other.count) && end == start;
        if follows {
            self.len += len.min(other.len().saturating_sub(from)) as u32;
        }
        follows
    }

    /// Bytes of the buffer that it keeps from its pool, most likely with others.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.count.capacity.get()
    }
}

impl Clone for DmaSlice {
    fn clone(&self) -> Self {
        self.part(0, self.len())
    }
}

impl Drop for DmaSlice {
    #[inline]
    fn drop(&mut self) {
        let left = self.count.slices.get() - 1;
        self.count.slices.set(left);
        if left == 0 {
            self.count.end();
        }
    }
}

impl fmt::Debug for DmaSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaSlice({} bytes at {:?})", self.len, self.phys())
    }
}

/// Bytes that are handed to somebody who needs them for longer.
#[derive(Clone, Copy, Debug)]
pub enum DmaRun<'a> {
    /// To be copied.
    Lent(&'a [u8]),
    /// To be kept where they are: from so many bytes on.
    Shared(&'a DmaSlice, usize),
}

impl<'a> DmaRun<'a> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &'a [u8] {
        match *self {
            Self::Lent(bytes) => bytes,
            Self::Shared(slice, from) => slice.as_slice().get(from..).unwrap_or_default(),
        }
    }

    /// How many.
    #[inline]
    pub const fn len(&self) -> usize {
        match *self {
            Self::Lent(bytes) => bytes.len(),
            Self::Shared(slice, from) => slice.len().saturating_sub(from),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
