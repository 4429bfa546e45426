use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Smallest block, bytes.
pub(super) const BLOCK_MIN: usize = 512;
/// Most units of 512 bytes in a block.
pub(super) const UNITS_MAX: u16 = 1 << (ORDERS - 1);
/// Orders 0 (512 B) to 13 (4 MiB).
pub(super) const ORDERS: usize = 14;

/// A binary buddy allocator over `len` bytes, by offset. Bookkeeping lives outside the managed
/// memory, where no device can reach it.
///
/// Free blocks of an order are kept sorted so that merging finds the buddy and so that the lowest
/// address is used first. Freshly freed blocks also sit on a small stack per order, unmerged, so
/// that the steady state (free one, take one) is a push and a pop.
pub(super) struct Buddy {
    cached: [Vec<u32>; ORDERS],
    free: [BTreeSet<u32>; ORDERS],
    bytes_free: usize,
    /// How blocks of up to [`SMALL_ORDER_MAX`] were had, and larger ones.
    taken: [DmaTaken; 2],
}

/// How buffers were had so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DmaTaken {
    /// Of those that were given back lately.
    pub cache: u64,
    /// Of what is left.
    pub main: u64,
    /// Not at all.
    pub refused: u64,
}

/// The order of the largest block that counts as small: 8 KiB, as SPDK's small buffers are.
const SMALL_ORDER_MAX: usize = 4;

/// Blocks kept unmerged per order.
const CACHE_DEPTH: usize = 256;

/// The order of the smallest block that holds `len` bytes, or `None` if none does.
#[inline]
pub(super) fn order_for(len: usize) -> Option<usize> {
    let size = len.max(BLOCK_MIN).checked_next_power_of_two()?;
    let order = (size / BLOCK_MIN).trailing_zeros() as usize;
    (order < ORDERS).then_some(order)
}

/// The size in bytes of a block of `order`.
pub(super) const fn size_of_order(order: usize) -> usize {
    BLOCK_MIN << order
}

/// The order of the block that so many units at `offset` bytes are, if they are one.
pub(super) fn order_of(offset: usize, units: u16) -> Option<u8> {
    let aligned = (offset / BLOCK_MIN).is_multiple_of(units.into());
    (aligned && units.is_power_of_two()).then(|| units.trailing_zeros() as u8)
}

/// The blocks that so many units at `offset` bytes fall into: how many bytes further on each
/// begins, and its order.
pub(super) fn blocks_in(offset: usize, units: u16) -> impl Iterator<Item = (usize, u8)> {
    let start = offset / BLOCK_MIN;
    let end = start + usize::from(units);
    let mut unit = start;
    core::iter::from_fn(move || {
        let left = end - unit;
        let order = (left > 0).then(|| largest_order_at(unit, left))?;
        let at = (unit - start) * BLOCK_MIN;
        unit += 1 << order;
        Some((at, order as u8))
    })
}

impl Buddy {
    /// Manages `len` bytes (rounded down to 512); offset 0 is taken to be aligned to 4 MiB.
    pub(super) fn new(len: usize) -> Self {
        let mut buddy = Self {
            cached: core::array::from_fn(|_| Vec::with_capacity(CACHE_DEPTH)),
            free: core::array::from_fn(|_| BTreeSet::new()),
            bytes_free: len / BLOCK_MIN * BLOCK_MIN,
            taken: Default::default(),
        };
        let units = len / BLOCK_MIN;
        let mut unit = 0;
        while unit < units {
            let order = largest_order_at(unit, units - unit);
            buddy.free[order].insert(unit as u32);
            unit += 1 << order;
        }
        buddy
    }

    #[inline]
    pub(super) fn bytes_free(&self) -> usize {
        self.bytes_free
    }

    /// Takes a block of `order`; its offset in bytes.
    pub(super) fn take(&mut self, order: usize) -> Option<usize> {
        if let Some(offset) = self.take_cached(order) {
            return Some(offset);
        }
        let taken = self.take_shared(order);
        let counts = self.taken_mut(order);
        let Some(unit) = taken else {
            counts.refused += 1;
            return None;
        };
        counts.main += 1;
        self.bytes_free -= size_of_order(order);
        Some(unit as usize * BLOCK_MIN)
    }

    /// How small blocks and large ones were had.
    pub(super) fn taken(&self) -> [DmaTaken; 2] {
        self.taken
    }

    #[inline]
    fn taken_mut(&mut self, order: usize) -> &mut DmaTaken {
        &mut self.taken[usize::from(order > SMALL_ORDER_MAX)]
    }

    /// Takes a block of `order` that was given back lately, if there is one.
    #[inline]
    pub(super) fn take_cached(&mut self, order: usize) -> Option<usize> {
        let unit = self.cached.get_mut(order)?.pop()?;
        self.taken_mut(order).cache += 1;
        self.bytes_free -= size_of_order(order);
        Some(unit as usize * BLOCK_MIN)
    }

    /// Gives back the block of `order` at `offset` bytes.
    #[inline]
    pub(super) fn give(&mut self, offset: usize, order: usize) {
        self.bytes_free += size_of_order(order);
        let unit = (offset / BLOCK_MIN) as u32;
        let cached = &mut self.cached[order];
        if cached.len() < CACHE_DEPTH {
            return cached.push(unit);
        }
        self.merge(unit, order);
    }

    fn take_shared(&mut self, order: usize) -> Option<u32> {
        if let Some(unit) = self.split(order) {
            return Some(unit);
        }
        self.flush_caches();
        self.split(order)
    }

    fn split(&mut self, order: usize) -> Option<u32> {
        let from = (order..ORDERS).find(|&o| !self.free[o].is_empty())?;
        let unit = self.free[from].pop_first()?;
        for lower in (order..from).rev() {
            self.free[lower].insert(unit + (1 << lower));
        }
        Some(unit)
    }

    fn flush_caches(&mut self) {
        for order in 0..ORDERS {
            while let Some(unit) = self.cached[order].pop() {
                self.merge(unit, order);
            }
        }
    }

    #[inline(never)]
    fn merge(&mut self, mut unit: u32, mut order: usize) {
        while order + 1 < ORDERS && self.free[order].remove(&(unit ^ (1 << order))) {
            unit &= !(1 << order);
            order += 1;
        }
        self.free[order].insert(unit);
    }
}

fn largest_order_at(unit: usize, left: usize) -> usize {
    let aligned = if unit == 0 { ORDERS - 1 } else { unit.trailing_zeros() as usize };
    let fits = left.ilog2() as usize;
    aligned.min(fits).min(ORDERS - 1)
}
