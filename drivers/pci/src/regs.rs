//! Offsets and bits of the configuration header (PCI Local Bus 3.0 §6.1, PCI-to-PCI Bridge 1.2 §3).

use bitflags::bitflags;

/// Vendor (low half) and device identifier.
pub const ID: u16 = 0x00;
/// Command (low half) and status.
pub const COMMAND_STATUS: u16 = 0x04;
/// Revision, programming interface, subclass, class.
pub const CLASS: u16 = 0x08;
/// Cache line, latency, header type, BIST.
pub const HEADER_TYPE: u16 = 0x0c;
/// The first base address register.
pub const BAR0: u16 = 0x10;
/// Primary, secondary and subordinate bus of a bridge.
pub const BRIDGE_BUSES: u16 = 0x18;
/// Base and limit of a bridge's memory window.
pub const BRIDGE_MEMORY: u16 = 0x20;
/// Base and limit of its prefetchable window, and their upper halves.
pub const BRIDGE_PREFETCHABLE: u16 = 0x24;
/// Upper half of the base.
pub const BRIDGE_PREFETCHABLE_BASE: u16 = 0x28;
/// Upper half of the limit.
pub const BRIDGE_PREFETCHABLE_LIMIT: u16 = 0x2c;
/// Subsystem vendor (low half) and identifier, of a type 0 header.
pub const SUBSYSTEM: u16 = 0x2c;
/// Pointer to the first capability, low byte.
pub const CAPABILITIES: u16 = 0x34;

bitflags! {
    /// The command register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Command: u16 {
        /// Answer I/O accesses.
        const IO = 1 << 0;
        /// Answer memory accesses.
        const MEMORY = 1 << 1;
        /// May read and write memory.
        const BUS_MASTER = 1 << 2;
        /// May not raise INTx.
        const INTX_DISABLE = 1 << 10;
        // The other bits are kept as found.
        const _ = !0;
    }
}

/// Status register (high half of `COMMAND_STATUS`): the capability list exists.
pub const STATUS_CAPABILITIES: u32 = 1 << (16 + 4);
/// Status bits that a written one clears; a write must leave them zero.
pub const STATUS_WRITE_MASK: u32 = 0x0000_ffff;
