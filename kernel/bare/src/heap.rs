#![expect(unsafe_code, reason = "the global allocator hands out raw memory")]

//! The heap: a linked list of free blocks behind a spin lock.
//!
//! For start-up and the control path; the I/O path does not allocate. Size: a quarter of the free
//! memory, at least 16 MiB, at most 1 GiB, and at most half of the largest free range below 4 GiB.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use linked_list_allocator::Heap;
use spin::Mutex;

use crate::memory::{FreeMemory, PAGE, Span};

const LEN_MIN: u64 = 16 << 20;
const LEN_MAX: u64 = 1 << 30;

struct LockedHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: LockedHeap = LockedHeap(Mutex::new(Heap::empty()));

/// How much of the heap is in use, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapStats {
    /// Size of the heap.
    pub bytes_total: usize,
    /// Not handed out.
    pub bytes_free: usize,
}

/// Use of the heap now.
pub fn heap_stats() -> HeapStats {
    let heap = HEAP.0.lock();
    HeapStats { bytes_total: heap.size(), bytes_free: heap.free() }
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
    unsafe { HEAP.0.lock().init(span.start as *mut u8, len as usize) };
    Some(len)
}

// SAFETY: `Heap` upholds the allocator's contract for memory it was given; the lock makes its use
// exclusive. Exception handlers, the only code that could interrupt it, do not allocate.
unsafe impl GlobalAlloc for LockedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = self.0.lock().allocate_first_fit(layout);
        match taken {
            Ok(block) => block.as_ptr(),
            Err(()) => exhausted(layout),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        // SAFETY: the caller promises that the block came from `alloc` with this layout.
        unsafe { self.0.lock().deallocate(block, layout) }
    }
}

/// Says why, and leaves it to the caller to go on without or to panic.
#[cold]
fn exhausted(layout: Layout) -> *mut u8 {
    let stats = heap_stats();
    log::error!(
        "heap exhausted: {} bytes asked for, {} of {} free; give the machine more memory",
        layout.size(),
        stats.bytes_free,
        stats.bytes_total
    );
    core::ptr::null_mut()
}
