#![expect(unsafe_code, reason = "the arena is raw memory; DESIGN §5 places DMA memory here")]

use alloc::boxed::Box;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::buddy::{self, Buddy, DmaTaken};
use super::returns::Returns;
use super::slice::Count;
use super::{DmaBuf, DmaMem};
use crate::PhysAddr;

/// A contiguous range of pinned memory that devices can reach; one per core.
#[derive(Debug)]
pub struct DmaArena {
    base: NonNull<u8>,
    len: usize,
    bus: PhysAddr,
}

// SAFETY: an arena is the only handle to its memory (see `new`), so moving it to another core
// moves the memory's ownership with it.
unsafe impl Send for DmaArena {}

impl DmaArena {
    /// Alignment an arena's base must have in both address spaces, bytes.
    pub const ALIGN: usize = 4 << 20;

    /// Takes over `len` bytes at `base`, which devices see at `bus`.
    ///
    /// # Safety
    /// The range must be mapped, initialised, physically contiguous and exclusively the arena's
    /// for the rest of the run (or, for an environment that ends, until every pool and buffer made
    /// of it is gone); `base` and `bus` must be aligned to [`Self::ALIGN`].
    pub const unsafe fn new(base: NonNull<u8>, len: usize, bus: PhysAddr) -> Self {
        Self { base, len, bus }
    }

    pub(super) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Size in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the arena has no memory.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The pool has no free block that large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfDmaMemory {
    /// Bytes that were asked for.
    pub requested: usize,
}

impl fmt::Display for OutOfDmaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} bytes of DMA memory left; give the machine more memory", self.requested)
    }
}

/// How much of a pool is in use, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaStats {
    /// Size of the arena.
    pub bytes_total: usize,
    /// Not handed out.
    pub bytes_free: usize,
}

pub(super) struct Shared {
    base: NonNull<u8>,
    bus: PhysAddr,
    len: usize,
    poison: Option<u8>,
    /// The free lists, of the home core only.
    buddy: RefCell<Buddy>,
    /// Those that no shared buffer needs, of the home core too.
    pub(super) counts: Cell<Option<&'static Count>>,
    /// What other cores give back.
    returns: Returns,
}

// SAFETY: other cores only reach a pool by buffers that are away (see `Parcel`), and by these only
// what never changes and `returns`, which is for all cores. `buddy` and `counts` are for the pool
// itself, for buffers at home and for slices, none of which leaves its core.
unsafe impl Sync for Shared {}

impl Shared {
    /// Takes a block back on the home core.
    #[inline]
    pub(super) fn give(&self, ptr: NonNull<u8>, order: u8) {
        if let Some(byte) = self.poison {
            // SAFETY: the block is being given back, so nobody else refers to it.
            unsafe { ptr.write_bytes(byte, buddy::size_of_order(usize::from(order))) };
        }
        self.buddy.borrow_mut().give(self.offset_of(ptr), usize::from(order));
    }

    /// Takes a block back from any core.
    pub(super) fn give_from_afar(&self, ptr: NonNull<u8>, order: u8) {
        // SAFETY: the block is being given back, so nobody else refers to it; every block is larger
        // and more aligned than a node, and in `take_in` is its pool's again.
        unsafe { self.returns.push(ptr, order) };
    }

    /// Takes in what other cores have given back.
    fn take_in(&self) {
        if !self.returns.is_empty() {
            self.returns.take_all(|ptr, order| self.give(ptr, order));
        }
    }

    pub(super) fn bus_of(&self, ptr: NonNull<u8>) -> PhysAddr {
        self.bus.offset(self.offset_of(ptr) as u64)
    }

    /// How far into the arena memory of it is, bytes.
    #[inline]
    pub(super) fn offset_of(&self, ptr: NonNull<u8>) -> usize {
        ptr.as_ptr() as usize - self.base.as_ptr() as usize
    }
}

/// Hands out DMA memory of one core's arena. Cheap to clone; stays on its core.
#[derive(Clone)]
pub struct DmaPool {
    /// Never freed, as its buffers may be on any core: there is one for each arena.
    shared: &'static Shared,
    /// A pool is of one core.
    local: PhantomData<*const ()>,
}

impl DmaPool {
    /// A pool over the whole of `arena`.
    pub fn new(arena: DmaArena) -> Self {
        Self::build(arena, None)
    }

    /// A pool that fills freed blocks with `byte`, to make use after free visible.
    pub fn poisoning(arena: DmaArena, byte: u8) -> Self {
        Self::build(arena, Some(byte))
    }

    fn build(arena: DmaArena, poison: Option<u8>) -> Self {
        let buddy = RefCell::new(Buddy::new(arena.len));
        let DmaArena { base, len, bus } = arena;
        let returns = Returns::new();
        let counts = Cell::new(None);
        let shared = Shared { base, bus, len, poison, buddy, counts, returns };
        let shared = Box::leak(Box::new(shared));
        Self { shared, local: PhantomData }
    }

    /// An owned buffer of `len` bytes (up to 4 MiB), contiguous on the bus and aligned to its size
    /// rounded up to a power of two, at least 512. Its contents are unspecified.
    #[inline]
    pub fn alloc(&self, len: usize) -> Result<DmaBuf, OutOfDmaMemory> {
        let out = OutOfDmaMemory { requested: len };
        let order = buddy::order_for(len).ok_or(out)?;
        let cached = self.shared.buddy.borrow_mut().take_cached(order);
        let offset = cached.or_else(|| self.take(order)).ok_or(out)?;
        // SAFETY: the buddy only hands out offsets of blocks inside the arena.
        let ptr = unsafe { self.shared.base.add(offset) };
        Ok(DmaBuf::new(ptr, len, order as u8, self.shared))
    }

    /// Zeroed memory to share with a device: a ring, a list. Aligned like [`Self::alloc`].
    pub fn alloc_shared(&self, len: usize) -> Result<DmaMem, OutOfDmaMemory> {
        let mut buf = self.alloc(len)?;
        buf.as_mut_slice().fill(0);
        Ok(DmaMem::new(buf))
    }

    /// Use of the pool now.
    pub fn stats(&self) -> DmaStats {
        self.shared.take_in();
        let bytes_free = self.shared.buddy.borrow().bytes_free();
        DmaStats { bytes_total: self.shared.len, bytes_free }
    }

    /// How buffers of up to 8 KiB were had so far, and larger ones.
    pub fn taken(&self) -> [DmaTaken; 2] {
        self.shared.buddy.borrow().taken()
    }

    /// Whether `bytes` bytes at least are not handed out, in whichever blocks.
    #[inline]
    pub fn has_free(&self, bytes: usize) -> bool {
        self.shared.buddy.borrow().bytes_free() >= bytes || self.stats().bytes_free >= bytes
    }

    /// Whether that is this pool's.
    pub(super) fn is_home_of(&self, shared: &Shared) -> bool {
        core::ptr::eq(self.shared, shared)
    }

    /// What it has for all its buffers.
    pub(super) fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// The offset of a block of `order`, of what is left or has come back.
    #[cold]
    #[inline(never)]
    fn take(&self, order: usize) -> Option<usize> {
        self.shared.take_in();
        self.shared.buddy.borrow_mut().take(order)
    }
}

impl fmt::Debug for DmaPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}
