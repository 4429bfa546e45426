//! What a loader jumps to, and what the compiler expects a runtime to define.
//!
//! 1. [`pvh`]: direct kernel boot by QEMU, Firecracker or Cloud Hypervisor.
//! 2. [`uefi`]: the image as a UEFI application, from a boot disk or the network.
//! 3. [`handover`]: what both leave for the kernel.
//! 4. [`memops`]: `memcpy` and its family.
//! 5. [`unwind`]: symbols of an unwinder that is never called.

mod handover;
mod memops;
mod pvh;
mod uefi;
mod unwind;
