//! Offsets and constants (virtio 1.2 §2.1, §4.1.4 and §6).

use basalt_pci::Function;
use bitflags::bitflags;

/// Red Hat's PCI vendor identifier, which all virtio devices carry (§4.1.2).
const VENDOR: u16 = 0x1af4;

/// The virtio device type (§5) of a PCI function; `None` if it is no virtio device.
pub fn device_type(function: &Function) -> Option<u16> {
    match (function.vendor, function.device) {
        // Transitional devices keep their type in the subsystem identifier.
        (VENDOR, 0x1000..=0x103f) => Some(function.subsystem),
        (VENDOR, id @ 0x1040..=0x107f) => Some(id - 0x1040),
        _ => None,
    }
}

/// Feature bits of every device type (§6).
pub mod feature {
    /// The device follows virtio 1.0 or later.
    pub const VERSION_1: u64 = 1 << 32;
    /// Addresses are bus addresses, which a [`basalt_env::PhysAddr`] is by definition.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Memory is ordered as for other PCI devices, which x86 and our release stores give.
    pub const ORDER_PLATFORM: u64 = 1 << 36;
}

bitflags! {
    /// The device status field (§2.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Status: u8 {
        /// A driver has noticed the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is ready.
        const DRIVER_OK = 4;
        /// Features are agreed.
        const FEATURES_OK = 8;
        /// The device gave up.
        const NEEDS_RESET = 64;
        /// The driver gave up.
        const FAILED = 128;
    }
}

/// Structure types of a virtio PCI capability (§4.1.4).
pub mod structure {
    /// Common configuration.
    pub const COMMON: u8 = 1;
    /// Notifications.
    pub const NOTIFY: u8 = 2;
    /// Device-specific configuration.
    pub const DEVICE: u8 = 4;
}

/// Offsets in the common configuration structure (§4.1.4.3), bytes.
pub mod common {
    /// Which half of the device's features is shown, u32.
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    /// That half, u32.
    pub const DEVICE_FEATURE: usize = 0x04;
    /// Which half of the driver's features is written, u32.
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    /// That half, u32.
    pub const DRIVER_FEATURE: usize = 0x0c;
    /// MSI-X vector of configuration changes, u16.
    pub const CONFIG_MSIX_VECTOR: usize = 0x10;
    /// Device status, u8.
    pub const STATUS: usize = 0x14;
    /// Changes whenever the device configuration does, u8.
    pub const CONFIG_GENERATION: usize = 0x15;
    /// Which queue the following fields are of, u16.
    pub const QUEUE_SELECT: usize = 0x16;
    /// Entries; 0 if the queue does not exist, u16.
    pub const QUEUE_SIZE: usize = 0x18;
    /// MSI-X vector, u16.
    pub const QUEUE_MSIX_VECTOR: usize = 0x1a;
    /// Whether the device uses the queue, u16.
    pub const QUEUE_ENABLE: usize = 0x1c;
    /// Where its notifications go, in units of the multiplier, u16.
    pub const QUEUE_NOTIFY_OFFSET: usize = 0x1e;
    /// Bus address of the descriptor table, two u32.
    pub const QUEUE_DESCRIPTORS: usize = 0x20;
    /// Bus address of the available ring, two u32.
    pub const QUEUE_AVAILABLE: usize = 0x28;
    /// Bus address of the used ring, two u32.
    pub const QUEUE_USED: usize = 0x30;
    /// Size of the structure up to here.
    pub const LEN: usize = 0x38;
    /// No MSI-X vector.
    pub const NO_VECTOR: u16 = u16::MAX;
}

/// Split queue (§2.7).
pub mod split {
    /// Bytes of a descriptor.
    pub const DESCRIPTOR_LEN: usize = 16;
    /// Bytes of a used ring entry.
    pub const USED_LEN: usize = 8;
    /// Bytes of flags and index before either ring's entries.
    pub const RING_HEADER_LEN: usize = 4;
    /// Descriptor flag: another one of the same chain follows.
    pub const DESCRIPTOR_NEXT: u16 = 1;
    /// Descriptor flag: the device writes the buffer.
    pub const DESCRIPTOR_WRITE: u16 = 2;
    /// Available ring flag: the device need not interrupt.
    pub const NO_INTERRUPT: u16 = 1;
    /// Used ring flag: the driver need not notify.
    pub const NO_NOTIFY: u16 = 1;
    /// Largest size of a queue.
    pub const SIZE_MAX: u16 = 32_768;
}
