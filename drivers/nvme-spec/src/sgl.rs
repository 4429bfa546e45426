use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An SGL descriptor, 16 bytes (§4.1.2).
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
pub struct SglDescriptor {
    /// Bus address, or an offset where the subtype says so.
    pub address: U64,
    /// Bytes described.
    pub length: U32,
    /// Reserved; the key of keyed descriptors.
    pub reserved: [u8; 3],
    /// Bits 7:4 type, 3:0 subtype.
    pub identifier: u8,
}

const _: () = assert!(size_of::<SglDescriptor>() == 16);

impl SglDescriptor {
    /// Type 0: data block.
    pub const TYPE_DATA_BLOCK: u8 = 0x0;
    /// Type 1: bit bucket.
    pub const TYPE_BIT_BUCKET: u8 = 0x1;
    /// Type 2: segment.
    pub const TYPE_SEGMENT: u8 = 0x2;
    /// Type 3: last segment.
    pub const TYPE_LAST_SEGMENT: u8 = 0x3;
    /// Type 4: keyed data block.
    pub const TYPE_KEYED_DATA_BLOCK: u8 = 0x4;
    /// Type 5: transport data block.
    pub const TYPE_TRANSPORT_DATA_BLOCK: u8 = 0x5;
    /// Subtype 0: `address` is a bus address.
    pub const SUBTYPE_ADDRESS: u8 = 0x0;
    /// Subtype 1: `address` is an offset into the capsule's data.
    pub const SUBTYPE_OFFSET: u8 = 0x1;
    /// Subtype 0xa: the transport knows where the data goes.
    pub const SUBTYPE_TRANSPORT: u8 = 0xa;

    /// A data block in memory.
    pub const fn data_block(address: u64, length: u32) -> Self {
        Self::build(address, length, Self::TYPE_DATA_BLOCK << 4 | Self::SUBTYPE_ADDRESS)
    }

    /// The descriptors at `address`, of so many bytes, which are all that follow.
    pub const fn last_segment(address: u64, length: u32) -> Self {
        Self::build(address, length, Self::TYPE_LAST_SEGMENT << 4 | Self::SUBTYPE_ADDRESS)
    }

    /// Data inside the capsule, `offset` bytes after the in-capsule data offset.
    pub const fn in_capsule(offset: u64, length: u32) -> Self {
        Self::build(offset, length, Self::TYPE_DATA_BLOCK << 4 | Self::SUBTYPE_OFFSET)
    }

    /// Data the transport moves in its own way.
    pub const fn transport(length: u32) -> Self {
        Self::build(0, length, Self::TYPE_TRANSPORT_DATA_BLOCK << 4 | Self::SUBTYPE_TRANSPORT)
    }

    const fn build(address: u64, length: u32, identifier: u8) -> Self {
        Self { address: U64::new(address), length: U32::new(length), reserved: [0; 3], identifier }
    }

    /// The type, one of the `TYPE_` constants if known.
    pub const fn kind(&self) -> u8 {
        self.identifier >> 4
    }

    /// The subtype, one of the `SUBTYPE_` constants if known.
    pub const fn subtype(&self) -> u8 {
        self.identifier & 0xf
    }
}
