//! PCI: find functions, read their capabilities and BARs, claim them for a driver.
//!
//! 1. [`scan`] walks the buses of a [`ConfigSpace`] through their bridges and gives [`Function`]s.
//! 2. [`capabilities`] and [`extended_capabilities`] list what a function can do; [`Bar::probe`]
//!    finds where its registers are.
//! 3. [`Claimed`] turns a function into an [`basalt_env::Device`] for exactly one driver.
//! 4. [`hotplug`] tells of devices that come and go; [`Addresses`] finds some for one that came.
//! 5. [`Roots`] tells which node of a NUMA machine a function is on.
//! 6. Configuration space is written by the device: every number in it is checked, every list is
//!    walked a bounded number of steps.
//!
//! Neighbours: configuration access comes from an environment (`kernel/bare`), claimed functions
//! go to `drivers/nvme` and `drivers/virtio`. After PCI Local Bus 3.0 and PCI Express Base 5.0 §7.
#![no_std]

extern crate alloc;

mod aml;
mod assign;
mod bar;
mod bridge;
mod capability;
mod claimed;
mod function;
pub mod hotplug;
mod msix;
mod regs;
mod roots;
mod scan;
#[cfg(test)]
mod tests;

pub use assign::{Addresses, AssignError};
pub use bar::Bar;
pub use capability::{
    Capabilities, Capability, ExtendedCapabilities, ExtendedCapability, capabilities,
    extended_capabilities, id,
};
pub use claimed::Claimed;
pub use function::{Function, HeaderKind};
pub use roots::Roots;
pub use scan::{BusRange, scan};

#[doc(no_inline)]
pub use basalt_env::{ConfigSpace, PciAddress};
