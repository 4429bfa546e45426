#![expect(unsafe_code, reason = "a list through raw blocks; DESIGN §5 places DMA memory here")]

//! Blocks that were dropped on other cores, on their way home.
//!
//! A stack through the blocks themselves: any core pushes one, and the home core takes all of them
//! at once, so that no block is ever reached by two (and none that was taken and pushed again is
//! mistaken for what it was).
//!
//! ```text
//!  other cores        push: link to the head, then become it, release
//!  home core          take_all: swap the head for nothing, acquire
//! ```

use core::mem::{align_of, size_of};
use core::ptr::{self, NonNull};

#[cfg(not(loom))]
use core::sync::atomic::{AtomicPtr, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, Ordering};

/// What a block holds while it is on its way.
#[repr(C)]
pub(super) struct Node {
    next: *mut Self,
    order: u8,
}

/// The blocks on their way to one pool.
#[derive(Debug)]
pub(super) struct Returns {
    head: AtomicPtr<Node>,
}

impl Returns {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Sends `block` home.
    ///
    /// # Safety
    /// The block is the caller's alone, at least as large as a [`Node`] and as aligned, and from
    /// now on belongs to whoever takes it.
    pub(super) unsafe fn push(&self, block: NonNull<u8>, order: u8) {
        const { assert!(size_of::<Node>() <= 512 && align_of::<Node>() <= 512) };
        let node = block.as_ptr().cast::<Node>();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the block is the caller's, and a node fits it.
            unsafe { node.write(Node { next: head, order }) };
            // Release: whoever takes it sees the node, and all that was written to the block.
            match self.head.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether there are none, as far as this core knows.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Hands all blocks, with their orders, to `each`. To be called on the home core.
    pub(super) fn take_all(&self, mut each: impl FnMut(NonNull<u8>, u8)) {
        let mut next = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(block) = NonNull::new(next) {
            // SAFETY: a block that was pushed belongs to its taker and holds a node.
            let node = unsafe { block.as_ptr().read() };
            next = node.next;
            each(block.cast(), node.order);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
