use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Command, NvmOpcode};

/// Ranges one Dataset Management command carries at most (NVM §3.2.3).
pub const DSM_RANGES_MAX: usize = 256;

bitflags! {
    /// The upper half of dword 12 of reads, writes and write zeroes (NVM §3.2.4–3.2.8).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct IoFlags: u32 {
        /// Write Zeroes only: deallocate the blocks.
        const DEALLOCATE = 1 << 25;
        /// Protection information (PRINFO, NVM §5.2.2): check the reference tag.
        const PRCHK_REFERENCE = 1 << 26;
        /// Check the application tag.
        const PRCHK_APPLICATION = 1 << 27;
        /// Check the guard.
        const PRCHK_GUARD = 1 << 28;
        /// The controller adds protection information and takes it off (PRACT).
        const PRACT = 1 << 29;
        /// Force unit access: reach the medium before completing.
        const FUA = 1 << 30;
        /// Limited retry.
        const LIMITED_RETRY = 1 << 31;
    }

    /// Dword 11 of Dataset Management (NVM §3.2.3, figure 39 in part).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct DsmAttributes: u32 {
        /// The ranges will be read as a whole.
        const INTEGRAL_READ = 1 << 0;
        /// The ranges will be written as a whole.
        const INTEGRAL_WRITE = 1 << 1;
        /// The ranges are no longer needed.
        const DEALLOCATE = 1 << 2;
    }
}

/// One range of a Dataset Management command, 16 bytes (NVM §3.2.3).
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
pub struct DsmRange {
    /// Hints, 0 if none.
    pub attributes: U32,
    /// Length in logical blocks, not 0's based.
    pub blocks: U32,
    /// First logical block.
    pub lba: U64,
}

const _: () = assert!(size_of::<DsmRange>() == 16);

/// One source range of a Copy command in descriptor format 0, 32 bytes (NVM §3.2.2, figure 31).
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
pub struct CopyRange {
    /// Reserved.
    pub reserved0: [u8; 8],
    /// First logical block.
    pub lba: U64,
    /// Number of logical blocks, 0's based.
    pub blocks: U16,
    /// Reserved.
    pub reserved18: [u8; 6],
    /// Expected initial reference tag, and application tag with its mask.
    pub tags: [u8; 8],
}

const _: () = assert!(size_of::<CopyRange>() == 32);

impl CopyRange {
    /// `blocks` (1 to 65,536) logical blocks from `lba`, without tags.
    pub const fn new(lba: u64, blocks: u32) -> Self {
        Self {
            reserved0: [0; 8],
            lba: U64::new(lba),
            blocks: U16::new(blocks.wrapping_sub(1) as u16),
            reserved18: [0; 6],
            tags: [0; 8],
        }
    }

    /// Number of logical blocks, 1 to 65,536.
    pub const fn count(&self) -> u32 {
        self.blocks.get() as u32 + 1
    }
}

impl DsmRange {
    /// `blocks` logical blocks from `lba`, without hints.
    pub const fn new(lba: u64, blocks: u32) -> Self {
        Self { attributes: U32::ZERO, blocks: U32::new(blocks), lba: U64::new(lba) }
    }
}

/// Identify Controller of the NVM command set, 4,096 bytes (NVM §4.1.5.2, figure 100).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyNvmController {
    /// Most of a Verify, as [`IdentifyController::mdts`](super::IdentifyController::mdts) tells it
    /// of a transfer.
    pub vsl: u8,
    /// Most of a Write Zeroes, likewise.
    pub wzsl: u8,
    /// Most of a Write Uncorrectable, likewise.
    pub wusl: u8,
    /// Most ranges of a Dataset Management; 0 for no limit.
    pub dmrl: u8,
    /// Most logical blocks of one of its ranges; 0 for no limit.
    pub dmrsl: U32,
    /// Most logical blocks of all of them; 0 for no limit.
    pub dmsl: U64,
    /// Reserved.
    pub reserved16: [u8; 4080],
}

const _: () = assert!(size_of::<IdentifyNvmController>() == 4096);

impl Command {
    /// Read (NVM §3.2.4). `blocks` is 1 to 65,536; the data pointer is still to be set.
    #[inline]
    pub fn read(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::READ, nsid, lba, blocks)
    }

    /// Write (NVM §3.2.6). `blocks` is 1 to 65,536; the data pointer is still to be set.
    #[inline]
    pub fn write(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::WRITE, nsid, lba, blocks)
    }

    /// Compare (NVM §3.2.1). `blocks` is 1 to 65,536; the data pointer is still to be set.
    #[inline]
    pub fn compare(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::COMPARE, nsid, lba, blocks)
    }

    /// Write Zeroes (NVM §3.2.8). `blocks` is 1 to 65,536.
    #[inline]
    pub fn write_zeroes(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::WRITE_ZEROES, nsid, lba, blocks)
    }

    /// Flush (§7.1).
    #[inline]
    pub fn flush(nsid: u32) -> Self {
        Self::nvm(NvmOpcode::FLUSH, nsid)
    }

    /// Dataset Management (NVM §3.2.3) of `ranges` (1 to 256) ranges; the data pointer, to a list
    /// of [`DsmRange`], is still to be set.
    pub fn dataset_management(nsid: u32, ranges: u32, attributes: DsmAttributes) -> Self {
        Self {
            cdw10: U32::new(ranges.saturating_sub(1) & 0xff),
            cdw11: U32::new(attributes.bits()),
            ..Self::nvm(NvmOpcode::DATASET_MANAGEMENT, nsid)
        }
    }

    /// Copy (NVM §3.2.2) of `ranges` (1 to 256) ranges to `lba` and after; the data pointer, to a
    /// list of [`CopyRange`], is still to be set.
    pub fn copy(nsid: u32, lba: u64, ranges: u32) -> Self {
        Self::on_range(NvmOpcode::COPY, nsid, lba, ranges & 0x1ff)
    }

    /// Write Uncorrectable (NVM §3.2.7). `blocks` is 1 to 65,536.
    #[must_use]
    pub fn write_uncorrectable(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::WRITE_UNCORRECTABLE, nsid, lba, blocks)
    }

    /// Verify (NVM §3.2.5). `blocks` is 1 to 65,536.
    #[inline]
    pub fn verify(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_range(NvmOpcode::VERIFY, nsid, lba, blocks)
    }

    /// A command on a range of blocks (1 to 65,536); the data pointer is still to be set.
    #[inline]
    pub fn on_range(opcode: NvmOpcode, nsid: u32, lba: u64, blocks: u32) -> Self {
        Self {
            cdw10: U32::new(lba as u32),
            cdw11: U32::new((lba >> 32) as u32),
            cdw12: U32::new(blocks.wrapping_sub(1) & 0xffff),
            ..Self::nvm(opcode, nsid)
        }
    }

    /// Starting LBA of a command on a range of blocks.
    pub const fn lba(&self) -> u64 {
        (self.cdw11.get() as u64) << 32 | self.cdw10.get() as u64
    }

    /// Number of logical blocks of a command on a range, 1 to 65,536.
    pub const fn blocks(&self) -> u32 {
        (self.cdw12.get() & 0xffff) + 1
    }

    /// The flags of a command on a range.
    pub const fn io_flags(&self) -> IoFlags {
        IoFlags::from_bits_truncate(self.cdw12.get())
    }

    /// The number of ranges of a Dataset Management command, 1 to 256.
    pub const fn dsm_ranges(&self) -> u32 {
        (self.cdw10.get() & 0xff) + 1
    }

    /// The number of ranges of a Copy command, 1 to 256.
    pub const fn copy_ranges(&self) -> u32 {
        (self.cdw12.get() & 0xff) + 1
    }

    /// The format of the ranges of a Copy command.
    pub const fn copy_format(&self) -> u32 {
        self.cdw12.get() >> 8 & 0xf
    }

    /// The attributes of a Dataset Management command.
    pub const fn dsm_attributes(&self) -> DsmAttributes {
        DsmAttributes::from_bits_truncate(self.cdw11.get())
    }
}
