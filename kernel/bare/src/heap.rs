#![expect(unsafe_code, reason = "the global allocator hands out raw memory")]

//! The heap: linked lists of free blocks behind a spin lock.
//!
//! For start-up and the control path; the I/O path does not allocate. Size: a quarter of the free
//! memory, at least 16 MiB, at most 1 GiB, and at most half of the largest free range below 4 GiB.
//! What is left once every core has its DMA memory joins it, for RAM disks above all.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use heapless::Vec;
use linked_list_allocator::Heap;
use spin::Mutex;

use basalt_env::sort_few_by_key;

use crate::memory::{FreeMemory, PAGE, SPANS_MAX, Span};

const LEN_MIN: u64 = 16 << 20;
const LEN_MAX: u64 = 1 << 30;
/// The least worth keeping of what is left.
const REST_MIN: u64 = 1 << 20;
/// Pieces of what is left; a machine with more holes loses the smallest.
const RESTS_MAX: usize = 8;
/// Blocks from this size on are taken from what is left first, so that the heap proper stays whole.
const LARGE: usize = 1 << 20;

struct LockedHeap(Mutex<Heaps>);

#[global_allocator]
static HEAP: LockedHeap = LockedHeap(Mutex::new(Heaps::NONE));

/// The heap proper, and what is left.
struct Heaps {
    first: Heap,
    rests: Vec<Heap, RESTS_MAX>,
    /// Blocks handed out since the start.
    allocations: u64,
    /// The most that was ever handed out at once, bytes.
    peak: usize,
}

impl Heaps {
    const NONE: Self = Self { first: Heap::empty(), rests: Vec::new(), allocations: 0, peak: 0 };

    fn all(&self) -> impl Iterator<Item = &Heap> {
        core::iter::once(&self.first).chain(&self.rests)
    }

    /// Out of line, as [`Self::give_back`]: otherwise the whole program is built of copies of it.
    #[inline(never)]
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let Self { first, rests, allocations, .. } = self;
        *allocations += 1;
        let block = if layout.size() < LARGE {
            let mut heaps = core::iter::once(first).chain(rests);
            heaps.find_map(|heap| heap.allocate_first_fit(layout).ok())
        } else {
            let mut heaps = rests.iter_mut().chain(core::iter::once(first));
            heaps.find_map(|heap| heap.allocate_first_fit(layout).ok())
        };
        self.peak = self.peak.max(self.all().map(Heap::used).sum());
        block
    }

    /// Gives `block` back to the heap it is of.
    ///
    /// # Safety
    /// It came from [`Self::allocate`] with this layout, and was not given back.
    #[inline(never)]
    unsafe fn give_back(&mut self, block: NonNull<u8>, layout: Layout) {
        let holds = |heap: &Heap| heap.bottom() <= block.as_ptr() && block.as_ptr() < heap.top();
        let mut heaps = core::iter::once(&mut self.first).chain(&mut self.rests);
        if let Some(heap) = heaps.find(|heap| holds(heap)) {
            // SAFETY: the caller's promise, and the block lies in this heap.
            unsafe { heap.deallocate(block, layout) }
        }
    }
}

/// How much of the heap is in use, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapStats {
    /// Size of the heap.
    pub bytes_total: usize,
    /// Not handed out.
    pub bytes_free: usize,
    /// Blocks handed out since the start.
    pub allocations: u64,
    /// The most that was ever handed out at once.
    pub bytes_peak: usize,
}

/// Use of the heap now.
pub fn heap_stats() -> HeapStats {
    let heaps = HEAP.0.lock();
    let sum = |of: fn(&Heap) -> usize| heaps.all().map(of).sum();
    HeapStats {
        bytes_total: sum(Heap::size),
        bytes_free: sum(Heap::free),
        allocations: heaps.allocations,
        bytes_peak: heaps.peak,
    }
}

/// Takes the heap's memory out of `free` and opens the heap. `None` if there is too little.
pub(crate) fn init(free: &mut FreeMemory) -> Option<u64> {
    let room = free.largest_low()?;
    let len = (free.len() / 4).clamp(LEN_MIN, LEN_MAX).min(room.len() / 2) & !(PAGE - 1);
    if len < LEN_MIN / 2 {
        return None;
    }
    let span = Span::new(room.start, len);
    free.reserve(span);
    // SAFETY: free memory that was just taken for good, mapped by the loader's page tables and
    // later by ours at the same address; called once, from `Machine::start`.
    unsafe { HEAP.0.lock().first.init(span.start as *mut u8, len as usize) };
    Some(len)
}

/// Adds what is left of the memory, for good; how many bytes that is.
pub(crate) fn add_rest(free: &FreeMemory) -> u64 {
    let mut spans: Vec<Span, SPANS_MAX> = free.spans().iter().copied().collect();
    spans.retain(|span| span.len() >= REST_MIN);
    sort_few_by_key(&mut spans, |span| core::cmp::Reverse(span.len()));
    spans.truncate(RESTS_MAX);
    let mut heaps = HEAP.0.lock();
    for span in &spans {
        // SAFETY: nobody's memory, given away for good by the caller, mapped where it is.
        let heap = unsafe { Heap::new(span.start as *mut u8, span.len() as usize) };
        // There is room for so many.
        let _ = heaps.rests.push(heap);
    }
    spans.iter().map(Span::len).sum()
}

// SAFETY: `Heap` upholds the allocator's contract for memory it was given; the lock makes its use
// exclusive. Exception handlers, the only code that could interrupt it, do not allocate.
unsafe impl GlobalAlloc for LockedHeap {
    // Both once, and not wherever something is allocated or dropped.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = self.0.lock().allocate(layout);
        taken.map_or_else(|| exhausted(layout), NonNull::as_ptr)
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        // SAFETY: the caller promises that the block came from `alloc` with this layout.
        unsafe { self.0.lock().give_back(block, layout) }
    }
}

/// Says why, and leaves it to the caller to go on without or to panic.
#[cold]
fn exhausted(layout: Layout) -> *mut u8 {
    let stats = heap_stats();
    log::error!(
        "heap exhausted: {} bytes asked for, {} of {} free in pieces; give the machine more",
        layout.size(),
        stats.bytes_free,
        stats.bytes_total
    );
    core::ptr::null_mut()
}
