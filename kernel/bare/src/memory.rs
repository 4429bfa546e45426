//! Which memory is free, before there is a heap to keep lists in.

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use heapless::Vec;

/// A range of physical addresses: `start` up to but not including `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    /// `len` bytes from `start`, cut off at the end of the address space.
    pub(crate) const fn new(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub(crate) const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The largest part whose both ends are multiples of `align` (a power of two).
    pub(crate) const fn aligned_inwards(&self, align: u64) -> Self {
        let start = align_up(self.start, align);
        let end = self.end & !(align - 1);
        Self { start, end: if end < start { start } else { end } }
    }

    /// The smallest range of whole pages that holds it.
    pub(crate) const fn whole_pages(&self) -> Self {
        Self { start: self.start & !(PAGE - 1), end: align_up(self.end, PAGE) }
    }
}

/// Bytes of the smallest page.
pub(crate) const PAGE: u64 = 4096;
/// Memory below is left to firmware tables and the trampoline.
const LOW_MEMORY: u64 = 1 << 20;
/// Where 32-bit addresses end: the heap lies below, so that page tables do.
pub(crate) const FOUR_GIB: u64 = 1 << 32;

/// `value` rounded up to a multiple of `align` (a power of two), or the highest such multiple.
pub(crate) const fn align_up(value: u64, align: u64) -> u64 {
    match value.checked_add(align - 1) {
        Some(sum) => sum & !(align - 1),
        None => !(align - 1),
    }
}

/// The most pieces of free memory that are kept track of.
pub(crate) const SPANS_MAX: usize = 256;

/// Memory nobody owns yet.
#[derive(Clone)]
pub(crate) struct FreeMemory {
    spans: Vec<Span, SPANS_MAX>,
}

impl FreeMemory {
    /// All usable memory above 1 MiB that no other region claims.
    pub(crate) fn new(regions: &[MemoryRegion]) -> Self {
        let mut free = Self { spans: Vec::new() };
        for region in regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable) {
            let span = Span { start: region.start.max(LOW_MEMORY), end: region.end };
            let span = span.aligned_inwards(PAGE);
            free.reserve(span);
            free.give(span);
        }
        for region in regions.iter().filter(|region| region.kind != MemoryRegionKind::Usable) {
            free.reserve(Span { start: region.start, end: region.end });
        }
        free
    }

    /// Takes out all that lies in `spans`, as a pool of its own.
    pub(crate) fn split_off(&mut self, spans: impl Iterator<Item = Span>) -> Self {
        let mut split = Self { spans: Vec::new() };
        for wanted in spans.map(|span| span.aligned_inwards(PAGE)) {
            let overlapping = self.spans.iter().filter(|free| free.overlaps(&wanted));
            overlapping.for_each(|free| {
                let (start, end) = (free.start.max(wanted.start), free.end.min(wanted.end));
                split.give(Span { start, end });
            });
            self.reserve(wanted);
        }
        split
    }

    /// All of it, in no order.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Bytes free in all.
    pub(crate) fn len(&self) -> u64 {
        self.spans.iter().map(Span::len).sum()
    }

    /// Takes `span` out, wherever it overlaps free memory.
    pub(crate) fn reserve(&mut self, span: Span) {
        let span = span.whole_pages();
        let before = core::mem::take(&mut self.spans);
        for free in before {
            if !free.overlaps(&span) {
                self.give(free);
                continue;
            }
            self.give(Span { start: free.start, end: span.start.min(free.end) });
            self.give(Span { start: span.end.max(free.start), end: free.end });
        }
    }

    /// The longest span below 4 GiB.
    pub(crate) fn largest_low(&self) -> Option<Span> {
        let low = self.spans.iter().filter(|span| span.start < FOUR_GIB);
        low.map(|span| Span { end: span.end.min(FOUR_GIB), ..*span }).max_by_key(Span::len)
    }

    /// Takes `len` bytes (whole pages) at the lowest address that has them.
    pub(crate) fn take(&mut self, len: u64) -> Option<Span> {
        let fits = self.spans.iter().filter(|span| span.len() >= len);
        let from = fits.min_by_key(|span| span.start)?;
        let taken = Span::new(from.start, len);
        self.reserve(taken);
        Some(taken)
    }

    /// Takes `len` bytes (whole pages), aligned to `align` (a power of two), at the lowest address
    /// that has them.
    pub(crate) fn take_aligned(&mut self, len: u64, align: u64) -> Option<Span> {
        let starts =
            self.spans.iter().map(|span| Span { start: align_up(span.start, align), ..*span });
        let start = starts.filter(|span| span.len() >= len).map(|span| span.start).min()?;
        let taken = Span::new(start, len);
        self.reserve(taken);
        Some(taken)
    }

    /// Takes `count` parts of equal length, as long as possible up to `len_max` and a multiple of
    /// `align` (a power of two), each aligned to it. Calls `each` with every part.
    pub(crate) fn take_equal_parts(
        mut self,
        count: u64,
        align: u64,
        len_max: u64,
        mut each: impl FnMut(Span),
    ) -> Option<u64> {
        let parts = |units: u64| -> u64 {
            let lens = self.spans.iter().map(|span| span.aligned_inwards(align).len());
            lens.map(|len| len / align / units).sum()
        };
        let mut units = self.len() / align / count.max(1);
        // Bisect: the more units in a part, the fewer parts.
        let mut too_many = units + 1;
        let mut enough = 0;
        while enough + 1 < too_many {
            units = enough + (too_many - enough) / 2;
            if parts(units) >= count {
                enough = units;
            } else {
                too_many = units;
            }
        }
        if enough == 0 {
            return None;
        }
        let len = enough.min(len_max / align) * align;
        let mut spans = core::mem::take(&mut self.spans);
        // Small pieces first, so that large ones stay whole.
        basalt_env::sort_few_by_key(&mut spans, Span::len);
        let starts = spans.iter().flat_map(|span| {
            let span = span.aligned_inwards(align);
            (0..span.len() / len).map(move |part| span.start + part * len)
        });
        starts.take(count as usize).for_each(|start| each(Span::new(start, len)));
        Some(len)
    }

    fn give(&mut self, span: Span) {
        if span.start < span.end {
            // A machine with more holes than this loses the last pieces, nothing else.
            let _ = self.spans.push(span);
        }
    }
}

/// A page of free memory below 1 MiB, where a core can start in real mode.
pub(crate) fn trampoline_page(regions: &[MemoryRegion]) -> Option<u64> {
    let low = Span { start: 0x8000, end: 0x9_f000 };
    regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable).find_map(|region| {
        let start = align_up(region.start.max(low.start), PAGE);
        (start + PAGE <= region.end.min(low.end)).then_some(start)
    })
}

/// Whether a region is memory, whoever owns it, rather than device registers or a hole.
pub(crate) fn is_memory(kind: MemoryRegionKind) -> bool {
    match kind {
        MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => true,
        // E820: ACPI tables (3), ACPI non-volatile storage (4).
        MemoryRegionKind::UnknownBios(tag) => matches!(tag, 3 | 4),
        // UEFI §7.2: everything up to ACPI memory (1 to 10), and persistent memory (14).
        MemoryRegionKind::UnknownUefi(tag) => matches!(tag, 1..=10 | 14),
        _ => false,
    }
}
