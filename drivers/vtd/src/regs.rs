//! Registers (§11.4) and table entries (§9).

/// Version: all ones where nothing answers.
pub const VERSION: usize = 0x00;
/// Capabilities.
pub const CAPABILITY: usize = 0x08;
/// Extended capabilities.
pub const EXTENDED_CAPABILITY: usize = 0x10;
/// Global command.
pub const GLOBAL_COMMAND: usize = 0x18;
/// Global status.
pub const GLOBAL_STATUS: usize = 0x1c;
/// Root table address.
pub const ROOT_TABLE: usize = 0x20;
/// Context command.
pub const CONTEXT_COMMAND: usize = 0x28;
/// Fault status.
pub const FAULT_STATUS: usize = 0x34;

/// Global command and status: translation.
pub const TRANSLATION: u32 = 1 << 31;
/// Take over the root table.
pub const SET_ROOT_TABLE: u32 = 1 << 30;
/// Flush the write buffer.
pub const FLUSH_WRITE_BUFFER: u32 = 1 << 27;
/// Invalidation by a queue.
pub const QUEUED_INVALIDATION: u32 = 1 << 26;
/// Status bits that a command keeps: the others ask for something to be done once.
pub const STATUS_KEPT: u32 = 0x96ff_ffff;

/// Invalidate all of the context cache, and that it is still at it.
pub const CONTEXT_INVALIDATE: u64 = 1 << 63;
pub const CONTEXT_GLOBAL: u64 = 0b01 << 61;

/// The IOTLB registers' second quadword: invalidate everything, after all reads and writes.
pub const IOTLB_INVALIDATE: u64 = 1 << 63;
pub const IOTLB_GLOBAL: u64 = 0b01 << 60;
pub const IOTLB_DRAIN: u64 = 0b11 << 48;

/// A fault was recorded; some were not, for want of room.
pub const FAULT_PENDING: u32 = 1 << 1;
pub const FAULT_OVERFLOW: u32 = 1;

/// Fault record, upper quadword: it holds one.
pub const RECORD_FULL: u64 = 1 << 63;
/// The request was a read.
pub const RECORD_READ: u64 = 1 << 62;

/// Root and context entries: in use.
pub const PRESENT: u64 = 1;
/// Second-stage entries: reads and writes go through; the page is a large one.
pub const READ_WRITE: u64 = 0b11;
pub const LARGE: u64 = 1 << 7;

/// What a unit can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability(pub u64);

impl Capability {
    /// The write buffer has to be flushed by command.
    pub const fn flushes_by_command(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// Tables of three levels (39 bits of address) work.
    pub const fn three_levels(self) -> bool {
        self.0 & 1 << 9 != 0
    }

    /// Tables of four levels (48 bits of address) work.
    pub const fn four_levels(self) -> bool {
        self.0 & 1 << 10 != 0
    }

    /// Bits of the largest address a device may use.
    pub const fn address_bits(self) -> u32 {
        (self.0 >> 16 & 0x3f) as u32 + 1
    }

    /// Pages of 2 MiB work.
    pub const fn large_pages(self) -> bool {
        self.0 & 1 << 34 != 0
    }

    /// Where the fault records are.
    pub const fn fault_records(self) -> (usize, usize) {
        let offset = (self.0 >> 24 & 0x3ff) as usize * 16;
        (offset, (self.0 >> 40 & 0xff) as usize + 1)
    }
}

/// Where the IOTLB registers are, by the extended capabilities.
pub const fn iotlb(extended: u64) -> usize {
    (extended >> 8 & 0x3ff) as usize * 16
}
