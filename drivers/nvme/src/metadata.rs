//! What blocks carry beside their data (NVM command set 1.0 §5.1 and §5.2).
//!
//! The block layer above knows of data only. So what a format has room for is written as zeroes and
//! is not kept when it is read; protection information among it is the controller's to generate and
//! to check.

use basalt_nvme_spec::{Command, IdentifyNamespace, IoFlags, PAGE_SIZE};

use crate::{Sgls, UnusableNamespace};

/// Bytes of protection information.
const PROTECTION_LEN: u16 = 8;
/// Blocks of one command whose data and metadata take turns: a page has room for the descriptors of
/// these, each in two parts, and as many more where buffers meet within blocks.
const BLOCKS_INTERLEAVED_MAX: u32 = 64;

/// Where the metadata of a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metadata {
    /// Nowhere: there is none, or the controller adds it and takes it off.
    None,
    /// In a buffer of its own, so many bytes for each block.
    Separate(u16),
    /// As many behind the data of each block.
    Interleaved(u16),
}

impl Metadata {
    pub(crate) fn of(identify: &IdentifyNamespace) -> Self {
        let size = identify.format().metadata_size.get();
        let is_stripped = size == PROTECTION_LEN && identify.dps & 7 != 0;
        match (size, identify.flbas & IN_LINE != 0) {
            (0, _) => Self::None,
            _ if is_stripped => Self::None,
            (size, false) => Self::Separate(size),
            (size, true) => Self::Interleaved(size),
        }
    }

    /// Whether a controller can be told of it that takes SGLs like these.
    pub(crate) const fn can_describe(self, sgls: Option<Sgls>) -> bool {
        match (self, sgls) {
            (Self::None, _) => true,
            (Self::Separate(size), _) => size as usize <= PAGE_SIZE,
            (Self::Interleaved(size), Some(Sgls { granule, .. })) => {
                size as usize <= PAGE_SIZE && (size as usize).is_multiple_of(granule)
            }
            (Self::Interleaved(_), None) => false,
        }
    }

    /// Most blocks of one command for which there is room.
    pub(crate) const fn blocks_max(self) -> u32 {
        match self {
            Self::None => u32::MAX,
            Self::Separate(size) => (PAGE_SIZE / size as usize) as u32,
            Self::Interleaved(_) => BLOCKS_INTERLEAVED_MAX,
        }
    }

    /// Bytes of it that count as data of each block.
    pub(crate) const fn in_line(self) -> u16 {
        match self {
            Self::Interleaved(size) => size,
            Self::None | Self::Separate(_) => 0,
        }
    }
}

/// FLBAS: metadata lies behind the data.
const IN_LINE: u8 = 1 << 4;

/// End-to-end protection, which is the controller's to generate and to check: it adds eight bytes
/// to each block it writes and takes them off each that it reads, once guard and reference tag are
/// as they should be. Where there is more metadata than that, they are among it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Protection {
    /// What of dword 12 asks for it (PRINFO).
    flags: u32,
    /// What of a block's number is its reference tag: all of its low half, or nothing.
    tag_mask: u32,
}

impl Protection {
    const NONE: Self = Self { flags: 0, tag_mask: 0 };

    /// What the namespace's format asks for.
    pub(crate) fn of(identify: &IdentifyNamespace) -> Result<Self, UnusableNamespace> {
        let guarded = (IoFlags::PRACT | IoFlags::PRCHK_GUARD).bits();
        let tagged = guarded | IoFlags::PRCHK_REFERENCE.bits();
        match (identify.format().metadata_size.get(), identify.dps & 7) {
            (_, 0) => Ok(Self::NONE),
            (PROTECTION_LEN.., 1 | 2) => Ok(Self { flags: tagged, tag_mask: u32::MAX }),
            (PROTECTION_LEN.., 3) => Ok(Self { flags: guarded, tag_mask: 0 }),
            _ => Err(UnusableNamespace::Metadata),
        }
    }

    /// Asks for it in a command on a range of blocks that begins at `lba`.
    #[inline(always)]
    pub(crate) fn ask(self, command: &mut Command, lba: u64) {
        command.cdw12 = (command.cdw12.get() | self.flags).into();
        command.cdw14 = (lba as u32 & self.tag_mask).into();
    }

    /// Whether there is any.
    pub(crate) const fn is_any(self) -> bool {
        self.flags != 0
    }
}
