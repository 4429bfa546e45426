use basalt_virtio::{RequestFormat, ResponsePlace};

use crate::outcome::RESPONSE_LEN;

/// How requests of a SCSI host look (virtio 1.2 §5.6.6.1).
pub const FORMAT: RequestFormat = RequestFormat {
    header_max: HEADER_LEN,
    response_len: RESPONSE_LEN,
    response: ResponsePlace::First,
};

/// Bytes of what the host reads of a request before its data: with a command of 32 bytes, which is
/// what the device takes unless told otherwise.
pub const HEADER_LEN: usize = 19 + 32;

/// A logical unit of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Number of the target.
    pub target: u8,
    /// Number of the unit, below 16384.
    pub lun: u16,
}

impl Address {
    /// As the host wants it (§5.6.6.1): single level, flat space.
    const fn bytes(self) -> [u8; 8] {
        let [high, low] = self.lun.to_be_bytes();
        [1, self.target, 0x40 | high & 0x3f, low, 0, 0, 0, 0]
    }
}

/// What the host reads of a command before its data. `tag` tells commands under way apart.
pub fn header(address: Address, tag: u64, cdb: Cdb) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&address.bytes());
    header[8..16].copy_from_slice(&tag.to_le_bytes());
    // Simple task, no priority, no command reference number.
    header[19..35].copy_from_slice(&cdb.0);
    header
}

/// Pages of vital product data (SPC-4 §7.8, SBC-3 §6.6).
pub mod vpd {
    /// Unit Serial Number.
    pub const SERIAL_NUMBER: u8 = 0x80;
    /// Block Limits.
    pub const BLOCK_LIMITS: u8 = 0xb0;
    /// Logical Block Provisioning.
    pub const PROVISIONING: u8 = 0xb2;
}

/// A command descriptor block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb([u8; 16]);

impl Cdb {
    /// TEST UNIT READY (SPC-4 §6.45).
    pub const fn test_unit_ready() -> Self {
        Self([0; 16])
    }

    /// INQUIRY (SPC-4 §6.6), of a page of vital product data or without.
    pub const fn inquiry(page: Option<u8>, len: u16) -> Self {
        let mut cdb = [0; 16];
        cdb[0] = 0x12;
        if let Some(page) = page {
            cdb[1] = 1;
            cdb[2] = page;
        }
        [cdb[3], cdb[4]] = len.to_be_bytes();
        Self(cdb)
    }

    /// READ CAPACITY(10) (SBC-3 §5.15).
    pub const fn read_capacity_10() -> Self {
        let mut cdb = [0; 16];
        cdb[0] = 0x25;
        Self(cdb)
    }

    /// READ CAPACITY(16) (SBC-3 §5.16).
    pub const fn read_capacity_16(len: u32) -> Self {
        let mut cdb = [0; 16];
        cdb[0] = 0x9e;
        cdb[1] = 0x10;
        [cdb[10], cdb[11], cdb[12], cdb[13]] = len.to_be_bytes();
        Self(cdb)
    }

    /// READ(16) (SBC-3 §5.13).
    pub const fn read(lba: u64, blocks: u32) -> Self {
        Self::transfer(0x88, lba, blocks)
    }

    /// WRITE(16) (SBC-3 §5.34).
    pub const fn write(lba: u64, blocks: u32) -> Self {
        Self::transfer(0x8a, lba, blocks)
    }

    const fn transfer(opcode: u8, lba: u64, blocks: u32) -> Self {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        [cdb[2], cdb[3], cdb[4], cdb[5], cdb[6], cdb[7], cdb[8], cdb[9]] = lba.to_be_bytes();
        [cdb[10], cdb[11], cdb[12], cdb[13]] = blocks.to_be_bytes();
        Self(cdb)
    }

    /// SYNCHRONIZE CACHE(10) (SBC-3 §5.25) of all blocks.
    pub const fn synchronize_cache() -> Self {
        let mut cdb = [0; 16];
        cdb[0] = 0x35;
        Self(cdb)
    }

    /// UNMAP (SBC-3 §5.28), by a list of [`unmap_list`].
    pub const fn unmap() -> Self {
        let mut cdb = [0; 16];
        cdb[0] = 0x42;
        [cdb[7], cdb[8]] = (UNMAP_LEN as u16).to_be_bytes();
        Self(cdb)
    }
}

/// Bytes of the list of an UNMAP command.
pub const UNMAP_LEN: usize = 24;

/// The list of an UNMAP command, of one range of blocks.
pub fn unmap_list(lba: u64, blocks: u32) -> [u8; UNMAP_LEN] {
    let mut list = [0; UNMAP_LEN];
    list[..2].copy_from_slice(&(UNMAP_LEN as u16 - 2).to_be_bytes());
    list[2..4].copy_from_slice(&16_u16.to_be_bytes());
    list[8..16].copy_from_slice(&lba.to_be_bytes());
    list[16..20].copy_from_slice(&blocks.to_be_bytes());
    list
}
