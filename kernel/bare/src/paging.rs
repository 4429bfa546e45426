#![expect(unsafe_code, reason = "page tables")]

//! The page tables: everything is mapped where it physically is, or not at all.
//!
//! Memory is mapped write-back with the largest pages that fit, the image in 4 KiB pages with the
//! rights of its segments, and the rest of the first 4 GiB uncached, as that is where devices are.
//! Device memory above is mapped when somebody asks ([`AddressSpace::map_device`]).
//!
//! Rights are only taken away, and large pages only split, before the other cores start. After
//! that entries are only added, which no core has to be told.

use alloc::boxed::Box;

use bootloader_api::info::MemoryRegion;
use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags, PhysFrame};

use crate::image::{self, Access};
use crate::memory::{self, FOUR_GIB, PAGE, Span};
use crate::{cpu, symbols};

const MEMORY: PageTableFlags =
    PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE).union(PageTableFlags::NO_EXECUTE);
const DEVICE: PageTableFlags =
    MEMORY.union(PageTableFlags::NO_CACHE).union(PageTableFlags::WRITE_THROUGH);
const READ_ONLY: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const EXECUTABLE: PageTableFlags = PageTableFlags::PRESENT;
const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);
/// Addresses that four levels can identity-map: the lower canonical half.
const ADDRESSABLE: u64 = 1 << 47;

/// The machine's only address space.
pub(crate) struct AddressSpace {
    root: Box<PageTable>,
    /// The highest level whose entries can be pages: 3 (1 GiB) or 2 (2 MiB).
    leaf_level_max: u8,
    /// Where physical addresses end.
    limit: u64,
}

/// The address space that all cores use, once there is one.
pub(crate) static ADDRESS_SPACE: Mutex<Option<AddressSpace>> = Mutex::new(None);

impl AddressSpace {
    /// Maps the machine as its memory map describes it.
    pub(crate) fn new(regions: &[MemoryRegion]) -> Self {
        let leaf_level_max = if cpu::has_1gib_pages() { 3 } else { 2 };
        let limit = ADDRESSABLE.min(1 << cpu::physical_address_bits().min(52));
        let mut space = Self { root: Box::new(PageTable::new()), leaf_level_max, limit };
        space.set(Span { start: 0, end: FOUR_GIB }, DEVICE);
        for region in regions.iter().filter(|region| memory::is_memory(region.kind)) {
            space.set(Span { start: region.start, end: region.end }.whole_pages(), MEMORY);
        }
        for (span, access) in image::segments() {
            let flags = match access {
                Access::Read => READ_ONLY,
                Access::ReadWrite => MEMORY,
                Access::ReadExecute => EXECUTABLE,
            };
            space.set(span, flags);
        }
        if let Some(span) = symbols::span() {
            space.set(span.whole_pages(), READ_ONLY);
        }
        space.unmap(Span::new(0, PAGE));
        space
    }

    /// Makes `span` unreachable.
    pub(crate) fn unmap(&mut self, span: Span) {
        self.set(span, PageTableFlags::empty());
    }

    /// Makes the page at `start` executable and read-only.
    pub(crate) fn make_executable(&mut self, start: u64) {
        self.set(Span::new(start, PAGE), EXECUTABLE);
    }

    /// Maps the pages of `span` as uncached device memory. Refused where there is other memory,
    /// or beyond what the processor can address.
    pub(crate) fn map_device(&mut self, span: Span) -> Result<(), NotDevice> {
        let span = span.whole_pages();
        if span.end > self.limit || span.start >= span.end {
            return Err(NotDevice);
        }
        if self.is_device(span) {
            return Ok(());
        }
        if !self.is_free_or_device(span) {
            return Err(NotDevice);
        }
        self.set(span, DEVICE);
        Ok(())
    }

    /// The physical address of the root table, below 4 GiB as the heap is.
    pub(crate) fn root(&self) -> u64 {
        core::ptr::from_ref::<PageTable>(&self.root) as u64
    }

    /// Makes this the address space of the calling core.
    pub(crate) fn activate(&self) {
        let root = PhysFrame::containing_address(PhysAddr::new(self.root()));
        // SAFETY: the tables map all memory where it already is, with the rights of its use.
        unsafe {
            Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE));
            Cr3::write(root, Cr3Flags::empty());
        }
    }

    fn is_device(&self, span: Span) -> bool {
        self.all(span, |flags| flags.contains(DEVICE))
    }

    fn is_free_or_device(&self, span: Span) -> bool {
        self.all(span, |flags| flags.is_empty() || flags.contains(DEVICE))
    }

    /// Whether `test` holds for the flags of every page of `span` (empty if not mapped).
    fn all(&self, span: Span, test: impl Fn(PageTableFlags) -> bool) -> bool {
        let mut address = span.start;
        while address < span.end {
            let (flags, size) = self.look_up(address);
            if !test(flags) {
                return false;
            }
            address = (address & !(size - 1)) + size;
        }
        true
    }

    /// The flags at `address` and the size of the page or hole around it.
    fn look_up(&self, address: u64) -> (PageTableFlags, u64) {
        let mut table: &PageTable = &self.root;
        for level in (1..=4).rev() {
            let entry = &table[index(address, level)];
            let flags = entry.flags();
            if flags.is_empty() || level == 1 || flags.contains(PageTableFlags::HUGE_PAGE) {
                return (flags, entry_len(level));
            }
            // SAFETY: a present entry that is no page points at a table of ours.
            table = unsafe { &*(entry.addr().as_u64() as *const PageTable) };
        }
        (PageTableFlags::empty(), PAGE)
    }

    fn set(&mut self, span: Span, flags: PageTableFlags) {
        let span = Span { start: span.start, end: span.end.min(self.limit) };
        if span.start < span.end {
            set_in(&mut self.root, 4, span, flags, self.leaf_level_max);
        }
        x86_64::instructions::tlb::flush_all();
    }
}

/// The range is not device memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotDevice;

/// Bytes that one entry of a table of `level` (1 to 4) covers.
const fn entry_len(level: u8) -> u64 {
    PAGE << (9 * (level as u32 - 1))
}

const fn index(address: u64, level: u8) -> usize {
    (address >> (12 + 9 * (level as u32 - 1))) as usize & 511
}

/// Gives the pages of `span`, which lies within `table` of `level`, these flags.
fn set_in(table: &mut PageTable, level: u8, span: Span, flags: PageTableFlags, leaf_max: u8) {
    let len = entry_len(level);
    let mut address = span.start;
    while address < span.end {
        let entry_end = (address & !(len - 1)) + len;
        let part = Span { start: address, end: entry_end.min(span.end) };
        address = entry_end;
        let entry = &mut table[index(part.start, level)];
        let is_table = level > 1 && !entry.is_unused() && !is_page(entry);
        if is_page(entry) && entry.flags() & DEVICE == flags {
            continue;
        }
        if level == 1 || (level <= leaf_max && part.len() == len && !is_table) {
            set_page(entry, level, part.start, flags);
            continue;
        }
        if flags.is_empty() && entry.is_unused() {
            continue;
        }
        set_in(table_below(entry, level), level - 1, part, flags, leaf_max);
    }
}

fn is_page(entry: &PageTableEntry) -> bool {
    entry.flags().contains(PageTableFlags::HUGE_PAGE)
}

fn set_page(entry: &mut PageTableEntry, level: u8, address: u64, flags: PageTableFlags) {
    if flags.is_empty() {
        return entry.set_unused();
    }
    let huge = if level > 1 { PageTableFlags::HUGE_PAGE } else { PageTableFlags::empty() };
    entry.set_addr(PhysAddr::new_truncate(address), flags | huge);
}

/// The table that `entry` of `level` points at: a new one if it was unused, or, if it was a large
/// page, one that maps the same with smaller pages.
fn table_below(entry: &mut PageTableEntry, level: u8) -> &mut PageTable {
    if entry.is_unused() || is_page(entry) {
        let below = Box::leak(Box::new(PageTable::new()));
        if is_page(entry) {
            split(entry, level, below);
        }
        let address = core::ptr::from_mut(below) as u64;
        entry.set_addr(PhysAddr::new_truncate(address), TABLE);
    }
    // SAFETY: the entry points at a table made here and never freed; the exclusive borrow of the
    // entry is the only way to it.
    unsafe { &mut *(entry.addr().as_u64() as *mut PageTable) }
}

fn split(entry: &PageTableEntry, level: u8, below: &mut PageTable) {
    let flags = entry.flags() - PageTableFlags::HUGE_PAGE;
    // The bit that marks a large page means something else in the lowest level.
    let start = entry.addr().as_u64();
    for (i, small) in below.iter_mut().enumerate() {
        set_page(small, level - 1, start + i as u64 * entry_len(level - 1), flags);
    }
}
