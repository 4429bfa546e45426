//! Second-stage tables (§9.8) that map memory to where it is.

use alloc::vec::Vec;
use core::ops::Range;

use basalt_env::{DmaMem, DmaPool, OutOfDmaMemory, PhysAddr};

use crate::regs::{LARGE, READ_WRITE};

const PAGE_SHIFT: u32 = 12;
const LARGE_SHIFT: u32 = 21;
/// Address bits that one level of tables resolves.
const LEVEL_BITS: u32 = 9;
const ENTRY_LEN: usize = 8;
/// A table, and a page, bytes.
pub(crate) const TABLE_LEN: usize = 4096;

/// How tables may look, on all units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// 3 or 4.
    pub(crate) levels: u32,
    /// Whether pages of 2 MiB may be used.
    pub(crate) large_pages: bool,
}

impl Shape {
    /// Bits of the addresses that the tables resolve.
    pub(crate) const fn address_bits(self) -> u32 {
        PAGE_SHIFT + self.levels * LEVEL_BITS
    }

    /// The context entry's address width (§9.3).
    pub(crate) const fn width_code(self) -> u64 {
        self.levels as u64 - 2
    }
}

/// A tree of tables.
pub(crate) struct Pages {
    shape: Shape,
    /// The first one is the root.
    tables: Vec<DmaMem>,
}

impl Pages {
    /// Tables that map each of `ranges`, whole pages, to itself.
    pub(crate) fn identity(
        pool: &DmaPool,
        shape: Shape,
        ranges: &[Range<u64>],
    ) -> Result<Self, OutOfDmaMemory> {
        let mut pages = Self { shape, tables: Vec::new() };
        pages.add_table(pool)?;
        for range in ranges {
            pages.map(pool, range.clone())?;
        }
        pages.tables.iter().for_each(|table| table.write_back(0, TABLE_LEN));
        Ok(pages)
    }

    /// Where the root is.
    pub(crate) fn root(&self) -> PhysAddr {
        self.tables[0].phys()
    }

    fn map(&mut self, pool: &DmaPool, range: Range<u64>) -> Result<(), OutOfDmaMemory> {
        const LARGE_LEN: u64 = 1 << LARGE_SHIFT;
        let mut at = range.start;
        while at < range.end {
            let fits = at.is_multiple_of(LARGE_LEN) && at + LARGE_LEN <= range.end;
            let (level, flags, len) = match self.shape.large_pages && fits {
                true => (2, READ_WRITE | LARGE, LARGE_LEN),
                false => (1, READ_WRITE, 1 << PAGE_SHIFT),
            };
            let (table, offset) = self.entry(pool, at, level)?;
            self.tables[table].store64(offset, at | flags);
            at += len;
        }
        Ok(())
    }

    /// The table and offset of the entry of `level` for `address`; tables on the way are made.
    fn entry(
        &mut self,
        pool: &DmaPool,
        address: u64,
        level: u32,
    ) -> Result<(usize, usize), OutOfDmaMemory> {
        let mut table = 0;
        for above in (level + 1..=self.shape.levels).rev() {
            let offset = offset(address, above);
            let entry = self.tables[table].load64(offset);
            let next = match self.tables.iter().position(|next| points_to(entry, next)) {
                Some(next) => next,
                None => {
                    let next = self.add_table(pool)?;
                    let pointer = self.tables[next].phys().as_u64() | READ_WRITE;
                    self.tables[table].store64(offset, pointer);
                    next
                }
            };
            table = next;
        }
        Ok((table, offset(address, level)))
    }

    fn add_table(&mut self, pool: &DmaPool) -> Result<usize, OutOfDmaMemory> {
        self.tables.push(pool.alloc_shared(TABLE_LEN)?);
        Ok(self.tables.len() - 1)
    }
}

fn points_to(entry: u64, table: &DmaMem) -> bool {
    entry != 0 && entry & !0xfff == table.phys().as_u64()
}

fn offset(address: u64, level: u32) -> usize {
    let shift = PAGE_SHIFT + (level - 1) * LEVEL_BITS;
    (address >> shift) as usize % (1 << LEVEL_BITS) * ENTRY_LEN
}
