#![expect(unsafe_code, reason = "the precompiled core refers to these symbols by name")]

//! The precompiled `core` is built to unwind and refers to an unwinder. With `panic = "abort"`
//! nothing ever calls it; these definitions only satisfy the linker.

/// Never called: nothing unwinds.
// SAFETY: no other definition of this name is linked; it is never called.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Never called: nothing unwinds.
// SAFETY: no other definition of this name is linked; it is never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
