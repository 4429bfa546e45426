use core::fmt;

use basalt_env::{Device, Registers};
use basalt_virtio::{Transport, TransportError};
use bitflags::bitflags;

use crate::SECTOR;

bitflags! {
    /// Feature bits (virtio 1.2 §5.2.3) that this driver uses.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        /// There is a limit to the bytes of a segment.
        const SIZE_MAX = 1 << 1;
        /// More than one segment is taken.
        const SEG_MAX = 1 << 2;
        /// It cannot be written.
        const RO = 1 << 5;
        /// Its blocks are larger than a sector.
        const BLK_SIZE = 1 << 6;
        /// It has a cache to be flushed.
        const FLUSH = 1 << 9;
        /// It has several queues.
        const MQ = 1 << 12;
        const DISCARD = 1 << 13;
        const WRITE_ZEROES = 1 << 14;
    }
}

/// Offsets in the device configuration (§5.2.4), bytes.
mod config {
    /// Sectors, u64.
    pub const CAPACITY: usize = 0x00;
    pub const SIZE_MAX: usize = 0x08;
    pub const SEG_MAX: usize = 0x0c;
    pub const BLK_SIZE: usize = 0x14;
    /// u16.
    pub const NUM_QUEUES: usize = 0x22;
    pub const MAX_DISCARD_SECTORS: usize = 0x24;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 0x30;
}

/// Why a block device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlkError {
    /// The transport failed.
    Transport(TransportError),
    /// Blocks of so many bytes are no power of two of 512 to 64 KiB.
    BadBlockSize(u32),
}

impl From<TransportError> for BlkError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for BlkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::BadBlockSize(size) => write!(f, "the disk has blocks of {size} bytes"),
        }
    }
}

/// What a block device is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk {
    /// Blocks it had when it was asked.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Whether it can only be read.
    pub is_read_only: bool,
    /// Whether it has a cache to be flushed.
    pub has_cache: bool,
    /// How many queues it has; at least one.
    pub queues: u16,
    /// Most segments of the data of one request.
    pub segments_max: u32,
    /// Most bytes of a segment.
    pub segment_len_max: u32,
    /// Most blocks of one discard; 0 if it does not discard.
    pub discard_max: u32,
    /// Most blocks of one write of zeroes; 0 if it writes none by itself.
    pub write_zeroes_max: u32,
}

/// Agrees on features with a device that was just reset.
///
/// # Errors
/// The transport fails, or the disk's blocks are of no use.
pub fn negotiate<D: Device>(transport: &mut Transport<D>) -> Result<Disk, BlkError> {
    let features = transport.negotiate(Features::all().bits())?;
    let features = Features::from_bits_truncate(features);
    let read = |feature, offset, otherwise| {
        if features.contains(feature) { read32(transport, offset) } else { Ok(otherwise) }
    };
    let block_size = read(Features::BLK_SIZE, config::BLK_SIZE, SECTOR)?;
    if !block_size.is_power_of_two() || !(SECTOR..=1 << 16).contains(&block_size) {
        return Err(BlkError::BadBlockSize(block_size));
    }
    let in_blocks = |sectors: u32| sectors / (block_size / SECTOR);
    let queues = match features.contains(Features::MQ) {
        true => {
            transport.read_config(config::NUM_QUEUES + 2, |at| at.read16(config::NUM_QUEUES))?
        }
        false => 1,
    };
    Ok(Disk {
        blocks: blocks(transport, block_size)?,
        block_size,
        is_read_only: features.contains(Features::RO),
        has_cache: features.contains(Features::FLUSH),
        queues: queues.max(1),
        segments_max: read(Features::SEG_MAX, config::SEG_MAX, 1)?.max(1),
        segment_len_max: read(Features::SIZE_MAX, config::SIZE_MAX, u32::MAX)?,
        discard_max: in_blocks(read(Features::DISCARD, config::MAX_DISCARD_SECTORS, 0)?),
        write_zeroes_max: in_blocks(read(
            Features::WRITE_ZEROES,
            config::MAX_WRITE_ZEROES_SECTORS,
            0,
        )?),
    })
}

/// How many blocks of `block_size` bytes it has now.
///
/// # Errors
/// Its configuration cannot be read.
pub fn blocks<D: Device>(transport: &Transport<D>, block_size: u32) -> Result<u64, TransportError> {
    let capacity = |at: &D::Registers| {
        let [low, high] = [0, 4].map(|half| u64::from(at.read32(config::CAPACITY + half)));
        low | high << 32
    };
    let sectors = transport.read_config(config::CAPACITY + 8, capacity)?;
    Ok(sectors / u64::from(block_size / SECTOR))
}

fn read32<D: Device>(transport: &Transport<D>, offset: usize) -> Result<u32, TransportError> {
    transport.read_config(offset + 4, |at| at.read32(offset))
}
