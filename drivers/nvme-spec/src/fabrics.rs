//! Fabrics commands (§6) that every fabrics transport shares.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Command, NvmOpcode, SglDescriptor, named};

/// A fabrics command type, in byte 4 of a command with opcode 0x7f (§6, figure 377).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FabricsType(pub u8);

named!(FabricsType, u8 {
    PROPERTY_SET = 0x00, "Property Set";
    CONNECT = 0x01, "Connect";
    PROPERTY_GET = 0x04, "Property Get";
    AUTHENTICATION_SEND = 0x05, "Authentication Send";
    AUTHENTICATION_RECEIVE = 0x06, "Authentication Receive";
    DISCONNECT = 0x08, "Disconnect";
});

/// Opcode of every fabrics command.
pub const OPCODE: u8 = NvmOpcode::FABRICS.0;

/// Controller identifier in a Connect that asks for any controller (dynamic model).
pub const CNTLID_DYNAMIC: u16 = 0xffff;

/// The name every discovery subsystem answers to (§4.5).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Longest qualified name, bytes, without its NUL (§4.5).
pub const NQN_LEN_MAX: usize = 223;

/// Connect, 64 bytes (§6.3).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Connect {
    /// 0x7f.
    pub opcode: u8,
    /// As in any command.
    pub flags: u8,
    /// Command identifier.
    pub cid: U16,
    /// [`FabricsType::CONNECT`].
    pub fctype: u8,
    /// Reserved.
    pub reserved5: [u8; 19],
    /// Where the [`ConnectData`] is.
    pub sgl1: SglDescriptor,
    /// Record format, 0.
    pub recfmt: U16,
    /// Queue to make.
    pub qid: U16,
    /// Its size, 0's based.
    pub sqsize: U16,
    /// Connect attributes; bit 2 disables SQ flow control.
    pub cattr: u8,
    /// Reserved.
    pub reserved47: u8,
    /// Keep alive timeout, milliseconds; 0 for none.
    pub kato: U32,
    /// Reserved.
    pub reserved52: [u8; 12],
}

impl Connect {
    /// [`Self::cattr`]: submission queue flow control is off.
    pub const CATTR_NO_FLOW_CONTROL: u8 = 1 << 2;

    /// Connect queue `qid` of `entries` (not 0's based) entries.
    pub fn new(qid: u16, entries: u16, kato_ms: u32, sgl1: SglDescriptor) -> Self {
        Self {
            opcode: OPCODE,
            flags: Command::FLAG_SGL,
            fctype: FabricsType::CONNECT.0,
            sgl1,
            qid: U16::new(qid),
            sqsize: U16::new(entries.saturating_sub(1)),
            kato: U32::new(kato_ms),
            ..Self::new_zeroed()
        }
    }
}

/// Data of a Connect, 1,024 bytes (§6.3, figure 383).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ConnectData {
    /// Host identifier.
    pub hostid: [u8; 16],
    /// Controller, [`CNTLID_DYNAMIC`] for any.
    pub cntlid: U16,
    /// Reserved.
    pub reserved18: [u8; 238],
    /// Subsystem name, NUL terminated.
    pub subnqn: [u8; 256],
    /// Host name, NUL terminated.
    pub hostnqn: [u8; 256],
    /// Reserved.
    pub reserved768: [u8; 256],
}

impl Default for ConnectData {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// What DW0 of a Connect refused with CONNECT_INVALID_PARAMETERS says (§6.3, figure 384).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidParameter {
    /// Byte of the command.
    Command(u16),
    /// Byte of the data.
    Data(u16),
}

impl InvalidParameter {
    /// The value of DW0.
    pub const fn to_dword(self) -> u32 {
        match self {
            Self::Command(offset) => offset as u32,
            Self::Data(offset) => 1 << 16 | offset as u32,
        }
    }

    /// From the value of DW0.
    pub const fn from_dword(dword: u32) -> Self {
        match dword >> 16 & 1 {
            0 => Self::Command(dword as u16),
            _ => Self::Data(dword as u16),
        }
    }
}

/// Property Get and Property Set, 64 bytes (§6.6, §6.7).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Property {
    /// 0x7f.
    pub opcode: u8,
    /// As in any command.
    pub flags: u8,
    /// Command identifier.
    pub cid: U16,
    /// [`FabricsType::PROPERTY_GET`] or [`FabricsType::PROPERTY_SET`].
    pub fctype: u8,
    /// Reserved.
    pub reserved5: [u8; 35],
    /// Bits 2:0 the size: 0 for 4 bytes, 1 for 8.
    pub attrib: u8,
    /// Reserved.
    pub reserved41: [u8; 3],
    /// Offset, as in [`super::registers`].
    pub offset: U32,
    /// Value to set; reserved in a get.
    pub value: U64,
    /// Reserved.
    pub reserved56: [u8; 8],
}

impl Property {
    /// Reads the property of `len` bytes (4 or 8) at `offset`.
    pub fn get(offset: u32, len: usize) -> Self {
        Self::build(FabricsType::PROPERTY_GET, offset, len, 0)
    }

    /// Sets the property of `len` bytes (4 or 8) at `offset`.
    pub fn set(offset: u32, len: usize, value: u64) -> Self {
        Self::build(FabricsType::PROPERTY_SET, offset, len, value)
    }

    fn build(fctype: FabricsType, offset: u32, len: usize, value: u64) -> Self {
        Self {
            opcode: OPCODE,
            flags: Command::FLAG_SGL,
            fctype: fctype.0,
            attrib: u8::from(len == 8),
            offset: U32::new(offset),
            value: U64::new(value),
            ..Self::new_zeroed()
        }
    }

    /// Size of the property in bytes, if the attribute is a known one.
    pub const fn size(&self) -> Option<usize> {
        match self.attrib & 7 {
            0 => Some(4),
            1 => Some(8),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<Connect>() == 64);
const _: () = assert!(size_of::<Property>() == 64);
const _: () = assert!(size_of::<ConnectData>() == 1024);

impl Command {
    /// The fabrics type of a command with opcode 0x7f.
    pub const fn fabrics_type(&self) -> FabricsType {
        FabricsType(self.nsid.get() as u8)
    }

    /// The command as a Connect.
    pub fn as_connect(&self) -> Connect {
        zerocopy::transmute!(*self)
    }

    /// The command as a Property Get or Set.
    pub fn as_property(&self) -> Property {
        zerocopy::transmute!(*self)
    }
}

impl From<Connect> for Command {
    fn from(connect: Connect) -> Self {
        zerocopy::transmute!(connect)
    }
}

impl From<Property> for Command {
    fn from(property: Property) -> Self {
        zerocopy::transmute!(property)
    }
}
