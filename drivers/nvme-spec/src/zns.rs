//! The Zoned Namespace command set 1.1.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Command, NvmOpcode};

/// Identify Namespace of the zoned command set, 4,096 bytes (ZNS §4.1.5.1, figure 48).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyZonedNamespace {
    /// Zone operation characteristics.
    pub zoc: U16,
    /// Optional commands; bit 0 reads may cross zone boundaries.
    pub ozcs: U16,
    /// Most active zones, 0's based; all ones for no limit.
    pub mar: U32,
    /// Most open zones, likewise.
    pub mor: U32,
    /// Recommended limits, not used here.
    pub recommended: [U32; 8],
    /// Reserved.
    pub reserved44: [u8; 2772],
    /// What is different with each LBA format.
    pub lbafe: [ZonedLbaFormat; 64],
    /// Vendor specific.
    pub vendor: [u8; 256],
}

/// An LBA format's zones, 16 bytes (ZNS §4.1.5.1, figure 49).
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
pub struct ZonedLbaFormat {
    /// Zone size, logical blocks.
    pub zsze: U64,
    /// Zone descriptor extension size, units of 64 bytes.
    pub zdes: u8,
    /// Reserved.
    pub reserved9: [u8; 7],
}

const _: () = assert!(size_of::<IdentifyZonedNamespace>() == 4096);

impl IdentifyZonedNamespace {
    /// One that says nothing.
    pub fn empty() -> Self {
        Self::new_zeroed()
    }

    /// A limit of zones, [`Self::mar`] or [`Self::mor`]; 0 for none.
    pub const fn zones_max(field: U32) -> u32 {
        field.get().wrapping_add(1)
    }
}

/// Identify Controller of the zoned command set, 4,096 bytes (ZNS §4.1.5.2, figure 50).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyZonedController {
    /// Most of a Zone Append, as a power of two of CAP.MPSMIN; 0 for as much as of any transfer.
    pub zasl: u8,
    /// Reserved.
    pub reserved1: [u8; 4095],
}

const _: () = assert!(size_of::<IdentifyZonedController>() == 4096);

/// What a Zone Management Send does (ZNS §3.4.3.1, figure 35).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ZoneAction {
    /// Close Zone.
    Close = 1,
    /// Finish Zone.
    Finish = 2,
    /// Open Zone.
    Open = 3,
    /// Reset Zone.
    Reset = 4,
}

impl ZoneAction {
    /// By its number; none for others.
    pub const fn of(action: u8) -> Option<Self> {
        match action {
            1 => Some(Self::Close),
            2 => Some(Self::Finish),
            3 => Some(Self::Open),
            4 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// State of a zone (ZNS §2.1.1.2.1, figure 39).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ZoneState {
    /// Nothing written.
    Empty = 0x1,
    /// Opened by a write.
    ImplicitlyOpened = 0x2,
    /// Opened by Open Zone.
    ExplicitlyOpened = 0x3,
    /// Written in part, and not open.
    Closed = 0x4,
    /// Cannot be written any more.
    ReadOnly = 0xd,
    /// All written, or finished.
    Full = 0xe,
    /// Cannot be used any more.
    Offline = 0xf,
}

/// What is told of a zone, 64 bytes (ZNS §3.4.2.2, figure 37).
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
pub struct ZoneDescriptor {
    /// Bits 3:0 type; 2 sequential write required.
    pub zt: u8,
    /// Bits 7:4 state, see [`ZoneState`].
    pub zs: u8,
    /// Attributes.
    pub za: u8,
    /// Attributes' information.
    pub zai: u8,
    /// Reserved.
    pub reserved4: [u8; 4],
    /// Blocks that can be written.
    pub zcap: U64,
    /// First block.
    pub zslba: U64,
    /// Where the next write goes.
    pub wp: U64,
    /// Reserved.
    pub reserved32: [u8; 32],
}

const _: () = assert!(size_of::<ZoneDescriptor>() == 64);

impl ZoneDescriptor {
    /// Type: sequential write required.
    pub const SEQUENTIAL: u8 = 2;

    /// The state, as its number.
    pub const fn state(&self) -> u8 {
        self.zs >> 4
    }
}

/// What comes before the descriptors of a report, 64 bytes (ZNS §3.4.2.2, figure 36).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ZoneReportHeader {
    /// How many zones there are, or, of a partial report, descriptors.
    pub zones: U64,
    /// Reserved.
    pub reserved8: [u8; 56],
}

const _: () = assert!(size_of::<ZoneReportHeader>() == 64);

impl Command {
    /// Zone Management Send (ZNS §3.4.3) of one zone.
    pub fn zone_send(nsid: u32, zone: u64, action: ZoneAction) -> Self {
        Self { cdw13: U32::new(action as u32), ..Self::on_zone(NvmOpcode::ZONE_SEND, nsid, zone) }
    }

    /// Zone Management Receive (ZNS §3.4.2): a partial report of all zones from `lba` on, of
    /// `bytes` (a multiple of 4) with its header; the data pointer is still to be set.
    pub fn zone_report(nsid: u32, lba: u64, bytes: u32) -> Self {
        const PARTIAL: u32 = 1 << 16;
        let mut command = Self::on_zone(NvmOpcode::ZONE_RECEIVE, nsid, lba);
        command.cdw12 = U32::new((bytes / 4).saturating_sub(1));
        command.cdw13 = U32::new(PARTIAL);
        command
    }

    /// Zone Append (ZNS §3.4.1) of 1 to 65,536 blocks to a zone; the data pointer is still to be
    /// set.
    pub fn zone_append(nsid: u32, zone: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::ZONE_APPEND, nsid, zone, blocks)
    }

    fn on_zone(opcode: NvmOpcode, nsid: u32, lba: u64) -> Self {
        Self { cdw12: U32::ZERO, ..Self::on_range(opcode, nsid, lba, 1) }
    }
}
