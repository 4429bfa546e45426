//! The environment on Linux: the same drivers and runtime, hosted in a process.
//!
//! - [`Machine`] owns arenas whose bus addresses differ from their virtual ones and whose freed
//!   memory can be poisoned, so that a driver that confuses the two or uses memory too late fails
//!   a test. [`Bus`] is how a device model reaches that memory: by bus address, checked.
//! - [`cores`] binds threads to processors as cores; [`Clock`] is the host's.
//! - [`CountingAllocator`] tells how often the heap was asked.
//! - [`Readiness`] is what such a core sleeps on, [`Bells`] what others wake it by; [`Uring`] reads
//!   and writes the host's files ([`file::HostFile`]).
//!
//! Neighbours: implements `kernel/env`; used by `boot/hosted`, by `tests/models` and by the host
//! tests of every driver.

mod allocations;
mod bells;
mod bus;
mod clock;
pub mod cores;
pub mod file;
mod readiness;
#[cfg(test)]
mod tests;
mod uring;

pub use allocations::{CountingAllocator, allocations};
pub use bells::Bells;
pub use bus::{Bus, BusError, Machine, OutOfMemory};
pub use clock::Clock;
pub use readiness::{Readiness, Ready};
pub use uring::{Buffers, FileOp, Finished, Uring};
