use alloc::vec::Vec;
use core::fmt;

use basalt_env::DmaBuf;

use crate::layout::header;

/// What is known about the TCP or UDP checksum of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumState {
    /// Nothing: it must be verified.
    Unverified,
    /// The device vouches for the data. The checksum field itself may be unfinished.
    Good,
}

/// A checksum for the device to complete: the ones' complement sum from `start` to the end of the
/// frame goes, complemented, to `start + offset`, where the pseudo-header's sum already is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialChecksum {
    /// First byte that is summed, from the start of the frame.
    pub start: u16,
    /// Where the checksum goes, from `start`.
    pub offset: u16,
    /// For a TCP segment that is to be cut first; its pseudo-header's sum covers all of it.
    pub cut: Option<Cut>,
}

/// How a device is to cut a large TCP segment (virtio 1.2 §5.1.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// What it is in.
    pub version: IpVersion,
    /// Bytes of all headers, which every piece gets.
    pub headers_len: u16,
    /// Payload of each piece but the last, bytes.
    pub segment_len: u16,
}

/// A version of the Internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A received frame, Ethernet header first. Give it back with [`crate::VirtioNet::recycle`]; one
/// that is dropped instead costs the device a receive buffer for good.
pub struct Frame {
    pub(crate) body: Body,
    pub(crate) checksum: ChecksumState,
}

pub(crate) enum Body {
    /// In the buffer the device wrote; this many bytes after the header.
    Single(DmaBuf, usize),
    /// Put together from several.
    Merged(Vec<u8>),
}

impl Frame {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.body {
            Body::Single(buf, len) => {
                buf.as_slice().get(header::LEN..header::LEN + len).unwrap_or_default()
            }
            Body::Merged(bytes) => bytes,
        }
    }

    /// What is known about its checksum.
    pub fn checksum(&self) -> ChecksumState {
        self.checksum
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes, {:?})", self.as_slice().len(), self.checksum)
    }
}
