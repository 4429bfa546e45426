//! What a loader jumps to, and what the compiler expects a runtime to define.
//!
//! 1. [`pvh`]: direct kernel boot by QEMU, Firecracker or Cloud Hypervisor.
//! 2. [`memops`]: `memcpy` and its family.
//! 3. [`unwind`]: symbols of an unwinder that is never called.

mod memops;
mod pvh;
mod unwind;
