//! The IOMMU of Intel's processors (VT-d): which device may reach which memory.
//!
//! 1. [`Dmar`] is what firmware says of the remapping units, in ACPI's table of that name.
//! 2. [`Iommu`] programs them: from its start on no device reaches any memory, until it is allowed
//!    to reach the DMA arenas, and those only, at the addresses they have.
//! 3. What a device tries beyond that comes to nothing and is told as a [`Fault`] that names it.
//!
//! Its own tables lie in a pool of their own, which no device reaches. Neighbours: `kernel/env`
//! below; `boot/image` starts it before any device may use memory. After Intel Virtualization
//! Technology for Directed I/O 4.1: second-stage translation in legacy mode, register-based
//! invalidation. Requests are told apart by bus, device and function; interrupts are not remapped.
#![no_std]

extern crate alloc;

mod dmar;
mod fault;
mod iommu;
mod pages;
mod regs;
#[cfg(test)]
mod tests;
mod unit;

pub use dmar::{Dmar, UnitPlace};
pub use fault::{Fault, Reason};
pub use iommu::{Iommu, StartError};
