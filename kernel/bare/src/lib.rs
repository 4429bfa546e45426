//! The metal environment: an x86-64 machine without an operating system.
//!
//! 1. [`Machine::start`] takes what the loader said ([`bootloader_api::BootInfo`]) and brings up
//!    everything: console, heap, page tables, exception handling, ACPI, clock and all cores.
//! 2. [`Machine::run`] starts the same function on every core with a [`CoreContext`] and a seed of
//!    its own, and never returns.
//! 3. Virtual = physical for all memory and registers; each address is mapped at most once and
//!    never both writable and executable. Every stack has an unmapped page below it.
//! 4. Interrupts do nothing but end a [`rest`], as cores poll. A core that is alone is looked at
//!    twice a second by a non-maskable one ([`Machine::look_at_only_core`]).
//!    Every exception is fatal: it prints registers and a backtrace and stops the machine.
//!
//! Neighbours: implements the seam of `kernel/env` ([`PciConfig`] is its `ConfigSpace`,
//! [`IdentityMap`] its `MmioMap`), and is used by `boot/image` alone. Sources: Intel SDM volume 3
//! (paging §4, interrupts §6, multiple processors §9, APIC §11), ACPI 6.5, PCI Firmware 3.3 (MCFG),
//! QEMU `docs/specs/fw_cfg.rst`.
#![no_std]

extern crate alloc;

mod acpi_tables;
mod apic;
mod arenas;
mod backtrace;
mod calibrate;
mod clock;
mod config_ports;
mod console;
mod cpu;
pub mod drill;
mod ecam;
mod exit;
mod fault;
mod fw_cfg;
mod gdt;
mod heap;
mod idt;
mod image;
mod io_ports;
mod ioapic;
mod logger;
mod machine;
mod machine_check;
mod memory;
mod mmio;
mod paging;
mod pci_config;
mod rtc;
mod screen;
mod serial;
mod smp;
mod stack;
mod symbols;
mod ticks;

pub use clock::{Clock, started_at};
pub use console::console_is_free;
pub use cpu::{cpu_relax, entropy, is_emulated, is_virtual};
pub use ecam::ConfigBuses;
pub use exit::{EXIT_FAILURE, EXIT_SUCCESS, exit, power_off};
pub use fault::{on_failure, report_panic};
pub use heap::{HeapStats, heap_stats};
pub use io_ports::MachinePorts;
pub use machine::{CoreContext, CoreWaker, IommuParts, Machine, StartError, fixed_memory, rest};
pub use mmio::IdentityMap;
pub use pci_config::PciConfig;
