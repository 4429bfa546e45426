use core::time::Duration;

use basalt_bdev::{Io, IoError, IoStatus, Op};
use basalt_virtio::Direction;
use basalt_virtio_blk::{Disk, Request};
use basalt_virtio_scsi::{Address, Cdb, Failure, RESPONSE_LEN, Sense};

/// How long a request that a device is too busy for is tried again.
pub(crate) const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// What the Ios of a channel are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Blk(Disk),
    Scsi(ScsiDisk),
}

/// A logical unit that is a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScsiDisk {
    pub(crate) address: Address,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    /// Most segments of the data of one command.
    pub(crate) segments_max: u32,
    /// Most blocks of one transfer.
    pub(crate) transfer_max: u32,
    /// Most blocks of one UNMAP; 0 if there is none.
    pub(crate) unmap_max: u32,
}

/// What one request can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub(crate) block_size: u32,
    pub(crate) segments_max: u32,
    pub(crate) segment_len_max: u32,
    /// Blocks of a transfer, an unmap, and a write of zeroes.
    pub(crate) transfer_max: u32,
    pub(crate) unmap_max: u32,
    pub(crate) zeroes_max: u32,
}

/// What the device reads of a request before its data.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    bytes: [u8; basalt_virtio_scsi::HEADER_LEN],
    len: usize,
}

impl Header {
    pub(crate) fn new(from: &[u8]) -> Self {
        let mut bytes = [0; basalt_virtio_scsi::HEADER_LEN];
        bytes[..from.len()].copy_from_slice(from);
        Self { bytes, len: from.len() }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Ended(IoStatus),
    /// It is to be sent again.
    Again,
}

impl Unit {
    pub(crate) fn blocks(&self) -> u64 {
        match self {
            Self::Blk(disk) => disk.blocks,
            Self::Scsi(disk) => disk.blocks,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        match *self {
            Self::Blk(disk) => Limits {
                block_size: disk.block_size,
                segments_max: disk.segments_max,
                segment_len_max: disk.segment_len_max,
                transfer_max: u32::MAX,
                unmap_max: disk.discard_max,
                zeroes_max: disk.write_zeroes_max,
            },
            Self::Scsi(disk) => Limits {
                block_size: disk.block_size,
                segments_max: disk.segments_max,
                segment_len_max: u32::MAX,
                transfer_max: disk.transfer_max,
                unmap_max: disk.unmap_max,
                zeroes_max: 0,
            },
        }
    }

    pub(crate) fn supports(&self, op: Op) -> bool {
        let is_read_only = matches!(self, Self::Blk(disk) if disk.is_read_only);
        match op {
            Op::Read => true,
            Op::Write => !is_read_only,
            Op::Flush => !matches!(self, Self::Blk(disk) if !disk.has_cache),
            Op::Unmap => !is_read_only && self.limits().unmap_max > 0,
            Op::WriteZeroes => !is_read_only && self.limits().zeroes_max > 0,
            // These are made of reads and writes, or of the end of all that is under way.
            Op::Compare | Op::Verify | Op::Copy => false,
            Op::CompareAndWrite | Op::Reset => false,
            Op::NvmeIo | Op::NvmeAdmin => false,
            _ => false,
        }
    }

    /// What the device reads of that operation before its data.
    pub(crate) fn header(&self, op: Op, lba: u64, blocks: u32) -> Header {
        match self {
            Self::Blk(disk) => {
                let request = match op {
                    Op::Read => Request::Read(lba),
                    Op::Write => Request::Write(lba),
                    Op::Unmap => Request::Discard(lba, blocks),
                    Op::WriteZeroes => Request::WriteZeroes(lba, blocks),
                    _ => Request::Flush,
                };
                Header::new(disk.header(request).as_slice())
            }
            Self::Scsi(disk) => {
                let cdb = match op {
                    Op::Read => Cdb::read(lba, blocks),
                    Op::Write => Cdb::write(lba, blocks),
                    Op::Unmap => Cdb::unmap(),
                    _ => Cdb::synchronize_cache(),
                };
                scsi_header(disk.address, cdb)
            }
        }
    }

    /// What the device's answer to an operation means.
    pub(crate) fn answer(&self, op: Op, response: &[u8; RESPONSE_LEN]) -> Answer {
        match self {
            Self::Blk(_) => Answer::Ended(blk_status(op, response[0])),
            Self::Scsi(_) => match basalt_virtio_scsi::outcome(response) {
                // Data Transfer Error (base specification 2.0, figure 93).
                Ok(missing) if missing > 0 && op.has_data() => Answer::Ended(generic(0x04)),
                Ok(_) => Answer::Ended(Ok(())),
                Err(Failure::TryAgain) => Answer::Again,
                Err(failure) => Answer::Ended(scsi_status(op, failure)),
            },
        }
    }
}

pub(crate) fn scsi_header(address: Address, cdb: Cdb) -> Header {
    // Nothing is aborted by it, so that all may have the same tag.
    Header::new(&basalt_virtio_scsi::header(address, 0, cdb))
}

/// Where the data of an operation goes.
pub(crate) fn direction(op: Op) -> Direction {
    if op == Op::Read { Direction::FromDevice } else { Direction::ToDevice }
}

/// The NVMe statuses that come nearest (base specification 2.0, figure 93; NVM command set 1.0,
/// figure 9).
fn blk_status(op: Op, status: u8) -> IoStatus {
    match basalt_virtio_blk::status(status) {
        Ok(()) => Ok(()),
        Err(basalt_virtio_blk::Failure::Unsupported) => generic(0x01),
        Err(basalt_virtio_blk::Failure::Io) => Err(media_error(op)),
        Err(basalt_virtio_blk::Failure::Unknown(_)) => generic(0x06),
    }
}

fn scsi_status(op: Op, failure: Failure) -> IoStatus {
    const MEDIUM_ERROR: u8 = 3;
    const ILLEGAL_REQUEST: u8 = 5;
    const DATA_PROTECT: u8 = 7;
    /// Additional sense codes: Invalid Command Operation Code, Logical Block Address out of Range.
    const INVALID_OPCODE: u8 = 0x20;
    const OUT_OF_RANGE: u8 = 0x21;
    match failure {
        Failure::BadTarget => Err(IoError::Removed),
        Failure::Aborted => Err(IoError::Aborted),
        Failure::Sense(Sense { key: MEDIUM_ERROR, .. }) => Err(media_error(op)),
        Failure::Sense(Sense { key: ILLEGAL_REQUEST, code: (INVALID_OPCODE, _) }) => generic(0x01),
        Failure::Sense(Sense { key: ILLEGAL_REQUEST, code: (OUT_OF_RANGE, _) }) => generic(0x80),
        Failure::Sense(Sense { key: ILLEGAL_REQUEST, .. }) => generic(0x02),
        Failure::Sense(Sense { key: DATA_PROTECT, .. }) => generic(0x20),
        Failure::TryAgain => Err(IoError::NoResources),
        Failure::Sense(_) | Failure::Status(_) | Failure::Host(_) => generic(0x06),
    }
}

fn generic(sc: u8) -> IoStatus {
    Err(IoError::Nvme { sct: 0, sc, dnr: true })
}

/// Unrecovered Read Error or Write Fault.
fn media_error(op: Op) -> IoError {
    let sc = if op == Op::Read { 0x81 } else { 0x80 };
    IoError::Nvme { sct: 2, sc, dnr: false }
}

/// A whole Io as a request: what the device reads of it before its data.
pub(crate) fn header_of(unit: &Unit, io: &Io) -> Header {
    unit.header(io.op, io.lba, io.blocks)
}
