#![expect(unsafe_code, reason = "cache lines are named by raw addresses; DESIGN §5 allows it here")]

use core::arch::x86_64::{_mm_clflush, _mm_mfence};
use core::ptr::NonNull;

/// Bytes that one flush is sure to cover.
const LINE: usize = 64;

/// Writes back the cache lines of `len` bytes at `offset` of the block at `base`.
pub(super) fn write_back(base: NonNull<u8>, offset: usize, len: usize) {
    let start = offset / LINE * LINE;
    for line in (start..offset + len).step_by(LINE) {
        // SAFETY: the line lies in a block of DMA memory, which is aligned to more than a line;
        // flushing changes no byte of it.
        unsafe { _mm_clflush(base.as_ptr().add(line)) };
    }
    // SAFETY: every x86-64 processor has it.
    unsafe { _mm_mfence() };
}
