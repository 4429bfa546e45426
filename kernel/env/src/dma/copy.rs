#![expect(unsafe_code, reason = "copies of raw memory; DESIGN §5 places DMA memory here")]
//! Copies that other cores may race with.
//!
//! A plain `memcpy` that races is undefined behaviour, and a loop over atomics costs two
//! instructions a word. On x86-64 a string instruction is both: it is outside the compiler's
//! memory model, the processor makes each aligned word of it atomic, and it runs at full speed.

/// Copies `len` bytes; each byte arrives whole, whatever other cores do meanwhile.
///
/// # Safety
/// Both ranges must be mapped and must not overlap. At most one of them may be shared with other
/// cores, which must access it only through this module.
#[inline]
pub(super) unsafe fn copy_racing(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise, passed on.
    unsafe { imp::copy(from, to, len) }
}

/// Zeroes `len` bytes, as [`copy_racing`] would.
///
/// # Safety
/// As for [`copy_racing`].
#[inline]
pub(super) unsafe fn zero_racing(to: *mut u8, len: usize) {
    // SAFETY: the caller's promise, passed on.
    unsafe { imp::zero(to, len) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod imp {
    use core::arch::asm;

    #[inline]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: copies `len` bytes as words and then the odd rest; the ABI keeps the direction
        // flag clear.
        unsafe {
            asm!(
                "rep movsq",
                "mov ecx, {rest:e}",
                "rep movsb",
                rest = in(reg) len % 8,
                inout("rcx") len / 8 => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline]
    pub(super) unsafe fn zero(to: *mut u8, len: usize) {
        // SAFETY: stores `len` zero bytes as words and then the odd rest; as in `copy`.
        unsafe {
            asm!(
                "rep stosq",
                "mov ecx, {rest:e}",
                "rep stosb",
                rest = in(reg) len % 8,
                inout("rcx") len / 8 => _,
                inout("rdi") to => _,
                in("rax") 0_u64,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod imp {
    use core::sync::atomic::{AtomicU8, Ordering};

    #[inline]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        for i in 0..len {
            // SAFETY: inside the caller's ranges; a byte is always aligned, and every access that
            // may race is atomic. A load never writes, so the cast to `mut` is harmless.
            unsafe {
                let byte = AtomicU8::from_ptr(from.cast_mut().add(i)).load(Ordering::Relaxed);
                AtomicU8::from_ptr(to.add(i)).store(byte, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    pub(super) unsafe fn zero(to: *mut u8, len: usize) {
        for i in 0..len {
            // SAFETY: as in `copy`.
            unsafe { AtomicU8::from_ptr(to.add(i)) }.store(0, Ordering::Relaxed);
        }
    }
}
