//! Layouts as they travel (§3.6.2). All integers little-endian, all structures unaligned.

use core::mem::offset_of;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// PDU types (§3.6.1, table 20).
pub mod kind {
    /// Initialize Connection Request, host to controller.
    pub const IC_REQ: u8 = 0x00;
    /// Initialize Connection Response.
    pub const IC_RESP: u8 = 0x01;
    /// The host terminates the connection.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// The controller terminates the connection.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// Command capsule.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// Response capsule.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// Data from the host.
    pub const H2C_DATA: u8 = 0x06;
    /// Data to the host.
    pub const C2H_DATA: u8 = 0x07;
    /// Ready to transfer.
    pub const R2T: u8 = 0x09;
}

/// Bits of [`CommonHeader::flags`].
pub mod flags {
    /// A header digest follows the header.
    pub const HEADER_DIGEST: u8 = 1 << 0;
    /// A data digest follows the data.
    pub const DATA_DIGEST: u8 = 1 << 1;
    /// Last data PDU of the transfer.
    pub const LAST: u8 = 1 << 2;
    /// The command succeeded; no response capsule follows.
    pub const SUCCESS: u8 = 1 << 3;
}

/// The first 8 bytes of every PDU.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommonHeader {
    /// PDU type, see [`kind`].
    pub kind: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Header length in bytes, digest not counted.
    pub hlen: u8,
    /// Offset of the data from the start of the PDU, bytes.
    pub pdo: u8,
    /// Length of the whole PDU, bytes.
    pub plen: U32,
}

/// ICReq (§3.6.2.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcReq {
    /// Common header.
    pub common: CommonHeader,
    /// PDU format version; 0.
    pub pfv: U16,
    /// Alignment the host wants for data to it: dwords, 0-based, up to 31.
    pub hpda: u8,
    /// Bit 0 header digest, bit 1 data digest wanted.
    pub digest: u8,
    /// R2Ts per command the host can hold, 0-based.
    pub maxr2t: U32,
    /// Reserved.
    pub reserved: [u8; 112],
}

/// ICResp (§3.6.2.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcResp {
    /// Common header.
    pub common: CommonHeader,
    /// PDU format version; 0.
    pub pfv: U16,
    /// Alignment the controller wants for data to it: dwords, 0-based.
    pub cpda: u8,
    /// Digests in use from now on.
    pub digest: u8,
    /// Largest data in one H2CData PDU, bytes.
    pub maxh2cdata: U32,
    /// Reserved.
    pub reserved: [u8; 112],
}

/// H2CTermReq and C2HTermReq (§3.6.2.4, §3.6.2.5); followed by the offending header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TermReq {
    /// Common header.
    pub common: CommonHeader,
    /// Fatal error status.
    pub fes: U16,
    /// Fatal error information; not aligned.
    pub fei: U32,
    /// Reserved.
    pub reserved: [u8; 10],
}

/// Command capsule (§3.6.2.6); data may follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapsuleCmd {
    /// Common header.
    pub common: CommonHeader,
    /// Submission queue entry.
    pub sqe: [u8; 64],
}

/// Response capsule (§3.6.2.7).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapsuleResp {
    /// Common header.
    pub common: CommonHeader,
    /// Completion queue entry.
    pub cqe: [u8; 16],
}

/// H2CData and C2HData (§3.6.2.8, §3.6.2.9).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Data {
    /// Common header.
    pub common: CommonHeader,
    /// Command this belongs to.
    pub cccid: U16,
    /// Transfer tag from the R2T; reserved to the host.
    pub ttag: U16,
    /// Offset in the command's data, bytes.
    pub datao: U32,
    /// Length, bytes.
    pub datal: U32,
    /// Reserved.
    pub reserved: [u8; 4],
}

/// Ready to transfer (§3.6.2.10).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct R2t {
    /// Common header.
    pub common: CommonHeader,
    /// Command this belongs to.
    pub cccid: U16,
    /// Transfer tag the host puts into its data PDUs.
    pub ttag: U16,
    /// Offset in the command's data, bytes.
    pub r2to: U32,
    /// Length asked for, bytes.
    pub r2tl: U32,
    /// Reserved.
    pub reserved: [u8; 4],
}

/// Length of the common header, bytes.
pub const COMMON_LEN: usize = size_of::<CommonHeader>();
/// Largest header of any PDU, bytes.
pub const HEADER_MAX: usize = size_of::<IcReq>();

const _: () = {
    assert!(COMMON_LEN == 8 && HEADER_MAX == 128 && size_of::<IcResp>() == 128);
    assert!(size_of::<TermReq>() == 24 && offset_of!(TermReq, fei) == 10);
    assert!(size_of::<CapsuleCmd>() == 72 && size_of::<CapsuleResp>() == 24);
    assert!(size_of::<Data>() == 24 && offset_of!(Data, datao) == 12);
    assert!(size_of::<R2t>() == 24 && offset_of!(R2t, r2tl) == 16);
    assert!(offset_of!(IcReq, maxr2t) == 12 && offset_of!(IcResp, maxh2cdata) == 12);
};
