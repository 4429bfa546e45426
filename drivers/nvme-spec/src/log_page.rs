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
    /// The command is about one namespace.
    pub const SCOPE_NAMESPACE: u32 = 1 << 20;
    /// The command is about the controller.
    pub const SCOPE_CONTROLLER: u32 = 1 << 21;
}

impl Default for CommandEffects {
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
const _: () = assert!(size_of::<DiscoveryHeader>() == 1024);
const _: () = assert!(size_of::<DiscoveryEntry>() == 1024);
