//! Controller registers: BAR0 offsets on PCIe, property offsets on fabrics (§3.1.3).

use core::fmt;
use core::time::Duration;

use bitflags::bitflags;

use super::QueueId;

/// Controller capabilities, 8 bytes.
pub const CAP: usize = 0x00;
/// Version, 4 bytes.
pub const VS: usize = 0x08;
/// Interrupt mask set, 4 bytes.
pub const INTMS: usize = 0x0c;
/// Interrupt mask clear, 4 bytes.
pub const INTMC: usize = 0x10;
/// Controller configuration, 4 bytes.
pub const CC: usize = 0x14;
/// Controller status, 4 bytes.
pub const CSTS: usize = 0x1c;
/// NVM subsystem reset, 4 bytes.
pub const NSSR: usize = 0x20;
/// Admin queue attributes, 4 bytes.
pub const AQA: usize = 0x24;
/// Admin submission queue base address, 8 bytes.
pub const ASQ: usize = 0x28;
/// Admin completion queue base address, 8 bytes.
pub const ACQ: usize = 0x30;
/// Controller memory buffer location, 4 bytes.
pub const CMBLOC: usize = 0x38;
/// Controller memory buffer size, 4 bytes.
pub const CMBSZ: usize = 0x3c;
/// Controller memory buffer memory space control, 8 bytes.
pub const CMBMSC: usize = 0x50;
/// Controller memory buffer status, 4 bytes: bit 0 says that the base address is invalid.
pub const CMBSTS: usize = 0x58;
/// Controller ready timeouts, 4 bytes.
pub const CRTO: usize = 0x68;
/// What is written to [`NSSR`] to reset the NVM subsystem: "NVMe" (§3.1.3.8).
pub const NSSR_KEY: u32 = 0x4e56_4d65;
/// First doorbell (PCIe §3.1.2).
pub const DOORBELLS: usize = 0x1000;

/// PCI class code of an NVMe I/O controller: mass storage, non-volatile memory, NVMe (PCIe §3.8.1).
pub const PCI_CLASS: u32 = 0x01_0802;

/// Offset of the tail doorbell of submission queue `qid`; `stride` in bytes (PCIe §3.1.2.1).
pub const fn sq_tail_doorbell(qid: QueueId, stride: usize) -> usize {
    DOORBELLS + 2 * qid as usize * stride
}

/// Offset of the head doorbell of completion queue `qid`; `stride` in bytes (PCIe §3.1.2.2).
pub const fn cq_head_doorbell(qid: QueueId, stride: usize) -> usize {
    DOORBELLS + (2 * qid as usize + 1) * stride
}

/// Controller capabilities (§3.1.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cap(pub u64);

impl Cap {
    /// Most entries an I/O queue may have, 2 to 65,536.
    pub const fn queue_entries_max(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// Whether queues must be physically contiguous.
    pub const fn contiguous_queues(self) -> bool {
        self.0 >> 16 & 1 != 0
    }

    /// Whether queues can have priorities and weights ([`Cc::AMS_WEIGHTED`]).
    pub const fn weighted_round_robin(self) -> bool {
        self.0 & Self::AMS_WEIGHTED != 0
    }

    /// The same with [`Self::weighted_round_robin`].
    #[must_use]
    pub const fn with_weighted_round_robin(self) -> Self {
        Self(self.0 | Self::AMS_WEIGHTED)
    }

    const AMS_WEIGHTED: u64 = 1 << 17;

    /// Longest time the controller takes to become ready or not ready.
    pub const fn timeout(self) -> Duration {
        Duration::from_millis(500 * (self.0 >> 24 & 0xff))
    }

    /// Distance between doorbells, bytes.
    pub const fn doorbell_stride(self) -> usize {
        4 << (self.0 >> 32 & 0xf)
    }

    /// Whether the NVM subsystem can be reset by [`NSSR`].
    pub const fn subsystem_reset(self) -> bool {
        self.0 & Self::NSSRS != 0
    }

    /// The same with [`Self::subsystem_reset`].
    #[must_use]
    pub const fn with_subsystem_reset(self) -> Self {
        Self(self.0 | Self::NSSRS)
    }

    const NSSRS: u64 = 1 << 36;

    /// Whether the NVM command set is supported.
    pub const fn nvm_command_set(self) -> bool {
        self.0 >> 37 & 1 != 0
    }

    /// Whether command sets are chosen one by one (CC.CSS = 110b).
    pub const fn io_command_sets(self) -> bool {
        self.0 >> 43 & 1 != 0
    }

    /// Smallest memory page size, bytes.
    pub const fn page_size_min(self) -> u64 {
        1 << (12 + (self.0 >> 48 & 0xf))
    }

    /// Largest memory page size, bytes.
    pub const fn page_size_max(self) -> u64 {
        1 << (12 + (self.0 >> 52 & 0xf))
    }

    /// The same of a controller whose command sets are chosen one by one.
    #[must_use]
    pub const fn with_io_command_sets(self) -> Self {
        Self(self.0 | 1 << 43)
    }

    /// Whether the controller becomes ready with its media, for which CRTO gives the time.
    pub const fn ready_with_media(self) -> bool {
        self.0 & Self::CRWMS != 0
    }

    /// The same with [`Self::ready_with_media`], as every controller from 2.0 on has it.
    #[must_use]
    pub const fn with_ready_with_media(self) -> Self {
        Self(self.0 | Self::CRWMS)
    }

    const CRWMS: u64 = 1 << 59;

    /// Whether there is a controller memory buffer that CMBMSC turns on. Before 1.4 one may be
    /// there without.
    pub const fn controller_memory(self) -> bool {
        self.0 & Self::CMBS != 0
    }

    /// The same with [`Self::controller_memory`].
    #[must_use]
    pub const fn with_controller_memory(self) -> Self {
        Self(self.0 | Self::CMBS)
    }

    const CMBS: u64 = 1 << 57;

    /// Starts from nothing: the NVM command set, contiguous queues, 4 KiB pages only.
    /// `entries_max` is 1 to 65,536; `timeout` is rounded up to 500 ms.
    pub const fn build(entries_max: u32, timeout: Duration, doorbell_stride: usize) -> Self {
        let mqes = (entries_max.saturating_sub(1) & 0xffff) as u64;
        let to = timeout.as_millis().div_ceil(500);
        let to = if to > 0xff { 0xff } else { to as u64 };
        let dstrd = (doorbell_stride / 4).trailing_zeros() as u64 & 0xf;
        Self(mqes | 1 << 16 | to << 24 | dstrd << 32 | 1 << 37)
    }
}

/// Version (§3.1.3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// 1.4.0.
    pub const V1_4: Self = Self::new(1, 4, 0);
    /// 2.0.0.
    pub const V2_0: Self = Self::new(2, 0, 0);

    /// From its three parts.
    pub const fn new(major: u16, minor: u8, tertiary: u8) -> Self {
        Self((major as u32) << 16 | (minor as u32) << 8 | tertiary as u32)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 16, self.0 >> 8 & 0xff, self.0 & 0xff)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a shutdown is asked for (CC.SHN) and how far it is (CSTS.SHST).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown(pub u8);

impl Shutdown {
    /// SHN: no notification. SHST: normal operation.
    pub const NONE: Self = Self(0);
    /// SHN: normal. SHST: being processed.
    pub const NORMAL: Self = Self(1);
    /// SHN: abrupt. SHST: complete.
    pub const ABRUPT: Self = Self(2);
    /// CSTS.SHST: complete.
    pub const COMPLETE: Self = Self(2);
}

/// Controller configuration (§3.1.3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cc(pub u32);

impl Cc {
    /// CSS: NVM command set.
    pub const CSS_NVM: u8 = 0b000;
    /// CSS: all supported I/O command sets.
    pub const CSS_ALL: u8 = 0b110;
    /// CSS: admin command set only.
    pub const CSS_ADMIN: u8 = 0b111;

    /// AMS: all queues in turn.
    pub const AMS_ROUND_ROBIN: u8 = 0b000;
    /// AMS: urgent queues first, then by weights.
    pub const AMS_WEIGHTED: u8 = 0b001;

    /// Disabled, all fields zero.
    pub const DISABLED: Self = Self(0);

    /// Enabled with 4 KiB pages, command set `css`, 64-byte commands and 16-byte completions.
    pub const fn enabled(css: u8) -> Self {
        Self(1 | (css as u32 & 7) << 4 | 6 << 16 | 4 << 20)
    }

    /// Whether the controller is to be enabled.
    pub const fn enable(self) -> bool {
        self.0 & 1 != 0
    }

    /// The same, not enabled.
    #[must_use]
    pub const fn disabled(self) -> Self {
        Self(self.0 & !1)
    }

    /// Command set selected.
    pub const fn css(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }

    /// Memory page size, bytes.
    pub const fn page_size(self) -> u64 {
        1 << (12 + (self.0 >> 7 & 0xf))
    }

    /// Arbitration mechanism selected, one of the `AMS_` constants if known.
    pub const fn arbitration(self) -> u8 {
        (self.0 >> 11 & 7) as u8
    }

    /// The same with arbitration mechanism `ams`.
    #[must_use]
    pub const fn with_arbitration(self, ams: u8) -> Self {
        Self((self.0 & !(7 << 11)) | (ams as u32 & 7) << 11)
    }

    /// Shutdown notification.
    pub const fn shutdown(self) -> Shutdown {
        Shutdown((self.0 >> 14 & 3) as u8)
    }

    /// The same with a shutdown notification.
    #[must_use]
    pub const fn with_shutdown(self, shutdown: Shutdown) -> Self {
        Self((self.0 & !(3 << 14)) | (shutdown.0 as u32 & 3) << 14)
    }

    /// I/O submission queue entry size as a power of two.
    pub const fn iosqes(self) -> u8 {
        (self.0 >> 16 & 0xf) as u8
    }

    /// I/O completion queue entry size as a power of two.
    pub const fn iocqes(self) -> u8 {
        (self.0 >> 20 & 0xf) as u8
    }
}

bitflags! {
    /// Controller status (§3.1.3.6).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Csts: u32 {
        /// Ready for commands.
        const READY = 1 << 0;
        /// Fatal status: a reset is needed.
        const FATAL = 1 << 1;
        /// Low bit of the shutdown status.
        const SHST_LOW = 1 << 2;
        /// High bit of the shutdown status.
        const SHST_HIGH = 1 << 3;
        /// A subsystem reset happened.
        const SUBSYSTEM_RESET = 1 << 4;
        /// Processing is paused.
        const PAUSED = 1 << 5;
    }
}

impl Csts {
    /// What a read gives when the device is gone.
    pub const ALL_ONES: u32 = u32::MAX;

    /// How far a shutdown is.
    pub const fn shutdown(self) -> Shutdown {
        Shutdown((self.bits() >> 2 & 3) as u8)
    }

    /// The same with a shutdown status.
    #[must_use]
    pub const fn with_shutdown(self, shutdown: Shutdown) -> Self {
        Self::from_bits_retain((self.bits() & !0xc) | (shutdown.0 as u32 & 3) << 2)
    }
}

/// Admin queue attributes (§3.1.3.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aqa(pub u32);

impl Aqa {
    /// Most entries of an admin queue.
    pub const ENTRIES_MAX: u16 = 4096;

    /// Queue sizes in entries, each 2 to 4,096.
    pub const fn new(sq_entries: u16, cq_entries: u16) -> Self {
        Self((cq_entries.saturating_sub(1) as u32) << 16 | sq_entries.saturating_sub(1) as u32)
    }

    /// Submission queue entries.
    pub const fn sq_entries(self) -> u16 {
        (self.0 & 0xfff) as u16 + 1
    }

    /// Completion queue entries.
    pub const fn cq_entries(self) -> u16 {
        (self.0 >> 16 & 0xfff) as u16 + 1
    }
}
