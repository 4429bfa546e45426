//! Log pages (§5.16.1).

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One entry of the error information log, 64 bytes (§5.16.1.2).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct ErrorEntry {
    /// Counts errors over the controller's life; 0 marks an unused entry.
    pub error_count: U64,
    /// Submission queue of the command.
    pub sqid: U16,
    /// Identifier of the command.
    pub cid: U16,
    /// Status with phase tag, as in the completion.
    pub status_phase: U16,
    /// Byte (7:0) and bit (10:8) of the command that is at fault; 0xffff if none.
    pub parameter_location: U16,
    /// First LBA at fault.
    pub lba: U64,
    /// Namespace.
    pub nsid: U32,
    /// Vendor specific log page with more, 0 if none.
    pub vendor_page: u8,
    /// Transport type.
    pub trtype: u8,
    /// Reserved.
    pub reserved30: [u8; 2],
    /// Command specific information.
    pub command_specific: U64,
    /// Transport specific information.
    pub transport_specific: U16,
    /// Reserved.
    pub reserved42: [u8; 22],
}

/// SMART / health information, 512 bytes (§5.16.1.3).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SmartHealth {
    /// Critical warnings: bit 0 spare, 1 temperature, 2 reliability, 3 read only, 4 backup.
    pub critical_warning: u8,
    /// Composite temperature, kelvin.
    pub temperature_k: U16,
    /// Spare left, per cent.
    pub available_spare: u8,
    /// Spare below which a warning is raised, per cent.
    pub available_spare_threshold: u8,
    /// Life used, per cent; may exceed 100.
    pub percentage_used: u8,
    /// Endurance group critical warnings.
    pub endurance_group_warning: u8,
    /// Reserved.
    pub reserved7: [u8; 25],
    /// Data read, 512,000 bytes.
    pub data_units_read: U128,
    /// Data written, 512,000 bytes.
    pub data_units_written: U128,
    /// Read commands.
    pub host_reads: U128,
    /// Write commands.
    pub host_writes: U128,
    /// Busy time, minutes.
    pub busy_minutes: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Power on hours.
    pub power_on_hours: U128,
    /// Unsafe shutdowns.
    pub unsafe_shutdowns: U128,
    /// Media and data integrity errors.
    pub media_errors: U128,
    /// Error log entries over life.
    pub error_entries: U128,
    /// Time above the warning temperature, minutes.
    pub warning_temperature_minutes: U32,
    /// Time above the critical temperature, minutes.
    pub critical_temperature_minutes: U32,
    /// Temperature sensors, kelvin; 0 if not there.
    pub temperature_sensors_k: [U16; 8],
    /// Thermal management transitions 1 and 2, counts.
    pub thermal_transitions: [U32; 2],
    /// Thermal management times 1 and 2, seconds.
    pub thermal_seconds: [U32; 2],
    /// Reserved.
    pub reserved232: [u8; 280],
}

impl Default for SmartHealth {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Firmware slot information, 512 bytes (§5.16.1.4).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FirmwareSlots {
    /// Active slot: bits 2:0 now, 6:4 after the next reset.
    pub active: u8,
    /// Reserved.
    pub reserved1: [u8; 7],
    /// Revision in slots 1 to 7, ASCII.
    pub revision: [[u8; 8]; 7],
    /// Reserved.
    pub reserved64: [u8; 448],
}

impl FirmwareSlots {
    /// The slot that runs, 1 to 7.
    pub const fn current(&self) -> u8 {
        self.active & 7
    }

    /// The slot that runs after the next reset, 0 if that is the same.
    pub const fn next(&self) -> u8 {
        self.active >> 4 & 7
    }
}

impl Default for FirmwareSlots {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Commands supported and effects, 4,096 bytes (§5.16.1.6).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommandEffects {
    /// By admin opcode.
    pub admin: [U32; 256],
    /// By I/O opcode.
    pub io: [U32; 256],
    /// Reserved.
    pub reserved2048: [u8; 2048],
}

impl CommandEffects {
    /// The command is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// The command may change logical block contents.
    pub const LOGICAL_BLOCKS_CHANGE: u32 = 1 << 1;
    /// The command may change namespaces' capabilities.
    pub const NAMESPACES_CHANGE: u32 = 1 << 2;
    /// Namespaces may come or go.
    pub const INVENTORY_CHANGE: u32 = 1 << 3;
    /// The command may change the controller's capabilities.
    pub const CONTROLLER_CHANGE: u32 = 1 << 4;
    /// What else may not be done at the same time (CSE): 0 all, 1 nothing to this namespace, 2
    /// nothing to any namespace.
    pub const EXCLUSION_SHIFT: u32 = 16;
    /// The command is about one namespace.
    pub const SCOPE_NAMESPACE: u32 = 1 << 20;
    /// The command is about the controller.
    pub const SCOPE_CONTROLLER: u32 = 1 << 21;
    /// The command is about the whole subsystem.
    pub const SCOPE_SUBSYSTEM: u32 = 1 << 25;
}

impl Default for CommandEffects {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// The result of one self-test, 28 bytes (§5.16.1.7).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct SelfTestResult {
    /// Bits 3:0 how it ended (0 well, 1 aborted by a command, 2 by a reset, 0xf entry not used),
    /// 7:4 which test it was.
    pub status: u8,
    /// The first segment that failed, 0 if none is known.
    pub segment: u8,
    /// What of the following is valid: bit 0 `nsid`, 1 `lba`, 2 `status_type`, 3 `status_code`.
    pub valid: u8,
    /// Reserved.
    pub reserved3: u8,
    /// Power on hours when it ended.
    pub power_on_hours: U64,
    /// The namespace that failed.
    pub nsid: U32,
    /// The block that failed.
    pub lba: U64,
    /// Status code type.
    pub status_type: u8,
    /// Status code.
    pub status_code: u8,
    /// Vendor specific.
    pub vendor: U16,
}

impl SelfTestResult {
    /// How it ended, in [`Self::status`]: well.
    pub const PASSED: u8 = 0x0;
    /// A Device Self-test command aborted it.
    pub const ABORTED: u8 = 0x1;
    /// A controller reset aborted it.
    pub const ABORTED_BY_RESET: u8 = 0x2;
    /// The entry is not used.
    pub const UNUSED: u8 = 0xf;

    /// How it ended.
    pub const fn outcome(&self) -> u8 {
        self.status & 0xf
    }

    /// Which test it was, as the command told it.
    pub const fn code(&self) -> u8 {
        self.status >> 4
    }
}

/// Device self-test log, 564 bytes (§5.16.1.7).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SelfTestLog {
    /// Bits 3:0 the test that is under way, 0 for none.
    pub current: u8,
    /// How much of it is done, per cent.
    pub completion: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// The results of the last tests, the latest first.
    pub results: [SelfTestResult; 20],
}

impl Default for SelfTestLog {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Sanitize status, 512 bytes (§5.16.1.25).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SanitizeStatus {
    /// How much is done, in 65,536ths; 0xffff if nothing is under way.
    pub progress: U16,
    /// Bits 2:0 how the last one stands, 7:3 passes done, 8 nothing was written since.
    pub status: U16,
    /// Dword 10 of the command.
    pub cdw10: U32,
    /// Estimates for overwrite, block erase and crypto erase, seconds; all ones if there is none.
    pub seconds: [U32; 3],
    /// The same without deallocation.
    pub seconds_without_deallocation: [U32; 3],
    /// Reserved.
    pub reserved32: [u8; 480],
}

impl SanitizeStatus {
    /// In [`Self::state`]: never sanitized.
    pub const NEVER: u8 = 0;
    /// The last one went well.
    pub const DONE: u8 = 1;
    /// One is under way.
    pub const IN_PROGRESS: u8 = 2;
    /// The last one failed.
    pub const FAILED: u8 = 3;
    /// The last one went well, and deallocated blocks although it was asked not to.
    pub const DONE_WITH_DEALLOCATION: u8 = 4;

    /// How the last one stands.
    pub const fn state(&self) -> u8 {
        self.status.get() as u8 & 7
    }
}

impl Default for SanitizeStatus {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// The changed namespace list has the layout of a namespace list (§5.16.1.5); a first entry of
/// [`super::NSID_ALL`] means more than 1,024 changed.
pub type ChangedNamespaces = super::identify::NamespaceList;

/// Head of the discovery log page, 1,024 bytes (§5.16.1.23, figure 264).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryHeader {
    /// Changes with every change of the page.
    pub genctr: U64,
    /// Number of entries that follow.
    pub numrec: U64,
    /// Record format, 0.
    pub recfmt: U16,
    /// Reserved.
    pub reserved18: [u8; 1006],
}

impl Default for DiscoveryHeader {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One entry of the discovery log page, 1,024 bytes (§5.16.1.23, figure 265).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryEntry {
    /// Transport type: 1 RDMA, 2 FC, 3 TCP.
    pub trtype: u8,
    /// Address family: 1 IPv4, 2 IPv6.
    pub adrfam: u8,
    /// Subsystem type: 1 referral, 2 NVM subsystem, 3 this discovery subsystem.
    pub subtype: u8,
    /// Transport requirements; bits 1:0 secure channel.
    pub treq: u8,
    /// Port.
    pub portid: U16,
    /// Controller, 0xffff for the dynamic model.
    pub cntlid: U16,
    /// Largest admin queue.
    pub asqsz: U16,
    /// Entry flags.
    pub eflags: U16,
    /// Reserved.
    pub reserved12: [u8; 20],
    /// Transport service identifier, ASCII padded with spaces: the TCP port.
    pub trsvcid: [u8; 32],
    /// Reserved.
    pub reserved64: [u8; 192],
    /// Subsystem name, NUL terminated.
    pub subnqn: [u8; 256],
    /// Transport address, ASCII padded with spaces.
    pub traddr: [u8; 256],
    /// Transport specific; TCP: byte 0 the security type.
    pub tsas: [u8; 256],
}

impl DiscoveryEntry {
    /// [`Self::trtype`]: TCP.
    pub const TRTYPE_TCP: u8 = 3;
    /// [`Self::adrfam`]: IPv4.
    pub const ADRFAM_IPV4: u8 = 1;
    /// [`Self::adrfam`]: IPv6.
    pub const ADRFAM_IPV6: u8 = 2;
    /// [`Self::subtype`]: referral to another discovery service.
    pub const SUBTYPE_REFERRAL: u8 = 1;
    /// [`Self::subtype`]: NVM subsystem.
    pub const SUBTYPE_NVM: u8 = 2;
    /// [`Self::subtype`]: the discovery subsystem that answers.
    pub const SUBTYPE_CURRENT_DISCOVERY: u8 = 3;
    /// [`Self::treq`]: a secure channel is required.
    pub const TREQ_REQUIRED: u8 = 1;
    /// [`Self::treq`]: no secure channel is required.
    pub const TREQ_NOT_REQUIRED: u8 = 2;
}

impl Default for DiscoveryEntry {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

const _: () = assert!(size_of::<ErrorEntry>() == 64);
const _: () = assert!(size_of::<SmartHealth>() == 512);
const _: () = assert!(size_of::<FirmwareSlots>() == 512);
const _: () = assert!(size_of::<CommandEffects>() == 4096);
const _: () = assert!(size_of::<SelfTestResult>() == 28);
const _: () = assert!(size_of::<SelfTestLog>() == 564);
const _: () = assert!(size_of::<SanitizeStatus>() == 512);
const _: () = assert!(size_of::<DiscoveryHeader>() == 1024);
const _: () = assert!(size_of::<DiscoveryEntry>() == 1024);
