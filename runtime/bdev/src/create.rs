use core::fmt;

use crate::{OpenError, RegisterError};

/// Why a bdev module cannot make a bdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateError {
    /// The block size is not a power of two the module offers.
    BadBlockSize {
        /// What was asked for, bytes.
        block_size: u32,
    },
    /// A bdev needs at least one block.
    NoBlocks,
    /// The capacity does not fit the machine's memory.
    NoMemory {
        /// What was asked for, bytes; `u64::MAX` if it is even more.
        bytes: u64,
    },
    /// The registry refused it.
    Register(RegisterError),
    /// What it is to stand on cannot be had.
    Base(OpenError),
    /// What it is to stand on does not suit it.
    Unsuitable(&'static str),
}

impl From<RegisterError> for CreateError {
    fn from(error: RegisterError) -> Self {
        Self::Register(error)
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadBlockSize { block_size } => {
                write!(f, "block size {block_size} is not one of 512, 1024, 2048, 4096")
            }
            Self::NoBlocks => f.write_str("the number of blocks must be at least 1"),
            Self::NoMemory { bytes } => {
                write!(f, "{bytes} bytes do not fit into the machine's memory")
            }
            Self::Register(error) => error.fmt(f),
            Self::Base(error) => write!(f, "its base: {error}"),
            Self::Unsuitable(reason) => f.write_str(reason),
        }
    }
}

/// Checks what every memory-backed module asks of its block size and size. Gives the bytes.
pub(crate) fn check_geometry(block_size: u32, num_blocks: u64) -> Result<u64, CreateError> {
    if !block_size.is_power_of_two() || !(512..=4096).contains(&block_size) {
        return Err(CreateError::BadBlockSize { block_size });
    }
    if num_blocks == 0 {
        return Err(CreateError::NoBlocks);
    }
    let bytes = num_blocks.checked_mul(u64::from(block_size));
    bytes.ok_or(CreateError::NoMemory { bytes: u64::MAX })
}
