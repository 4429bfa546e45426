use core::fmt;

use basalt_virtio::{RequestFormat, ResponsePlace};

use crate::{Disk, SECTOR};

/// How requests of a block device look (virtio 1.2 §5.2.6).
pub const FORMAT: RequestFormat =
    RequestFormat { header_max: HEADER_MAX, response_len: 1, response: ResponsePlace::Last };

const HEADER_LEN: usize = 16;
/// With the one segment of a discard or write of zeroes.
const HEADER_MAX: usize = HEADER_LEN + 16;

/// What a block device is asked to do. Blocks are its own, not sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Read from that block on, as much as there is room for.
    Read(u64),
    /// Write from that block on.
    Write(u64),
    /// Make what was written durable.
    Flush,
    /// So many blocks from that one on are no longer needed.
    Discard(u64, u32),
    /// So many blocks from that one on are to be zeroes.
    WriteZeroes(u64, u32),
    /// Give the serial number, of [`ID_LEN`] bytes.
    Id,
}

/// Bytes of a serial number.
pub const ID_LEN: usize = 20;

/// What the device reads of a request before its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    bytes: [u8; HEADER_MAX],
    len: usize,
}

impl Header {
    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Disk {
    /// What the device reads of a request before its data.
    pub fn header(&self, request: Request) -> Header {
        const IN: u32 = 0;
        const OUT: u32 = 1;
        const FLUSH: u32 = 4;
        const GET_ID: u32 = 8;
        const DISCARD: u32 = 11;
        const WRITE_ZEROES: u32 = 13;
        let (kind, lba, blocks) = match request {
            Request::Read(lba) => (IN, lba, None),
            Request::Write(lba) => (OUT, lba, None),
            Request::Flush => (FLUSH, 0, None),
            Request::Id => (GET_ID, 0, None),
            Request::Discard(lba, blocks) => (DISCARD, lba, Some(blocks)),
            Request::WriteZeroes(lba, blocks) => (WRITE_ZEROES, lba, Some(blocks)),
        };
        let per_block = self.block_size / SECTOR;
        let sector = (lba * u64::from(per_block)).to_le_bytes();
        let mut header = Header { bytes: [0; HEADER_MAX], len: HEADER_LEN };
        header.bytes[..4].copy_from_slice(&kind.to_le_bytes());
        if let Some(blocks) = blocks {
            // The segment says where, and the header's own sector is 0.
            header.bytes[16..24].copy_from_slice(&sector);
            header.bytes[24..28].copy_from_slice(&(blocks * per_block).to_le_bytes());
            header.len = HEADER_MAX;
        } else {
            header.bytes[8..16].copy_from_slice(&sector);
        }
        header
    }
}

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The device could not carry it out.
    Io,
    /// It does not know what that is.
    Unsupported,
    /// It says something that is no status.
    Unknown(u8),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io => f.write_str("the device reports an I/O error"),
            Self::Unsupported => f.write_str("the device does not support the request"),
            Self::Unknown(status) => write!(f, "the device reports status {status}"),
        }
    }
}

/// What the device's answer to a request means.
///
/// # Errors
/// It failed.
pub fn status(answer: u8) -> Result<(), Failure> {
    match answer {
        0 => Ok(()),
        1 => Err(Failure::Io),
        2 => Err(Failure::Unsupported),
        other => Err(Failure::Unknown(other)),
    }
}
